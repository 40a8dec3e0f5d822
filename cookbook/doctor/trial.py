"""Trial runs of model and loss on a few rows, for checks that read data: what would the loss do?

Labels are changed and the loss is asked again: the loss itself says which labels count, and which
it cannot take. All of it without gradients, in evaluation mode; a loss is computed on the CPU, for
a label beyond the classes would end the process on a GPU.
"""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator, Mapping
from typing import Any

import torch

from cookbook.doctor import kinds, responses


@contextlib.contextmanager
def quiet(subject: Any) -> Iterator[None]:
    """Within: evaluation mode, no gradients, no warnings; the configuration is put back after."""
    # A forward pass of a classifier sets it.
    problem = getattr(subject.config, "problem_type", None)
    with warnings.catch_warnings(), torch.no_grad(), subject.mode(False):
        warnings.simplefilter("ignore")
        try:
            yield
        finally:
            if hasattr(subject.config, "problem_type"):
                subject.config.problem_type = problem


def own_loss(subject: Any) -> bool:
    """Whether the loss is the reader's: a `loss_fn`, or a model that transformers does not ship."""
    if subject.loss_fn is not None or subject.model is None:
        return subject.loss_fn is not None
    return not type(kinds.base_of(subject.bare)).__module__.startswith("transformers.")


def on_cpu(thing: Any) -> Any:
    """Outputs or a batch with every tensor on the CPU; mappings keep their kind."""
    if isinstance(thing, torch.Tensor):
        return thing.cpu()
    if isinstance(thing, Mapping):
        moved = {key: on_cpu(value) for key, value in thing.items()}
        return type(thing)(**moved) if hasattr(thing, "to_tuple") else moved
    if isinstance(thing, tuple | list) and not hasattr(thing, "_fields"):
        return type(thing)(on_cpu(part) for part in thing)
    return thing


def with_labels(subject: Any, batch: Any, labels: torch.Tensor) -> Any:
    """The batch with other labels, the original untouched."""
    if isinstance(batch, Mapping):
        key = kinds.label_key(batch, getattr(subject.args, "label_names", None))
        return {**batch, key: labels}
    return [batch[0], labels, *batch[2:]]


def outputs_of(subject: Any, batch: Any) -> Any:
    """The model's outputs on the CPU, without its own loss: for a `loss_fn`."""
    if isinstance(batch, Mapping):  # labels that the model cannot take must not reach it
        names, _ = kinds.accepts(subject.bare)
        labels = set(kinds.LABEL_KEYS) & names
        if subject.kind == "seq2seq" and "decoder_input_ids" not in batch:
            made = responses.decoder_inputs(subject, batch)
            batch = {**batch, **{k: v for k, v in made.items() if k not in labels}}
        batch = {key: value for key, value in batch.items() if key not in labels}
    return on_cpu(subject.forward(batch))


def loss_with(subject: Any, batch: Any, labels: torch.Tensor, outputs: Any = None) -> torch.Tensor:
    """The scalar loss of a batch if these were its labels; raises what the loss raises."""
    batch = with_labels(subject, batch, labels)
    if subject.loss_fn is not None:
        outputs = outputs_of(subject, batch) if outputs is None else outputs
        target = batch if isinstance(batch, Mapping) else batch[1]
        return torch.as_tensor(subject.loss_fn(outputs, target)).float().mean()
    if subject.device.type != "cpu":
        raise RuntimeError("the model computes its loss on the GPU: not tried")
    return subject.loss(batch)


def counts(subject: Any, batch: Any, where: torch.Tensor) -> bool:
    """Whether the labels at `where` (rows, length) enter the loss: its gradient there says so.

    A label counts through the logits of its own position or, where the loss shifts, of the one
    before: both lie inside a run, so runs of two and more are asked. Raises where there are no
    logits of that shape.
    """
    inside = where.clone()
    inside[:, :-1] &= where[:, 1:]
    inside[:, -1] = False
    chosen = inside if inside.any() else where
    rows = chosen.any(1).nonzero()[:4, 0]
    batch = {k: v[rows] if _rows(v, len(where)) else v for k, v in batch.items()}
    with quiet(subject), torch.enable_grad():
        outputs = subject.forward(batch) if subject.loss_fn is None else outputs_of(subject, batch)
        logits = subject.logits(outputs)
        if subject.loss_fn is not None:
            logits = logits.detach().requires_grad_()
            outputs = with_logits(outputs, logits)
            loss = torch.as_tensor(subject.loss_fn(outputs, batch)).float().mean()
        else:
            loss = _scalar(subject.loss_of(outputs, batch), outputs)
        (gradient,) = torch.autograd.grad(loss, logits, allow_unused=True)
    if gradient is None:
        return False
    return bool((gradient.detach().cpu().abs().sum(-1) > 0)[chosen[rows].cpu()].any())


def _scalar(loss: Any, outputs: Any) -> torch.Tensor:
    """The loss, or the scalar that stands somewhere in a tuple of outputs: (logits, loss)."""
    if loss is None and isinstance(outputs, tuple):
        loss = next(o for o in outputs if isinstance(o, torch.Tensor) and not o.dim())
    return loss.float().mean()


def _rows(value: Any, count: int) -> bool:
    return isinstance(value, torch.Tensor) and value.dim() > 0 and len(value) == count


def with_logits(outputs: Any, logits: torch.Tensor) -> Any:
    """The outputs with these logits in the place of their own."""
    if isinstance(outputs, torch.Tensor):
        return logits
    if isinstance(outputs, Mapping):
        return type(outputs)(**{**outputs, "logits": logits})
    return type(outputs)([logits, *outputs[1:]])
