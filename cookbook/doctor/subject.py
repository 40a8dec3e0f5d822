"""What is examined: model, data, collator, arguments, in one shape for all checks.

A `Subject` reads a few batches and raw rows once, knows what kind of task it looks at, runs the
model and finds its loss. It judges nothing. `kinds.py` decides the kind, `sampling.py` reads rows.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import nn

from cookbook.doctor import kinds, sampling
from cookbook.doctor.checks import Skip

IGNORE = -100
LAZY = nn.parameter.UninitializedTensorMixin


class Subject:
    """Everything that `examine` was given, and what checks derive from it, computed when asked.

    `model` may be None: then only the checks of data and tokenizer apply. `train` and `eval` are
    `sampling.Sample`s: raw rows and collated batches on the CPU. `kind` is one of `kinds.KINDS`.
    """

    def __init__(
        self,
        model: nn.Module | None,
        *,
        train_dataset: Any = None,
        eval_dataset: Any = None,
        data_collator: Any = None,
        processing_class: Any = None,
        args: Any = None,
        optimizer: Any = None,
        lr_scheduler: Any = None,
        compute_metrics: Callable | None = None,
        loss_fn: Callable | None = None,
        trainer: Any = None,
    ) -> None:
        self.model, self.args, self.optimizer, self.lr_scheduler = (
            model,
            args,
            optimizer,
            lr_scheduler,
        )
        self.processing_class, self.compute_metrics = processing_class, compute_metrics
        self.loss_fn, self.trainer = loss_fn, trainer
        self.train_dataset, self.eval_dataset = train_dataset, eval_dataset
        how = {"collator": data_collator, "processing_class": processing_class, "model": model}
        size = getattr(args, "per_device_train_batch_size", None)
        keep_columns = not getattr(args, "remove_unused_columns", True)
        self.train = sampling.Sample(
            train_dataset, batches=8, batch_size=size, keep_columns=keep_columns, **how
        )
        self.eval = sampling.Sample(
            eval_dataset, batches=4, batch_size=getattr(args, "per_device_eval_batch_size", size),
            keep_columns=keep_columns, in_order=True, **how,
        )  # fmt: skip

    # -- what it is ------------------------------------------------------------------------------

    @functools.cached_property
    def bare(self) -> nn.Module:
        """The model inside DDP, `torch.compile` and PEFT's wrapper of forward."""
        return kinds.unwrapped(self.model)

    @property
    def config(self) -> Any:
        """The model's configuration, or None."""
        return getattr(self.bare, "config", None)

    @functools.cached_property
    def kind(self) -> str:
        """The task: see `kinds.KINDS`."""
        return kinds.kind_of(self.bare, self.train.batches or self.eval.batches, self.loss_fn)

    @property
    def tokenizer(self) -> Any:
        """The tokenizer, also that inside a processor; None where there is none."""
        inner = getattr(self.processing_class, "tokenizer", self.processing_class)
        return inner if hasattr(inner, "convert_tokens_to_ids") else None

    @functools.cached_property
    def parameters(self) -> dict[str, nn.Parameter]:
        """Name → parameter, tied ones once."""
        return dict(self.model.named_parameters())

    @property
    def trainable(self) -> dict[str, nn.Parameter]:
        """Name → parameter that asks for a gradient."""
        return {name: p for name, p in self.parameters.items() if p.requires_grad}

    @functools.cached_property
    def device(self) -> torch.device:
        """Where the inputs must go: the device of the first parameter."""
        first = next(self.model.parameters(), None)
        return torch.device("cpu") if first is None else first.device

    @functools.cached_property
    def unready(self) -> str:
        """Why the model cannot be run, or not for training; "" where it can."""
        if self.model is None:
            return "does not apply"
        if any(type(m).__module__.startswith("torch.ao.nn.") for m in self.model.modules()):
            return "layers of packed integers are for inference"
        if any(isinstance(p, LAZY) for p in self.model.parameters()):
            return "lazy parameters get their shape in the first forward pass: run one before"
        meta = any(p.is_meta for p in self.model.parameters())
        return "parameters on the meta device hold no values" if meta else ""

    # -- how it runs -----------------------------------------------------------------------------

    def batch(self, split: str = "train", rows: int | None = None) -> Any:
        """The first collated batch of a split (else of the other), cut to `rows`; or None."""
        sample = getattr(self, split)
        batches = sample.batches or self.train.batches or self.eval.batches
        return None if not batches else sampling.first_rows(batches[0], rows)

    def forward(self, batch: Any) -> Any:
        """The model's outputs for a batch, dict or pair, moved to its device; grads as they are."""
        if self.unready:
            raise Skip(self.unready)
        batch = sampling.to_device(batch, self.device)
        if isinstance(batch, Mapping):
            return self.model(**kinds.accepted(self.bare, batch))
        return self.model(batch[0])

    def loss_of(self, outputs: Any, batch: Any) -> torch.Tensor | None:
        """The loss that training would descend, a scalar tensor; None where there is none."""
        batch = sampling.to_device(batch, self.device)
        if self.loss_fn is not None:
            return self.loss_fn(outputs, batch if isinstance(batch, Mapping) else batch[1])
        loss = (
            outputs.get("loss") if isinstance(outputs, Mapping) else getattr(outputs, "loss", None)
        )
        if loss is None and isinstance(outputs, tuple) and outputs and outputs[0].dim() == 0:
            loss = outputs[0]
        return loss

    def loss(self, batch: Any) -> torch.Tensor | None:
        """Forward, then `loss_of`."""
        return self.loss_of(self.forward(batch), batch)

    @staticmethod
    def logits(outputs: Any) -> torch.Tensor | None:
        """The prediction scores among the outputs, (batch, …), or None."""
        return kinds.logits_of(outputs)

    def labels(self, batch: Any) -> torch.Tensor | None:
        """The labels of a batch as they lie in it, on the model's device; None without."""
        if not isinstance(batch, Mapping):
            return torch.as_tensor(batch[1]).to(self.device) if len(batch) > 1 else None
        name = kinds.label_key(batch, getattr(self.args, "label_names", None))
        return None if name is None else torch.as_tensor(batch[name]).to(self.device)

    @contextlib.contextmanager
    def mode(self, training: bool):
        """Within, the model is in training or evaluation mode; afterwards as before."""
        flags = [(module, module.training) for module in self.model.modules()]
        self.model.train(training)
        try:
            yield self.model
        finally:
            for module, flag in flags:
                module.training = flag
