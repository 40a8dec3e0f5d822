import numpy as np
import pytest
import torch

from cookbook.doctor.records import Evaluation, Record, Run


def run_of(evaluations, losses=None, **facts):
    losses = np.linspace(2, 0.2, 120) if losses is None else losses
    records = [Record(i + 1, loss=float(v)) for i, v in enumerate(losses)]
    return Run(records=records, evaluations=evaluations, steps=len(records), facts=facts)


def losses_of(values, **scores):
    every = 120 // len(values)
    return [
        Evaluation((i + 1) * every, {"eval_loss": v} | {k: s[i] for k, s in scores.items()})
        for i, v in enumerate(values)
    ]


UP = [1.2, 0.9, 1.1, 1.3, 1.5, 1.8]


def test_validation_up_and_training_down_is_r1(found):
    finding = found(run_of(losses_of(UP)))["R1"]
    assert finding.severity == "warn" and finding.measured["best_step"] == 40
    assert found(run_of(losses_of(UP), keeps_best=True))["R1"].severity == "info"


def test_a_score_that_still_rises_makes_it_advice(found):
    rising = losses_of(UP, eval_accuracy=[0.5, 0.6, 0.7, 0.75, 0.8, 0.82])
    assert found(run_of(rising))["R1"].severity == "info"


@pytest.mark.parametrize(
    "values",
    [[1.2, 0.9, 0.91, 0.92, 0.9, 0.91], [1.2, 0.9, 1.1], [1.2, 1.0, 0.9, 1.3],
     [1.0, 0.7, 1.1, 0.8, 1.0, 0.75], [0.020, 0.011, 0.012, 0.013, 0.014, 0.015]],
)  # fmt: skip
def test_plateaus_and_noise_are_no_overfitting(found, values):
    assert found(run_of(losses_of(values))) == {}


def test_where_training_does_not_fall_it_is_not_overfitting(found):
    assert found(run_of(losses_of(UP), losses=np.full(120, 0.5))) == {}
    assert found(run_of(losses_of(UP), losses=np.linspace(0.5, 3, 120))) == {}


def test_best_at_the_first_evaluation_and_level_since_is_overfitting(found):
    early = [Evaluation(1 + 10 * i, {"eval_loss": v}) for i, v in enumerate(
        [0.5, 0.9, 1.1, 1.16, 1.17, 1.159, 1.15, 1.149])]  # fmt: skip
    assert found(run_of(early))["R1"].measured["best_step"] == 1
    back = [Evaluation(e.step, {"eval_loss": v}) for e, v in zip(
        early, [0.5, 0.9, 1.4, 1.3, 1.2, 1.1, 0.9, 0.7], strict=True)]  # fmt: skip
    assert found(run_of(back)) == {}  # on its way down


def test_evaluations_that_scatter_far_above_the_best_are_overfitting(found):
    values = [0.46, 0.9, 1.1, 0.9, 1.2, 1.5, 1.0, 2.1, 2.9, 1.9, 2.7, 1.5]
    far = [Evaluation(10 * (i + 1), {"eval_loss": v}) for i, v in enumerate(values)]
    spiked = np.where(np.arange(120) % 9 == 8, 0.5, np.geomspace(1, 0.001, 120))
    assert found(run_of(far, spiked))["R1"].measured["best"] == 0.46
    thrown = np.where(np.arange(120) % 9 == 8, 3.0, 0.001)  # in the mean no lower than at first
    thrown[:10] = 0.15
    assert "R1" in found(run_of(far, thrown))
    far[-3] = Evaluation(100, {"eval_loss": 0.47})  # it came back once
    assert found(run_of(far, spiked)) == {}


def test_a_score_alone_can_show_it(found):
    scores = [Evaluation(20 * (i + 1), {"metric": v}, scored=2000)
              for i, v in enumerate([0.7, 0.9, 0.8, 0.78, 0.75, 0.7])]  # fmt: skip
    assert "R1" in found(run_of(scores))
    small = [Evaluation(e.step, e.metrics, scored=20) for e in scores]
    assert found(run_of(small)) == {}


def confused(counts, times=3):
    counts = torch.tensor(counts)
    return [Evaluation(30 * (i + 1), {}, counts=counts) for i in range(times)]


FLAT = np.full(120, 0.4) + np.random.default_rng(0).normal(0, 0.01, 120)


def test_one_class_for_an_imbalanced_set_is_d4(found):
    assert "class 0" in found(run_of(confused([[90, 0], [10, 0]]), FLAT))["D4"].evidence
    assert found(run_of(confused([[90, 0], [10, 0]], times=1), FLAT)) == {}
    assert found(run_of(confused([[90, 0], [10, 0]]), FLAT - 0.2)) == {}  # below its entropy
    assert found(run_of(confused([[88, 2], [3, 7]]), FLAT)) == {}  # imbalanced, and learnt
    assert found(run_of(confused([[50, 0], [50, 0]]), FLAT)) == {}  # balanced: another fault
    assert found(run_of(confused([[90, 0], [10, 0]]), np.linspace(2, 0.2, 120)))  # E3, not D4
    assert "D4" not in found(run_of(confused([[90, 0], [10, 0]]), np.linspace(2, 0.2, 120)))


