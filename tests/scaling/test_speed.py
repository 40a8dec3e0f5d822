"""The ladder: what a rung changes, what it does not, and how turns become numbers."""

import pytest
import torch

from cookbook.scaling import speed, speed_setups
from cookbook.scaling.speed import Material, Runner, Setup, builder, climb, ladder


@pytest.fixture(scope="module")
def material(tokenizer, sentences):
    short = [" ".join(text.split()[:3]) for text in sentences]
    return Material.of([*sentences, *short], tokenizer, 32)


@pytest.fixture(scope="module")
def build(tokenizer):
    return builder(tokenizer, "tiny", length=32)


def test_every_rung_is_climbed_and_its_numbers_fit_together(material, build):
    rungs = ladder("bf16", batch_size=4, larger=8, workers=0)
    found = {rung.name: rung for rung in climb(rungs, material, build, rounds=2, tokens=128)}
    assert list(found) == list(rungs)
    for rung in found.values():
        assert len(rung.speeds) == len(rung.wall) == len(rung.ratios) == 2
        assert min(rung.speeds) > 0 and rung.utilisation > 0
        assert rung.occupation / rung.utilisation == pytest.approx(rung.executed / rung.nominal)
    assert found["padded"].ratios == [1.0, 1.0]
    packed = found["packed"]
    assert packed.ratios[0] == packed.speeds[0] / found["length-sorted"].speeds[0]


def test_what_is_executed_and_held_moves_as_the_rung_says(material, build):
    rungs = ladder("bf16", batch_size=4, larger=8, workers=0)
    found = {rung.name: rung for rung in climb(rungs, material, build, rounds=1, tokens=1)}
    assert found["masked positions"].executed < found["bf16"].executed
    assert found["packed"].executed < found["padded"].executed
    assert found["checkpointing"].executed > found["larger batch"].executed
    assert found["checkpointing"].peak < found["larger batch"].peak
    assert found["accumulation"].peak < found["larger batch"].peak
    assert found["padded"].nominal < found["masked positions"].executed
    assert len({rung.nominal for rung in found.values()}) == 1


def gradient(setup, material, build, batch):
    runner = Runner(setup, material, build)
    loss, labels = runner.loss_fn(runner.model, batch)
    loss.backward()
    return torch.cat([p.grad.flatten() for p in runner.model.parameters() if p.grad is not None])


@pytest.mark.parametrize("change", [{"attention": "sdpa"}, {"masked_only": True},
                                    {"checkpointing": True}])  # fmt: skip
def test_these_rungs_change_the_time_and_not_the_gradient(material, build, change):
    batch = material.batches(Setup(batch_size=4))[0]
    first = gradient(Setup(), material, build, batch)
    assert torch.allclose(gradient(Setup(**change), material, build, batch), first,
                          rtol=1e-4, atol=1e-5)  # fmt: skip


def test_the_same_tokens_teach_the_same_with_and_without_the_waste(material, build):
    losses = [
        speed.loss_at(Setup(rows="packed", batch_size=4, **more), material, build,
                      material.packed, tokens=600)
        for more in ({}, {"masked_only": True, "attention": "sdpa", "fused": True},
                     {"accumulation": 1, "checkpointing": True})
    ]  # fmt: skip
    assert max(losses) - min(losses) < 1e-3


def test_a_turn_counts_what_is_not_padding(material, build):
    runner = Runner(Setup(batch_size=4, accumulation=2), material, build)
    stream = material.batches(Setup(batch_size=4))
    expected = sum(int(stream[i]["attention_mask"].sum()) for i in range(6))
    assert runner.turn(3).tokens == expected


def test_the_nominal_operations_by_hand(build):
    hidden, words, length = 32, build("eager").config.vocab_size, 32
    matrices = 2 * (4 * hidden**2 + 2 * hidden * 4 * hidden)
    attention = 2 * 12 * hidden * length
    head = 0.15 * 6 * (hidden**2 + hidden * words)
    assert speed.nominal_flops(build("eager"), length) == pytest.approx(
        6 * matrices + attention + head
    )


def test_the_counter_sees_fused_attention_on_a_cpu():
    q = torch.randn(2, 4, 16, 8, requires_grad=True)
    with speed.flop_counter() as counter:
        torch.nn.functional.scaled_dot_product_attention(q, q, q).sum().backward()
    forward = 4 * 2 * 4 * 16 * 16 * 8
    assert counter.get_total_flops() in (forward * 7 // 2, 3 * forward)


def test_a_compiled_rung_reports_no_peak_and_the_operations_of_its_base():
    class Fake:
        setup = Setup(compiled=True)

        def turn(self, steps):
            return None

    assert speed._counts(Fake(), 7.0) == (None, 7.0)


def test_without_a_compiler_there_is_no_compiled_rung(monkeypatch):
    monkeypatch.setattr(speed.shutil, "which", lambda name: None)
    monkeypatch.setattr(speed.torch.cuda, "is_available", lambda: False)
    assert not speed.has_compiler()
    assert "torch.compile" not in ladder(compiled=speed.has_compiler())
    assert "torch.compile" in ladder(compiled=True)


def test_the_face_hands_on_the_setups():
    assert speed.Setup is speed_setups.Setup
