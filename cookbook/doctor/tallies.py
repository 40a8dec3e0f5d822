"""Small readings of one batch or output: its own loss, labels, confusion, a hash; a mean of losses.

Pure functions for `batches` and `monitor`; none waits for an accelerator but `fingerprint`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from cookbook.doctor import contrastive, kinds

EMPTY = 0.8  # share of a batch's questions without an answer, from which that is what is counted
CLASSES = 200  # more are not counted
MASKS = 24  # padded batches that are looked at


def own_loss(output: Any) -> torch.Tensor | None:
    """`loss` of a model's output, a scalar, or None."""
    loss = output.get("loss") if isinstance(output, Mapping) else getattr(output, "loss", None)
    if loss is None and isinstance(output, tuple) and output:
        loss = output[0]
    return loss if isinstance(loss, torch.Tensor) and loss.dim() == 0 else None


def labels_of(batch: Any) -> torch.Tensor | None:
    """The labels in a batch, dict or pair."""
    if isinstance(batch, Mapping):
        found = batch.get(kinds.label_key(batch))
    else:
        found = batch[1] if isinstance(batch, list | tuple) and len(batch) == 2 else None
    return found if isinstance(found, torch.Tensor) else None


def note_mask(facts: dict[str, Any], model: Any, given: tuple | None, batch: Any) -> None:
    """Count padded batches, and those whose mask the model was not given; the first ones only."""
    mask = batch.get("attention_mask") if isinstance(batch, Mapping) else None
    plain = isinstance(mask, torch.Tensor) and mask.dim() == 2 and mask.device.type == "cpu"
    if not plain or given is None or facts.get("padded", 0) >= MASKS or bool(mask.all()):
        return
    args, kwargs = given
    ids = kwargs.get("input_ids", args[0] if args else None)
    if type(kinds.base_of(model)).__name__.endswith(("CausalLM", "LMHeadModel")):
        return  # what stands on the right is not seen anyway
    if "attention_mask" not in kinds.accepts(model)[0]:
        return  # a recurrent model of one's own reads what it gets
    if isinstance(ids, torch.Tensor) and ids.shape == mask.shape:
        facts["padded"] = facts.get("padded", 0) + 1
        withheld = "attention_mask" not in kwargs and len(args) < 2
        facts["withheld"] = facts.get("withheld", 0) + withheld


def answered(output: Any, batch: Mapping[str, Any]) -> tuple[torch.Tensor, torch.Tensor] | None:
    """Of a reader of questions most of which have no answer: scores (rows, 2) and labels.

    Class 0 points at the first token, which means that there is none; class 1 anywhere else.
    """
    spans, starts = kinds.span_logits(output), batch.get("start_positions")
    if spans is None or not isinstance(starts, torch.Tensor) or starts.dim() != 1:
        return None
    labels = (starts != 0).long()
    if float((labels == 0).float().mean()) < EMPTY:
        return None
    scores = spans[0].detach().float()
    return torch.stack([scores[:, 0], scores[:, 1:].logsumexp(1)], 1), labels


def confusion(scores: Any, labels: Any, tokens: bool = False) -> torch.Tensor | None:
    """(classes, classes) counts, labels in rows; None where nothing is classified.

    With `tokens`, each labelled token of scores (rows, length, classes) and labels (rows, length)
    counts, as a tagger's do; a language model's labels stand elsewhere.
    """
    scores, labels = _by_answer(scores, labels, tokens)
    if labels.dim() != 1 or labels.is_floating_point() or len(labels) != len(scores):
        return None
    if scores.dim() == 2:
        size, chosen = scores.shape[1], scores.argmax(1)
    elif scores.dim() == 1 and not scores.is_floating_point():
        size, chosen = int(max(scores.max(), labels.max())) + 1 if len(labels) else 0, scores
    else:
        return None
    if not 1 < size <= CLASSES:
        return None
    labels, chosen = labels.long(), chosen.long().to(labels.device)
    valid = (labels >= 0) & (labels < size)
    flat = labels * size + chosen
    return torch.bincount(flat[valid], minlength=size * size).reshape(size, size)


