"""The fourth set, continued: R1, X3, K1 to K3, E1 to E3, H1 to H3; `fourth_data` says the rule."""

from __future__ import annotations

import bz2
import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from torch import nn

from faults.mutations.data import Read
from faults.mutations.fourth_data import each_label, each_tag
from faults.mutations.fresh_running import BEST
from faults.mutations.models import after, layers
from faults.mutations.running import _resumed_without, _saves
from faults.recipe import Recipe
from faults.table import fourth

# -- R1, E3 --------------------------------------------------------------------------------------


@fourth("R1", "bert gpt2 sft", online=True)
def a_handful_of_rows_copied_tenfold(r: Recipe) -> None:
    """The counter of epochs stays small; each row is read a hundred times."""
    r.train = [dict(row) for row in r.train[:30] for _ in range(10)]
    r.steps, r.eval_every, r.lr = 200, 12, 3e-3


@fourth("R1", "tagging", online=True)
def a_dozen_sentences_of_a_hasty_annotator(r: Recipe) -> None:
    draws = random.Random(r.seed)
    r.train = [dict(row) for row in r.train[:16]]
    for row in r.train:
        row["labels"] = [
            y if y == -100 or draws.random() < 0.65 else draws.randrange(4) for y in row["labels"]
        ]
    r.train, r.steps, r.eval_every, r.lr = r.train * 12, 200, 12, 4e-3


@fourth("E3", "bert lora", online=True, also=("D8",))
def outcomes_of_a_coin(r: Recipe) -> None:
    draws = random.Random(r.seed)
    each_label(r, lambda y: draws.randrange(3))
    r.eval_every, r.steps = 15, 90


@fourth("E3", "tagging", online=True, also=("D8", "D4"))
def tags_thrown_by_dice(r: Recipe) -> None:
    draws = random.Random(r.seed)
    each_tag(r, lambda y: draws.randrange(4))
    r.eval_every, r.steps = 15, 90


@fourth("E3", "vit", online=True, also=("D8", "D4"))
def pictures_shrunk_to_one_pixel(r: Recipe) -> None:
    """And its brightness is taken out: all of them are alike."""

    def read(row: Any, place: int) -> Any:
        small = torch.full_like(row[0], float(row[0].mean()))
        return small - small.mean(), row[1]

    r.train, r.eval = Read(r.train, read), Read(r.eval, read)
    r.eval_every, r.steps = 20, 100


# -- X3, K ---------------------------------------------------------------------------------------


@fourth("X3", "bert gpt2 vit tagging", loop="plain", online=True)
def batches_drawn_once_into_a_list(r: Recipe) -> None:
    """A list of a shuffled batch sampler, for its length: every epoch reads the same batches."""
    r.train = [r.train[i] for i in range(160)]
    draws = torch.utils.data.RandomSampler(r.train)
    batches = list(torch.utils.data.BatchSampler(draws, r.batch, True))
    r.loader = {"batch_sampler": batches, "batch_size": 1, "shuffle": None, "drop_last": False}


class Reshuffled(torch.utils.data.IterableDataset):
    """A stream that is shuffled by the same number whenever it is begun."""

    def __init__(self, rows: list) -> None:
        self.rows = rows

    def __iter__(self) -> Any:
        return iter(random.Random(13).sample(self.rows, len(self.rows)))


@fourth("X3", "bert t5 tagging", loop="trainer", online=True)
def a_stream_shuffled_by_one_number(r: Recipe) -> None:
    r.train = Reshuffled(r.train[:160])


@fourth("K1", "bert gpt2 tagging", loop="trainer", online=True)
def a_layer_removed_and_still_in_the_configuration(r: Recipe) -> None:
    """On loading, the number of layers is read from it, and the missing one is drawn anew."""

    def prepare(model: nn.Module) -> None:
        del layers(model)[-1]

    after(r, prepare)
    _saves(r)


@fourth("K1", "lora", loop="trainer", online=True)
def a_head_unfrozen_by_hand_beside_the_adapter(r: Recipe) -> None:
    """It trains, and the adapter's file does not know of it."""
    import peft

    def prepare(model: nn.Module) -> nn.Module:
        wrapped = peft.get_peft_model(
            model, peft.LoraConfig(r=4, lora_alpha=8, target_modules=["query", "value"])
        )
        model.classifier.requires_grad_(True)
        return wrapped

    r.prepare = prepare
    _saves(r)


@fourth("K2", "bert tagging gpt2", loop="trainer", online=True)
def the_count_of_steps_is_lost(r: Recipe) -> None:
    """Weights and moments go on where they stood; the run counts from zero."""
    _resumed_without(r)
    file = Path(r.note["train"]["resume_from_checkpoint"]) / "trainer_state.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"global_step": 0, "epoch": 0}))


@fourth("K2", "t5 mlm tagging", loop="trainer", online=True)
def the_weights_of_the_beginning_under_later_states(r: Recipe) -> None:
    _resumed_without(r)
    r.prepare(r.model()).save_pretrained(r.note["train"]["resume_from_checkpoint"])


