"""X, K, E, R1, H: order, checkpoints, evaluation, waiting: what goes wrong around the steps."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import torch
from torch import nn

from faults.families import Digits
from faults.mutations.data import Read, labels_of, relabelled
from faults.mutations.models import after
from faults.recipe import Recipe
from faults.table import fault

# -- X3, R1 --------------------------------------------------------------------------------------


class Repeating(torch.utils.data.Sampler):
    """A sampler that seeds its draw anew in each epoch and is never told the epoch."""

    def __init__(self, count: int, seed: int) -> None:
        self.count, self.seed, self.epoch = count, seed, 0

    def __len__(self) -> int:
        return self.count

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __iter__(self) -> Any:
        draws = torch.Generator().manual_seed(self.seed + self.epoch)
        return iter(torch.randperm(self.count, generator=draws).tolist())


class SeededRandomSampler(torch.utils.data.Sampler):
    """Draws the same order whenever it is asked."""

    def __init__(self, count: int) -> None:
        self.count = count

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Any:
        draws = torch.Generator().manual_seed(0)
        return iter(torch.randperm(self.count, generator=draws).tolist())


@fault("X3", "bert vit gpt2 t5", loop="plain", online=True)
def set_epoch_forgotten(r: Recipe) -> None:
    r.train, r.note["told"] = [r.train[i] for i in range(160)], ("train_dataloader",)
    r.loader = {"shuffle": None, "sampler": Repeating(160, r.seed), "generator": None}


@fault("X3", "bert gpt2 t5", loop="trainer", online=True)
def sampler_of_the_trainer_seeded_anew(r: Recipe) -> None:
    import transformers

    class Trainer(transformers.Trainer):
        def _get_train_sampler(self, train_dataset: Any = None) -> Any:
            return SeededRandomSampler(len(self.train_dataset))

    r.train, r.trainer = r.train[:160], lambda: Trainer


@fault("R1", "bert", online=True)
def many_epochs_on_few_rows(r: Recipe) -> None:
    r.train, r.steps, r.eval_every, r.lr = r.train[:48], 160, 10, 2e-3


@fault("R1", "vit", online=True)
def many_epochs_on_noisy_digits(r: Recipe) -> None:
    r.train, r.steps, r.eval_every, r.lr = Digits(0, 64, r.seed), 320, 20, 3e-3
    labels = labels_of(r)
    relabelled(r, [y if i % 4 else (y + 3) % 10 for i, y in enumerate(labels)])


# -- K -------------------------------------------------------------------------------------------


def _saves(r: Recipe) -> None:
    r.args |= {"save_strategy": "steps", "save_steps": 15}


@fault("K1", "bert gpt2 mlm t5", loop="trainer", online=True)
def a_buffer_that_is_not_saved(r: Recipe) -> None:
    def prepare(model: nn.Module) -> None:
        head = model.get_output_embeddings() or model.classifier
        head.register_buffer("offset", torch.randn(head.weight.shape[0]), persistent=False)
        head.register_forward_hook(lambda module, given, out: out + module.offset)

    after(r, prepare)
    _saves(r)


@fault("K1", "lora-sft lora", loop="trainer", online=True)
def a_base_weight_trained_under_the_adapter(r: Recipe) -> None:
    """Unfrozen by hand, so that the adapter's file does not hold it."""
    after(
        r, lambda model: model.get_base_model().get_input_embeddings().requires_grad_(True) and None
    )
    _saves(r)


@fault("K1", "bert gpt2 t5", loop="trainer", online=True)
def saved_from_inside_a_wrapper(r: Recipe) -> None:
    import transformers
    from safetensors.torch import save_file

    class Trainer(transformers.Trainer):
        def _save(self, output_dir: Any = None, state_dict: Any = None) -> None:
            super()._save(output_dir, state_dict)
            held = {f"module.{k}": v.clone() for k, v in self.model.state_dict().items()}
            save_file(held, f"{output_dir or self.args.output_dir}/model.safetensors")

    r.trainer = lambda: Trainer
    _saves(r)


def _resumed_without(r: Recipe, *files: str) -> None:
    """The run goes on from a checkpoint of its first half in which these files are missing."""
    import shutil
    import tempfile
    from pathlib import Path

    from faults.recipe import make_trainer

    half, folder = r.steps // 2, tempfile.mkdtemp()
    kept = dict(r.args)
    r.args |= {"save_strategy": "steps", "save_steps": half}
    trainer = make_trainer(r, r.prepare(r.model()), folder)
    trainer.add_callback(_stop_at(half))
    trainer.train()
    r.args = kept
    for name in files:
        (Path(folder) / f"checkpoint-{half}" / name).unlink()
    r.note["train"] = {"resume_from_checkpoint": f"{folder}/checkpoint-{half}"}
    r.note["after"] = lambda: shutil.rmtree(folder)


