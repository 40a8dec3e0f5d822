import numpy as np
import pytest

from cookbook.doctor import divergence_detectors as detectors
from cookbook.doctor.records import Record, Run

RANDOM = np.random.default_rng


def falling(steps=120, start=2.0, end=0.5, noise=0.1, seed=0):
    line = end + (start - end) * np.exp(-np.arange(steps) / (steps / 4))
    return line + RANDOM(seed).normal(0, noise, steps)


def run_of(losses, update=5e-3, grad=1.0, rate=1e-3, by_hand=(), **facts):
    grads = np.broadcast_to(grad, len(losses))
    updates = np.broadcast_to(update, len(losses))
    records = [
        Record(i + 1, loss=float(loss), rate=rate, update=float(u), grad=float(g))
        for i, (loss, u, g) in enumerate(zip(losses, updates, grads, strict=True))
    ]
    return Run(records=records, steps=len(records), **{"facts": {"by_hand": by_hand}} | facts)


def found(run):
    return {f.fault: f for check in detectors.CHECKS for f in check(run)}


def diverging(seed=0):
    good = falling(60, seed=seed)
    return np.r_[good, good[-1] + np.linspace(0, 3, 60) + RANDOM(seed).normal(0, 0.1, 60)]


def test_a_loss_that_runs_away_under_large_updates_is_o1():
    finding = found(run_of(diverging(), update=0.08))["O1"]
    assert finding.severity == "warn" and "bound: 1.5 times" in finding.evidence
    assert 60 < finding.measured["onset"] < 100 and finding.curve.bound


def test_gradients_are_the_second_sign_too():
    grads = np.r_[np.ones(60), np.full(60, 40.0)]
    assert "O1" in found(run_of(diverging(), update=1e-3, grad=grads))
    assert "O1" not in found(run_of(diverging(), update=1e-3))


def test_an_explosion_and_an_end_in_nan_are_o1():
    assert "O1" in found(run_of([0.7, 0.9, 40, 900, 3000, 9000, 9e4, 1e5], update=0.5))
    run = run_of([0.7, 0.9, 4.0, 12.0, 90.0, float("nan"), float("nan")], update=0.5)
    run.bad = {"what": "loss", "step": 6}
    assert "O1" in found(run)


def test_a_nan_without_a_rise_before_is_not_o1():
    run = run_of([0.7, 0.6, 0.65, 0.6, 0.55, float("nan")], update=0.05)
    run.bad = {"what": "loss", "step": 6}
    assert found(run) == {}


def test_nothing_learnt_after_a_spike_is_o1():
    losses = np.r_[0.7, 1.5, 2.5, 1.4, np.full(60, 0.7) + RANDOM(0).normal(0, 0.03, 60)]
    assert "O1" in found(run_of(losses, update=0.4))
    assert found(run_of(losses, update=0.4, facts={"trained_share": 0.01})) == {}  # a fresh head
    worse = np.r_[1.1, 1.3, 2.6, 3.1, 1.5 + RANDOM(0).normal(0, 0.4, 60).clip(-0.5)]
    assert "O1" in found(run_of(worse, update=0.2))
    assert found(run_of(worse, update=0.02)) == {}
    flat = 0.7 + RANDOM(0).normal(0, 0.03, 64)  # labels that were shuffled
    assert found(run_of(flat, update=0.02)) == {}


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("noise", [0.02, 0.3, 0.6])
def test_noise_alone_is_no_divergence(seed, noise):
    assert found(run_of(falling(noise=noise, seed=seed), update=0.1)) == {}


@pytest.mark.parametrize(
    "losses",
    [
        np.r_[falling(60), 0.35 + RANDOM(2).normal(0, 0.05, 60)],  # a drop at the epoch's end
        np.r_[falling(60, end=0.01, noise=0.0), np.abs(RANDOM(3).normal(0, 0.03, 100))],  # near 0
        np.r_[falling(60), falling(60, start=0.9)],  # a warm restart
        -300 + 40 * falling(120),  # a likelihood, unbounded below
        falling(8),  # eight steps
        np.full(100, 0.5) + RANDOM(4).normal(0, 0.05, 100),  # resumed, low from the start
        np.tile(np.linspace(0.5, 2.5, 12), 10),  # sorted by length
        np.r_[falling(60, noise=0.05), 5.0, falling(60, start=0.6, noise=0.05)],  # one bad batch
    ],
)
def test_healthy_lines_are_no_divergence(losses):
    assert found(run_of(losses, update=0.08)) == {}


def test_an_early_spike_without_warm_up_that_recovers_is_o3():
    spike = 1 + 4 * np.exp(-(((np.arange(200) - 8) / 5) ** 2)) - np.arange(200) / 400
    noisy = spike + RANDOM(0).normal(0, 0.05, 200)
    assert "O3" in found(run_of(noisy, update=0.05))
    run = run_of(noisy, update=0.05)
    for record in run.records[:20]:
        record.rate = 1e-5 * record.step
    assert "O3" not in found(run)
    single = run_of(noisy, update=0.05)
    single.records[0].rate = 0.0
    assert "O3" in found(single)  # a warm-up of one step
    assert found(run_of(1 + 0.3 * (spike - 1), update=0.05)) == {}


