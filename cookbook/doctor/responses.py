"""How a model's scores answer to a change of its input: what forward probes have in common.

Inputs without labels, scores in evaluation mode, the noise of two equal forward passes and the
bound above which scores count as moved. It judges nothing; the probes do.
"""

from __future__ import annotations

import contextlib
import inspect
import warnings
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch

from cookbook.doctor import kinds, sampling
from cookbook.doctor.subject import Skip, Subject

HALF = (torch.float16, torch.bfloat16)
ROWS = 4  # of a batch, in a probe
LABELS = {*kinds.LABEL_KEYS, "end_positions", "next_sentence_label", "sentence_order_label"}


@contextlib.contextmanager
def quiet(subject: Subject) -> Iterator[None]:
    """Within: evaluation mode, no gradients, no warnings."""
    with warnings.catch_warnings(), torch.no_grad(), subject.mode(False):
        warnings.simplefilter("ignore")
        yield


def inputs(subject: Subject, rows: int = ROWS, given: Any = None) -> Any:
    """A batch of some rows as the forward pass takes it, without labels; Skip where there is none.

    The first batch, unless another is given. A sequence-to-sequence model gets the decoder's inputs
    that it would make of its labels.
    """
    first = given is None
    batch = subject.batch("train", rows) if first else sampling.first_rows(given, rows)
    if batch is None:
        raise Skip(subject.train.problem or "does not apply")
    if not isinstance(batch, Mapping):
        if not isinstance(batch, list | tuple) or not batch:
            raise Skip("does not apply")
        return list(batch)
    held = {*LABELS, *(getattr(subject.args, "label_names", None) or [])}
    needed = {name for name in held & set(batch) if _required(subject, name)}
    kept = {key: value for key, value in batch.items() if key not in held - needed}
    if subject.kind == "seq2seq" and "decoder_input_ids" not in kept:
        kept |= decoder_inputs(subject, batch)
    asked = {key: batch[key] for key in held & set(batch)}
    return kept | asked if asked and _asks_for_labels(subject, kept, kept | asked) else kept


def _asks_for_labels(subject: Subject, kept: Any, whole: Any) -> bool:
    """Whether the forward pass fails without labels and not with them, whatever its default says.

    A model of one's own often computes its loss each time. It is tried once.
    """
    if "asks_for_labels" not in subject.__dict__:
        subject.__dict__["asks_for_labels"] = not _passes(subject, kept) and _passes(subject, whole)
    return subject.__dict__["asks_for_labels"]


def _passes(subject: Subject, batch: Any) -> bool:
    try:
        with quiet(subject):
            subject.forward(batch)
    except Exception:
        return False
    return True


def _required(subject: Subject, name: str) -> bool:
    """Whether the forward pass has this argument, and no default for it."""
    try:
        given = inspect.signature(kinds.base_of(subject.model).forward).parameters.get(name)
    except (TypeError, ValueError):
        return False
    return given is not None and given.default is inspect.Parameter.empty


def decoder_inputs(subject: Subject, batch: Mapping[str, Any]) -> dict[str, Any]:
    """What the decoder reads where the batch does not say so: the model makes it of the labels."""
    base, labels = kinds.base_of(subject.model), batch.get("labels")
    for name in ("prepare_decoder_input_ids_from_labels", "_shift_right"):
        if labels is not None and hasattr(base, name):
            return {"decoder_input_ids": getattr(base, name)(labels)}
    return {} if labels is None else {"labels": labels}


def scores(subject: Subject, batch: Any) -> torch.Tensor:
    """Logits of a batch, (batch, …), in float32 on the CPU; Skip where there are none.

    Those of a span's two ends are (batch, length, 2).
    """
    found = of_outputs(subject, subject.forward(batch))
    if found is None or not found.is_floating_point():
        raise Skip("does not apply")
    found = found.detach().float().cpu()
    if found.isnan().any():
        raise Skip("the scores are not finite")
    return found


def of_outputs(subject: Subject, outputs: Any) -> torch.Tensor | None:
    """The logits of a model's output, those of a span's two ends side by side; None without any.

    Of a module of one's own they may be (rows, classes, length), as torch's cross-entropy wants
    them: they are turned to (rows, length, classes) where the labels tell.
    """
    both = kinds.span_logits(outputs)
    found = subject.logits(outputs) if both is None else torch.stack(both, -1)
    if not isinstance(outputs, torch.Tensor) or outputs.dim() != 3:
        return found
    labels = subject.labels(subject.batch("train", ROWS))
    whole = labels is not None and labels.dim() == 2 and not labels.is_floating_point()
    turned = whole and outputs.shape[1] != labels.shape[1] == outputs.shape[2]
    return found.transpose(1, 2) if turned else found


