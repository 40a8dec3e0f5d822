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


@pytest.fixture(scope="module")
def climbed(material, build):
    rungs = ladder("bf16", batch_size=4, larger=8, workers=0)
    found = {rung.name: rung for rung in climb(rungs, material, build, rounds=2, tokens=1)}
    assert list(found) == list(rungs)
    return found


def test_the_numbers_of_a_rung_fit_together(climbed):
    for rung in climbed.values():
        assert len(rung.speeds) == len(rung.wall) == len(rung.ratios) == 2
        assert min(rung.speeds) > 0 and rung.utilisation > 0
        assert rung.occupation / rung.utilisation == pytest.approx(rung.executed / rung.nominal)
        assert rung.to_dict()["speeds"] == rung.speeds
    assert climbed["padded"].ratios == [1.0, 1.0]
    packed = climbed["packed"]
    assert packed.ratios[0] == packed.speeds[0] / climbed["length-sorted"].speeds[0]


def test_what_is_executed_and_held_moves_as_the_rung_says(climbed):
    assert climbed["masked positions"].executed < climbed["bf16"].executed
    assert climbed["packed"].executed < climbed["padded"].executed
    assert climbed["checkpointing"].executed > climbed["larger batch"].executed
    assert climbed["checkpointing"].peak < climbed["larger batch"].peak
    assert climbed["accumulation"].peak < climbed["larger batch"].peak
    assert climbed["padded"].nominal < climbed["masked positions"].executed
    assert len({rung.nominal for rung in climbed.values()}) == 1


@pytest.mark.parametrize(
    "change",
    [{"attention": "sdpa"}, {"masked_only": True}, {"checkpointing": True}, {"accumulation": 4}],
    ids=lambda change: next(iter(change)),
)
def test_these_rungs_change_the_time_and_not_the_gradient(material, build, change):
    batch = material.batches(Setup(batch_size=4))[0]
    first = speed.gradient(Setup(), build, batch)
    again = speed.gradient(Setup(**change), build, batch)
    assert torch.allclose(again, first, rtol=1e-4, atol=1e-5)


def test_half_precision_changes_the_gradient_a_little(material, build):
    batch = material.batches(Setup(batch_size=4))[0]
    first, half = (speed.gradient(Setup(precision=p), build, batch) for p in ("fp32", "bf16"))
    assert 1e-4 < float((half - first).norm() / first.norm()) < 0.1


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
