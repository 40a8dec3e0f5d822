"""With shut gates the bridge is the language model; opened, it sees; what was there stays."""

import copy
import math

import pytest
import torch
from transformers import ViTConfig, ViTModel

from cookbook.models import samples
from cookbook.models.bridge import FlamingoBridge, GatedCrossAttention, Resampler, flamingo
from cookbook.models.generative import gpt2
from cookbook.models.profiling import overfit
from cookbook.models.vision import patched


def parts():
    torch.manual_seed(0)
    language = gpt2("tiny", vocab_size=32, length=16, dropout=0.0)
    config = ViTConfig(**patched("tiny", 8, 1, 0.0))
    return language, ViTModel(config, add_pooling_layer=False)


def test_at_the_start_it_equals_the_language_model_to_the_last_bit():
    language, vision = parts()
    alone, batch = copy.deepcopy(language).eval(), samples.described()
    bridge = FlamingoBridge(language, vision).eval()
    ids = {name: batch[name] for name in ("input_ids", "attention_mask", "labels")}
    with torch.no_grad():
        with_image, without, reference = bridge(**batch), bridge(**ids), alone(**ids)
    assert torch.equal(with_image.logits, reference.logits)
    assert torch.equal(without.logits, reference.logits)
    assert with_image.loss == reference.loss
    assert bridge.gates == [0.0] * 4


def test_the_gate_by_hand_and_its_gradient_at_zero():
    torch.manual_seed(0)
    gate = GatedCrossAttention(8, 2)
    x, image = torch.randn(2, 3, 8), torch.randn(2, 4, 8)
    assert torch.equal(gate(x, image), x)
    gate(x, image).sum().backward()
    assert gate.alpha.grad != 0 and gate.beta.grad != 0  # shut, but it can be opened
    with torch.no_grad():
        gate.alpha.fill_(0.5)
        attended = x + math.tanh(0.5) * gate.inner.attend(x, image)
        assert torch.allclose(gate(x, image), attended)
        gate.beta.fill_(-0.3)
        expected = attended + math.tanh(-0.3) * gate.inner.feed_forward(attended)
        assert torch.allclose(gate(x, image), expected)


def test_opened_it_sees_the_image_and_still_not_the_future():
    torch.manual_seed(0)
    bridge, batch = (
        flamingo("tiny", vocab_size=32, length=16, dropout=0.0).eval(),
        samples.described(),
    )
    for block in bridge.bridged:
        block.gate.alpha.data.fill_(1.0)
    with torch.no_grad():
        before = bridge(**batch).logits
        other = bridge(**batch | {"pixel_values": batch["pixel_values"].flip(0)}).logits
        ids = batch["input_ids"].clone()
        ids[:, 5] = 1
        later = bridge(**batch | {"input_ids": ids}).logits
    assert (before != other).any(-1).all()
    assert torch.equal(before[:, :5], later[:, :5])


@pytest.mark.parametrize("patches", [1, 16, 50])
def test_any_number_of_features_becomes_a_fixed_number(patches):
    torch.manual_seed(0)
    resampler = Resampler(12, 8, 2, latents=5)
    features = torch.randn(3, patches, 12)
    looked = resampler(features)
    assert looked.shape == (3, 5, 8)
    shuffled = features[:, torch.randperm(patches)]  # a set, not a sequence
    assert torch.allclose(resampler(shuffled), looked, atol=1e-5)


def test_every_second_block():
    language, vision = parts()
    bridge = FlamingoBridge(language, vision, every=2)
    assert len(bridge.bridged) == 1 and len(bridge.gates) == 2


def captions_and_echoes():
    """Captions, and every digit's name six times over, to tell one name from another."""
    ids = samples.captioned()["input_ids"]
    echoes = torch.cat((ids[:, :1], ids[:, 6:7].expand(-1, 6), ids[:, -1:]), dim=1)
    both = torch.cat((ids, echoes))
    return {"input_ids": both, "labels": both}


def test_two_trained_models_stay_as_they_are_and_learn_to_describe():
    """The language model writes captions, but cannot know of which digit."""
    language, vision = parts()
    overfit(language, captions_and_echoes(), steps=60, rate=0.01)
    bridge, batch = FlamingoBridge(language, vision), samples.described()
    new = {n for n, p in bridge.named_parameters() if p.requires_grad}
    assert new and all("resampler" in n or ".gate." in n for n in new)
    before = {n: p.clone() for n, p in bridge.named_parameters() if n not in new}
    losses, _ = overfit(bridge, batch, steps=60, rate=0.01)
    assert losses[0] > 0.95 * math.log(10) / 7  # one of 7 tokens is a guess among ten
    assert losses[-1] < 0.2 * losses[0]
    assert any(abs(gate) > 0.05 for gate in bridge.gates)
    after = dict(bridge.named_parameters())
    assert before and all(torch.equal(p, after[n]) for n, p in before.items())
    bridge.eval().look(batch["pixel_values"])
    written = bridge.language.generate(batch["input_ids"][:, :1], max_length=8, do_sample=False)
    assert (written == batch["input_ids"]).all(1).sum() >= 9
