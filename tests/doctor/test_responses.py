"""Inputs without labels, scores, noise, and the bound above which scores count as moved."""

import pytest
import torch
import transformers
from torch import nn

from cookbook.doctor import responses
from cookbook.doctor.checks import Skip
from cookbook.doctor.subject import Subject


def rows(count=4, length=6):
    torch.manual_seed(0)
    ids = torch.randint(5, 90, (count, length))
    return [{"input_ids": row, "labels": row} for row in ids]


def test_labels_are_not_shown(tiny_bert):
    batch = responses.inputs(Subject(tiny_bert(), train_dataset=rows()))
    assert set(batch) == {"input_ids"}


def test_labels_that_a_forward_pass_requires_are_shown():
    class Strict(nn.Module):
        def forward(self, input_ids, labels):
            return {"logits": input_ids.float(), "loss": labels.float().mean()}

    assert "labels" in responses.inputs(Subject(Strict(), train_dataset=rows()))


class Insists(nn.Module):
    """Its labels have a default, and its loss is computed all the same."""

    def __init__(self, insists=True):
        super().__init__()
        self.out, self.insists, self.seen = nn.Linear(1, 3), insists, []

    def forward(self, input_ids, labels=None):
        self.seen.append(labels is not None)
        logits = self.out(input_ids[:, :1].float())
        if labels is not None or self.insists:
            return {"loss": nn.functional.cross_entropy(logits, labels), "logits": logits}
        return {"logits": logits}


@pytest.mark.parametrize("insists", [True, False])
def test_labels_that_the_loss_needs_are_shown(insists):
    data = [{"input_ids": torch.arange(4), "labels": torch.tensor(i % 3)} for i in range(8)]
    subject = Subject(Insists(insists), train_dataset=data)
    assert ("labels" in responses.inputs(subject)) is insists
    responses.inputs(subject)
    assert subject.model.seen == ([False, True] if insists else [False])  # it is tried once


def test_a_decoder_gets_its_inputs():
    config = transformers.T5Config(vocab_size=99, d_model=16, d_kv=8, d_ff=16, num_layers=1,
                                   num_heads=2, decoder_start_token_id=0)  # fmt: skip
    subject = Subject(transformers.T5ForConditionalGeneration(config), train_dataset=rows())
    batch = responses.inputs(subject)
    assert batch["decoder_input_ids"][:, 0].eq(0).all()
    assert torch.equal(batch["decoder_input_ids"][:, 1:], batch["input_ids"][:, :-1])


def test_without_data_there_is_nothing_to_ask():
    with pytest.raises(Skip, match="does not apply"):
        responses.inputs(Subject(nn.Linear(2, 2)))


def test_the_bound_is_a_share_of_the_deviation_where_nothing_is_noisy():
    subject = Subject(nn.Linear(3, 5), train_dataset=[(torch.randn(3), 0) for _ in range(4)])
    batch = responses.inputs(subject)
    with responses.quiet(subject):
        first = responses.scores(subject, batch)
        limit = responses.bound(subject, batch, first)
    assert limit == pytest.approx(1e-3 * float(first.std(correction=0)), rel=1e-4)


def test_a_model_that_draws_has_no_bound():
    class Drawing(nn.Linear):
        def forward(self, x):
            return super().forward(x) + torch.randn(len(x), 5)

    subject = Subject(Drawing(3, 5), train_dataset=[(torch.randn(3), 0) for _ in range(4)])
    batch = responses.inputs(subject)
    with responses.quiet(subject), pytest.raises(Skip, match="two equal"):
        responses.bound(subject, batch, responses.scores(subject, batch))


def test_scores_that_are_masked_or_constant_have_a_bound():
    assert responses.still(torch.tensor([1.0, 2.0, -torch.inf, -1e30]), half=False) < 1e-3
    assert responses.still(torch.full((3,), 2.0), half=False) > 0
    assert responses.moved(torch.tensor([1.0, -torch.inf]), torch.tensor([1.5, -torch.inf])) == 0.5


def test_other_tokens_occur_and_special_ones_stay(tokenizer):
    subject = Subject(nn.Linear(1, 1), processing_class=tokenizer)
    pad = tokenizer.pad_token_id
    ids = torch.tensor([[40, 41, 42, pad], [40, 40, 43, pad]])
    changed = responses.other_tokens(subject, ids, torch.ones_like(ids, dtype=torch.bool))
    assert (changed[:, :3] != ids[:, :3]).all() and (changed[:, 3] == pad).all()
    assert set(changed.unique().tolist()) <= set(ids.unique().tolist())
    with pytest.raises(Skip, match="too few"):
        responses.other_tokens(subject, torch.full((2, 3), 7), torch.tensor(True))


def test_an_autocast_inside_the_forward_pass_is_half_precision(tiny_bert):
    model = tiny_bert()
    subject = Subject(model, train_dataset=rows())
    assert not responses.computes_in_half(subject)
    inner = model.forward

    def forward(*args, **kwargs):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            out = inner(*args, **kwargs)
        out.logits = out.logits.float()  # as accelerate hands it back
        return out

    model.forward = forward
    subject = Subject(model, train_dataset=rows())
    assert responses.computes_in_half(subject) and not responses.is_half(subject)
    batch = responses.inputs(subject)
    with responses.quiet(subject):
        scores = responses.scores(subject, batch)
        assert responses.bound(subject, batch, scores) >= 0.04 * float(scores.std())
