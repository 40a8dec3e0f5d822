"""Do the tags of a sentence belong to its words (fault D8, in token classification)?

Tags of another sentence owe nothing to the words under them beyond their place: a probe over each
word and its neighbours, or over the model's own features, does no better than with the tags of any
other sentence at the same place. That is a warning; few sentences and rare tags are left alone.
Tags that stand a place late owe more to a neighbour than to their own word, and so do those of a
task that asks for what stands beside a word: this is advice.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from cookbook.doctor import alignment_probes, gradients, learning_probes, sampling, simple_features
from cookbook.doctor.alignment_probes import MAJORITY, RARE
from cookbook.doctor.checks import Skip
from cookbook.doctor.findings import Finding
from cookbook.doctor.simple_features import Probe
from cookbook.doctor.subject import Subject

SENTENCES, WORDS, FEWEST = 20, 900, 200  # at least, at most and at least that are looked at
BEATS = 4.0  # deviations of the twins; a word tells more of its tag than a text of its class
HALVED = 0.5  # share of the errors that a neighbour may leave before it is the better owner
CLEARLY = 4.0  # standard errors by which it must be
WORN, OTHERS = 0.5, 0.1  # share of special tokens with a tag, and of these of another kind


@dataclass(frozen=True)
class Table:
    """Words that carry a tag, (words,) each: its class, row, place in the row, and three ids."""

    labels: np.ndarray
    rows: np.ndarray
    places: np.ndarray
    ids: np.ndarray
    before: np.ndarray
    behind: np.ndarray
    where: torch.Tensor  # (rows, length), the words in the batch


def check_tags_belong(subject: Subject) -> Iterable[Finding]:
    """Probes of words and of the model's features, against tags of other sentences."""
    if subject.kind != "tagger" or subject.model is None:
        raise Skip("does not apply")
    batch, table = _read(subject)
    late = _late(table)
    if late is not None:
        yield late
        return
    found: list[Probe] = []
    for view, columns in _views(subject, batch, table):
        for name, kernel in simple_features.kernels(view, columns):
            found.append(_probe(name, kernel, table))
            if found[-1].distance > BEATS:
                return
    small = learning_probes.small_batch(subject)
    reason = learning_probes.why_not(subject, small)
    if reason not in ("", learning_probes.FROZEN) or not alignment_probes._memorised(
        subject, small
    ):
        raise Skip("the model was not seen to fit one batch")
    best = max(found, key=lambda p: p.distance)
    yield Finding(
        "D8", "warn",
        f"the best of {len(found)} probes tells {best.accuracy:.1%} of held-out tags and "
        f"{best.permuted:.1%} of those of other sentences at the same places, {best.distance:.1f} "
        f"deviations apart (bound: {BEATS} over {len(table.labels)} words), while one batch can be "
        f"memorised",
        measured={"accuracy": best.accuracy, "permuted": best.permuted,
                  "distance": best.distance, "words": len(table.labels)},
    )  # fmt: skip


