"""R1, P1 to P4, H1 to H3 as they are mostly committed: long runs, half precision, waste."""

from __future__ import annotations

import random
import time
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from faults.mutations.eighth_parts import Read, after, listed
from faults.mutations.eighth_steps import scaled
from faults.recipe import Recipe
from faults.table import eighth

# -- R1, P1 --------------------------------------------------------------------------------------


@eighth("R1", "bert gpt2 span", online=True)
def usual_thirty_epochs_on_a_handful_of_rows(r: Recipe) -> None:
    r.train, r.steps, r.eval_every = r.train[:48], 300, 20
    r.lr = 3e-3


@eighth("R1", "t5 sft tagging", loop="plain", online=True)
def usual_no_dropout_and_no_early_stop(r: Recipe) -> None:
    def still(model: nn.Module) -> None:
        for module in model.modules():
            if isinstance(module, nn.Dropout):
                module.p = 0.0

    after(r, still)
    r.train, r.steps, r.eval_every = r.train[:64], 400, 25
    r.lr = 3e-3


@eighth("P1", "vit", loop="plain", online=True, also=("D9",))
def usual_logarithm_of_black_pixels(r: Recipe) -> None:
    r.train, r.eval = (Read(rows, lambda row: (row[0].log(), row[1])) for rows in (r.train, r.eval))


@eighth("P1", "contrastive", loop="plain", online=True)
def usual_root_of_a_distance_of_zero(r: Recipe) -> None:
    def loss(outputs: Any, batch: Any = None) -> torch.Tensor:
        texts, pairs = outputs["text_embeds"], outputs["pair_embeds"]
        apart = (texts[:, None] - texts[None]).pow(2).sum(-1).sqrt()
        near = (texts - pairs).pow(2).sum(-1).sqrt()
        return near.mean() + functional.relu(1 - apart).mean()

    r.loss = loss


@eighth("P1", "mlm tagging", loop="plain", online=True, also=("T3", "T13"))
def usual_mean_of_each_row_over_no_tokens(r: Recipe) -> None:
    def loss(outputs: Any, batch: Any) -> torch.Tensor:
        labels = batch["labels"]
        each = functional.cross_entropy(
            outputs.logits.flatten(0, 1), labels.flatten(), reduction="none"
        ).view_as(labels)
        return (each.sum(1) / (labels >= 0).sum(1)).mean()

    before, draw = r.collate, random.Random(r.seed)

    def collate(rows: list) -> Any:
        batch = before(rows)
        for labels in batch["labels"]:  # a short row often has none
            if draw.random() < 0.05:
                labels[:] = -100
        return batch

    r.loss, r.collate = loss, collate


# -- P2, P3, P4 ----------------------------------------------------------------------------------


@eighth("P2", "t5", loop="plain", online=True, also=("P1",))
def usual_half_precision_for_a_model_of_large_activations(r: Recipe) -> None:
    """As the published T5: exact in single precision, beyond 65504 in half."""

    def enlarge(model: nn.Module) -> None:
        for block in [*model.encoder.block, *model.decoder.block]:
            inner = block.layer[-1].DenseReluDense
            inner.wi.weight.data *= 1e6
            inner.wo.weight.data /= 1e6

    after(r, enlarge)
    scaled(r, torch.amp.GradScaler("cpu"))


@eighth("P2", "gpt2 vit", loop="plain", online=True)
def usual_loss_scale_that_grows_after_every_step(r: Recipe) -> None:
    scaled(r, torch.amp.GradScaler("cpu", init_scale=2.0**24, growth_interval=1))


@eighth("P3", "sft gpt2 t5", loop="plain", online=True)
def usual_loaded_in_bf16_and_fully_tuned_at_a_small_rate(r: Recipe) -> None:
    r.lr = 2e-5
    after(r, lambda model: model.to(torch.bfloat16))


@eighth("P3", "bert mlm span", online=True)
def usual_bf16_weights_under_bf16_training(r: Recipe) -> None:
    r.lr = 2e-5
    after(r, lambda model: model.bfloat16())
    r.args = {**r.args, "bf16": True}


