"""Do the labels belong to their rows (fault D8), and is there anything to read in these (E3)?

Rows and labels that were joined by a wrong index show no dependence in any simple view of the
inputs, nor in the model's own features, while one batch can still be memorised. One view that beats
its permuted twins is enough to say nothing. A task may be too deep for every view (a parity), so
this is a warning at most; pairs of texts, few rows and rare classes are left alone. Of a number it
is asked whether it is above the median.
"""

from __future__ import annotations

import contextlib
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np
import torch
from torch import nn

from cookbook.doctor import gradients, learning_probes, row_keys, sampling, simple_features
from cookbook.doctor.checks import Skip
from cookbook.doctor.findings import Finding
from cookbook.doctor.simple_features import Probe
from cookbook.doctor.subject import Subject

KINDS = ("classifier", "regression", "multi-label")
FEWEST, MOST, COLUMNS = 200, 1000, 3  # labelled rows; labels of many a row
RARE = 15  # rows that every class that counts must have
MAJORITY = 0.85  # share of one class above which nothing can be seen
BEATS = 2.5  # standard deviations of the permuted twins
# A whole number, a date, a time or a hash: what stands in the index of a table.
NUMBER = re.compile(r"\b[0-9a-fA-F][0-9a-fA-F-]{15,}\b|\d+(?:[.:/-]\d+)*")
ALIKE = 0.98  # share of the texts that are one sentence but for a number
WORK = 3e11  # multiplications that the model's own features may cost


def check_labels_belong(subject: Subject) -> Iterable[Finding]:
    """Probes of simple views and of the model's features, against permuted labels."""
    if subject.kind not in KINDS or subject.model is None:
        raise Skip("does not apply")
    found: list[Probe] = []
    for column in _columns(subject):
        batch, labels = _table(subject, column)
        for view, columns in simple_features.views(batch):
            if _any_beats(found, view, columns, labels):
                return
        own = _own_features(subject, batch) if found else None
        if own is not None and _any_beats(found, "its features", own, labels[: len(own)]):
            return
    if not found:
        raise Skip("does not apply")
    fits = subject.kind == "classifier"  # of others no probe says whether a batch is fitted
    small = learning_probes.small_batch(subject)
    reason = learning_probes.why_not(subject, small) if fits else ""
    if reason not in ("", learning_probes.FROZEN) or (fits and not _memorised(subject, small)):
        raise Skip("the model was not seen to fit one batch")
    best = max(found, key=lambda p: p.distance)
    whose = ", while one batch can be memorised" if fits else "; each is asked for one of two"
    yield Finding(
        "D8", "warn",
        f"the best of {len(found)} probes scores {best.accuracy:.1%} on held-out rows and "
        f"{best.permuted:.1%} with permuted labels, {best.distance:.1f} deviations apart (bound: "
        f"{BEATS} over {len(labels)} rows){whose}",
        measured={"accuracy": best.accuracy, "permuted": best.permuted, "rows": len(labels),
                  "distance": best.distance},
    )  # fmt: skip


def _any_beats(found: list[Probe], view: str, columns: np.ndarray, labels: np.ndarray) -> bool:
    for name, kernel in simple_features.kernels(view, columns):
        one = simple_features.probe(name, kernel, labels)
        found.append(one)
        if one.distance > BEATS:
            return True
    return False


def _columns(subject: Subject) -> list[int | None]:
    """The labels that are asked for: one, or of many the most even."""
    if subject.kind != "multi-label":
        return [None]
    labels = [subject.labels(batch) for batch in subject.train.batches]
    if not labels or any(y is None or y.dim() != 2 for y in labels):
        raise Skip("does not apply")
    uneven = (torch.cat(labels).float().mean(0) - 0.5).abs()
    return uneven.argsort()[:COLUMNS].tolist()


