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


def test_a_contradiction_comes_before_a_sign_wherever_it_stands():
    assert verdict.split([found("D7", "warn"), found("M8")])[0].fault == "M8"
    assert verdict.split([found("T5", "warn"), found("R1", "warn")])[0].fault == "T5"


def test_but_a_sign_that_explains_it_comes_first():
    """The rate was too high; that the loss then became NaN is what it looks like."""
    primary, rest = verdict.split([found("P1"), found("O1", "warn")])
    assert primary.fault == "O1" and [f.fault for f in rest] == ["P1"]
    early = [found("P1"), found("O1", "warn"), found("O3", "warn"), found("O8", "info")]
    assert [f.fault for f in verdict.rank(early)] == ["O3", "O1", "P1", "O8"]


def test_a_cut_that_takes_every_label_of_some_rows_is_their_cause():
    primary, rest = verdict.split([found("T3"), found("T4", "warn")])
    assert primary.fault == "T4" and [f.fault for f in rest] == ["T3"]
    assert verdict.split([found("T3"), found("T4", "info")])[0].fault == "T3"


def test_steps_are_small_because_they_were_clipped():
    assert verdict.split([found("O2", "warn"), found("O9", "warn")])[0].fault == "O9"


def test_what_spoils_only_the_measurement_is_not_why_a_run_diverges():
    assert verdict.split([found("E1"), found("O1", "warn")])[0].fault == "O1"
    assert verdict.split([found("E1"), found("R1", "warn")])[0].fault == "E1"


def test_an_adapter_that_the_optimizer_lacks_is_called_an_adapter_that_does_not_act():
    assert verdict.split([found("O6"), found("M6")])[0].fault == "M6"
    assert verdict.split([found("M2"), found("M6")])[0].fault == "M6"  # nor does it hold the head


def test_pairs_that_do_not_belong_together_are_why_embeddings_collapse():
    assert verdict.split([found("C1"), found("D8", "warn")])[0].fault == "D8"
    assert verdict.split([found("C1"), found("E3", "warn")])[0].fault == "C1"


def test_advice_is_never_the_verdict():
    primary, rest = verdict.split([found("O8", "info"), found("R1", "warn")])
    assert primary.fault == "R1" and [f.fault for f in rest] == ["O8"]
    assert verdict.split([found("O8", "info")]) == (None, [found("O8", "info")])
    assert verdict.split([]) == (None, [])


def test_one_finding_a_fault_the_most_severe():
    ranked = verdict.rank([found("T5", "warn"), found("T5"), found("T5", "info")])
    assert [(f.fault, f.severity) for f in ranked] == [("T5", "error")]


def test_a_model_that_mixes_rows_or_positions_is_not_mended_by_a_mask():
    """Padding another row or a later place then moves the scores as well."""
    mixed = [found("T10"), found("M9"), found("M10"), found("T12")]
    assert [f.fault for f in verdict.rank(mixed)][0] == "M10"
    assert verdict.split(mixed[:2])[0].fault == "M9"
    assert verdict.split([found("M2"), found("M5", "error")])[0].fault == "M5"


def test_a_mask_and_a_shift_explain_what_they_do_to_the_labels():
    assert verdict.split([found("T2"), found("T10")])[0].fault == "T10"
    assert verdict.split([found("T1"), found("L1")])[0].fault == "L1"
    assert verdict.split([found("T7"), found("L1")])[0].fault == "L1"


def test_labels_of_other_rows_explain_a_loss_that_no_rate_lowers():
    assert verdict.split([found("O1", "warn"), found("D8", "warn")])[0].fault == "D8"


def test_sorted_rows_explain_a_loss_that_jumps():
    for jumps in ("O1", "O3", "X3"):
        said = [found(jumps, "warn"), found("D5", "warn")]
        assert [f.fault for f in verdict.rank(said)] == ["D5", jumps]


def test_causes_that_stand_behind_what_they_explain():
    for cause, effect in (
        ("T10", "D9"),
        ("T13", "T2"),
        ("T5", "T6"),
        ("T6", "T1"),
        ("P2", "L4"),
        ("K2", "O4"),
    ):
        assert verdict.split([found(effect), found(cause, "warn")])[0].fault == cause
