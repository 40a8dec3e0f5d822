"""The account balances for whatever is entered, and says so when it does not."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cookbook.data.ledger import Ledger, LedgerError, Step

REASONS = st.sampled_from(["", "", "no text", "exact duplicate", "too few words"])


@given(st.integers(0, 60), st.integers(0, 5), st.data())
def test_it_always_balances(rows, steps, data):
    ledger = Ledger(rows)
    for step in range(steps):
        left = len(ledger.kept)
        ledger.record(f"step {step}", data.draw(st.lists(REASONS, min_size=left, max_size=left)))
    ledger.check()
    assert rows == len(ledger.kept) + sum(ledger.dropped.values())
    fates = [ledger.fate(row) for row in range(rows)]
    assert [row for row in range(rows) if not fates[row]] == ledger.kept.tolist()
    assert sum(row["dropped"] for row in ledger.rows()) == rows - len(ledger.kept)
    assert len(ledger.frame()) == len(ledger.rows())


def worked():
    ledger = Ledger(5)
    texts = ["a", None, "a", "b", "<b>"]
    ledger.record("normalise", ["", "no text", "", "", ""], texts=texts, changed=1)
    ledger.record("exact", ["", "copy", "", ""], texts=["a", "a", "b", "b"], twins=[0, 0, 3, 4])
    return ledger


def test_a_case_by_hand():
    ledger = worked()
    assert ledger.kept.tolist() == [0, 3, 4]
    assert ledger.steps == [
        Step("normalise", 5, 4, {"no text": 1}),
        Step("exact", 4, 3, {"copy": 1}),
    ]
    assert str(ledger) == "5 rows in = 3 kept + 1 no text + 1 copy"
    assert ledger.examples["copy"] == [(2, "a", 0)]
    assert ledger.examples_frame()["reason"].tolist() == ["no text", "copy"]
    assert ledger.changed == {"normalise": 1}


def test_its_rows_are_json_and_its_page_is_escaped():
    ledger = worked()
    ledger.notes.append("<script>")
    assert json.loads(json.dumps(ledger.rows())) == ledger.rows()
    assert "<script>" not in ledger._repr_html_() and "&lt;script&gt;" in ledger._repr_html_()


def test_a_step_must_account_for_every_row():
    with pytest.raises(LedgerError, match="step 'x' accounts for 2 rows, 3 came in"):
        Ledger(3).record("x", ["", ""])


@pytest.mark.parametrize(
    "spoil",
    [
        lambda ledger: ledger.steps.pop(),
        lambda ledger: ledger.steps.insert(1, Step("ghost", 4, 4, {"copy": 1})),
        lambda ledger: ledger.steps.insert(0, Step("ghost", 5, 3, {"copy": 2})),
        lambda ledger: ledger._fate.__setitem__(0, "copy"),
        lambda ledger: setattr(ledger, "_kept", ledger._kept[:1]),
        lambda ledger: setattr(ledger, "rows_in", 6),
    ],
)
def test_check_finds_what_does_not_add_up(spoil):
    ledger = worked()
    ledger.check()
    spoil(ledger)
    with pytest.raises(LedgerError):
        ledger.check()


def test_examples_are_few_and_short():
    ledger = Ledger(10)
    ledger.record("x", ["long"] * 10, texts=["y" * 1000] * 10)
    assert len(ledger.examples["long"]) == 3
    assert {len(example.text) for example in ledger.examples["long"]} == {300}
