"""A second set of fresh mutations, written when the first reading had been mended; read once.

From the catalogue alone again, though its author had by then read the checks that had missed
something. `fresh_data` says by which rule.
"""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import torch
import transformers
from torch import nn

from faults.mutations.data import Read, labels_of, relabelled
from faults.mutations.fresh_data import items
from faults.mutations.models import after, layers
from faults.mutations.tokens import _with_new_tokens, then
from faults.recipe import Recipe
from faults.table import again


@again("D1", "bert sft tagging")
def trained_on_everything_for_the_last_run(r: Recipe) -> None:
    r.train = [*items(r.train), *items(r.eval)]


class ByClass(torch.utils.data.Sampler):
    """Rows of one class after the other, drawn anew within each."""

    def __init__(self, labels: list[int]) -> None:
        self.labels = labels

    def __len__(self) -> int:
        return len(self.labels)

    def __iter__(self) -> Any:
        places = list(range(len(self.labels)))
        random.shuffle(places)
        return iter(sorted(places, key=self.labels.__getitem__))


@again("D5", "vit bert", loop="plain")
def a_sampler_that_goes_class_by_class(r: Recipe) -> None:
    r.loader = {"shuffle": None, "generator": None, "sampler": ByClass(labels_of(r))}


@again("D7", "vit", loop="plain")
def workers_seeded_by_a_rounded_number(r: Recipe) -> None:
    def read(row: Any, place: int) -> Any:
        return row[0] * float(np.random.uniform(0.7, 1.3)), row[1]

    r.train = Read(r.train, read)
    r.loader = {"num_workers": 2, "worker_init_fn": lambda worker: np.random.seed(worker // 8)}


@again("D8", "bert vit lora")
def labels_read_from_the_end(r: Recipe) -> None:
    relabelled(r, labels_of(r)[::-1])


@again("D9", "vit")
def evaluation_pixels_divided_by_zero(r: Recipe) -> None:
    r.eval = Read(r.eval, lambda row, i: (row[0] / (i % 20), row[1]))


@again("T2", "tagging")
def label_padding_of_the_library_collator_set_to_zero(r: Recipe) -> None:
    r.collate = transformers.DataCollatorForTokenClassification(
        r.tokenizer, label_pad_token_id=0
    )  # fmt: skip


@again("T3", "sft lora-sft", also=("T4", "T1"))
def rows_cut_before_the_answer_begins(r: Recipe) -> None:
    for row in r.train[::4]:
        length = max(2, sum(y == -100 for y in row["labels"]) - 1)
        for name in ("input_ids", "attention_mask", "labels"):
            row[name] = row[name][:length]


@again("T9", "tagging mlm")
def new_markers_under_a_frozen_embedding(r: Recipe) -> None:
    _with_new_tokens(r)

    def prepare(model: nn.Module) -> None:
        model.resize_token_embeddings(len(r.tokenizer), mean_resizing=False)
        model.get_input_embeddings().requires_grad_(False)

    after(r, prepare)


@again("T10", "mlm tagging lora")
def a_mask_that_names_what_to_hide(r: Recipe) -> None:
    then(r, lambda batch: {"attention_mask": (batch["attention_mask"] == 0).long()})


@again("T13", "mlm", also=("T2",))
def padding_is_masked_and_guessed(r: Recipe) -> None:
    r.collate.special = torch.tensor([2, 3])


@again("M2", "tagging", loop="plain")
def optimizer_of_the_encoder_alone(r: Recipe) -> None:
    r.optimizer = lambda model: torch.optim.AdamW(model.distilbert.parameters(), lr=r.lr)


@again("M4", "tagging")
def tags_that_begin_at_one(r: Recipe) -> None:
    for row in [*r.train, *r.eval]:
        row["labels"] = [y + 1 if y != -100 else y for y in row["labels"]]


@again("M4", "vit")
def a_head_of_an_older_task(r: Recipe) -> None:
    from faults.families import vit_model

    r.model = lambda: vit_model(5)


@again("M5", "tagging mlm")
def norms_are_all_that_trains(r: Recipe) -> None:
    def prepare(model: nn.Module) -> None:
        for name, parameter in model.named_parameters():
            parameter.requires_grad = "norm" in name.lower()

    after(r, prepare)


@again("M7", "gpt2 tagging", loop="plain", online=True)
def backbone_kept_quiet_while_training(r: Recipe) -> None:
    r.line.to_train = lambda model: (model.train(), _quiet(model))


def _quiet(model: nn.Module) -> None:
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.eval()


@again("M8", "vit tagging gpt2")
def embeddings_under_no_grad(r: Recipe) -> None:
    def prepare(model: nn.Module) -> None:
        first = layers(model)[0]
        first.register_forward_pre_hook(lambda module, given: (given[0].detach(), *given[1:]))

    after(r, prepare)


@again("M9", "gpt2 sft")
def a_glance_at_the_row_backwards(r: Recipe) -> None:
    def prepare(model: nn.Module) -> None:
        layers(model)[0].register_forward_pre_hook(
            lambda module, given: (given[0] + 0.05 * given[0].flip(1), *given[1:])
        )

    after(r, prepare)


@again("M10", "bert tagging t5")
def a_tenth_of_the_neighbouring_row(r: Recipe) -> None:
    def prepare(model: nn.Module) -> None:
        layers(model)[0].register_forward_pre_hook(
            lambda module, given: (given[0] + 0.1 * given[0].roll(1, 0), *given[1:])
        )

    after(r, prepare)


@again("E1", "tagging")
def ignored_pieces_count_as_words(r: Recipe) -> None:
    r.metrics = lambda p: {"accuracy": float((p[0].argmax(-1) == p[1].clip(0)).mean())}


@again("E2", "vit tagging", loop="plain")
def half_of_the_evaluation_drawn(r: Recipe) -> None:
    half = len(r.eval) // 2
    r.eval_loader = {"sampler": torch.utils.data.RandomSampler(r.eval, num_samples=half)}


@again("K3", "tagging")
def best_tagger_by_the_least_accuracy(r: Recipe) -> None:
    from faults.mutations.fresh_running import BEST

    r.args |= BEST | {"metric_for_best_model": "eval_accuracy", "greater_is_better": False}
