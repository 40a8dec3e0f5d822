"""Do labels reach the loss, and only those that should? T14 none, T3 rows without, T2 padding.

What a label may be (M4) is checked in `target_checks`. Where the loss is the reader's own, it is
asked: a label that can be changed without changing the loss does not count.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import torch
from torch import nn

from cookbook.doctor import kinds, tokens, trial
from cookbook.doctor.checks import Skip
from cookbook.doctor.findings import Finding

IGNORE = tokens.IGNORE
ROWS_WITHOUT = 0.01  # share of rows without a label that is still normal
CLASSES = 20  # values of a column that may be a label, if the model has not more classes
NO_LABEL = {"idx", "id", "index", "guid", "length", "row", "epoch", "position", "weight"}
LABELLED = ("classifier", "tagger", "multi-label", "question-answering")


# -- T14 -----------------------------------------------------------------------------------------


def check_labels_arrive(subject: Any) -> Iterable[Finding]:
    """T14: no label reaches the forward pass, and it returns no loss."""
    batch = subject.train.batches[0] if subject.train.batches else None
    if subject.model is None or not isinstance(batch, Mapping) or _loss_elsewhere(subject):
        raise Skip("does not apply")
    names, _ = kinds.accepts(subject.bare)
    wanted = [name for name in _label_names(subject) if name in names]
    if not wanted:
        yield from _no_head(subject)
        return
    yield from _none_for_evaluation(subject, wanted)
    if any(name in batch for name in wanted):
        return
    if _own_loss(subject, batch) is not None:
        return
    column = lost_column(subject)
    sure = column or subject.kind in LABELLED or subject.args is not None or subject.trainer
    yield Finding(
        "T14", "error" if sure else "info",
        f"none of {', '.join(wanted)} is among the batch's {', '.join(list(batch)[:6])}, and the "
        "forward pass returns no loss"
        + (f"; the rows have a column {column!r} that it does not take" if column else ""),
        f"rename the column {column!r} to {wanted[0]!r}" if column else "",
    )  # fmt: skip


def _no_head(subject: Any) -> Iterator[Finding]:
    """A `Trainer` or its arguments, and a library's model that knows neither labels nor a loss."""
    smoothed = getattr(subject.args, "label_smoothing_factor", 0)
    asked = subject.trainer is not None or subject.args is not None
    if not asked or smoothed or trial.own_loss(subject) or not isinstance(subject.bare, nn.Module):
        raise Skip("does not apply")
    try:
        with trial.quiet(subject):
            rows, labels = subject.batch("train", rows=2), _label_names(subject)
            kept = {key: value for key, value in rows.items() if key not in labels}
            loss = subject.loss_of(subject.forward(kept), kept)
    except Exception as error:
        raise Skip(f"a trial run raised {type(error).__name__}") from error
    if loss is None:
        yield Finding(
            "T14", "error",
            f"{type(kinds.base_of(subject.bare)).__name__} takes no labels and returns no loss: it "
            "is a backbone without the head of a task",
            "load the class with the head of the task, AutoModelFor…, or compute the loss in the "
            "Trainer",
        )  # fmt: skip


def _own_loss(subject: Any, batch: Mapping[str, Any]) -> Any:
    with trial.quiet(subject):
        try:
            return subject.loss(subject.batch("train", rows=2))
        except Exception as error:
            if subject.kind == "seq2seq" and "decoder_input_ids" not in batch:
                return None  # a decoder with nothing to read: its input is made from the labels
            raise Skip(f"a trial run raised {type(error).__name__}") from error


def _loss_elsewhere(subject: Any) -> bool:
    """Whether somebody else than the forward pass computes the loss."""
    trainer = subject.trainer
    compute = getattr(type(trainer), "compute_loss", None)
    overridden = compute is not None and not compute.__module__.startswith("transformers.")
    given = getattr(trainer, "compute_loss_func", None) is not None
    return subject.loss_fn is not None or overridden or given


def _label_names(subject: Any) -> list[str]:
    return [*(getattr(subject.args, "label_names", None) or []), *kinds.LABEL_KEYS]


