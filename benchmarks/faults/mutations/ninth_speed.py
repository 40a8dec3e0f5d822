"""H1 to H3 as they are committed most often: waiting, memory, padding."""

from __future__ import annotations

import time
from collections import Counter
from typing import Any

import torch
from torch import nn

from faults import recurrent_family
from faults.mutations.ninth_parts import Read
from faults.recipe import Recipe
from faults.table import ninth

# -- H1, H2, H3 ----------------------------------------------------------------------------------


@ninth("H1", "recurrent", online=True)
def often_vocabulary_counted_again_for_every_row(r: Recipe) -> None:
    told = [text for text, _ in recurrent_family.texts("train", r.seed, 60)]

    def read(row: Any) -> Any:
        Counter(word for text in told for word in recurrent_family.words(text))
        return row

    r.train, r.steps = Read(r.train, read), 80


@ninth("H1", "vit gpt2", loop="plain", online=True)
def often_rows_read_one_by_one_from_a_slow_disk(r: Recipe) -> None:
    def read(row: Any) -> Any:
        time.sleep(0.002)
        return row

    r.train, r.steps = Read(r.train, read), 80


@ninth("H2", "recurrent mlm", loop="plain", online=True)
def often_losses_added_up_with_their_graphs(r: Recipe) -> None:
    held: list[torch.Tensor] = []

    def kept(loss: torch.Tensor) -> torch.Tensor:
        held.append(held[-1] + loss if held else loss)
        return loss

    r.line.loss, r.steps = kept, 150


@ninth("H2", "recurrent vit summary", loop="plain", online=True)
def often_outputs_kept_for_the_metric_of_the_epoch(r: Recipe) -> None:
    held: list[Any] = []
    forward = r.line.forward

    def kept(model: nn.Module, batch: Any) -> Any:
        held.append((forward(model, batch), batch))
        return held[-1][0]

    r.line.forward, r.steps = kept, 150


def _wide(ids: torch.Tensor, width: int, fill: int) -> torch.Tensor:
    return nn.functional.pad(ids, (0, max(0, width - ids.shape[1])), value=fill)


def _padded_to(r: Recipe, width: int) -> None:
    collate = r.collate
    fills = {"input_ids": r.tokenizer.pad_token_id if r.tokenizer else 0, "labels": -100}

    def padded(rows: list) -> Any:
        batch = collate(rows)
        if isinstance(batch, tuple):
            return _wide(batch[0], width, 0), batch[1]
        return {name: _wide(ids, width, fills.get(name, 0)) for name, ids in batch.items()}

    r.collate = padded


@ninth("H3", "recurrent gpt2 t5", advice=True)
def often_every_row_padded_to_the_longest_that_fits(r: Recipe) -> None:
    _padded_to(r, {"gpt2": 96, "recurrent": 256, "t5": 128}[r.family])


@ninth("H3", "sft summary contrastive", advice=True)
def often_rows_padded_to_a_round_width(r: Recipe) -> None:
    _padded_to(r, {"sft": 96, "summary": 80, "contrastive": 48}[r.family])
