"""D9, what single rows hold: numbers not finite, no attention, empty texts, blank pictures.

Order and classes of rows are checked in `row_checks`.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import torch

from cookbook.doctor import row_keys, span_checks, tokens, trial
from cookbook.doctor.checks import Skip
from cookbook.doctor.findings import Finding

BLANKS = 4  # pieces in which a row of spaces may come
EMPTY = 0.01  # share of empty texts that is still normal
BLANK = 0.5  # share of pictures of one colour that is still normal: tiles of sea, edges of a scan
# Two texts that are compared with each other, and columns that a row may well do without.
PAIRS = (("sentence1", "sentence2"), ("premise", "hypothesis"), ("question1", "question2"),
         ("anchor", "positive"))  # fmt: skip
OPTIONAL = ("neg", "context", "history", "hint")
PAIR = 2  # texts in a row: a question, and what it is asked of
PICTURE = 16  # numbers from which on a grid counts as a picture
NOT_INPUT = ("mask", "bias", "observed")  # floats that may well be infinite


def check_rows_hold_something(subject: Any) -> Iterable[Finding]:
    """D9: NaN or infinity in inputs or labels, rows without attention, empty texts."""
    rows = subject.train.rows
    if not rows and not subject.eval.rows:
        raise Skip("does not apply")
    for name, sample in (("training", subject.train), ("evaluation", subject.eval)):
        if sample.rows:
            yield from _not_finite(subject, sample, name)
            yield from _unattended(sample, name)
            yield from _empty(sample, name)
            yield from _empty_targets(subject, sample, name)
            yield from _blank(sample, name)
            yield from _one_input(sample, name)


def _not_finite(subject: Any, sample: Any, name: str) -> Iterable[Finding]:
    wrong = [place for place, row in enumerate(sample.rows) if not _finite(row)]
    if not wrong or _harmless(subject, sample, wrong[:4]):
        return
    yield Finding(
        "D9", "error",
        f"{len(wrong):,} of {len(sample.rows):,} {name} rows hold NaN or infinity (bound: none), "
        f"the first is row {_place(sample, wrong[0])}",
        measured={"rows_not_finite": len(wrong), "rows": len(sample.rows)},
    )  # fmt: skip


def _place(sample: Any, place: int) -> int:
    return sample.indices[place] if sample.indices else place


def _finite(row: Any) -> bool:
    if isinstance(row, Mapping):
        parts = [v for k, v in row.items() if not any(word in k for word in NOT_INPUT)]
    else:
        parts = row if isinstance(row, list | tuple) else [row]
    return all(_finite_part(part) for part in parts)


def _finite_part(value: Any) -> bool:
    if isinstance(value, torch.Tensor):
        return not value.is_floating_point() or bool(torch.isfinite(value).all())
    if isinstance(value, list) and value and not isinstance(value[0], float | list):
        return True
    if isinstance(value, float | list | np.ndarray | np.floating):
        array = np.asarray(value) if not isinstance(value, list) else _array(value)
        return array.dtype.kind != "f" or bool(np.isfinite(array).all())
    return True


def _array(value: list[Any]) -> np.ndarray:
    try:
        return np.asarray(value)
    except ValueError:  # ragged lists
        return np.zeros(1)


def _harmless(subject: Any, sample: Any, places: list[int]) -> bool:
    """Whether model and loss take such rows: missing values can be meant, and then handled."""
    if subject.model is None:
        return False
    try:
        with trial.quiet(subject):
            batch = sample.collate([sample.rows[place] for place in places])
            loss = subject.loss(batch)
        return loss is not None and bool(torch.isfinite(torch.as_tensor(loss)).all())
    except Exception:
        return False


def _unattended(sample: Any, name: str) -> Iterable[Finding]:
    masks = [row.get("attention_mask") for row in sample.rows if isinstance(row, Mapping)]
    sums = [np.asarray(mask).sum() for mask in masks if mask is not None]
    batches = [b.get("attention_mask") for b in sample.batches if isinstance(b, Mapping)]
    collated = [m for m in batches if isinstance(m, torch.Tensor) and m.dim() == 2]
    for read, told in ((sums, "rows"), ([s for m in collated for s in m.sum(1)], "collated rows")):
        nothing = sum(int(s) == 0 for s in read)
        if nothing:
            yield Finding(
                "D9", "error",
                f"{nothing:,} of {len(read):,} {name} {told} have an attention mask of zeros only "
                "(bound: none)",
                measured={"rows_unattended": nothing, "rows": len(read)},
            )  # fmt: skip
            return


def _empty(sample: Any, name: str) -> Iterable[Finding]:
    rows = [row for row in sample.rows if isinstance(row, Mapping)]
    known = [_holds_nothing(row, sample.processing_class) for row in rows]
    known = [found for found in known if found is not None]
    empty, count = sum(known), len(known)
    if empty > max(1, EMPTY * count):
        yield Finding(
            "D9", "warn",
            f"{empty / count:.1%} of {count:,} {name} rows are empty (bound: {EMPTY:.0%})",
            measured={"rows_empty": empty, "rows": count},
        )  # fmt: skip
        return
    for column, empty in _empty_parts(rows, sample.processing_class).items():
        if empty > max(1, EMPTY * len(rows)):
            yield Finding(
                "D9", "warn",
                f"{column} is empty in {empty / len(rows):.1%} of {len(rows):,} {name} rows "
                f"(bound: {EMPTY:.0%})",
                measured={"rows_empty": empty, "rows": len(rows)},
            )  # fmt: skip
            return


def _empty_targets(subject: Any, sample: Any, name: str) -> Iterable[Finding]:
    """Rows whose decoder has nothing to write but special tokens."""
    special = set(getattr(sample.processing_class, "all_special_ids", None) or ())
    if subject.kind != "seq2seq" or not special:
        return
    held = [row["labels"] for row in sample.rows if isinstance(row, Mapping) and
            isinstance(row.get("labels"), list)]  # fmt: skip
    kept = [{i for i in labels if i != tokens.IGNORE} for labels in held]
    empty = sum(bool(labels) and special >= labels for labels in kept)  # without any label: T3
    if empty > max(1, EMPTY * len(held)):
        yield Finding(
            "D9", "warn",
            f"the targets of {empty / len(held):.1%} of {len(held):,} {name} rows are empty "
            f"(bound: {EMPTY:.0%})",
            measured={"rows_empty": empty, "rows": len(held)},
        )  # fmt: skip


def _empty_parts(rows: list[Mapping[str, Any]], tokenizer: Any) -> dict[str, int]:
    """Of pairs, how often one of the two texts is empty, by its column."""
    special = set(getattr(tokenizer, "all_special_ids", None) or ())
    found = {}
    if special:
        for column, held in tokens.columns(rows, tokenizer).items():
            if column != "input_ids" and not any(word in column for word in OPTIONAL):
                found[column] = sum(set(ids.tolist()) <= special for ids in held)
    for pair in PAIRS:
        if rows and all(isinstance(row.get(name), str) for row in rows for name in pair):
            found |= {name: sum(not row[name].strip() for row in rows) for name in pair}
    if special and (texts := _texts_of_readers(rows, special - {tokenizer.unk_token_id})):
        found["the question or the context"] = sum(n < PAIR for n in texts)
    return found


def _texts_of_readers(rows: list[Mapping[str, Any]], special: set[int]) -> list[int]:
    """How many texts stand between the special tokens of rows with spans; [] if that is one."""
    found = []
    for span in span_checks.read(rows):
        plain = [one not in special for one in span.ids[: span.length].tolist()]
        found.append(sum(b and not a for a, b in itertools.pairwise([False, *plain])))
    return found if sum(n >= PAIR for n in found) > len(found) / 2 else []


def _blank(sample: Any, name: str) -> Iterable[Finding]:
    grids = [grid for grid in map(_picture, sample.rows) if grid is not None]
    blank = sum(bool((grid == grid.reshape(-1)[0]).all()) for grid in grids)
    if blank > max(1, BLANK * len(grids)):
        yield Finding(
            "D9", "warn",
            f"{blank:,} of {len(grids):,} {name} pictures hold one value only "
            f"(bound: {BLANK:.0%})",
            remedy="look at what the transforms return: a wrong scale, crop or resize empties it",
            measured={"rows_blank": blank, "rows": len(grids)},
        )  # fmt: skip


def _one_input(sample: Any, name: str) -> Iterable[Finding]:
    """Numbers that are the same in every row, though the labels are not."""
    pairs = [row for row in sample.rows if isinstance(row, list | tuple) and len(row) == 2]
    held = [(x, str(y)) for x, y in pairs if isinstance(x, torch.Tensor | np.ndarray)]
    if len(held) < PICTURE or len(held) < len(sample.rows) or len({y for _, y in held}) < 2:
        return
    first = torch.as_tensor(held[0][0])
    if all(x.shape == first.shape and bool((torch.as_tensor(x) == first).all()) for x, _ in held):
        yield Finding(
            "D9", "warn",
            f"all {len(held):,} {name} inputs are one and the same, and their labels differ "
            "(bound: 2 inputs)",
            remedy="look at what the loading returns: a wrong column, scale or index empties it",
            measured={"rows": len(held)},
        )  # fmt: skip


def _picture(row: Any) -> torch.Tensor | None:
    if isinstance(row, Mapping):
        value = next((row[key] for key in row_keys.PIXELS if key in row), None)
    else:
        value = row[0] if isinstance(row, list | tuple) and row else row
    grid = isinstance(value, torch.Tensor | np.ndarray) and value.ndim > 1
    return torch.as_tensor(value) if grid and math.prod(value.shape) >= PICTURE else None


def _holds_nothing(row: Mapping[str, Any], tokenizer: Any) -> bool | None:
    """Whether a row's text, or what a tokenizer left of it, is empty; None where it has neither.

    Ids decide where they stand: a row may keep its target or its name beside an empty input.
    """
    text, ids = row_keys.text_of(row), row.get("input_ids")
    if text is not None and not text.strip():
        return True
    if ids is None or any(name in row for name in row_keys.PIXELS):  # a picture to be described
        return None if text is None else False
    special = set(getattr(tokenizer, "all_special_ids", None) or ())
    plain = [i for i in np.asarray(ids).reshape(-1).tolist() if i not in special]
    if plain and len(plain) <= BLANKS and hasattr(tokenizer, "decode"):  # pieces of white space
        return not tokenizer.decode(plain).strip()
    return not plain


CHECKS = (check_rows_hold_something,)