def _none_for_evaluation(subject: Any, wanted: list[str]) -> Iterator[Finding]:
    """Labels in training that evaluation lacks, though a metric was asked for."""
    batch = subject.eval.batches[0] if subject.eval.batches else None
    declared = getattr(subject.args, "label_names", None)
    if not isinstance(batch, Mapping) or not (declared or subject.compute_metrics):
        return
    looked_for = list(declared) if declared else wanted
    if not any(name in batch for name in looked_for):
        yield Finding(
            "T14", "error",
            f"evaluation looks for labels, but its batches have none of {', '.join(looked_for)}: "
            f"only {', '.join(list(batch)[:6])}",
        )  # fmt: skip


def lost_column(subject: Any) -> str | None:
    """A column of the raw rows that looks like labels and that the forward pass does not take."""
    rows = [row for row in subject.train.rows if isinstance(row, Mapping)]
    if not rows:
        return None
    names, _ = kinds.accepts(subject.bare)
    config = getattr(subject.bare, "config", None)
    for name in rows[0]:
        values = [row.get(name) for row in rows]
        if name not in names | NO_LABEL and _like_labels(values, rows, config):
            return name
    return None


def _like_labels(values: list[Any], rows: list[Any], config: Any) -> bool:
    first = values[0]
    if isinstance(first, torch.Tensor) and first.dim() == 0:
        values = [v.item() for v in values]
    if all(isinstance(v, int | bool) for v in values):
        few = max(CLASSES, getattr(config, "num_labels", 0) or 0)
        return 2 <= len(set(values)) <= few and all(-1 <= v <= few for v in values)
    if all(isinstance(v, str) for v in values):
        return 2 <= len(set(values)) <= max(CLASSES, getattr(config, "num_labels", 0) or 0)
    lists = all(isinstance(v, list) and v and isinstance(v[0], int) for v in values)
    ids = [row.get("input_ids") for row in rows]
    same = lists and all(
        i is not None and len(v) == len(i) for v, i in zip(values, ids, strict=True)
    )
    return same and any(v != list(i) and len(set(v)) > 2 for v, i in zip(values, ids, strict=True))


# -- T3 ------------------------------------------------------------------------------------------


def check_every_row_has_a_label(subject: Any) -> Iterable[Finding]:
    """T3: batches, or more than 1 % of rows, in which every label is -100."""
    # A masked LM draws its labels: `masking_checks` knows how many there should be.
    if subject.kind in ("regression", "multi-label", "question-answering", "masked-lm"):
        raise Skip("does not apply")
    looked = False
    for split in ("train", "eval"):
        shares = [_labelled_rows(subject, batch) for _, batch in getattr(subject, split).many]
        shares = [s for s in shares if s is not None]
        looked |= bool(shares)
        found = _without(shares, split) if shares else None
        if found:
            yield found
            return
    if not looked:
        raise Skip("does not apply")


def _labelled_rows(subject: Any, batch: Any) -> torch.Tensor | None:
    """(rows,) bool: has the row a label that counts? None where labels are no class indices."""
    if isinstance(batch, Mapping):
        key = kinds.label_key(batch, getattr(subject.args, "label_names", None))
        labels = batch[key] if key else None
    else:
        labels = batch[1] if isinstance(batch, list | tuple) and len(batch) > 1 else None
    if not isinstance(labels, torch.Tensor) or labels.is_floating_point() or not labels.dim():
        return None
    if subject.kind == "causal-lm" and labels.dim() == 2:
        labels = labels[:, 1:]  # the first token has nothing before it that could predict it
    return (labels != IGNORE).reshape(len(labels), -1).any(1)


def _without(shares: list[torch.Tensor], split: str) -> Finding | None:
    empty = [bool(~share.any()) for share in shares if len(share)]
    rows = torch.cat(shares)
    without = int((~rows).sum())
    measured = {"rows": len(rows), "rows_without": without, "batches_without": sum(empty)}
    if sum(empty):
        return Finding(
            "T3", "error",
            f"{sum(empty)} of {len(empty)} {split} batches have no label at all: every label is "
            f"{IGNORE} (bound: none)",
            measured=measured,
        )  # fmt: skip
    if without >= max(2, ROWS_WITHOUT * len(rows)):
        return Finding(
            "T3", "warn",
            f"{without / len(rows):.0%} of {len(rows)} {split} rows have no label: every label is "
            f"{IGNORE} (bound: {ROWS_WITHOUT:.0%})",
            measured=measured,
        )  # fmt: skip
    return None


