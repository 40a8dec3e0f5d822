"""Gradients read off, and weights that move or do not."""

import pytest
import torch

from cookbook.maths.half_precision import MasterWeights
from cookbook.scaling.speed_precision import gradients, take_steps
from cookbook.scaling.speed_setups import Material, Setup, builder


@pytest.fixture(scope="module")
def batches(tokenizer, sentences):
    material = Material.of(sentences, tokenizer, 32)
    stream = material.batches(Setup(rows="packed", batch_size=4))
    return [stream[number] for number in range(3)]


@pytest.fixture
def model(tokenizer):
    return builder(tokenizer, "tiny", length=32)("eager")


def test_the_gradients_are_the_models_and_it_keeps_none(model, batches):
    found = gradients(model, batches[0])
    assert all(p.grad is None for p in model.parameters())
    model(**batches[0])["loss"].backward()
    own = torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])
    assert torch.allclose(found, own, rtol=1e-4, atol=1e-6)


def test_bf16_weights_stay_where_fp32_weights_go(model, batches):
    def adamw(weights):
        return torch.optim.AdamW(weights, lr=1e-5)

    full = take_steps(model, batches, adamw(model.parameters()))
    half = model.to(torch.bfloat16)
    swallowed = take_steps(half, batches, adamw(half.parameters()))
    master = MasterWeights(half, adamw)
    before = [copy.detach().clone() for copy in master.copies]
    take_steps(half, batches, master)
    assert full.share > 0.9 > 0.5 > swallowed.share
    assert full.distance > 0
    moved = [not torch.equal(a, b) for a, b in zip(before, master.copies, strict=True)]
    assert all(moved[: len(moved) // 2])


def test_whoever_watches_sees_every_loss(model, batches):
    seen = []
    take_steps(model, batches, torch.optim.SGD(model.parameters(), lr=0.1), precision="bf16",
               on_step=lambda loss, batch: seen.append((float(loss), len(batch))))  # fmt: skip
    assert len(seen) == 3 and all(loss > 0 for loss, _ in seen)
