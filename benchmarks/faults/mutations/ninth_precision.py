"""R1 and P1 to P4 as they are committed most often: too many epochs, zeros, halves, scalers."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.nn import functional

from faults import families
from faults.mutations.ninth_parts import after, both, evaluated, rows_of, scored
from faults.recipe import Recipe
from faults.recurrent_family import PAD, Reader
from faults.table import ninth

# -- R1 ------------------------------------------------------------------------------------------


def _constant(r: Recipe) -> None:
    r.schedule = lambda optimizer: torch.optim.lr_scheduler.ConstantLR(optimizer, 1.0)


@ninth("R1", "recurrent bert", loop="plain", online=True)
def often_few_rows_for_a_hundred_epochs(r: Recipe) -> None:
    r.train, r.steps, r.lr = rows_of(r.train)[:32], 200, 3e-3
    _constant(r)
    evaluated(r)


@ninth("R1", "recurrent span vit", loop="plain", online=True)
def often_trained_on_long_after_the_best_evaluation(r: Recipe) -> None:
    r.train, r.steps = rows_of(r.train)[:96], 240
    if r.family == "recurrent":
        r.model = lambda: Reader(width=96)
    _constant(r)
    evaluated(r, 15)


# -- P1 ------------------------------------------------------------------------------------------


@ninth("P1", "recurrent", loop="plain", online=True)
def often_log_of_one_minus_a_rounded_probability(r: Recipe) -> None:
    def loss(logits: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        p = logits.bfloat16().sigmoid()
        hot = functional.one_hot(y, p.shape[-1]).to(p.dtype)
        return -(hot * p.log() + (1 - hot) * (1 - p).log()).mean().float()

    scored(r, loss)
    r.lr, r.steps = 1e-2, 200


class Statistics(Reader):
    """Mean and spread over the words of a row."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(128, families.CLASSES)

    def pooled(self, x: torch.Tensor) -> torch.Tensor:
        parts = [states[ids != PAD] for states, ids in zip(self.states(x), x, strict=True)]
        return torch.stack([torch.cat([part.mean(0), part.std(0)]) for part in parts])


@ninth("P1", "recurrent", online=True)
def often_spread_over_the_words_of_a_one_word_text(r: Recipe) -> None:
    r.model = Statistics
    rows = rows_of(r.train)
    r.train = [(x[:1] if i % 60 == 7 else x, y) for i, (x, y) in enumerate(rows)]


def _apart(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    return (a[:, None] - b[None]).pow(2).sum(-1).sqrt()


@ninth("P1", "contrastive", loop="plain", online=True)
def often_root_of_the_distance_of_a_row_to_itself(r: Recipe) -> None:
    def loss(outputs: Any, batch: Any = None) -> torch.Tensor:
        near = _apart(outputs["text_embeds"], outputs["pair_embeds"]).diagonal()
        others = _apart(outputs["text_embeds"], outputs["text_embeds"])
        hardest = (others + 9 * torch.eye(len(others))).min(1).values
        return (0.3 + near - hardest).relu().mean()

    r.loss = loss


@ninth("P1", "gpt2 sft", loop="plain", online=True)
def often_mean_over_the_tokens_of_a_row_without_any(r: Recipe) -> None:
    def loss(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        right = labels[:, 1:]
        mask = (right != -100).float()
        told = logits[:, :-1].log_softmax(-1).gather(2, right.clamp(min=0)[..., None])[..., 0]
        return -((told * mask).sum(1) / mask.sum(1)).mean()

    end = r.tokenizer.eos_token_id
    alone = {"input_ids": [end], "attention_mask": [1], "labels": [-100]}
    rows = rows_of(r.train)
    r.train = [
        {**row, **{k: v for k, v in alone.items() if k in row}} if i % 150 == 3 else row
        for i, row in enumerate(rows)
    ]
    scored(r, loss)


# -- P2 ------------------------------------------------------------------------------------------


def _in_half(model: nn.Module, batch: Any) -> Any:
    with torch.autocast("cpu", dtype=torch.float16):
        return model(**batch) if isinstance(batch, dict) else model(batch[0])


def _by_scaler(r: Recipe, scaler: Any) -> None:
    """The lines of mixed precision, as the guide of PyTorch writes them."""
    held: list = []
    make = r.make_optimizer

    def optimizer(model: nn.Module) -> Any:
        r.optimizer = None
        held.append(make(model))
        r.optimizer = optimizer
        return held[-1]

    def clip(model: nn.Module, limit: float) -> None:
        scaler.unscale_(held[-1])
        nn.utils.clip_grad_norm_(model.parameters(), limit)

    r.optimizer = optimizer
    r.line.backward = lambda loss: scaler.scale(loss).backward()
    r.line.clip = clip
    r.line.step = lambda made: (scaler.step(made), scaler.update())


@ninth("P2", "recurrent vit", loop="plain", online=True)
def often_scale_that_doubles_at_every_step(r: Recipe) -> None:
    _by_scaler(r, torch.amp.GradScaler("cpu", growth_interval=1))
    r.line.forward, r.steps = _in_half, 100


@ninth("P2", "vit", loop="plain", online=True, also=("P1",))
def often_pictures_of_sixteen_bits_in_half_precision(r: Recipe) -> None:
    both(r, lambda row: (row[0] * 65535, row[1]))
    _by_scaler(r, torch.amp.GradScaler("cpu"))
    r.line.forward = _in_half


@ninth("P2", "contrastive", loop="plain", online=True, also=("P1",))
def often_scale_of_the_scores_never_clamped_in_half_precision(r: Recipe) -> None:
    def loss(outputs: Any, batch: Any = None) -> torch.Tensor:
        scores = (outputs["text_embeds"] @ outputs["pair_embeds"].T).half()
        scores = scores * torch.tensor(12.0).exp().half()
        return functional.cross_entropy(scores.float(), torch.arange(len(scores)))

    r.loss, r.line.forward = loss, _in_half
    _by_scaler(r, torch.amp.GradScaler("cpu"))


# -- P3, P4 --------------------------------------------------------------------------------------


@ninth("P3", "sft summary", online=True)
def often_loaded_in_bfloat_and_tuned_at_a_small_rate(r: Recipe) -> None:
    after(r, lambda model: model.bfloat16())
    r.lr, r.steps = 1e-5, 50


@ninth("P3", "recurrent span t5", loop="plain", online=True)
def often_whole_model_cast_to_bfloat_to_save_memory(r: Recipe) -> None:
    after(r, lambda model: model.to(torch.bfloat16))
    r.lr, r.steps = 2e-5, 60


@ninth("P4", "recurrent sft", loop="plain", online=True)
def often_half_weights_under_a_gradient_scaler(r: Recipe) -> None:
    after(r, lambda model: model.half())
    _by_scaler(r, torch.amp.GradScaler("cpu"))


@ninth("P4", "recurrent vit", loop="plain", online=True)
def often_autocast_of_another_device(r: Recipe) -> None:
    def forward(model: nn.Module, batch: Any) -> Any:
        with torch.autocast("cuda", dtype=torch.bfloat16):
            return model(**batch) if isinstance(batch, dict) else model(batch[0])

    r.line.forward = forward
