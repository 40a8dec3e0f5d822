"""Recipes for learning much in little time, as data, and one function that trains by them.

A `Recipe` holds the choices that record runs are made of: network, optimizer, rate, batch, share
of masked tokens, precision, shorter rows first. `follow` trains by it and notes the held-out loss
beside tokens and seconds, so that recipes can be compared by the time they take to a loss. It
searches for nothing. `benchmarks/time_to_loss.py` measures with it; chapter 10 shows the result.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch

from cookbook.data.tokenization import Packed
from cookbook.scaling.speed_setups import masked_sum
from cookbook.training import loop, optimizers
from cookbook.training.objectives import MaskedLMCollator
from cookbook.training.order import Batches
from cookbook.training.schedules import scheduler


@dataclass(frozen=True)
class Recipe:
    """How to pretrain; the defaults are what was measured to be fastest to a loss here.

    `network` "modern" puts the norm first, turns queries and keys by their position and gates the
    feed-forward layer (ModernBERT, Warner et al. 2024, arXiv:2412.13663); "bert" is the one of
    2019. `optimizer` is a name of `training.optimizers`; `warmup` and `short` are shares of the
    updates, the latter with rows of half the length. `probability` of tokens are masked.
    """

    network: str = "modern"
    optimizer: str = "Muon"
    rate: float = 1e-2
    warmup: float = 0.06
    batch_size: int = 8
    probability: float = 0.3
    dropout: float = 0.0
    precision: str = "bf16"
    masked_only: bool = True
    short: float = 0.0
    weight_decay: float = 0.01


class Point(NamedTuple):
    """Where a run stood: tokens read, seconds of CPU and of the wall without those of measuring."""

    tokens: int
    cpu: float
    wall: float
    loss: float


def network(
    recipe: Recipe, tokenizer: Any, size: str = "mini", *, length: int = 128, seed: int = 0
) -> Any:
    """The network of a recipe with random weights: about as many in either kind."""
    import transformers

    from cookbook.models.text import END, PAD, START, bert_config, sized

    torch.manual_seed(seed)
    if recipe.network == "bert":
        return transformers.BertForMaskedLM(bert_config(
            len(tokenizer), size, length=length, attn_implementation="eager",
            hidden_dropout_prob=recipe.dropout, attention_probs_dropout_prob=recipe.dropout,
        ))  # fmt: skip
    hidden, layers, heads = sized(size)
    gated = -(-8 * hidden // 3 // 8) * 8  # three matrices of this width weigh as two of 4 hidden
    return transformers.ModernBertForMaskedLM(transformers.ModernBertConfig(
        vocab_size=len(tokenizer), hidden_size=hidden, intermediate_size=gated,
        num_hidden_layers=layers, num_attention_heads=heads, max_position_embeddings=length,
        global_attn_every_n_layers=1, attn_implementation="eager", pad_token_id=PAD,
        bos_token_id=START, cls_token_id=START, eos_token_id=END, sep_token_id=END,
        attention_dropout=recipe.dropout, mlp_dropout=recipe.dropout,
        embedding_dropout=recipe.dropout,
    ))  # fmt: skip


def follow(
    recipe: Recipe,
    tokenizer: Any,
    rows: Packed,
    held_out: Packed,
    *,
    tokens: int,
    size: str = "mini",
    measure_every: int = 50,
    stop_at: float = 0.0,
    seed: int = 0,
    device: str = "cpu",
) -> tuple[Any, list[Point]]:
    """Train by `recipe` for `tokens`; the model, and a `Point` every `measure_every` updates.

    The rate falls to 0 at `tokens`. The run ends early at a held-out loss of `stop_at` or below.
    The rate given is meant for batches of 8 rows as well as larger ones: nothing is rescaled.
    """
    from cookbook.training.pretraining import evaluate_masked_lm

    length = rows.input_ids.shape[1]
    model = network(recipe, tokenizer, size, length=length, seed=seed).to(device)
    steps = max(1, tokens // (recipe.batch_size * length))
    decay = {"weight_decay": recipe.weight_decay}
    optimizer = optimizers.build(model, recipe.optimizer, recipe.rate, **decay)
    rate = scheduler(optimizer, "linear", warmup=round(recipe.warmup * steps), total=steps)
    batches = _phases(recipe, tokenizer, rows, round(recipe.short * steps), seed)
    clock, points = _Clock(), []

    def measure(step: int, _: float) -> None:
        if step % measure_every == 0 or step == steps:
            clock.pause()
            loss = evaluate_masked_lm(model, tokenizer, held_out)["loss"]
            points.append(Point(step * recipe.batch_size * length, *clock.read, loss))
            if loss <= stop_at:
                raise _There
            clock.go()

    with contextlib.suppress(_There):
        loop.train(
            model, batches, optimizer, rate, steps=steps, precision=recipe.precision,
            on_step=measure,
            loss_fn=masked_sum if recipe.masked_only else loop.summed_cross_entropy,
        )  # fmt: skip
    return model, points


def reached(points: list[Point], loss: float) -> Point | None:
    """The first point whose loss is `loss` or less.

    >>> reached([Point(10, 1.0, 1.0, 5.0), Point(20, 2.0, 2.0, 4.0)], 4.5).tokens
    20
    """
    return next((point for point in points if point.loss <= loss), None)


def halved(rows: Packed) -> Packed:
    """Rows of half the length, twice as many; positions start anew.

    >>> from cookbook.data.tokenization import pack
    >>> halved(pack([[1, 2, 3, 4]], 4)).input_ids.tolist()
    [[1, 2], [3, 4]]
    """
    width = rows.input_ids.shape[1] // 2
    cut = [x[:, : 2 * width].reshape(-1, width) for x in (rows.input_ids, rows.document_ids)]
    positions = np.broadcast_to(np.arange(width, dtype=np.int32), cut[0].shape)
    return Packed(*cut, positions)


class _There(Exception):
    """The loss that was asked for is reached."""


class _Clock:
    """CPU and wall seconds, without those between `pause` and `go`."""

    def __init__(self) -> None:
        self.read, self._began = (0.0, 0.0), (time.process_time(), time.perf_counter())

    def pause(self) -> None:
        now = time.process_time(), time.perf_counter()
        self.read = tuple(r + n - b for r, n, b in zip(self.read, now, self._began, strict=True))

    def go(self) -> None:
        self._began = time.process_time(), time.perf_counter()


def _phases(recipe: Recipe, tokenizer: Any, rows: Packed, short: int, seed: int) -> Any:
    collate: Callable = MaskedLMCollator(tokenizer, probability=recipe.probability, seed=seed)
    full = Batches(rows, recipe.batch_size, seed=seed, collate=collate)
    if not short:
        return full
    halves = Batches(halved(rows), 2 * recipe.batch_size, seed=seed, collate=collate)
    return _Switch(halves, full, short)


class _Switch:
    """Batches of one kind up to a number, then of another."""

    def __init__(self, first: Batches, then: Batches, at: int) -> None:
        self.first, self.then, self.at = first, then, at

    def __getitem__(self, number: int) -> Any:
        return (self.first if number < self.at else self.then)[number]
