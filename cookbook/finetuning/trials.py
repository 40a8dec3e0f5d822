"""One fine-tuning run as a function of its settings: what chapter 08 compares and searches.

Does: train a classifier by `training.loop` under any optimizer, rate, schedule, decay, batch size
and clipping, and score it on validation. Does not: choose a setting, keep the best epoch, or read
the test split unless asked (`Task.test`). `strategies` is the one to use in earnest.
"""

from __future__ import annotations

import contextlib
import copy
import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from cookbook.finetuning.encoding import check_splits, classes_of, collator, encode_rows, predict
from cookbook.models.initialization import load_model, load_tokenizer
from cookbook.training import loop, masked_accuracy, optimizers, order, schedules

if TYPE_CHECKING:
    from datasets import Dataset

NO_CLIP = float("inf")


@dataclass(frozen=True)
class Setting:
    """Everything about a run but model, data and length. `warmup` is a share of the steps.

    >>> Setting(rate=1e-3).schedule
    'linear'
    """

    optimizer: str = "AdamW"
    rate: float = 3e-4
    schedule: str = "linear"
    warmup: float = 0.1
    weight_decay: float = 0.01
    spare_norms: bool = True
    layer_decay: float = 1.0
    batch_size: int = 16
    clip: float = 1.0

    def scheduler(self, optimizer: torch.optim.Optimizer, steps: int) -> Any:
        """The schedule over `steps` updates; "constant" alone does not know the end."""
        length = {} if self.schedule == "constant" else {"total": steps}
        warmup = round(self.warmup * steps)
        return schedules.scheduler(optimizer, self.schedule, warmup=warmup, **length)


@dataclass
class Outcome:
    """What one run left. A run whose weights are no numbers has accuracy 0 and loss inf."""

    setting: Setting
    seed: int
    accuracy: float
    loss: float
    history: list[tuple[int, float]]  # step and training loss
    norms: list[float] = field(default_factory=list, repr=False)  # of the gradient, before clipping
    seen: Any = field(default=None, repr=False)  # what `around` gave
    model: torch.nn.Module | None = field(default=None, repr=False)