def moved(one: torch.Tensor, other: torch.Tensor) -> float:
    """The largest difference of two scores, where both are finite."""
    both = one.isfinite() & other.isfinite()
    return float((one - other)[both].abs().max()) if both.any() else 0.0


def still(values: torch.Tensor, half: bool) -> float:
    """The share of the scores' deviation under which nothing counts as moved."""
    plain = values[values.isfinite() & (values.abs() < 1e4)]
    if not plain.numel():
        return 1.0
    share = 5e-2 if half else 1e-3
    return max(share * float(plain.std(correction=0)), 1e-5 * float(plain.abs().max()), 1e-9)


def bound(subject: Subject, batch: Any, first: torch.Tensor, read: Callable = scores) -> float:
    """τ: 50 times the noise of equal forward passes, or a share of the scores' deviation.

    `read(subject, batch)` gave the first scores. A model that draws in evaluation answers nothing:
    Skip, its own probe tells.
    """
    base = still(first, computes_in_half(subject))
    noise = moved(first, read(subject, batch))
    if noise > base:
        raise Skip("two equal forward passes differ")
    size = sampling.batch_size(batch)
    turned = read(subject, each_tensor(batch, size, lambda tensor: tensor.flip(0)))
    if turned.shape == first.shape and len(first) == size:
        # Beyond that it is no noise: the place in the batch decides, which is another fault.
        permuted = moved(first, turned.flip(0))
        noise = max(noise, permuted) if permuted <= base else noise
    return max(50 * noise, base)


def is_half(subject: Subject) -> bool:
    """Whether any parameter is of half precision."""
    return any(p.dtype in HALF for p in subject.parameters.values())


def computes_in_half(subject: Subject) -> bool:
    """Whether some linear layer answers in half precision: by its weights, or under an autocast
    that stands inside the forward pass, as `Trainer` puts one there."""
    if "computes_in_half" not in subject.__dict__:
        seen: set[torch.dtype] = set()
        hooks = [
            m.register_forward_hook(lambda module, given, out: seen.add(out.dtype))
            for m in subject.model.modules() if type(m) is torch.nn.Linear
        ]  # fmt: skip
        try:
            with quiet(subject):
                subject.forward(inputs(subject))
        finally:
            for hook in hooks:
                hook.remove()
        subject.__dict__["computes_in_half"] = bool(seen & set(HALF)) or is_half(subject)
    return subject.__dict__["computes_in_half"]


def each_tensor(batch: Any, size: int, change: Callable[[torch.Tensor], torch.Tensor]) -> Any:
    """The batch with a change made to each tensor that has the batch's size in front."""

    def changed(value: Any) -> Any:
        whole = isinstance(value, torch.Tensor) and value.dim() and len(value) == size
        return change(value) if whole else value

    if isinstance(batch, Mapping):
        return {key: changed(value) for key, value in batch.items()}
    return [changed(value) for value in batch]


def other_tokens(subject: Subject, ids: torch.Tensor, where: torch.Tensor) -> torch.Tensor:
    """Token ids changed where asked, each to another that occurs; special ones stay."""
    special = set(getattr(subject.tokenizer, "all_special_ids", None) or [])
    for name in ("pad_token_id", "bos_token_id", "eos_token_id", "image_token_id"):
        held = getattr(subject.config, name, None)
        special |= {held} if isinstance(held, int) else set(held or [])
    plain = torch.tensor(sorted(set(ids.unique().tolist()) - special), dtype=ids.dtype)
    if len(plain) < 2:
        raise Skip("the batch holds too few different tokens")
    place = torch.searchsorted(plain, ids.contiguous()).clamp(max=len(plain) - 1)
    swapped = torch.where(plain[place] == ids, plain[(place + 1) % len(plain)], ids)
    return torch.where(where, swapped, ids)


def token_key(batch: Any) -> Any:
    """Where a batch keeps its token ids, (rows, length): a key, 0 for pairs; Skip elsewhere."""
    key = "input_ids" if isinstance(batch, Mapping) else 0
    held = batch.get(key) if isinstance(batch, Mapping) else batch[0]
    whole = isinstance(held, torch.Tensor) and held.dim() == 2 and not held.is_floating_point()
    if not whole or held.dtype == torch.bool:
        raise Skip("does not apply")
    return key


def with_value(batch: Any, key: Any, value: Any) -> Any:
    """The batch, dict or pair, with one entry replaced."""
    if isinstance(batch, Mapping):
        return {**batch, key: value}
    return [value if place == key else held for place, held in enumerate(batch)]