@eighth("P4", "bert gpt2 sft", loop="plain", online=True)
def usual_half_weights_under_a_gradient_scaler(r: Recipe) -> None:
    after(r, lambda model: model.half())
    if r.family == "vit":
        r.train, r.eval = (Read(rows, lambda row: (row[0].half(), row[1]))
                           for rows in (r.train, r.eval))  # fmt: skip
    scaled(r, torch.amp.GradScaler("cpu", init_scale=1024.0))


@eighth("P4", "bert tagging")
def usual_autocast_switched_off_inside_the_model(r: Recipe) -> None:
    def single(model: nn.Module) -> None:
        model.forward = torch.autocast("cpu", enabled=False)(model.forward)

    after(r, single)
    r.args = {**r.args, "bf16": True}


# -- H1, H2, H3 ----------------------------------------------------------------------------------


@eighth("H1", "vit bert t5", loop="plain", online=True)
def usual_files_opened_one_by_one_without_workers(r: Recipe) -> None:
    def read(row: Any) -> Any:
        time.sleep(0.003)  # a file on a network drive
        return row

    r.train, r.steps = Read(listed(r.train), read), 80


@eighth("H1", "gpt2 contrastive span", loop="plain", online=True)
def usual_texts_fetched_and_tokenized_in_the_collator(r: Recipe) -> None:
    before = r.collate

    def collate(rows: list) -> Any:
        time.sleep(0.05)  # the reply of a database
        return before(rows)

    r.collate, r.steps = collate, 80


@eighth("H2", "gpt2 mlm", loop="plain", online=True)
def usual_logits_kept_for_the_metric_of_the_epoch(r: Recipe) -> None:
    kept, forward = [], r.line.forward

    def remembering(model: nn.Module, batch: Any) -> Any:
        outputs = forward(model, batch)
        kept.append(outputs.logits)
        return outputs

    r.line.forward, r.steps = remembering, 100
    r.note["after"] = kept.clear


@eighth("H2", "bert vit tagging", loop="plain", online=True)
def usual_losses_summed_with_their_graphs(r: Recipe) -> None:
    kept: list = [0.0]

    def summed(loss: torch.Tensor) -> torch.Tensor:
        kept[0] = kept[0] + loss
        return loss

    r.line.loss, r.steps = summed, 150
    r.line.backward = lambda loss: loss.backward(retain_graph=True)
    r.note["after"] = lambda: kept.__setitem__(0, 0.0)


class Whole:
    """A collator that pads every batch to the maximum length."""

    def __init__(self, collate: Any, length: int, pad: int) -> None:
        self.collate, self.length, self.pad = collate, length, pad

    def __call__(self, rows: list) -> dict[str, torch.Tensor]:
        batch = self.collate(rows)
        fills = {"labels": -100, "input_ids": self.pad, "pair_ids": self.pad}
        return {
            name: functional.pad(x, (0, self.length - x.shape[1]), value=fills.get(name, 0))
            for name, x in batch.items()
        }


@eighth("H3", "gpt2 sft contrastive", advice=True)
def usual_every_batch_padded_to_the_maximum(r: Recipe) -> None:
    length = 48 if r.family == "contrastive" else 96
    r.collate = Whole(r.collate, length, r.tokenizer.pad_token_id)


@eighth("H3", "bert mlm tagging", advice=True)
def usual_short_and_long_texts_in_one_batch(r: Recipe) -> None:
    names = ("input_ids", "attention_mask", "token_type_ids", "labels")

    def short(row: dict, place: int) -> dict:
        if place % 8 == 0:
            return row
        cut = [n for n in names if isinstance(row.get(n), list)]
        return {**row, **{n: [*row[n][:8], row[n][-1]] for n in cut}}

    for split in ("train", "eval"):
        rows = enumerate(getattr(r, split))
        setattr(r, split, [short(row, place) for place, row in rows])
