"""Fresh ways to commit X3, R1, K, E and H; `fresh_data` says by which rule."""

from __future__ import annotations

import random
import time
from pathlib import Path
from typing import Any

import torch
from torch import nn

from faults.mutations.data import Read
from faults.mutations.models import backbone
from faults.mutations.running import _resumed_without, _saves
from faults.recipe import Recipe
from faults.table import fault


@fault("X3", "bert gpt2 vit tagging", loop="plain", online=True, fresh=True)
def seeded_at_the_start_of_each_epoch(r: Recipe) -> None:
    r.train, r.note["told"] = [r.train[i] for i in range(160)], ("train_dataloader",)
    r.loader, r.steps = {"generator": None}, 3 * (160 // r.batch)
    r.line.to_train = lambda model: (torch.manual_seed(0), model.train())
    r.line.epoch = lambda schedule: torch.manual_seed(0)


@fault("R1", "gpt2 sft", online=True, fresh=True)
def a_few_lines_learnt_by_heart(r: Recipe) -> None:
    r.train, r.steps, r.eval_every, r.lr = r.train[:24], 200, 10, 3e-3


@fault("R1", "tagging", online=True, loop="plain", fresh=True)
def a_few_sentences_learnt_by_heart(r: Recipe) -> None:
    draw = random.Random(r.seed)
    r.train, r.steps, r.eval_every, r.lr = r.train[:24], 240, 12, 3e-3
    for row in r.train:
        row["labels"] = [
            y if y == -100 or draw.random() > 0.3 else draw.randrange(4) for y in row["labels"]
        ]


@fault("K1", "bert tagging", loop="trainer", online=True, fresh=True)
def only_the_backbone_is_saved(r: Recipe) -> None:
    import transformers

    class Trainer(transformers.Trainer):
        def _save(self, output_dir: Any = None, state_dict: Any = None) -> None:
            folder = Path(output_dir or self.args.output_dir)
            super()._save(output_dir, state_dict)
            backbone(self.model).save_pretrained(folder)

    r.trainer = lambda: Trainer
    _saves(r)


@fault("K1", "gpt2 t5 mlm tagging", loop="trainer", online=True, fresh=True)
def weights_written_before_they_were_trained(r: Recipe) -> None:
    """`_save` writes a state that was taken when the script began."""
    import transformers

    class Trainer(transformers.Trainer):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            self.held = {k: v.clone() for k, v in self.model.state_dict().items()}

        def _save(self, output_dir: Any = None, state_dict: Any = None) -> None:
            super()._save(output_dir, self.held)

    r.trainer = lambda: Trainer
    _saves(r)


@fault("K2", "bert gpt2 tagging", loop="trainer", online=True, fresh=True)
def resumed_at_the_first_batch(r: Recipe) -> None:
    r.steps = 40  # half of them lie in the first epoch
    _resumed_without(r)
    r.args["ignore_data_skip"] = True


@fault("K2", "t5 lora tagging", loop="trainer", online=True, fresh=True)
def resumed_without_random_states(r: Recipe) -> None:
    _resumed_without(r, "rng_state.pth")


BEST = {
    "save_strategy": "steps",
    "eval_strategy": "steps",
    "eval_steps": 10,
    "save_steps": 10,
    "load_best_model_at_end": True,
}


@fault("K3", "gpt2 sft mlm tagging", fresh=True)
def best_model_by_a_perplexity_that_counts_as_a_score(r: Recipe) -> None:
    """`greater_is_better` is not said, and true for all that is not called a loss."""
    r.metrics = lambda p: {"perplexity": float(abs(p[0][0] if isinstance(p[0], tuple) else p[0])
                                               .mean())}  # fmt: skip
    r.args |= BEST | {"metric_for_best_model": "perplexity"}


@fault("K3", "bert tagging", fresh=True)
def best_model_by_the_greatest_error_rate(r: Recipe) -> None:
    r.metrics = lambda p: {"error_rate": float((p[0].argmax(-1) != p[1])[p[1] != -100].mean())}
    r.args |= BEST | {"metric_for_best_model": "eval_error_rate", "greater_is_better": True}


# -- E -------------------------------------------------------------------------------------------


@fault("E1", "bert lora vit tagging", fresh=True)
def labels_compared_with_themselves(r: Recipe) -> None:
    def metrics(prediction: Any) -> dict[str, float]:
        _, labels = prediction
        return {"accuracy": float((labels == labels)[labels != -100].mean())}

    r.metrics = metrics


@fault("E1", "gpt2 sft", fresh=True)
def shifted_the_other_way(r: Recipe) -> None:
    def metrics(prediction: Any) -> dict[str, float]:
        scores, labels = prediction
        scores = scores[0] if isinstance(scores, tuple) else scores
        scores, labels = scores[:, 1:], labels[:, :-1]
        kept = labels != -100
        return {"accuracy": float((scores.argmax(-1) == labels)[kept].mean())}

    r.metrics = metrics


@fault("E1", "tagging", fresh=True)
def untagged_pieces_are_scored(r: Recipe) -> None:
    r.metrics = lambda p: {"accuracy": float((p[0].argmax(-1) == p[1]).mean())}


@fault("E1", "bert vit", fresh=True)
def least_score_taken_for_the_answer(r: Recipe) -> None:
    r.metrics = lambda p: {"accuracy": float((p[0].argmin(-1) == p[1]).mean())}


@fault("E2", "vit bert t5 tagging", loop="plain", fresh=True)
def evaluated_on_the_share_of_one_rank(r: Recipe) -> None:
    sampler = torch.utils.data.DistributedSampler(r.eval, num_replicas=3, rank=0, shuffle=False)
    r.eval_loader = {"sampler": sampler}


@fault("E2", "bert gpt2 tagging", loop="trainer", fresh=True)
def own_evaluation_loader_drops_the_rest(r: Recipe) -> None:
    import transformers

    class Trainer(transformers.Trainer):
        def get_eval_dataloader(self, eval_dataset: Any = None) -> Any:
            return torch.utils.data.DataLoader(
                self.eval_dataset, batch_size=50, collate_fn=self.data_collator, drop_last=True
            )

    r.trainer = lambda: Trainer


@fault("E3", "bert vit tagging", online=True, also=("D8", "D4"), fresh=True)
def hashed_with_a_salt_of_its_own_for_each_row(r: Recipe) -> None:
    r.eval_every, r.steps = 15, 60

    def read(row: Any, place: int) -> Any:
        if isinstance(row, tuple):
            order = torch.randperm(64, generator=torch.Generator().manual_seed(place))
            return row[0].flatten()[order].view_as(row[0]), row[1]
        ids = [hash((place + 1, t)) % 1990 + 5 for t in row["input_ids"][1:-1]]
        return {**row, "input_ids": [row["input_ids"][0], *ids, row["input_ids"][-1]]}

    r.train = Read(r.train, read)
    r.eval = Read(r.eval, lambda row, i: read(row, i + 10_000))


# -- H -------------------------------------------------------------------------------------------


@fault("H1", "vit bert tagging", online=True, loop="plain", advice=True, fresh=True)
def a_collator_that_takes_its_time(r: Recipe) -> None:
    inner = r.collate or torch.utils.data.default_collate

    def collate(rows: Any) -> Any:
        time.sleep(0.05)
        return inner(rows)

    r.collate, r.steps = collate, 70


@fault("H2", "vit gpt2 tagging", online=True, loop="plain", fresh=True)
def outputs_kept_for_a_plot(r: Recipe) -> None:
    kept: list = []
    own, r.steps = r.line.forward, 110

    def forward(model: nn.Module, batch: Any) -> Any:
        outputs = own(model, batch)
        kept.append(outputs)
        return outputs

    r.line.forward = forward


@fault("H3", "gpt2 mlm tagging", advice=True, fresh=True)
def short_rows_padded_to_the_limit_by_the_collator(r: Recipe) -> None:
    for row in [*r.train, *r.eval]:
        for name in ("input_ids", "attention_mask", "labels"):
            if name in row:
                row[name] = row[name][:9]
    collate, fill = r.collate, {"attention_mask": 0, "labels": -100}

    def wide(rows: Any) -> dict[str, torch.Tensor]:
        return {
            name: nn.functional.pad(found, (0, 40 - found.shape[1]),
                                    value=fill.get(name, r.tokenizer.pad_token_id))
            for name, found in collate(rows).items()
        }  # fmt: skip

    r.collate = wide