# -- T2 ------------------------------------------------------------------------------------------


def check_padding_has_no_label(subject: Any) -> Iterable[Finding]:
    """T2: labels other than -100 on padding, which enter the loss."""
    found = [t for t in tokens.batches_of(subject) if t.labels is not None and t.labels.dim() == 2]
    if not found:
        raise Skip("does not apply")
    where = [_on_padding(subject, t) for t in found]
    wrong, labelled = sum(int(w.sum()) for w in where), sum(_labelled(t) for t in found)
    if not wrong:
        return
    worst = max(range(len(where)), key=lambda i: int(where[i].sum()))
    if trial.own_loss(subject):  # it may well leave padding out by itself
        if not trial.counts(subject, found[worst].batch, where[worst]):
            return
    yield Finding(
        "T2", "error",
        f"{wrong / labelled:.0%} of the labels lie on padding, {wrong:,} of {labelled:,} (bound: "
        "none)",
        measured={"share": wrong / labelled, "labels_on_padding": wrong, "labels": labelled},
    )  # fmt: skip


def _labelled(t: tokens.Tokens) -> int:
    return int((t.labels != IGNORE).sum())


def _on_padding(subject: Any, t: tokens.Tokens) -> torch.Tensor:
    """Where labels count that belong to padding; (rows, length of labels) bool."""
    if subject.kind == "seq2seq" or (t.labels.shape != t.ids.shape and subject.kind == "other"):
        past = tokens.added(t.raw, t.labels, "labels") & (t.labels != IGNORE)
        return past if bool(past.any()) else _decoder_padding(subject, t.labels)
    if not t.aligned:
        return torch.zeros_like(t.labels, dtype=torch.bool)
    unseen = torch.zeros_like(t.padding) if t.mask is None else _edges(~t.mask)
    padding = unseen | t.padding
    first = padding & ~torch.nn.functional.pad(padding, (1, 0))[:, :-1]
    # The end token as label of the first padding position teaches to stop; it is meant.
    meant = first & tokens.isin(t.labels, tokens.end_ids(subject)) & ~first[:, :1]
    return padding & (t.labels != IGNORE) & ~meant


def _edges(where: torch.Tensor) -> torch.Tensor:
    """The runs of `where` that touch a row's start or end."""
    left = where.long().cumprod(1).bool()
    return left | where.flip(1).long().cumprod(1).bool().flip(1)


def _decoder_padding(subject: Any, labels: torch.Tensor) -> torch.Tensor:
    """Runs of the padding id at the end of targets that otherwise end in EOS."""
    pad, shared = tokens.padding_ids(subject.tokenizer)
    if pad is None:
        pad, shared = getattr(subject.config, "pad_token_id", None), False
    filled = _filled_with_ends(labels, tokens.end_ids(subject) - {pad})
    if bool(filled.any()):
        return filled
    if not isinstance(pad, int):
        return torch.zeros_like(labels, dtype=torch.bool)
    padding = tokens.run(labels.flip(1), pad).flip(1) & tokens.ends(labels, pad, shared)
    padding &= ~padding.all(1, keepdim=True)
    rows = padding.any(1)
    before = labels.gather(1, (padding.long().argmax(1) - 1).clamp(min=0)[:, None])[:, 0]
    ended = tokens.isin(before, tokens.end_ids(subject) | {pad}) & rows
    if int(ended.sum()) < max(1, int(rows.sum()) / 2):  # an ordinary token that happens to be 0
        return torch.zeros_like(padding)
    return padding


def _filled_with_ends(labels: torch.Tensor, ids: set[int]) -> torch.Tensor:
    """Second and further end tokens, where every row ends in one and most in several."""
    ends = tokens.isin(labels, ids)
    runs = ends.flip(1).long().cumprod(1).bool().flip(1)
    counts = runs.sum(1)
    most = len(labels) > 1 and bool((counts > 0).all()) and float((counts > 1).float().mean()) > 0.5
    again = runs & torch.nn.functional.pad(runs, (1, 0))[:, :-1]
    return again if most and int(counts.max()) < labels.shape[1] else torch.zeros_like(runs)


CHECKS = (check_labels_arrive, check_every_row_has_a_label, check_padding_has_no_label)