def test_weights_rewritten_before_a_rise_are_a_second_sign():
    """They are large afterwards, so that the same steps are small beside them."""
    updates = np.r_[np.full(40, 0.12), np.full(80, 2e-3)]
    assert "before it" in found(run_of(diverging(), update=updates))["O1"].evidence
    assert found(run_of(diverging(), update=np.r_[np.full(40, 0.02), np.full(80, 2e-3)])) == {}


def at_a_guess(level, rewrote, counts=(70, 30), **facts):
    losses = np.r_[2.1, 1.5, np.full(58, level) + RANDOM(0).normal(0, 0.05, 58)]
    updates = np.r_[np.full(12, rewrote), np.full(48, 3e-3)]
    return found(run_of(losses, update=updates, facts={"label_counts": list(counts)} | facts))


def test_a_loss_that_stays_at_a_blind_guess_after_large_steps_is_o1():
    """The entropy of the labels' rates is 0.61; a fresh head had begun far above it."""
    assert "blind guess" in at_a_guess(0.62, 0.15)["O1"].evidence
    assert at_a_guess(0.62, 0.03) == {}  # labels of other rows: small steps, the same loss
    assert at_a_guess(0.40, 0.15) == {}  # it has learnt
    assert at_a_guess(0.62, 0.15, trained_share=0.01) == {}  # a head alone
    assert at_a_guess(0.62, 0.15, counts=(100, 0)) == {}
    falling_still = np.r_[2.1, np.linspace(1.5, 0.5, 59)]
    facts = {"label_counts": [70, 30]}
    assert found(run_of(falling_still, update=0.15, facts=facts)) == {}


def test_half_a_run_that_is_worse_than_no_training_is_o1_at_smaller_steps():
    losses = np.r_[5.3, 5.2, 4.9, np.linspace(5, 6, 27), 6.2 + RANDOM(1).normal(0, 0.1, 50)]
    updates = np.r_[np.full(12, 0.08), np.full(68, 0.02)]
    assert "O1" in found(run_of(losses, update=updates))
    assert found(run_of(losses - 1.1 * (np.arange(80) > 30), update=updates)) == {}


def test_what_was_known_is_lost_in_the_first_steps():
    """A pretrained model thrown back to a new one's loss, which it then begins to lower again."""
    back = np.r_[5.0, 6.8, 7.0, np.linspace(6.2, 4.9, 57) + RANDOM(0).normal(0, 0.1, 57)]
    assert list(found(run_of(back, update=0.2))) == ["O3"]  # at its full rate from the start
    warmed = run_of(back, update=0.2)
    warmed.records[0].rate = warmed.records[1].rate = 1e-5
    assert list(found(warmed)) == ["O1"]
    assert found(run_of(back, update=0.02)) == {}  # a small bump of a careful step
    anew = np.r_[7.6, 7.9, 8.1, np.linspace(7.5, 6.3, 57) + RANDOM(0).normal(0, 0.1, 57)]
    assert found(run_of(anew, update=0.2)) == {}  # new and small weights move by much
    well = np.r_[5.0, 6.8, 7.1, np.linspace(6.0, 3.0, 57)]
    assert found(run_of(well, update=0.2)) == {}


def test_a_loss_hurled_away_that_comes_back_with_the_rate_is_o1():
    line = np.r_[2.0, 1.9, 7, 24, 7, 12, 9, 10, 9, np.linspace(3, 0.5, 41)]
    warmed = run_of(line, update=0.2)
    for record, rate in zip(warmed.records, np.r_[0, 0.2, 0.4, np.ones(47)], strict=True):
        record.rate = float(rate)
    assert "3 times its start" in found(warmed)["O1"].evidence
    for record in warmed.records:
        record.update = 0.02
    assert "O1" not in found(warmed)


def test_weights_moved_by_hand_along_the_gradient_are_a_climb():
    assert "by hand" in detectors.climbing(run_of([], by_hand=[0.9] * 8))
    assert detectors.climbing(run_of([], by_hand=[-0.9] * 8)) == ""
    assert detectors.climbing(run_of([], by_hand=[0.9] * 3)) == ""


def test_half_a_run_that_is_worse_than_no_training_is_o1():
    def ended(at):
        line = np.concatenate([[2.0], np.full(59, at)])  # without a peak that would tell as well
        return found(run_of(line + RANDOM(0).normal(0, 0.01, 60), update=0.2))

    assert "O1" in ended(2.17) and ended(2.05) == ended(1.2) == {}


def test_steps_larger_than_the_weights_are_a_second_sign_though_little_moves_since():
    """Plain descent at a rate that is far too high: the units die, and then stand still."""
    losses = np.concatenate([[2.3], np.full(59, 30.0) + RANDOM(0).normal(0, 3, 59)])
    dead = run_of(losses, update=0.0)
    assert found(dead) == {}
    for record, update in zip(dead.records, (4.0, 7.0, 3.4), strict=False):
        record.update = update
    assert "3 steps of 0.5" in found(dead)["O1"].evidence
