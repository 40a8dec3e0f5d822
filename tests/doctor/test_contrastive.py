import math

import pytest
import torch
from torch import nn

from cookbook.doctor import contrastive, examination
from cookbook.doctor.contrastive import collapse
from cookbook.doctor.subject import Subject


def one_way(rows=16, cosine=0.99):
    """Unit rows with about this mean cosine: one shared direction and one of their own each."""
    own = torch.eye(rows) * math.sqrt(1 - cosine)
    return torch.cat([torch.full((rows, 1), math.sqrt(cosine)), own], dim=1)


@pytest.mark.parametrize("cosine", [0.0, 0.3, 0.9, 0.99])
def test_the_mean_cosine_is_that_of_the_rows(cosine):
    assert contrastive.mean_cosine(one_way(cosine=cosine)) == pytest.approx(cosine, abs=1e-5)


def test_a_collapse_needs_both_signs_and_a_run_that_has_begun():
    chance = math.log(16)
    found = collapse(one_way(), chance, 16, steps=100)
    assert (found.fault, found.severity) == ("C1", "error")
    assert collapse(one_way(), chance, 16, steps=3) is None  # every run starts near chance
    assert collapse(one_way(), chance, 16) is None
    assert collapse(one_way(cosine=0.9), chance, 16, steps=100) is None  # an anisotropic BERT
    assert collapse(one_way(), 0.7 * chance, 16, steps=100) is None  # it learns all the same
    assert collapse(one_way(), float("nan"), 16, steps=100) is None


def test_a_temperature_that_leaves_nothing_to_learn_is_named_at_once():
    assert collapse(one_way(), math.log(16), 16, scale=0.01).fault == "C1"
    assert collapse(one_way(), math.log(16), 16, scale=20.0) is None


def test_two_sides_in_one_point_are_a_collapse_once_the_loss_has_gone():
    point, apart = one_way(cosine=0.9999), one_way(cosine=0.5)
    found = contrastive.pulled_together([point, point], 0.001, 1.0)
    assert (found.fault, found.severity) == ("C1", "error")
    assert contrastive.pulled_together([point, point], 0.4, 1.0) is None  # it is on its way
    assert contrastive.pulled_together([point, apart], 0.001, 1.0) is None
    assert contrastive.pulled_together([point], 0.001, 1.0) is None  # a regression of one output
    assert contrastive.pulled_together([], 0.001, 1.0) is None


def test_a_signed_loss_must_fall_while_rows_draw_together():
    """A negative cosine has no zero to fall to: the rows themselves must have come together."""
    point = [1 + 0.001 * torch.randn(16, 8, generator=torch.Generator().manual_seed(0))] * 2
    together = contrastive.pulled_together
    assert together(point, -1.0, -0.8, cosine_first=0.7).fault == "C1"
    assert together(point, -1.0, -0.8) is None  # nobody saw where they began
    assert together(point, -1.0, -0.8, cosine_first=0.999999) is None  # they began there
    assert together(point, -0.8, -0.8, cosine_first=0.7) is None
    assert together([torch.randn(16, 8)] * 2, -1.0, -0.8, cosine_first=0.7) is None
    assert together(point, 0.8, 1.0, cosine_first=0.7) is None  # a loss that is no attraction


class Towers(nn.Module):
    """Two towers over pairs; `spread` is how much an embedding owes to its row."""

    def __init__(self, spread, temperature=0.05):
        super().__init__()
        torch.manual_seed(0)
        self.left, self.spread, self.temperature = nn.Linear(8, 8), spread, temperature

    def forward(self, left, right):
        def embed(x):
            return nn.functional.normalize(1 + self.spread * self.left(x), dim=1)

        a, b = embed(left), embed(right)
        scores = a @ b.T / self.temperature
        loss = nn.functional.cross_entropy(scores, torch.arange(len(a)))
        return {"loss": loss, "text_embeds": a, "image_embeds": b, "logits": scores}


def examined(model, steps):
    rows = [{"left": (x := torch.randn(8)), "right": x} for _ in range(64)]
    optimizer = torch.optim.Adam(model.parameters())
    if steps:
        sum(p.sum() for p in model.parameters()).mul(0).backward()
        optimizer.step()
        for state in optimizer.state.values():
            state["step"].fill_(steps)
    subject = Subject(model, train_dataset=rows, optimizer=optimizer)
    return examination.attempt(contrastive.check_collapse, subject)


def test_the_probe_finds_a_collapsed_run_and_leaves_the_others_alone():
    found, why = examined(Towers(1e-4), steps=200)
    assert [f.fault for f in found] == ["C1"] and not why
    assert examined(Towers(1e-4), steps=0) == ([], "")
    assert examined(Towers(1.0), steps=200) == ([], "")
    assert examined(Towers(1e-4, temperature=100.0), steps=0)[0][0].fault == "C1"


def test_an_output_without_embeddings_is_none_of_its_business(tiny_bert, tokenizer):
    rows = [tokenizer("a tensor") | {"labels": 0} for _ in range(8)]
    subject = Subject(tiny_bert("BertForSequenceClassification"), train_dataset=rows,
                      processing_class=tokenizer)  # fmt: skip
    assert examination.attempt(contrastive.check_collapse, subject) == ([], "does not apply")


def test_one_number_a_row_is_no_embedding():
    """A regression whose mean squared error happens to be ln 16."""
    assert collapse(torch.rand(16, 1) + 1, math.log(16), 16, steps=100) is None


class Twins(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(6, 8)

    def forward(self, text, pair):
        return {"text_embeds": self.layer(text), "pair_embeds": self.layer(pair)}


def told_apart(outputs, batch):
    scores = outputs["text_embeds"] @ outputs["pair_embeds"].T
    return nn.functional.cross_entropy(scores, torch.arange(len(scores)))


def attracted(outputs, batch):
    return (outputs["text_embeds"] - outputs["pair_embeds"]).square().mean()


@pytest.mark.parametrize(("size", "loss", "expected"), [
    (1, told_apart, ["C1"]), (4, told_apart, []), (1, attracted, []),
])  # fmt: skip
def test_a_pair_that_is_alone_in_its_batch_has_nothing_to_be_told_from(size, loss, expected):
    rows = [{"text": torch.randn(6), "pair": torch.randn(6)} for _ in range(12)]
    loader = torch.utils.data.DataLoader(rows, batch_size=size)
    subject = Subject(Twins(), train_dataset=loader, loss_fn=loss)
    found, reason = examination.attempt(contrastive.check_others_are_there, subject)
    assert [one.fault for one in found] == expected and "failed" not in reason