def _by_answer(scores: Any, labels: Any, tokens: bool) -> tuple[torch.Tensor, torch.Tensor]:
    scores, labels = torch.as_tensor(scores), torch.as_tensor(labels)
    if tokens and labels.dim() == 2 and scores.dim() == 3 and scores.shape[:2] == labels.shape:
        return scores.flatten(0, 1), labels.flatten()
    return scores, labels


def surprise(scores: Any, labels: Any, tokens: bool = False) -> torch.Tensor | None:
    """The summed cross-entropy of scores (rows, classes) whose labels count; None without scores.

    >>> round(surprise(torch.zeros(3, 2), torch.tensor([0, 1, -100])).item(), 4)
    1.3863
    """
    scores, labels = _by_answer(scores, labels, tokens)
    if scores.dim() != 2 or not scores.is_floating_point() or labels.dim() != 1:
        return None
    valid = (labels >= 0) & (labels < scores.shape[1])
    chosen, wanted = scores.detach()[valid.to(scores.device)].float(), labels[valid].long()
    return torch.nn.functional.cross_entropy(chosen, wanted.to(chosen.device), reduction="sum")


def rates(known: list[int] | None, labels: Any, size: int) -> list[int] | None:
    """Counts of classes, with those of a batch of whole labels added; `size` classes.

    >>> rates([1, 0], torch.tensor([1, 1, -100]), 2)
    [1, 2]
    """
    whole = isinstance(labels, torch.Tensor) and not labels.is_floating_point()
    if not whole or not 1 < size <= CLASSES or labels.dtype == torch.bool:
        return known
    found = labels[(labels >= 0) & (labels < size)].long().bincount(minlength=size).tolist()
    return [a + b for a, b in zip(known or [0] * size, found, strict=True)]


def embeddings(output: Any, rows: int) -> torch.Tensor | None:
    """One embedding a row, (rows, dimensions): named ones, a bare matrix, or an encoder's states.

    Of an encoder's two usual summaries that one is taken whose rows differ more.
    """
    named = contrastive.embeddings_of(output, rows)
    if isinstance(output, torch.Tensor) and output.dim() == 2 and len(output) == rows:
        named = [output]
    states = getattr(output, "last_hidden_state", None)
    if not named and isinstance(states, torch.Tensor) and len(states) == rows:
        named = [states.mean(1), states[:, 0]]
    return min(named, key=contrastive.mean_cosine, default=None)


def is_single(loss: Any) -> bool:
    """Whether a loss is one number.

    >>> is_single(0.5), is_single(torch.tensor(1.0)), is_single(torch.ones(3))
    (True, True, False)
    """
    return loss.numel() == 1 if isinstance(loss, torch.Tensor) else isinstance(loss, int | float)


def fingerprint(batch: Any) -> str:
    """A short hash of what a batch holds: equal batches have equal ones."""
    held = batch.values() if isinstance(batch, Mapping) else batch
    mark = hashlib.blake2b(digest_size=8)
    for tensor in held if not isinstance(batch, torch.Tensor) else [batch]:
        if isinstance(tensor, torch.Tensor) and tensor.numel():
            flat = tensor.detach().reshape(-1)[:2048].cpu()
            flat = flat.float() if flat.dtype == torch.bfloat16 else flat
            mark.update(str(tuple(tensor.shape)).encode() + flat.numpy().tobytes())
    return mark.hexdigest()


def width(batch: Any) -> int:
    """The length of a batch's rows: the second dimension of its first tensor that has one.

    >>> width({"labels": torch.zeros(4), "input_ids": torch.zeros(4, 7)})
    7
    """
    held = batch.values() if isinstance(batch, Mapping) else batch
    parts = [batch] if isinstance(batch, torch.Tensor) else held
    return next((p.shape[1] for p in parts if isinstance(p, torch.Tensor) and p.dim() > 1), 0)


def average(losses: Sequence[Any]) -> Any:
    """The mean of tensors and numbers; a tensor where one lies on an accelerator, unread.

    >>> average([1.0, torch.tensor(2.0)])
    1.5
    """
    if not losses:
        return None
    held = [x.float().mean() if isinstance(x, torch.Tensor) else float(x) for x in losses]
    mean = sum(held) / len(held)
    on_cpu = isinstance(mean, torch.Tensor) and mean.device.type == "cpu"
    return mean.item() if on_cpu else mean
