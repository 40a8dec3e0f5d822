"""T6: does the tokenizer belong to the checkpoint?

The vocabulary that lies in the checkpoint's folder is compared with the one in use; where there is
none, a pretrained language model that starts at the loss of a blind guess, with a tokenizer of
another name, tells. A model from scratch may use any tokenizer; so may one whose embedding was made
anew for it.
"""

from __future__ import annotations

import math
import statistics
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from cookbook.doctor import (
    checkpoint_checks,
    kinds,
    model_checks,
    pair_alignment_probes,
    responses,
)
from cookbook.doctor.checks import Skip
from cookbook.doctor.findings import Finding
from cookbook.doctor.subject import Subject

READ, FEWEST, WORDS = 128, 16, 5  # rows read, rows that tell, words and ids of a text that does
SHARED = 0.2  # of the ids; two tokenizers of one size share as many by chance as their sizes allow
LANGUAGE = ("masked-lm", "causal-lm", "seq2seq")
REMEDY = "load tokenizer and model from one name"


def check_tokenizer_is_the_checkpoints(subject: Subject) -> Iterable[Finding]:
    """T6: ids of the tokens in use differ from those that the checkpoint was trained with."""
    tokenizer, base = subject.tokenizer, kinds.base_of(subject.model)
    name = checkpoint_checks.checkpoint_name(base)
    if tokenizer is None or not name or not _keeps_embedding(base, name):
        raise Skip("does not apply")
    own = _vocabulary(name)
    if own:
        yield from _compared(tokenizer, own, name)
    else:
        yield from _blind_start(subject, tokenizer, name)


def _keeps_embedding(base: Any, name: str) -> bool:
    """Whether the input embedding is the checkpoint's: loaded, and no longer or shorter than it."""
    files = checkpoint_checks.weight_files(name)
    try:
        weight = getattr(base.get_input_embeddings(), "weight", None)
    except (AttributeError, NotImplementedError):  # two towers have no embedding of their own
        return False
    if files is None or weight is None:
        return getattr(weight, "_is_hf_initialized", False)
    key = next((k for k, p in base.named_parameters() if p is weight), "")
    stored = checkpoint_checks.read(files, base, key)
    if stored is None or stored.shape[1:] != weight.shape[1:]:
        return False
    rows = min(len(stored), len(weight))
    return checkpoint_checks.cosine(weight[:rows], stored[:rows]) > 0.2


def _vocabulary(name: str) -> dict[str, int]:
    """Token → id as the checkpoint's own folder has it; {} where it has none."""
    if not any(
        checkpoint_checks.find_file(Path(name), file)
        for file in ("tokenizer.json", "vocab.txt", "vocab.json", "spiece.model", "tokenizer.model")
    ):
        return {}
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(name, local_files_only=True).get_vocab()
    except Exception:  # half a tokenizer in a folder is no vocabulary
        return {}


def _compared(tokenizer: Any, own: dict[str, int], name: str) -> Iterable[Finding]:
    used = tokenizer.get_vocab()
    same = sum(own.get(token) == place for token, place in used.items())
    share = same / max(1, min(len(used), len(own)))
    if share < 0.9:
        told = (
            f"{share:.0%} of the tokenizer's tokens have the ids that {Path(name).name} was "
            f"trained with (bound: 90 %)"
        )
        yield Finding("T6", "error", told, REMEDY, {"share": share})


def _blind_start(subject: Subject, tokenizer: Any, name: str) -> Iterable[Finding]:
    other = getattr(tokenizer, "name_or_path", "") or ""
    batch = subject.batch("train", responses.ROWS)
    if subject.kind not in LANGUAGE or not other or _same(other, name) or batch is None:
        raise Skip("does not apply")
    if model_checks.new_language_head(subject):  # it begins by guessing, whatever it reads
        raise Skip("does not apply")
    with responses.quiet(subject):
        loss = subject.loss(batch)
    words = getattr(subject.config.get_text_config(), "vocab_size", 0)
    if loss is None or not words:
        raise Skip("does not apply")
    if float(loss) > 0.9 * math.log(words):
        told = (
            f"the loss of {Path(name).name} starts at {float(loss):.2f} (bound: 0.9 ln V = "
            f"{0.9 * math.log(words):.2f}), and the tokenizer is that of {Path(other).name}"
        )
        yield Finding("T6", "error", told, REMEDY, {"loss": float(loss), "words": words})


def _same(one: str, other: str) -> bool:
    return Path(one).name.lower() == Path(other).name.lower()


def check_ids_are_those_of_the_text(subject: Subject) -> Iterable[Finding]:
    """T6: the ids of the rows are not what the tokenizer in use makes of the text beside them."""
    tokenizer, rows = subject.tokenizer, subject.train.rows
    if tokenizer is None or not rows or not isinstance(rows[0], Mapping):
        raise Skip("does not apply")
    rows = rows[:: max(1, len(rows) // READ)][:READ]
    shares = [_shared(row, tokenizer) for row in rows]
    known = [share for share in shares if share is not None]
    if len(known) < FEWEST:
        raise Skip("does not apply")
    share = statistics.median(known)
    if share < SHARED and _translated(rows):
        told = (
            f"rows and their text, read by {type(tokenizer).__name__}, share {share:.0%} of their "
            f"ids in the median of {len(known)} rows (bound: {SHARED:.0%}): another tokenizer "
            "made them"
        )
        yield Finding("T6", "error", told, REMEDY, {"share": share, "rows": len(known)})


def _shared(row: Mapping[str, Any], tokenizer: Any) -> float | None:
    """Of a row's ids, or of the words they stand for, those that one of its texts has too."""
    held = row.get("input_ids")
    texts = [v for v in row.values() if isinstance(v, str) and len(v.split()) >= WORDS]
    if held is None or not texts:
        return None
    special = set(tokenizer.all_special_ids)
    ids = [i for i in np.asarray(held).reshape(-1).tolist() if i not in special]
    if len(ids) < WORDS:
        return None
    words = tokenizer.decode(ids).casefold().split()  # a text that was put into capitals, say
    made = [tokenizer(t, add_special_tokens=False, verbose=False)["input_ids"] for t in texts]
    return max(
        max(_overlap(ids, own), _overlap(words, text.casefold().split()))
        for own, text in zip(made, texts, strict=True)
    )


def _translated(rows: list[Mapping[str, Any]]) -> bool:
    """Whether rows with like words have like ids, as any tokenizer makes them; noise has not."""
    texts = [max((v for v in row.values() if isinstance(v, str)), key=len, default="")
             for row in rows]  # fmt: skip
    words: dict[str, int] = {}
    numbers = [[words.setdefault(word, len(words)) for word in text.split()] for text in texts]
    ids = [np.asarray(row["input_ids"]).reshape(-1).tolist() for row in rows]
    return (
        max(
            pair_alignment_probes.dependence(one, other)
            for one in pair_alignment_probes.kernels_of(numbers)
            for other in pair_alignment_probes.kernels_of(ids)
        )
        > pair_alignment_probes.BEATS
    )


def _overlap(one: list, other: list) -> float:
    """Share of the shorter list that stands in the other one too, each entry as often.

    >>> _overlap([1, 2, 2], [2, 3, 4, 5])
    0.3333333333333333
    """
    common = Counter(one) & Counter(other)
    return common.total() / max(1, min(len(one), len(other)))


CHECKS = (check_tokenizer_is_the_checkpoints, check_ids_are_those_of_the_text)