def _table(subject: Subject, column: int | None = None) -> tuple[Any, np.ndarray]:
    """Up to `MOST` rows as one batch, and their classes from 0; Skip where too little is there."""
    rows = subject.train.rows
    if len(rows) < FEWEST:
        raise Skip("does not apply")
    batch, numbers, _ = labelled(subject, _spread(rows), column)
    if len(numbers) < FEWEST:
        raise Skip("does not apply")
    return batch, numbers


def _spread(rows: list[Any]) -> list[Any]:
    """Up to `MOST` of the rows, from all over the set."""
    return rows[:: max(1, len(rows) // MOST)][:MOST]


def labelled(
    subject: Subject, rows: list[Any], column: int | None = None
) -> tuple[Any, np.ndarray, np.ndarray]:
    """Rows as one batch, their classes from 0, and which of the rows (a mask) these are.

    Of many labels a row, those of a column; of numbers, whether they are above the middle. Rows of
    rare classes are left out; Skip where the labels are no classes or nearly all are one.
    """
    batch = subject.train.collate(rows)
    labels = subject.labels(batch)
    if subject.kind == "regression" and labels is not None and labels.numel() == len(rows):
        two = len(labels.unique()) == 2  # one score for two classes
        labels = (labels.flatten() > (labels.mean() if two else labels.median())).long()
    elif column is not None and labels is not None and labels.dim() == 2:
        labels = labels[:, column].long()
    if labels is None or labels.dim() != 1 or labels.is_floating_point() or _paired(subject, batch):
        raise Skip("does not apply")
    values = labels.cpu().numpy()
    kept = np.isin(values, [c for c in np.unique(values) if c >= 0 and (values == c).sum() >= RARE])
    classes, numbers = np.unique(values[kept], return_inverse=True)
    largest = np.bincount(numbers).max(initial=0) / max(1, len(numbers))
    if len(classes) < 2 or largest > MAJORITY or len(values) != len(rows):
        raise Skip("does not apply")
    return _rows_of(batch, torch.from_numpy(kept.nonzero()[0])), numbers, kept


def _rows_of(batch: Any, places: torch.Tensor) -> Any:
    size = sampling.batch_size(batch)

    def chosen(value: Any) -> Any:
        whole = isinstance(value, torch.Tensor) and value.dim() and len(value) == size
        return value[places.to(value.device)] if whole else value

    if isinstance(batch, Mapping):
        return {k: chosen(v) for k, v in batch.items()}
    return type(batch)(chosen(v) for v in batch)


def _paired(subject: Subject, batch: Any) -> bool:
    """Whether rows are pairs of texts, whose label no bag of tokens tells."""
    if not isinstance(batch, Mapping):
        return False
    types = batch.get("token_type_ids")
    if isinstance(types, torch.Tensor) and bool((types > 0).any()):
        return True
    ids, separator = batch.get("input_ids"), getattr(subject.tokenizer, "sep_token_id", None)
    if isinstance(ids, torch.Tensor) and separator is not None:
        return float((ids == separator).sum(-1).float().mean()) > 1.5
    inputs = [v for v in batch.values() if isinstance(v, torch.Tensor) and v.is_floating_point()]
    return ids is not None and bool(inputs)  # text and image together


def _own_features(subject: Subject, batch: Any) -> np.ndarray | None:
    """What the last linear layer before the logits takes in, of as many rows as are affordable."""
    size = sampling.batch_size(batch)
    parts = batch.values() if isinstance(batch, Mapping) else batch[:1]
    ids = next((v for v in parts if isinstance(v, torch.Tensor) and v.dim() > 1), None)
    places = ids.shape[1] if ids is not None and not ids.is_floating_point() else 32
    weights = sum(p.numel() for p in subject.bare.parameters())
    rows = min(size, int(WORK / (weights * places + 1)))
    if rows < FEWEST // 2:
        return None
    found: list[torch.Tensor] = []
    with torch.no_grad(), subject.mode(training=False):
        for start in range(0, rows, 32):
            part = _rows_of(batch, torch.arange(start, min(start + 32, rows)))
            with _inputs_of_linear(subject.bare) as seen:
                logits = subject.logits(gradients.forward(subject, part))
            fits = [x for x, shape in seen if logits is not None and shape == logits.shape]
            if not fits or len(fits[-1]) != sampling.batch_size(part):
                return None
            found.append(fits[-1].flatten(1).float().cpu())
    return torch.cat(found).nan_to_num().numpy()


@contextlib.contextmanager
def _inputs_of_linear(model: nn.Module) -> Iterator[list[tuple[torch.Tensor, torch.Size]]]:
    """Within, the list fills with (input, shape of the output) of every linear layer that runs."""
    seen: list[tuple[torch.Tensor, torch.Size]] = []

    def look(_: nn.Module, inputs: tuple, output: Any) -> None:
        if inputs and isinstance(output, torch.Tensor):
            seen.append((inputs[0].detach(), output.shape))

    handles = [m.register_forward_hook(look) for m in model.modules() if isinstance(m, nn.Linear)]
    try:
        yield seen
    finally:
        for handle in handles:
            handle.remove()


def _memorised(subject: Subject, batch: Any) -> bool:
    lines = learning_probes.overfit(subject, batch)
    return any(min(line) < learning_probes.KEPT * line[0] for line in lines.values())


# -- E3 ------------------------------------------------------------------------------------------


def check_texts_are_no_numbers(subject: Subject) -> Iterable[Finding]:
    """E3: all texts are one sentence with another number in each, and the number tells nothing.

    So reads the index of a table, a date or a hash that was taken for the text. Tasks about numbers
    show in the number's remainders, its digits or its size.
    """
    if subject.kind != "classifier":
        raise Skip("does not apply")
    texts = [row_keys.text_of(row) for row in subject.train.rows if isinstance(row, Mapping)]
    if len(texts) < FEWEST or None in texts:
        raise Skip("does not apply")
    forms = Counter(NUMBER.sub("#", text) for text in texts)
    form, count = forms.most_common(1)[0]
    if form.count("#") != 1 or count < ALIKE * len(texts) or len(set(texts)) < ALIKE * len(texts):
        raise Skip("does not apply")
    batch, labels = _table(subject)
    _, _, kept = labelled(subject, _spread(subject.train.rows))
    named = [text for text, keep in zip(_spread(texts), kept, strict=True) if keep]
    found: list[Probe] = []
    for view, columns in [*simple_features.views(batch), ("the number", _of_numbers(named))]:
        if _any_beats(found, view, columns, labels):
            return
    best = max(found, key=lambda p: p.distance)
    yield Finding(
        "E3", "warn",
        f"{count / len(texts):.0%} of {len(texts):,} texts are {form.strip()[:40]!r} with another "
        f"number in each (bound: {ALIKE:.0%}), and none of {len(found)} probes tells their labels: "
        f"{best.distance:.1f} deviations from permuted ones at most (bound: {BEATS})",
        "read the column that holds the texts, and not the index of the table",
        {"share": count / len(texts), "distance": best.distance},
    )  # fmt: skip


def _of_numbers(texts: list[str]) -> np.ndarray:
    """Size, remainders and last digits of the number in each text."""
    digits = [re.sub(r"\D", "", text)[-15:] or "0" for text in texts]
    whole = np.array([int(one) for one in digits])
    rests = [np.eye(k, dtype=np.float32)[whole % k] for k in simple_features.MODULI]
    places = [np.eye(10, dtype=np.float32)[whole // 10**k % 10] for k in range(4)]
    size = np.stack([whole / max(1, whole.max()), np.log1p(whole), [len(d) for d in digits]], 1)
    return np.concatenate([size.astype(np.float32), *rests, *places], axis=1)


CHECKS = (check_labels_belong, check_texts_are_no_numbers)