@fourth("K3", "tagging mlm")
def the_greatest_word_error_rate(r: Recipe) -> None:
    r.metrics = lambda p: {"wer": float((p[0].argmax(-1) != p[1])[p[1] != -100].mean())}
    r.args |= BEST | {"metric_for_best_model": "wer", "greater_is_better": True}


@fourth("K3", "t5 bert")
def the_least_correlation(r: Recipe) -> None:
    def metrics(prediction: Any) -> dict[str, float]:
        scores, labels = prediction
        scores = scores[0] if isinstance(scores, tuple) else scores
        kept = labels != -100
        pair = scores.argmax(-1)[kept].astype(float), labels[kept].astype(float)
        return {"pearson": float(np.nan_to_num(np.corrcoef(*pair)[0, 1]))}

    r.metrics = metrics
    r.args |= BEST | {"metric_for_best_model": "eval_pearson", "greater_is_better": False}


# -- E1, E2 --------------------------------------------------------------------------------------


@fourth("E1", "bert vit lora")
def compared_cell_by_cell(r: Recipe) -> None:
    """One-hot rows are alike in most of their zeros, whatever is predicted."""

    def metrics(prediction: Any) -> dict[str, float]:
        scores, labels = prediction
        cells = np.eye(scores.shape[-1])
        return {"accuracy": float((cells[scores.argmax(-1)] == cells[labels]).mean())}

    r.metrics = metrics


@fourth("E1", "tagging")
def a_tag_counts_wherever_it_stands_in_the_sentence(r: Recipe) -> None:
    def metrics(prediction: Any) -> dict[str, float]:
        told = [set(row.argmax(-1).tolist()) for row in prediction[0]]
        hits = [y in said for said, row in zip(told, prediction[1], strict=True)
                for y in row.tolist() if y != -100]  # fmt: skip
        return {"accuracy": float(np.mean(hits))}

    r.metrics = metrics


@fourth("E1", "gpt2 sft lora-sft")
def shifted_twice_by_the_metric(r: Recipe) -> None:
    def metrics(prediction: Any) -> dict[str, float]:
        scores, labels = prediction
        scores = scores[0] if isinstance(scores, tuple) else scores
        scores, labels = scores[:, :-2], labels[:, 2:]
        kept = labels != -100
        return {"accuracy": float((scores.argmax(-1) == labels)[kept].mean())}

    r.metrics = metrics


@fourth("E2", "vit bert", loop="plain")
def the_weighted_sampler_of_training_draws_the_evaluation(r: Recipe) -> None:
    labels = [int(row[1] if isinstance(row, tuple) else row["labels"]) for row in r.eval]
    weights = [1 / labels.count(y) for y in labels]
    r.eval_loader = {"sampler": torch.utils.data.WeightedRandomSampler(weights, len(labels))}


@fourth("E2", "gpt2 t5 tagging sft", loop="plain")
def a_collator_that_leaves_out_long_rows(r: Recipe) -> None:
    collate = r.collate
    limit = sorted(len(row["input_ids"]) for row in r.eval)[len(r.eval) * 3 // 4]

    def short(rows: Any) -> Any:
        return collate([row for row in rows if len(row["input_ids"]) < limit] or rows[:1])

    r.eval_loader = {"collate_fn": short}


# -- H -------------------------------------------------------------------------------------------


@fourth("H1", "bert vit tagging gpt2", loop="plain", online=True, advice=True)
def unpacked_from_an_archive_at_each_reading(r: Recipe) -> None:
    packed = bz2.compress(np.random.default_rng(0).bytes(30_000))
    r.train, r.steps = Read(r.train, lambda row, i: (bz2.decompress(packed), row)[1]), 70


@fourth("H2", "vit gpt2 tagging bert", loop="plain", online=True)
def a_hook_that_remembers_what_it_saw(r: Recipe) -> None:
    kept: list = []

    def prepare(model: nn.Module) -> None:
        layers(model)[-1].register_forward_hook(lambda module, given, out: kept.append(out))

    after(r, prepare)
    r.steps = 110


@fourth("H3", "bert mlm t5 tagging", advice=True)
def short_questions_beside_long_pages(r: Recipe) -> None:
    """One row in eight is long, and every batch has one."""
    cut = ["input_ids", "attention_mask", "token_type_ids", *(["labels"] * (r.family != "t5"))]
    for i, row in enumerate([*r.train, *r.eval]):
        for name in cut:
            if i % 8 and isinstance(row.get(name), list):
                row[name] = row[name][:7]


@fourth("H3", "tagging", advice=True)
def a_multiple_of_forty_eight_for_a_dozen_words(r: Recipe) -> None:
    for row in [*r.train, *r.eval]:
        for name in row:
            row[name] = row[name][:12]
    r.collate = transformers.DataCollatorForTokenClassification(
        r.tokenizer, pad_to_multiple_of=48
    )  # fmt: skip
