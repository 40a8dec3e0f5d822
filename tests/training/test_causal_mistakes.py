"""The mistakes are the mistakes they claim to be, and the right twin has none of them."""

import pytest
import torch

from cookbook.doctor import examine
from cookbook.models import load_tokenizer
from cookbook.models.registry import build
from cookbook.training import CausalCollator, Keyed
from cookbook.training.causal_mistakes import reader_that_writes, shifting
from cookbook.training.from_parts import decoder
from cookbook.training.objective_runs import own_loss

ROWS = Keyed([{"input_ids": torch.randint(5, 60, (24,)).tolist()} for _ in range(16)])
COLLATE = CausalCollator(pad_id=0)


def test_shifted_labels_are_two_tokens_ahead():
    batch, wrong = COLLATE([ROWS[0]]), shifting(COLLATE)([ROWS[0]])
    model = build("gpt2", vocab_size=60, length=24, dropout=0.0).eval()
    logits = model(input_ids=batch["input_ids"]).logits
    loss, count = own_loss(model, wrong, COLLATE.ahead)
    expected = torch.nn.functional.cross_entropy(
        logits[0, :-2], batch["input_ids"][0, 2:], reduction="sum"
    )
    assert count == 22
    torch.testing.assert_close(loss, expected)


def test_the_doctor_names_shifted_labels_and_not_the_right_ones():
    model = build("gpt2", vocab_size=60, length=24, dropout=0.0)
    found = [
        examine(model, train_dataset=ROWS, data_collator=c) for c in (shifting(COLLATE), COLLATE)
    ]
    assert [report.faults() for report in found] == [["L1"], []]


@pytest.mark.parametrize(("make", "sees"), [(reader_that_writes, True), (decoder, False)])
def test_only_the_wrong_one_sees_the_future(make, sees):
    model = make("docbert").eval()
    ids = load_tokenizer("docbert")("Returns the sum of all the values.", return_tensors="pt")
    changed = ids["input_ids"].clone()
    changed[0, -2] = 99
    with torch.no_grad():
        before, after = (model(input_ids=i).logits[0, :-2] for i in (ids["input_ids"], changed))
    assert bool((before != after).any()) == sees