def _read(subject: Subject) -> tuple[Any, Table]:
    """Some sentences as one batch, and their tagged words; Skip where there are too few."""
    rows = subject.train.rows
    if len(rows) < SENTENCES:
        raise Skip("does not apply")
    batch = subject.train.collate(rows[: max(SENTENCES, WORDS // 4)])
    labels = subject.labels(batch)
    ids = batch.get("input_ids") if isinstance(batch, Mapping) else None
    fits = isinstance(ids, torch.Tensor) and labels is not None and ids.shape == labels.shape
    if not fits or labels.dim() != 2 or labels.is_floating_point():
        raise Skip("does not apply")
    tagged = labels.cpu().ge(0)
    tagged &= (tagged.sum(1).cumsum(0) <= WORDS)[:, None]
    table = _table(ids.cpu(), labels.cpu(), tagged)
    largest = np.bincount(table.labels).max(initial=0) / max(1, len(table.labels))
    few = len(table.labels) < FEWEST or len(set(table.rows)) < SENTENCES
    if few or len(set(table.labels)) < 2 or largest > MAJORITY:
        raise Skip("does not apply")
    return batch, table


def _table(ids: torch.Tensor, labels: torch.Tensor, tagged: torch.Tensor) -> Table:
    values = labels[tagged].numpy()
    kept = np.isin(values, [c for c in np.unique(values) if (values == c).sum() >= RARE])
    rows, places = (side.numpy() for side in tagged.nonzero(as_tuple=True))
    words, order = ids[tagged].numpy(), (tagged.cumsum(1)[tagged] - 1).numpy()
    same = rows[1:] == rows[:-1]
    behind = np.append(np.where(same, words[1:], -1), -1)
    before = np.insert(np.where(same, words[:-1], -1), 0, -1)
    where = torch.zeros_like(tagged)
    where[torch.from_numpy(rows[kept]), torch.from_numpy(places[kept])] = True
    numbers = np.unique(values[kept], return_inverse=True)[1]
    return Table(numbers, rows[kept], order[kept], words[kept], before[kept], behind[kept], where)


def _views(subject: Subject, batch: Any, table: Table) -> Iterator[tuple[str, np.ndarray]]:
    own = _columns(table.ids)
    yield "the words", own
    yield "their neighbours", np.hstack([own, _columns(table.before), _columns(table.behind)])
    features = _features(subject, batch, table)
    if features is not None:
        yield "the model's features", features


def _columns(ids: np.ndarray) -> np.ndarray:
    """A column for each id that occurs twice, one for all others."""
    known, number = np.unique(ids, return_inverse=True)
    often = np.bincount(number, minlength=len(known)) > 1
    numbers = np.where(often, np.cumsum(often), 0)[number]
    return np.eye(numbers.max() + 1, dtype=np.float32)[numbers]


def _features(subject: Subject, batch: Any, table: Table) -> np.ndarray | None:
    """What the last linear layer takes in at each word."""
    rows = int(table.rows.max()) + 1
    part = alignment_probes._rows_of(batch, torch.arange(rows))
    weights = sum(p.numel() for p in subject.bare.parameters())
    if weights * table.where[:rows].numel() > alignment_probes.WORK:
        return None
    found: list[torch.Tensor] = []
    with torch.no_grad(), subject.mode(training=False):
        for start in range(0, sampling.batch_size(part), 32):
            some = alignment_probes._rows_of(part, torch.arange(start, min(start + 32, rows)))
            with alignment_probes._inputs_of_linear(subject.bare) as seen:
                logits = subject.logits(gradients.forward(subject, some))
            fits = [x for x, shape in seen if logits is not None and shape == logits.shape]
            if not fits or fits[-1].dim() != 3:
                return None
            found.append(fits[-1].float().cpu())
    return torch.cat(found)[table.where[:rows]].nan_to_num().numpy()


def _probe(view: str, kernel: np.ndarray, table: Table) -> Probe:
    """In folds of whole sentences, against tags drawn from the same place of any sentence."""
    draw = np.random.default_rng(0)
    groups = [np.flatnonzero(table.places == place) for place in np.unique(table.places)]
    orders = []
    for _ in range(simple_features.PERMUTATIONS):
        order = np.arange(len(table.places))
        for group in groups:
            order[group] = draw.permutation(group)
        orders.append(order)
    sentences, row = np.unique(table.rows, return_inverse=True)
    fold = (draw.permutation(len(sentences)) % simple_features.FOLDS)[row]
    return simple_features.probe(view, kernel, table.labels, orders=orders, fold=fold)


def _late(table: Table) -> Finding | None:
    """D8 where a neighbour tells the tags much better than their own words do."""
    inner = (table.before >= 0) & (table.behind >= 0)
    if inner.sum() < FEWEST:
        return None
    wrong = {
        name: 1 - _told(ids[inner], table.labels[inner], table.rows[inner])
        for name, ids in (("own", table.ids), ("next", table.behind), ("previous", table.before))
    }
    neighbour = min(("next", "previous"), key=wrong.__getitem__)
    error = np.sqrt(wrong["own"] * (1 - wrong["own"]) / inner.sum())
    better = wrong["own"] - wrong[neighbour] > CLEARLY * error
    if not better or wrong[neighbour] > HALVED * wrong["own"]:
        return None
    return Finding(
        "D8", "info",
        f"the {neighbour} word leaves {wrong[neighbour]:.1%} of the tags unexplained and their own "
        f"word {wrong['own']:.1%} (bound: half of that): the task asks for what stands beside a "
        f"word, or the tags are a place off",
        "align the tags by word_ids(), special tokens included",
        {"own": wrong["own"], "neighbour": wrong[neighbour]},
    )  # fmt: skip


def _told(ids: np.ndarray, labels: np.ndarray, rows: np.ndarray) -> float:
    """Share of tags that the most frequent one of the same word in other sentences tells."""
    words, number = np.unique(ids, return_inverse=True)
    kinds = labels.max() + 1
    right, halves = 0, rows % 2 == 0
    for half in (halves, ~halves):
        table = np.zeros((len(words), kinds))
        np.add.at(table, (number[half], labels[half]), 1)
        table += 1e-3 * np.bincount(labels[half], minlength=kinds) / max(1, half.sum())
        right += int((table.argmax(1)[number[~half]] == labels[~half]).sum())
    return right / len(ids)


def check_special_tokens_have_no_tags(subject: Subject) -> Iterable[Finding]:
    """Tags of several kinds on the tokens that the tokenizer adds belong to words beside them."""
    first = getattr(subject.tokenizer, "cls_token_id", None)
    if subject.kind != "tagger" or first is None or len(subject.train.rows) < SENTENCES:
        raise Skip("does not apply")
    tags = []
    for batch in subject.train.batches:
        labels = subject.labels(batch)
        ids = batch.get("input_ids") if isinstance(batch, Mapping) else None
        if labels is None or ids is None or ids.shape != labels.shape or labels.dim() != 2:
            raise Skip("does not apply")
        tags += labels[ids == first].tolist()
    worn = [tag for tag in tags if tag >= 0]
    rest = len(worn) - max((worn.count(tag) for tag in set(worn)), default=0)
    if len(worn) > WORN * len(tags) and rest > OTHERS * len(worn):
        yield Finding(
            "D8", "error",
            f"{len(worn)} of {len(tags)} {subject.tokenizer.cls_token} carry a tag, of "
            f"{len(set(worn))} kinds (bound: none, or one for all): the tags are those of words, "
            "and stand beside them",
            "align the tags by word_ids(), with -100 on special tokens",
            {"tagged": len(worn), "of": len(tags)},
        )  # fmt: skip


CHECKS = (check_special_tokens_have_no_tags, check_tags_belong)
