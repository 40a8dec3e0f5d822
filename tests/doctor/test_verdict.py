from cookbook.doctor import verdict
from cookbook.doctor.findings import Finding


def found(fault, severity="error"):
    return Finding(fault, severity, "…")


def test_the_cause_stands_before_its_consequences():
    """No labels make the loss NaN: T3 is the cause, P1 what it looks like."""
    primary, rest = verdict.split([found("P1"), found("R2", "warn"), found("T3")])
    assert primary.fault == "T3"
    assert [f.fault for f in rest] == ["P1", "R2"]


def test_the_tree_of_the_specification_in_its_order():
    """No gradient, no movement, and only then what evaluation shows."""
    steps = ["M8", "O2", "R1"]
    for earlier, later in zip(steps, steps[1:], strict=False):
        assert verdict.ORDER[earlier] < verdict.ORDER[later]
    assert verdict.question_of("M8").startswith("does a gradient arrive")


def test_advice_is_never_the_verdict():
    primary, rest = verdict.split([found("O8", "info"), found("R1", "warn")])
    assert primary.fault == "R1" and [f.fault for f in rest] == ["O8"]
    assert verdict.split([found("O8", "info")]) == (None, [found("O8", "info")])
    assert verdict.split([]) == (None, [])


def test_one_finding_a_fault_the_most_severe():
    ranked = verdict.rank([found("T5", "warn"), found("T5"), found("T5", "info")])
    assert [(f.fault, f.severity) for f in ranked] == [("T5", "error")]
