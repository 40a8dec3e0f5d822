import math

import pytest
import torch

from cookbook.doctor.records import Evaluation, Record, Run


def test_nothing_seen_nothing_found(found):
    assert found(Run()) == {}


def test_batches_without_labels_are_t3(found):
    assert found(Run(labelled=5, unlabelled=[1, 2, 3, 4, 5]))["T3"].severity == "error"
    harmful = Run(labelled=50, unlabelled=[7], bad={"what": "loss", "step": 7})
    assert found(harmful)["T3"].severity == "error"
    assert found(Run(labelled=100, unlabelled=[3, 5, 9]))["T3"].severity == "warn"
    assert found(Run(labelled=100, unlabelled=[3])) == {}  # a short masked batch, harmless
    assert found(Run(labelled=2, unlabelled=[1, 2])) == {}


def test_dropout_off_while_training_is_m7(found):
    assert (
        "since an evaluation"
        in found(Run(dropout_on=20, dropout_off=5, evaluations=[Evaluation(20, {})]))["M7"].evidence
    )
    assert found(Run(dropout_on=20, dropout_off=2)) == {}
    assert found(Run(dropout_off=9, facts={"quiet_on_purpose": True})) == {}


def test_dropout_on_while_evaluating_is_m7(found):
    noisy = Evaluation(10, {}, forwards=4, in_training_mode=4)
    quiet = Evaluation(20, {}, forwards=4)
    assert "M7" in found(Run(evaluations=[noisy]))
    assert found(Run(evaluations=[quiet, noisy, quiet])) == {}  # Monte-Carlo dropout, once
    assert found(Run(evaluations=[Evaluation(10, {}, forwards=4, in_training_mode=2)])) == {}


def test_ranks_with_equal_batches_or_other_weights(found):
    same, other = ["a", "a"], ["a", "b"]
    ranks = {"batches": [same, same, same], "drift": [(10, 0.0)]}
    assert set(found(Run(facts={"ranks": ranks}))) == {"X1"}
    ranks = {"batches": [other, same, other], "drift": [(10, 0.0), (20, 1e-3)]}
    assert set(found(Run(facts={"ranks": ranks}))) == {"X2"}
    ranks = {"batches": [other, other], "drift": [(10, 0.0)]}
    assert found(Run(facts={"ranks": ranks})) == {}


def test_the_same_order_each_epoch_is_x3(found):
    epochs = {0: "a", 1: "a", 2: "a"}
    assert "X3" in found(Run(epochs=epochs, facts={"shuffles": True}))
    assert found(Run(epochs=epochs, facts={"shuffles": False})) == {}  # on purpose
    assert found(Run(epochs={0: "a", 1: "b"}, facts={"shuffles": True})) == {}
    assert found(Run(epochs={0: "a"}, facts={"shuffles": True})) == {}
    begun = {0: "abc", 1: "abc", 2: "a"}
    assert "X3" in found(Run(epochs=begun, facts={"shuffles": True}))
    longest_first = {0: "abc", 1: "ade", 2: "afg"}
    assert found(Run(epochs=longest_first, facts={"shuffles": True})) == {}
    curriculum = Run(epochs=epochs, facts={"shuffles": True}, widths=[4, 5, 7, 9, 4, 5, 7, 9])
    assert found(curriculum) == {}
    mixed = Run(epochs=epochs, facts={"shuffles": True}, widths=[5, 9, 4, 7, 5, 9, 4, 7])
    assert "X3" in found(mixed)
    alike = Run(epochs=epochs, facts={"shuffles": True}, batches=["a"] * 37 + ["b"])
    assert found(alike) == {}  # of one input the order cannot be told
    alike = Run(epochs=epochs, facts={"shuffles": True}, batches=["a"] * 9)
    assert found(alike) == {}  # blank pictures, say: nothing tells two orders apart


def test_what_was_not_resumed_is_k2(found):
    facts = {"not_resumed": ["the optimizer's state is empty"]}
    assert "goes on at step 40" in found(Run(resumed=40, facts=facts))["K2"].evidence