class Task:
    """A model, encoded rows, and runs over them: `task.train(Setting(rate=1e-3), steps=60)`.

    Every run of one seed starts from the same weights, new head included, and sees the same rows
    in the same order. Raises DataError for data without classes, splits or labels.
    """

    def __init__(
        self,
        model: str,
        dataset: Mapping[str, Dataset],
        *,
        max_length: int = 48,
        precision: str = "fp32",
    ) -> None:
        self.name, self.precision = model, precision
        self.classes, self.tokenizer = classes_of(check_splits(dataset)), load_tokenizer(model)
        length = min(max_length, self.tokenizer.model_max_length)
        self.rows = {n: encode_rows(part, self.tokenizer, length) for n, part in dataset.items()}
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self._new: dict[int, torch.nn.Module] = {}

    def new(self, seed: int = 0) -> torch.nn.Module:
        """The pretrained model with the new head that belongs to `seed`."""
        if seed not in self._new:  # reading the checkpoint takes longer than copying it
            plain = {"attn_implementation": "eager"} if self.device.type == "cpu" else {}
            self._new[seed] = load_model(
                self.name, "classification", num_labels=len(self.classes), seed=seed, **plain
            )
        return copy.deepcopy(self._new[seed]).to(self.device)

    def batches(self, size: int, seed: int = 0) -> Sequence[dict]:
        """`batches[k]` of the training rows, padded; as many epochs as are asked for.

        Where there are fewer rows than `size`, a batch is all of them.
        """
        collate = partial(without_keys, collate=collator(self.tokenizer))
        rows = self.rows["train"]
        return order.Batches(rows, min(size, len(rows)), seed=seed, collate=collate)

    def train(
        self,
        setting: Setting,
        *,
        steps: int,
        seed: int = 0,
        around: Callable[..., contextlib.AbstractContextManager] | None = None,
        keep: bool = False,
        quiet: bool = False,
    ) -> Outcome:
        """Train `steps` updates and score on validation; `keep` leaves the model in the outcome.

        It shows a progress bar unless `quiet`, for whoever shows one of many runs.

        `around(model, optimizer, scheduler)` gives a context to train in, such as
        `updates.measured` or the doctor's `Watch`; what it yields is the outcome's `seen`, and is
        told each loss by `seen.step(loss)` where it has a `step`. Dropout draws from torch's global
        state, which is set to `seed`.
        """
        from tqdm.auto import tqdm

        model = self.new(seed)
        optimizer = optimizers.build(
            model, setting.optimizer, setting.rate, weight_decay=setting.weight_decay,
            spare_norms=setting.spare_norms, layer_decay=setting.layer_decay,
        )  # fmt: skip
        scheduler = setting.scheduler(optimizer, steps)
        context = around or (lambda *_: contextlib.nullcontext())
        batches = self.batches(setting.batch_size, seed)
        torch.manual_seed(seed)
        bar = tqdm(
            total=steps, desc=f"{setting.optimizer} {setting.rate:g}", leave=False, disable=quiet
        )
        with bar, clipped(model, optimizer, setting.clip) as norms:
            with context(model, optimizer, scheduler) as seen:
                tell = getattr(seen, "step", lambda loss: None)
                losses = loop.train(
                    model, batches, optimizer, scheduler, steps=steps, clip=NO_CLIP,
                    precision=self.precision, on_step=lambda step, loss: (tell(loss), bar.update()),
                )  # fmt: skip
        found, history = self.score(model, "validation"), list(enumerate(losses, 1))
        return Outcome(setting, seed, *found, history, norms, seen, model if keep else None)

    def choose(
        self, settings: Sequence[Setting], *, steps: int, seed: int = 0
    ) -> tuple[Outcome, list[Outcome]]:
        """Train each setting; the one with the best validation, with its model, and all without.

        Best by accuracy, then by loss. Only two models are in memory at a time.
        """
        best, tried = None, []
        for setting in settings:
            found = self.train(setting, steps=steps, seed=seed, keep=True)
            tried.append(dataclasses.replace(found, model=None))
            if best is None or (found.accuracy, -found.loss) > (best.accuracy, -best.loss):
                best = found
        return best, tried

    def score(self, model: torch.nn.Module, split: str) -> tuple[float, float]:
        """Accuracy and mean cross-entropy (nats) on a split; (0, inf) for logits that broke."""
        labels = np.array([row["labels"] for row in self.rows[split]])
        logits = predict(model, self.rows[split], self.tokenizer, precision=self.precision)
        if not np.isfinite(logits).all():
            return 0.0, float("inf")
        loss = torch.nn.functional.cross_entropy(torch.tensor(logits), torch.tensor(labels))
        return float((logits.argmax(-1) == labels).mean()), float(loss)

    def right(self, model: torch.nn.Module, split: str = "test") -> np.ndarray:
        """(rows,) bool: where the largest logit is at the label."""
        logits = predict(model, self.rows[split], self.tokenizer, precision=self.precision)
        return logits.argmax(-1) == np.array([row["labels"] for row in self.rows[split]])

    def majority(self, split: str = "validation") -> float:
        """Accuracy of always answering the most frequent class of the training rows."""
        counts = np.bincount([row["labels"] for row in self.rows["train"]])
        return float(np.mean([row["labels"] == counts.argmax() for row in self.rows[split]]))

    def recall(self, classifier: torch.nn.Module, batches: Sequence[dict]) -> float:
        """Masked accuracy of a classifier's encoder under the pretrained model's own head.

        `batches` are `masked_accuracy.masked_batches` of text that is like the pretraining's. The
        head stays as pretraining left it (its word table, where tied, is the encoder's): what is
        measured is whether the encoder still says what that head can read. Raises ValueError for a
        model of another architecture.
        """
        reader = load_model(self.name, "masked-lm").to(self.device)
        missing = reader.base_model.load_state_dict(
            classifier.base_model.state_dict(), strict=False
        ).missing_keys
        if missing:
            raise ValueError(f"the classifier's encoder lacks {missing[0]}: another architecture")
        mask = self.tokenizer.mask_token_id
        return masked_accuracy.accuracies(reader, batches, mask)["hidden"]


@contextlib.contextmanager
def clipped(
    model: torch.nn.Module, optimizer: torch.optim.Optimizer, limit: float
) -> Iterator[list[float]]:
    """Within, gradients are clipped just before each step; yields their norms before that."""
    norms: list[float] = []

    def clip(*_: object) -> None:
        norms.append(float(schedules.clip_gradients(model.parameters(), limit)))

    hook = optimizer.register_step_pre_hook(clip)
    try:
        yield norms
    finally:
        hook.remove()


def without_keys(rows: list[dict[str, Any]], collate: Callable) -> dict[str, torch.Tensor]:
    """`collate` of rows of `order.Keyed`, whose epoch and row no model takes."""
    return dict(
        collate([{k: v for k, v in row.items() if k not in ("epoch", "row")} for row in rows])
    )
