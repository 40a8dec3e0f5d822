"""What kind of model and task stands before the doctor; names and signatures decide, not values.

Does: tell a causal LM from a masked one, a classifier from a regression, find logits, labels and
the arguments that a forward pass accepts. Does not: judge. Unknown things are "other", which no
check that needs a kind touches.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

KINDS = (
    "causal-lm", "masked-lm", "seq2seq", "classifier", "tagger", "regression", "multi-label",
    "question-answering", "contrastive", "other",
)  # fmt: skip
LABEL_KEYS = ("labels", "label", "label_ids", "start_positions", "target", "targets", "y")


def unwrapped(model: Any) -> Any:
    """The model inside DDP, FSDP1 and `torch.compile`; PEFT's own wrapper stays."""
    for _ in range(4):
        wrapped = type(model).__name__.endswith(("DataParallel", "FullyShardedDataParallel"))
        inner = getattr(model, "_orig_mod", None) or (model.module if wrapped else None)
        if inner is None:
            return model
        model = inner
    return model


def base_of(model: Any) -> Any:
    """The transformers model inside PEFT's wrapper, or the model itself."""
    model = unwrapped(model)
    return model.get_base_model() if hasattr(model, "get_base_model") else model


def kind_of(model: Any, batches: list, loss_fn: Any = None) -> str:
    """One of `KINDS`, by the class's name and configuration, then by the labels of a batch."""
    if model is None:
        return "other"
    base = base_of(model)
    name, config = type(base).__name__, getattr(base, "config", None)
    batch = batches[0] if batches else None
    if config is not None and getattr(config, "is_encoder_decoder", False) and _generates(base):
        return "seq2seq"  # whatever the loss, labels are not beside the tokens that are read
    if loss_fn is not None and not name.endswith(("CausalLM", "MaskedLM", "TokenClassification")):
        return _by_labels(batch, model)
    for ending, kind in (
        ("ForMaskedLM", "masked-lm"), ("ForPreTraining", "masked-lm"),
        ("ForTokenClassification", "tagger"), ("ForQuestionAnswering", "question-answering"),
    ):  # fmt: skip
        if name.endswith(ending) and not _generates(base):
            return kind
    if name.endswith(("ForSequenceClassification", "ForImageClassification", "ForMultipleChoice")):
        return _classifier(config, batch)
    if _generates(base) and (name.endswith(("CausalLM", "LMHeadModel")) or config is not None):
        return "causal-lm"
    return _by_labels(batch, model)


def _generates(model: Any) -> bool:
    return bool(getattr(model, "can_generate", bool)())


def _classifier(config: Any, batch: Any) -> str:
    problem = getattr(config, "problem_type", None)
    if problem == "multi_label_classification":
        return "multi-label"
    if problem == "regression" or getattr(config, "num_labels", 2) == 1:
        return "regression"
    return "classifier"


def _by_labels(batch: Any, model: Any) -> str:
    if batch is None:
        return "other"
    key = label_key(batch) if isinstance(batch, Mapping) else None
    labels = (
        batch[key]
        if key
        else (batch[1] if isinstance(batch, list | tuple) and len(batch) == 2 else None)
    )
    if not isinstance(labels, torch.Tensor):
        return "other"
    if labels.is_floating_point():
        many = (
            labels.dim() == 2
            and labels.shape[1] > 1
            and bool(((labels == 0) | (labels == 1)).all())
        )
        return "multi-label" if many else "regression"
    if labels.dim() == 1:
        return "classifier"
    return "other"


def label_key(batch: Mapping[str, Any], names: Any = None) -> str | None:
    """The key of the labels in a batch: the declared one, else a usual one, else None."""
    for name in [*(names or []), *LABEL_KEYS]:
        if name in batch:
            return name
    return None


def accepts(model: Any) -> tuple[set[str], bool]:
    """Names of the forward pass's arguments, and whether it takes any keyword."""
    try:
        given = inspect.signature(base_of(model).forward).parameters.values()
    except (TypeError, ValueError):
        return set(), True
    return {p.name for p in given}, any(p.kind is p.VAR_KEYWORD for p in given)


def accepted(model: Any, batch: Mapping[str, Any]) -> dict[str, Any]:
    """The entries of a batch that the forward pass takes."""
    names, anything = accepts(model)
    return {k: v for k, v in batch.items() if anything or k in names}


def span_logits(outputs: Any) -> tuple[torch.Tensor, torch.Tensor] | None:
    """`start_logits` and `end_logits`, (rows, length) each; None where an output has no such."""
    names = ("start_logits", "end_logits")
    held = outputs.get if isinstance(outputs, Mapping) else lambda n: getattr(outputs, n, None)
    both = tuple(held(name) for name in names)
    whole = all(isinstance(x, torch.Tensor) and x.dim() == 2 for x in both)
    return both if whole and both[0].shape == both[1].shape else None


def logits_of(outputs: Any) -> torch.Tensor | None:
    """`logits` of an output (BERT's `prediction_logits`), a bare tensor, a tuple's first tensor."""
    for name in ("logits", "prediction_logits"):
        found = outputs.get(name) if isinstance(outputs, Mapping) else getattr(outputs, name, None)
        if isinstance(found, torch.Tensor):
            return found
    if isinstance(outputs, torch.Tensor):
        return outputs if outputs.dim() else None
    if isinstance(outputs, tuple | list):
        return next((o for o in outputs if isinstance(o, torch.Tensor) and o.dim()), None)
    return None


def module_of(model: nn.Module, parameter: str) -> nn.Module:
    """The module that owns the parameter of this dotted name."""
    return model.get_submodule(parameter.rpartition(".")[0])
