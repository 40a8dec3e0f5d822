"""Healthy scripts of the sixth set with models and tasks of their own."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from faults.families import CLASSES, bert, gpt2, load, vit
from faults.healthy import changed, evaluated
from faults.recipe import Recipe, lines
from faults.sixth_healthy import healthy


def _scores(scores: torch.Tensor) -> Any:
    return SimpleNamespace(logits=scores)


class Mixer(nn.Module):
    """Layers that mix places and layers that mix channels, and no attention."""

    def __init__(self, places: int = 16, size: int = 32) -> None:
        super().__init__()
        self.cut = nn.Conv2d(1, size, 2, 2)
        self.norms = nn.ModuleList(nn.LayerNorm(size) for _ in range(4))
        self.across = nn.ModuleList(self._two(places) for _ in range(2))
        self.along = nn.ModuleList(self._two(size) for _ in range(2))
        self.head = nn.Linear(size, 10)

    def _two(self, size: int) -> nn.Module:
        return nn.Sequential(nn.Linear(size, 2 * size), nn.GELU(), nn.Linear(2 * size, size))

    def forward(self, x: torch.Tensor) -> Any:
        hidden = self.cut(x).flatten(2).transpose(1, 2)
        for i in range(2):
            mixed = self.across[i](self.norms[2 * i](hidden).transpose(1, 2))
            hidden = hidden + mixed.transpose(1, 2)
            hidden = hidden + self.along[i](self.norms[2 * i + 1](hidden))
        return _scores(self.head(hidden.mean(1)))


@healthy
def patches_mixed_by_two_networks(seed: int) -> Recipe:
    return evaluated(changed(vit(seed), model=Mixer))


class Experts(nn.Module):
    """Four small networks, of which a gate picks one for each picture."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = nn.Linear(64, 4)
        self.experts = nn.ModuleList(
            nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10)) for _ in range(4)
        )

    def forward(self, x: torch.Tensor) -> Any:
        flat = x.flatten(1)
        share, chosen = self.gate(flat).softmax(-1).max(-1)
        every = torch.stack([expert(flat) for expert in self.experts], 1)
        picked = every[torch.arange(len(flat)), chosen]
        return _scores(picked * share[:, None])


@healthy
def a_gate_picks_one_of_four_networks(seed: int) -> Recipe:
    return evaluated(changed(vit(seed), model=Experts, lr=1e-2, steps=100))


class Rows(nn.Module):
    """A recurrent network that reads a picture line by line."""

    def __init__(self) -> None:
        super().__init__()
        self.reader = nn.GRU(8, 48, batch_first=True)
        self.head = nn.Linear(48, 10)

    def forward(self, x: torch.Tensor) -> Any:
        return _scores(self.head(self.reader(x[:, 0])[0][:, -1]))


@healthy
def a_gru_reads_digits_line_by_line(seed: int) -> Recipe:
    return evaluated(changed(vit(seed), model=Rows, lr=1e-2, steps=100))


class Painter(nn.Module):
    """Fills the lower right quarter of a picture from the rest of it."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 16), nn.Sigmoid())

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        seen = x.clone()
        seen[:, :, 4:, 4:] = 0
        return self.net(seen.flatten(1))


@healthy
def a_missing_quarter_is_painted(seed: int) -> Recipe:
    """A regression whose targets are pixels that the model does not see."""
    r = changed(vit(seed), model=Painter, metrics=None, lr=1e-2, steps=100)

    def collate(rows: list) -> tuple:
        x = torch.stack([row[0] for row in rows])
        return x, x[:, 0, 4:, 4:].flatten(1)

    return evaluated(changed(r, collate=collate, loss=functional.mse_loss))


@healthy
def three_quantiles_of_the_ink(seed: int) -> Recipe:
    """The pinball loss of the tenth, the half and the nine tenths of how dark a picture is."""
    shares = torch.tensor([0.1, 0.5, 0.9])

    def collate(rows: list) -> tuple:
        x = torch.stack([row[0] for row in rows])
        return x[:, :, :4], x.sum((1, 2, 3)) / 10

    def pinball(outputs: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        gap = y[:, None] - outputs
        return torch.maximum(shares * gap, (shares - 1) * gap).mean()

    def make() -> nn.Module:
        return nn.Sequential(nn.Flatten(), nn.Linear(32, 64), nn.ReLU(), nn.Linear(64, 3))

    r = changed(vit(seed), model=make, metrics=None, lr=1e-2, steps=120)
    return evaluated(changed(r, collate=collate, loss=pinball))


class Averaged(nn.Module):
    """The mean of all real tokens in the place of the first one, and a head of two layers."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = load("BertModel", "bert", add_pooling_layer=False)
        self.config = self.encoder.config
        self.head = nn.Sequential(nn.Linear(64, 64), nn.Tanh(), nn.Linear(64, CLASSES))

    def forward(self, input_ids: Any, attention_mask: Any, token_type_ids: Any = None,
                labels: Any = None) -> Any:  # fmt: skip
        hidden = self.encoder(input_ids, attention_mask=attention_mask).last_hidden_state
        mask = attention_mask[..., None]
        scores = self.head((hidden * mask).sum(1) / mask.sum(1).clamp(min=1))
        loss = None if labels is None else functional.cross_entropy(scores, labels)
        return {"loss": loss, "logits": scores}