@pytest.mark.parametrize(
    "wait, accelerator, severity", [(0.7, True, "warn"), (0.7, False, "info"), (0.1, True, None)]
)
def test_waiting_for_data_is_h1(found, wait, accelerator, severity):
    records = [Record(i, wait=wait, seconds=1.0) for i in range(80)]
    findings = found(Run(records=records, accelerator=accelerator))
    assert (findings["H1"].severity if findings else None) == severity


def test_memory_that_grows_is_h2(found):
    assert found(Run(graphs=(64, 64), forwards=128, steps=128))["H2"].severity == "warn"
    assert found(Run(graphs=(2, 64), forwards=128, steps=128)) == {}
    assert found(Run(graphs=(10, 10), forwards=20, steps=20)) == {}
    assert found(Run(graphs=(40, 40), forwards=80, steps=2)) == {}  # losses of one long step
    growing = [Record(i, memory=1000 + 10 * i) for i in range(60)]
    assert "H2" in found(Run(records=growing))
    steady = [Record(i, memory=1000 + 300 * (i % 7)) for i in range(60)]
    assert found(Run(records=steady)) == {}


def contrastive_run(embeddings, loss, rows=16):
    records = [Record(i, loss=loss) for i in range(80)]
    facts = {"embeddings": embeddings, "rows": rows}
    return Run(records=records, steps=80, facts=facts)


@pytest.mark.parametrize("candidates", [16, 31, 8])
def test_embeddings_that_point_one_way_at_chance_are_c1(found, candidates):
    same = torch.ones(16, 8) + 0.01 * torch.randn(16, 8)
    assert "C1" in found(contrastive_run(same, math.log(candidates)))
    assert found(contrastive_run(same, 0.4)) == {}  # a narrow cone, and learning
    assert found(contrastive_run(torch.randn(16, 8), math.log(candidates))) == {}
    classes = contrastive_run(same, math.log(candidates))
    classes.uphill = [(16, 0.2)]  # these are logits of a classifier
    assert found(classes) == {}


def test_a_loss_that_passes_by_chance_is_no_collapse(found):
    """Its median is ln 16, and it moves: a regression on its way down."""
    run = contrastive_run(torch.ones(16, 8), math.log(16))
    assert "C1" in found(run)
    for place, record in enumerate(run.records[-10:]):
        record.loss += 0.1 * (place - 4.5)
    assert found(run) == {}


@pytest.mark.parametrize(("end", "faults"), [(0.001, {"C1"}), (0.8, set())])
def test_pairs_drawn_together_and_nothing_apart_are_c1(found, end, faults):
    side = 1 + 0.001 * torch.randn(16, 8)
    losses = [1.0, 0.9, 0.8, *[end] * 80]
    run = Run(records=[Record(i + 1, loss=v) for i, v in enumerate(losses)], steps=len(losses))
    run.facts |= {"sides": [side, side], "embeddings": side, "rows": 16}
    assert set(found(run)) == faults


@pytest.mark.parametrize(
    ("read", "seconds", "severity"),
    [
        (0.6, 0.1, "warn"),
        (0.3, 0.1, "info"),  # the rest of the wait is the loop's own work: a teacher, samples
        (0.6, 0.02, "info"),  # a tiny model
        (0.0, 0.1, "info"),  # of workers: they read while the model runs
    ],
)
def test_reading_that_takes_most_of_a_step_on_a_cpu_is_h1(found, read, seconds, severity):
    records = [Record(i + 1, wait=0.7 * seconds, seconds=seconds) for i in range(60)]
    taken = {i: read * seconds for i in range(60)} if read else {}
    assert found(Run(records=records, facts={"reading": taken}))["H1"].severity == severity


def test_prompts_with_padding_behind_them_are_t11(found):
    assert found(Run(facts={"prompts": (3, 8)}))["T11"].severity == "error"
    assert found(Run(facts={"prompts": (0, 8)})) == {}


def test_a_mask_that_is_never_handed_on_is_t10(found):
    assert found(Run(facts={"padded": 20, "withheld": 20}))["T10"].severity == "error"
    assert found(Run(facts={"padded": 20, "withheld": 3})) == {}  # a second model, say
    assert found(Run(facts={"padded": 2, "withheld": 2})) == {} == found(Run())
