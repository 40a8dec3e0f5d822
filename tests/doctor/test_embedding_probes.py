"""Made-up embeddings tell what a loss wants (C1); a row's embedding is its own (M10)."""

import dataclasses
from typing import NamedTuple

import pytest
import torch
import transformers
from torch import nn
from torch.nn import functional

from cookbook.doctor import embedding_probes
from cookbook.doctor.checks import attempt
from cookbook.doctor.subject import Subject

ROWS = [{"text": torch.randn(6), "pair": torch.randn(6)} for _ in range(32)]


class Towers(nn.Module):
    """One layer for two sides; `spoil` acts on what it reads."""

    def __init__(self, spoil=lambda x: x, norm=True):
        super().__init__()
        self.layer, self.spoil, self.norm = nn.Linear(6, 24), spoil, norm

    def embed(self, x):
        out = self.layer(self.spoil(x))
        return functional.normalize(out, dim=-1) if self.norm else out

    def forward(self, text, pair):
        return {"text_embeds": self.embed(text), "pair_embeds": self.embed(pair)}


def found(check, loss, model=None, rows=ROWS):
    subject = Subject(model or Towers(), train_dataset=rows, loss_fn=loss)
    said, reason = attempt(check, subject)
    assert "failed" not in reason, reason
    return [(one.fault, one.severity) for one in said]


def wants(loss, **given):
    return found(embedding_probes.check_loss_wants_pairs, loss, **given)


def contrast(scale, target=None, both=False):
    def loss(outputs, batch):
        scores = outputs["text_embeds"] @ outputs["pair_embeds"].T * scale
        right = torch.arange(len(scores)) if target is None else target(len(scores))
        one = functional.cross_entropy(scores, right)
        return (one + functional.cross_entropy(scores.T, right)) / 2 if both else one

    return loss


def triplet(shift):
    def loss(outputs, batch):
        a, p = outputs["text_embeds"], outputs["pair_embeds"]
        return functional.triplet_margin_loss(a, p, p.roll(shift * len(p), 0) if shift else
                                              p.roll(1, 0), margin=0.5)  # fmt: skip

    return loss


def apart(outputs, batch):
    """Attraction with its sign lost."""
    return functional.cosine_similarity(outputs["text_embeds"], outputs["pair_embeds"]).mean()


@pytest.mark.parametrize(
    "loss",
    [
        contrast(0.07), contrast(0.07, both=True), contrast(14, lambda n: torch.zeros(n).long()),
        contrast(14, lambda n: torch.arange(n).roll(1)), triplet(1), apart,
    ],
)  # fmt: skip
def test_a_loss_that_does_not_want_pairs(loss):
    assert wants(loss) == [("C1", "error")]


def attraction(outputs, batch):
    """SimSiam, and distillation from one tower to another."""
    return 1 - functional.cosine_similarity(*outputs.values()).mean()


def squares(outputs, batch):
    return functional.mse_loss(*outputs.values())


def doubled(outputs, batch):
    """NT-Xent: both sides are anchors, and all 2N - 1 others are candidates."""
    z = torch.cat(list(outputs.values()))
    scores = (z @ z.T / 0.5).masked_fill(torch.eye(len(z)).bool(), -1e9)
    return functional.cross_entropy(scores, torch.arange(len(z)).roll(len(z) // 2))


def sigmoid(outputs, batch):
    scores = outputs["text_embeds"] @ outputs["pair_embeds"].T * 10 - 10
    return -functional.logsigmoid(scores * (2 * torch.eye(len(scores)) - 1)).sum() / len(scores)


def of_logits(outputs, batch):
    """It does not read the embeddings that it is shown."""
    return outputs["scores"].mean()


@pytest.mark.parametrize(
    "loss", [contrast(14), contrast(1), contrast(20, both=True), triplet(0), doubled, sigmoid,
             of_logits],
)  # fmt: skip
def test_a_loss_that_wants_pairs_or_is_another(loss):
    class Scoring(Towers):
        def forward(self, text, pair):
            outputs = super().forward(text, pair)
            return outputs | {"scores": outputs["text_embeds"]} if loss is of_logits else outputs

    assert wants(loss, model=Scoring()) == []
    assert wants(loss, model=Scoring(norm=False)) == []


def no_margin(outputs, batch):
    """Content as soon as all are the same."""
    a, p = outputs["text_embeds"], outputs["pair_embeds"]
    near, far = (a - p).pow(2).sum(1), (a - p.roll(1, 0)).pow(2).sum(1)
    return near.mean() + (near - far).clamp(min=0).mean()


def stopped(outputs, batch):
    """SimSiam's, which stops the gradient of one side in the loss."""
    p, z = outputs.values()
    return 1 - functional.cosine_similarity(p, z.detach()).mean()


@pytest.mark.parametrize("loss", [attraction, squares, no_margin])
def test_nothing_pushes_apart_unless_one_side_stands_still(loss):
    class Taught(Towers):
        def forward(self, text, pair):
            outputs = super().forward(text, pair)
            return outputs | {"pair_embeds": outputs["pair_embeds"].detach()}

    assert wants(loss) == [("C1", "error")]
    assert wants(loss, model=Taught()) == []
    assert wants(stopped) == []


class Both(NamedTuple):
    text_embeds: torch.Tensor
    pair_embeds: torch.Tensor


@dataclasses.dataclass
class Named(transformers.utils.ModelOutput):
    text_embeds: torch.Tensor = None
    pair_embeds: torch.Tensor = None


@pytest.mark.parametrize("kind", [Both, Named, lambda **fields: tuple(fields.values())])
def test_outputs_of_every_shape(kind):
    class Shaped(Towers):
        def forward(self, text, pair):
            return kind(**super().forward(text, pair))

    def loss(scale):
        return lambda outputs, batch: functional.cross_entropy(
            outputs[0] @ outputs[1].T * scale, torch.arange(len(outputs[0]))
        )

    assert wants(loss(0.05), model=Shaped()) == [("C1", "error")]
    assert wants(loss(20), model=Shaped()) == []


def test_rows_that_say_themselves_what_belongs_together_are_left_alone():
    rows = [row | {"labels": i % 2} for i, row in enumerate(ROWS)]

    class Labelled(Towers):
        def forward(self, text, pair, labels=None):
            return super().forward(text, pair)

    def loss(outputs, batch):
        return functional.cosine_embedding_loss(*outputs.values(), 2 * batch["labels"] - 1)

    assert wants(loss, model=Labelled(), rows=rows) == []


def rows_apart(model):
    return found(embedding_probes.check_embeddings_are_apart, contrast(14), model=model)


@pytest.mark.parametrize(
    "spoil",
    [lambda x: functional.normalize(x, dim=0), lambda x: x - x.mean(0), lambda x: x.softmax(0),
     lambda x: x.roll(1, 0)],
)  # fmt: skip
def test_an_embedding_that_hears_the_other_rows(spoil):
    assert rows_apart(Towers(spoil)) == [("M10", "warn")]


def normed(**given):
    model = Towers()
    model.spoil = nn.BatchNorm1d(6, **given)
    return model


@pytest.mark.parametrize(
    "model",
    [Towers(), Towers(lambda x: functional.normalize(x, dim=-1)), normed(),
     normed(track_running_stats=False), Towers(nn.Dropout(0.5)), Towers(nn.LayerNorm(6))],
)  # fmt: skip
def test_an_embedding_of_its_own_row(model):
    """Batch norms keep statistics, or take the batch's on purpose."""
    assert rows_apart(model) == []
