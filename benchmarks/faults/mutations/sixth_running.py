"""X3, R1, K2, K3, H1, H2: what practitioners spoil around a run and when they go on with it."""

from __future__ import annotations

import json
import random
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset, Sampler

from faults.mutations.sixth_parts import callback
from faults.recipe import Recipe, make_trainer
from faults.table import sixth


class Permuted(Sampler):
    """Rows in an order drawn from the seed, at each epoch."""

    def __init__(self, count: int) -> None:
        self.count = count

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[int]:
        return iter(np.random.RandomState(42).permutation(self.count).tolist())


class Bucketed(Sampler):
    """Rows of like length next to each other, the buckets in a drawn order."""

    def __init__(self, lengths: list[int], size: int) -> None:
        self.lengths, self.size = lengths, size

    def __len__(self) -> int:
        return len(self.lengths)

    def __iter__(self) -> Iterator[int]:
        draw = random.Random(0)
        order = list(range(len(self.lengths)))
        draw.shuffle(order)
        wide = [order[i : i + 4 * self.size] for i in range(0, len(order), 4 * self.size)]
        for some in wide:
            yield from sorted(some, key=lambda place: self.lengths[place])


def _sampled(r: Recipe, sampler: Sampler) -> None:
    """Read through this sampler, in a loop of one's own or in the Trainer."""
    r.steps = max(r.steps, 60)
    if r.loop == "plain":
        r.loader = {"shuffle": False, "sampler": sampler, "generator": None}
        return

    def make() -> type:
        import transformers

        class Sampled(transformers.Trainer):
            def _get_train_sampler(self, *given: Any) -> Sampler:
                return sampler

        return Sampled

    r.trainer = make


@sixth("X3", "span contrastive vit", loop="plain", online=True)
def a_permutation_from_a_fixed_seed(r: Recipe) -> None:
    """An own sampler draws np.random.RandomState(42).permutation(n) in each __iter__."""
    _sampled(r, Permuted(len(r.train)))


@sixth("X3", "span lora", loop="trainer", online=True)
def buckets_that_are_drawn_alike(r: Recipe) -> None:
    """A sampler of length buckets makes random.Random(0) anew at each epoch."""
    _sampled(r, Bucketed([len(row["input_ids"]) for row in r.train], r.batch))


@sixth("R1", "span bert tagging", online=True)
def sixty_epochs_on_forty_rows(r: Recipe) -> None:
    """Forty rows, the epochs of a larger set and no early stopping."""
    r.train, r.steps, r.eval_every = r.train[:40], 160, 10
    r.lr = 2 * r.lr if r.family == "lora" else r.lr


# -- K2, K3 --------------------------------------------------------------------------------------


def _interrupted(r: Recipe, **args: Any) -> None:
    """The first half of the run, and its checkpoint from which the second half goes on."""
    import transformers

    place = tempfile.mkdtemp()
    kept = r.args
    r.args = r.args | {"save_strategy": "steps", "save_steps": 20} | args

    def stopped(arguments: Any, state: Any, control: Any, **rest: Any) -> None:
        control.should_training_stop = state.global_step >= 20

    r.callbacks = [callback(on_step_end=stopped)]
    transformers.set_seed(r.seed)
    make_trainer(r, r.prepare(r.model()), place).train()
    r.args, r.callbacks = kept, []
    r.note["train"] = {"resume_from_checkpoint": str(Path(place) / "checkpoint-20")}
    r.note["after"] = lambda: shutil.rmtree(place, ignore_errors=True)
    r.eval_every = 0


@sixth("K2", "span tagging", loop="trainer", online=True)
def only_the_model_was_saved_to_spare_the_disk(r: Recipe) -> None:
    """save_only_model=True, and resume_from_checkpoint goes on without moments and schedule."""
    _interrupted(r, save_only_model=True)


@sixth("K2", "span bert", loop="trainer", online=True)
def the_loading_of_states_passed_over(r: Recipe) -> None:
    """_load_optimizer_and_scheduler is overridden with pass, since it raised once."""
    _interrupted(r)

    def make() -> type:
        import transformers

        class Passing(transformers.Trainer):
            def _load_optimizer_and_scheduler(self, checkpoint: Any) -> None:
                pass

        return Passing

    r.trainer = make


@sixth("K3", "span tagging", loop="trainer")
def greater_is_better_left_from_the_loss(r: Recipe) -> None:
    """metric_for_best_model became a score, and greater_is_better=False stayed from the loss."""
    r.eval_every = 20
    r.args = r.args | {
        "load_best_model_at_end": True,
        "metric_for_best_model": "exact_match" if r.family == "span" else "accuracy",
        "greater_is_better": False,
        "save_strategy": "steps",
        "save_steps": 20,
    }


@sixth("K3", "span t5 lora-sft", loop="trainer")
def greater_is_better_set_for_every_run(r: Recipe) -> None:
    """greater_is_better=True in the common arguments, and this run keeps its best by eval_loss."""
    r.eval_every = 20
    r.args = r.args | {
        "load_best_model_at_end": True,
        "metric_for_best_model": "eval_loss",
        "greater_is_better": True,
        "save_strategy": "steps",
        "save_steps": 20,
    }


# -- H1, H2 --------------------------------------------------------------------------------------


class Parsed(Dataset):
    """Rows that lie in one JSON file, which is parsed for each of them."""

    def __init__(self, rows: list[dict]) -> None:
        self.text, self.count = json.dumps(rows), len(rows)

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, place: int) -> dict:
        return json.loads(self.text)[place]


@sixth("H1", "span t5", loop="plain", online=True)
def the_whole_file_parsed_for_each_row(r: Recipe) -> None:
    """json.load(file)[i] stands in __getitem__ instead of in __init__."""
    r.train, r.steps = Parsed(list(r.train)), 80


@sixth("H2", "span tagging", loop="trainer", online=True)
def outputs_of_training_kept_for_a_score(r: Recipe) -> None:
    """compute_loss appends the outputs to a list, for a training accuracy at the end."""
    kept: list[Any] = []

    def make() -> type:
        import transformers

        class Keeping(transformers.Trainer):
            def compute_loss(
                self, model: Any, inputs: Any, return_outputs: bool = False, **named: Any
            ) -> Any:
                loss, outputs = super().compute_loss(model, inputs, True, **named)
                if model.training:
                    kept.append(outputs)
                return (loss, outputs) if return_outputs else loss

        return Keeping

    r.trainer, r.steps = make, 80


@sixth("H2", "span contrastive vit", loop="plain", online=True)
def the_mean_loss_of_an_epoch_as_a_tensor(r: Recipe) -> None:
    """epoch_loss = epoch_loss + loss, which holds the graph of every step."""
    total: list[torch.Tensor] = [torch.zeros(())]

    def added(loss: torch.Tensor) -> torch.Tensor:
        total[0] = total[0] + loss
        return loss

    r.line.loss, r.steps = added, 80