def test_of_few_others_the_training_labels_say_that_it_is_d4(found):
    falls, few = np.linspace(1, 0.15, 120), confused([[40, 0], [2, 0]])
    assert set(found(run_of(few, falls))) == {"E3"}
    assert set(found(run_of(few, falls, label_counts=[50, 50]))) == {"E3"}
    assert set(found(run_of(few, falls, label_counts=[97, 3]))) == {"D4"}


def test_no_better_than_trivial_though_training_succeeds_is_e3(found):
    assert "E3" in found(run_of(confused([[30, 30], [20, 20]])))
    assert found(run_of(confused([[55, 5], [5, 35]]))) == {}
    assert found(run_of(confused([[85, 5], [4, 6]]))) == {}  # the majority's score, and recall
    assert found(run_of(confused([[30, 30], [20, 20]]), FLAT)) == {}  # nothing was learnt: upstream
    assert found(run_of(confused([[5, 5], [5, 5]]))) == {}  # twenty rows


@pytest.mark.parametrize(
    "scored, rows, severity",
    [(96, 100, "error"), (104, 100, "error"), (999, 1000, "warn"), (100, 100, None),
     (6400, 100, None), (None, 100, None), (96, None, None)],
)  # fmt: skip
def test_rows_lost_or_scored_twice_are_e2(found, scored, rows, severity):
    evaluations = [Evaluation(10, {"eval_loss": 1.0}, scored=scored, rows=rows)]
    findings = found(run_of(evaluations))
    assert (findings["E2"].severity if findings else None) == severity


def scored(counts, surprise, times=3):
    """Evaluations whose scores were seen; `surprise` a number, or one for each."""
    values = surprise if isinstance(surprise, list) else [surprise] * times
    return [
        Evaluation(30 * (i + 1), {}, counts=torch.tensor(counts), surprise=value)
        for i, value in enumerate(values)
    ]


FEW, LOPSIDED = [[41, 0], [5, 0]], [[20, 0, 0, 0]] + [[7, 0, 0, 0]] * 3


def test_a_handful_of_other_rows_is_enough_where_scores_know_nothing_of_them(found):
    assert "D4" in found(run_of(scored(FEW, 0.40), FLAT))  # entropy 0.34
    assert "D4" in found(run_of(scored(FEW, 0.40), np.full(120, 0.01)))  # a loss of other rows
    assert found(run_of(scored(FEW, 0.20), FLAT)) == {}  # they stand apart, below the threshold
    assert found(run_of(scored(FEW, [0.7, 0.5, 0.4]), FLAT)) == {}  # and it still gets better
    assert found(run_of(scored([[41, 0], [2, 0]], 0.40), FLAT)) == {}  # two rows
    assert found(run_of(confused(FEW), FLAT)) == {}  # classes alone, no scores


def test_the_largest_of_many_classes_must_be_chosen_blindly(found):
    """Weights of classes upside down: the loss is small, the cross-entropy huge."""
    small = np.full(120, 0.01)
    assert "D4" in found(run_of(scored(LOPSIDED, 4.0), small))
    assert found(run_of(scored(LOPSIDED, 1.3), FLAT)) == {}  # no worse than guessing: young
    assert found(run_of(scored([[12, 0, 0, 0]] * 4, 4.0), small)) == {}  # balanced: another fault


def test_a_class_that_fills_the_training_rows_is_all_that_balanced_ones_are_told(found):
    rows = [[20, 0, 0], [20, 0, 0], [20, 0, 0]]
    told = found(run_of(scored(rows, 2.4), FLAT, label_counts=[940, 30, 30]))["D4"]
    assert "94.0% of the training labels" in told.evidence
    assert found(run_of(scored(rows, 2.4), FLAT, label_counts=[340, 330, 330])) == {}
    assert found(run_of(scored(rows, 2.4), FLAT, label_counts=[30, 940, 30])) == {}  # not that one
    assert found(run_of(scored(rows, 2.4, times=2), FLAT, label_counts=[940, 30, 30])) == {}
    assert found(run_of(scored(rows, [3.0, 2.4, 2.0]), FLAT, label_counts=[940, 30, 30])) == {}
    alike = [[120, 0], [4, 0]]  # evaluation rows as lopsided: too few others to tell
    assert found(run_of(confused(alike), FLAT, label_counts=[970, 30])) == {}
    plain = found(run_of(confused([[90, 0], [10, 0]]), FLAT, label_counts=[900, 100]))["D4"]
    assert "that of the majority, 90.0%" in plain.evidence  # which says more


@pytest.mark.parametrize(
    ("rates", "surprise", "expected"),
    [
        (np.linspace(1e-3, 0, 90), [0.6, 0.5, 0.45], True),
        (np.full(90, 1e-3), [0.6, 0.5, 0.45], False),  # on its way, and the rate is up
        (np.linspace(1e-3, 0, 90), [0.5, 0.3, 0.2], False),  # it knows the rows, at a threshold
        (np.linspace(1e-3, 0, 180), [0.6, 0.5, 0.45], False),  # half of the run is to come
    ],
)
def test_at_the_end_of_the_plan_it_is_not_early_for_one_class(found, rates, surprise, expected):
    evaluations = scored([[90, 0], [10, 0]], surprise)  # entropy 0.325
    run = run_of(evaluations, np.linspace(0.9, 0.6, len(rates)))
    for record, rate in zip(run.records, rates, strict=True):
        record.rate = float(rate)
    run.steps = len(rates)
    assert ("D4" in found(run)) is expected