@healthy
def the_mean_of_all_tokens_is_classified(seed: int) -> Recipe:
    return evaluated(changed(bert(seed), model=Averaged))


@healthy
def two_looks_at_each_batch(seed: int) -> Recipe:
    """Sharpness-aware steps: the gradient is taken where the loss is worst nearby."""
    r, seen = vit(seed), {}
    line = lines()

    def forward(model: nn.Module, batch: Any) -> Any:
        seen.update(model=model, batch=batch)
        return model(batch[0])

    def step(optimizer: Any) -> None:
        held = [p for p in seen["model"].parameters() if p.grad is not None]
        norm = torch.stack([p.grad.norm() for p in held]).norm() + 1e-12
        moved = [0.02 * p.grad / norm for p in held]
        with torch.no_grad():
            torch._foreach_add_(held, moved)
        optimizer.zero_grad()
        outputs = seen["model"](seen["batch"][0])
        r.loss(outputs, seen["batch"][1]).backward()
        with torch.no_grad():
            torch._foreach_sub_(held, moved)
        optimizer.step()

    line.forward, line.step = forward, step
    return evaluated(changed(r, line=line, model=Rows, lr=1e-2, steps=100))


@healthy
def the_head_is_told_the_topic_twice(seed: int) -> Recipe:
    """A second head on the first layer helps the first one, with a third of the weight."""

    class Helped(Averaged):
        """As `Averaged`, and a linear head on the layer below."""

        def __init__(self) -> None:
            super().__init__()
            self.lower = nn.Linear(64, CLASSES)

        def forward(self, input_ids: Any, attention_mask: Any, token_type_ids: Any = None,
                    labels: Any = None) -> Any:  # fmt: skip
            found = self.encoder(
                input_ids, attention_mask=attention_mask, output_hidden_states=True
            )
            scores = self.head(found.last_hidden_state[:, 0])
            below = self.lower(found.hidden_states[1][:, 0])
            loss = None
            if labels is not None:
                loss = functional.cross_entropy(scores, labels)
                loss = loss + functional.cross_entropy(below, labels) / 3
            return {"loss": loss, "logits": scores}

    return evaluated(changed(bert(seed), model=Helped))


@healthy
def the_middle_is_told_after_both_ends(seed: int) -> Recipe:
    """Fill in the middle: a row is told as its end, a mark, its beginning and its middle."""
    r = gpt2(seed)
    mark = r.tokenizer("\u00a4", add_special_tokens=False)["input_ids"]

    def turned(row: dict) -> dict:
        ids = row["input_ids"][:-1]
        third = len(ids) // 3
        first, middle, last = ids[:third], ids[third : 2 * third], ids[2 * third :]
        made = [*last, *mark, *first, *mark, *middle, row["input_ids"][-1]]
        return row | {"input_ids": made, "attention_mask": [1] * len(made)}

    r.train, r.eval = ([turned(row) for row in part] for part in (r.train, r.eval))
    return evaluated(r)