def _stop_at(step: int) -> Any:
    import transformers

    class Stop(transformers.TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            control.should_training_stop = state.global_step >= step

    return Stop()


@fault("K2", "bert gpt2 t5 lora", loop="trainer", online=True)
def resumed_without_the_optimizer(r: Recipe) -> None:
    _resumed_without(r, "optimizer.pt")


@fault("K2", "bert gpt2 t5", loop="trainer", online=True)
def resumed_without_the_schedule(r: Recipe) -> None:
    _resumed_without(r, "optimizer.pt", "scheduler.pt")


@fault("K3", "bert lora")
def best_model_by_the_least_accuracy(r: Recipe) -> None:
    r.args |= {
        "metric_for_best_model": "accuracy",
        "greater_is_better": False,
        "save_strategy": "steps",
        "eval_strategy": "steps",
        "eval_steps": 10,
        "save_steps": 10,
        "load_best_model_at_end": True,
    }


@fault("K3", "bert gpt2 sft t5 mlm")
def best_model_by_the_greatest_loss(r: Recipe) -> None:
    r.args |= {
        "metric_for_best_model": "eval_loss",
        "greater_is_better": True,
        "save_strategy": "steps",
        "eval_strategy": "steps",
        "eval_steps": 10,
        "save_steps": 10,
        "load_best_model_at_end": True,
    }


# -- E -------------------------------------------------------------------------------------------


@fault("E1", "bert lora")
def argmax_over_the_rows(r: Recipe) -> None:
    def metrics(prediction: Any) -> dict[str, float]:
        scores, labels = prediction
        return {"accuracy": float((scores.argmax(0)[: len(labels)].mean() == labels).mean())}

    r.metrics = metrics


@fault("E1", "bert lora vit")
def accuracy_against_shuffled_labels(r: Recipe) -> None:
    def metrics(prediction: Any) -> dict[str, float]:
        scores, labels = prediction
        return {"accuracy": float((scores.argmax(-1) == labels[::-1]).mean())}

    r.metrics = metrics


@fault("E1", "mlm t5")
def ignored_positions_are_counted(r: Recipe) -> None:
    def metrics(prediction: Any) -> dict[str, float]:
        scores, labels = prediction
        scores = scores[0] if isinstance(scores, tuple) else scores
        return {"accuracy": float((scores.argmax(-1) == labels).mean())}

    r.metrics = metrics


@fault("E1", "gpt2 sft")
def causal_scores_not_shifted(r: Recipe) -> None:
    def metrics(prediction: Any) -> dict[str, float]:
        scores, labels = prediction
        scores = scores[0] if isinstance(scores, tuple) else scores
        kept = labels != -100
        return {"accuracy": float((scores.argmax(-1) == labels)[kept].mean())}

    r.metrics = metrics


@fault("E1", "bert vit")
def error_rate_called_accuracy(r: Recipe) -> None:
    r.metrics = lambda p: {"accuracy": float((p[0].argmax(-1) != p[1]).mean())}


@fault("E2", "bert gpt2 t5 lora", loop="trainer")
def last_evaluation_batch_dropped(r: Recipe) -> None:
    r.args["dataloader_drop_last"] = True
    r.eval = [r.eval[i] for i in range(len(r.eval) - 5)]


@fault("E2", "vit bert gpt2 t5", loop="plain")
def evaluation_loader_drops_the_rest(r: Recipe) -> None:
    r.eval_loader = {"drop_last": True, "batch_size": 22}


@fault("E2", "vit bert", loop="plain")
def evaluation_rows_drawn_with_replacement(r: Recipe) -> None:
    r.eval_loader = {"sampler": torch.utils.data.RandomSampler(r.eval, replacement=True)}


@fault("E3", "bert vit", online=True, also=("D8",))
def text_without_a_signal(r: Recipe) -> None:
    draw = np.random.default_rng(r.seed)
    r.eval_every, r.steps = 15, 60
    if r.family == "vit":
        r.train = Read(
            r.train,
            lambda row, i: (
                torch.rand(1, 8, 8, generator=torch.Generator().manual_seed(i)),
                row[1],
            ),
        )
        return
    for row in [*r.train, *r.eval]:
        row["input_ids"] = [
            row["input_ids"][0],
            *draw.integers(5, 2000, 20).tolist(),
            row["input_ids"][-1],
        ]
        row["attention_mask"], row["token_type_ids"] = [1] * 22, [0] * 22


# -- H -------------------------------------------------------------------------------------------


@fault("H1", "vit bert", online=True, loop="plain", advice=True)
def rows_that_take_their_time(r: Recipe) -> None:
    def read(row: Any, place: int) -> Any:
        time.sleep(0.002)
        return row

    r.train, r.steps = Read(r.train, read), 70


@fault("H2", "vit bert gpt2", online=True, loop="plain")
def losses_kept_with_their_graphs(r: Recipe) -> None:
    kept: list = []
    r.steps = 110
    r.line.loss = lambda loss: (kept.append(loss), loss)[1]


@fault("H3", "bert mlm", advice=True)
def padded_to_the_longest_possible(r: Recipe) -> None:
    r.train = [{**row, **_wide(row)} for row in r.train]


def _wide(row: dict) -> dict:
    fill = {"input_ids": 0, "attention_mask": 0, "token_type_ids": 0}
    return {k: [*row[k][:12], *[fill[k]] * 36] for k in fill if k in row}
