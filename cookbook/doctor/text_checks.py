"""Tokenizer, text and model together: T5 unknown tokens, T6 and T9 ids, T8 pieces, T11 side, H3.

Whether a tokenizer's ids mean to the model what they should (T6) and whether added rows learn (T9)
is asked by probes; here only what ids, sizes and strings show.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np
import torch
from torch import nn

from cookbook.doctor import kinds, row_keys, tokens
from cookbook.doctor.checks import Skip
from cookbook.doctor.findings import Finding

UNKNOWN_WARN, UNKNOWN_ERROR, ENOUGH = 0.05, 0.2, 200  # shares of ordinary tokens; tokens
TEXTS = 200  # texts that are encoded at most
MARKED, MARKED_ROWS = 0.2, 5  # share of the texts that hold a marker, and their number
MARKER = re.compile(
    r"<\|\w+\|>|<(?:start|end)_of_turn>|<eos>|<bos>|<sep>|<mask>|</s>|"
    r"<extra_id_\d+>|\[(?:CLS|SEP|MASK|PAD)\]"
)
# What a script puts around a word, once in nearly every text; "[INST]" is Llama's own plain text.
AROUND = re.compile(
    r"(\[(?!INST\])([A-Z][A-Z0-9_]*)\])(?=.*\[/\2\])|"
    r"(<((?:e|ent|entity|subj|obj|head|tail)\d*)>)(?=.*</\4>)",
    re.DOTALL,
)
READ = ("classifier", "tagger", "regression", "multi-label", "masked-lm")
EVERYWHERE = 0.9  # share of the texts that hold such a mark exactly once
# Plain text in the chat templates of several models, which were trained with their pieces.
BY_DESIGN = {"<|user|>", "<|assistant|>", "<|system|>"}
WASTE = 0.5  # share of real tokens below which padding is worth a word


# -- T5 ------------------------------------------------------------------------------------------


def check_tokens_are_known(subject: Any) -> Iterable[Finding]:
    """T5: the share of UNK among ordinary tokens."""
    tokenizer = subject.tokenizer
    unknown = getattr(tokenizer, "unk_token_id", None)
    others = tokens.special_ids(tokenizer, ("pad", "eos", "bos", "mask"))
    if unknown is None or unknown in others:
        raise Skip("does not apply")
    special = set(tokenizer.all_special_ids) - {unknown}
    known = tokens.columns(subject.train.rows or subject.eval.rows, tokenizer)
    known = {name: rows for name, rows in known.items() if name != "input_ids"}
    told, worst = "", (0.0, 0)
    for name, rows in {"": list(ids_of(subject)), **known}.items():
        ordinary = [i for ids in rows for i in ids.tolist() if i not in special]
        share = ordinary.count(unknown) / max(1, len(ordinary))
        if len(ordinary) >= ENOUGH and (share, len(ordinary)) > worst:
            told, worst = f" of {name}" if name else "", (share, len(ordinary))
    share, count = worst
    if share > UNKNOWN_WARN:
        severe = share > UNKNOWN_ERROR
        yield Finding(
            "T5", "error" if severe else "warn",
            f"{share:.0%} of {count:,} ordinary tokens{told} are {tokenizer.unk_token} (bound: "
            f"{UNKNOWN_ERROR if severe else UNKNOWN_WARN:.0%})",
            measured={"share": share, "tokens": count},
        )  # fmt: skip
    elif not count:
        raise Skip("no unknown token among those that were read, or too few to count them")


def ids_of(subject: Any) -> Iterator[np.ndarray]:
    """Token ids of rows as they came, else of their texts, encoded here."""
    rows = subject.train.rows or subject.eval.rows
    found = [row["input_ids"] for row in rows if isinstance(row, Mapping) and "input_ids" in row]
    if not found and subject.tokenizer is not None:
        found = [subject.tokenizer(text)["input_ids"] for text in _texts(subject)]
    for ids in found:
        array = np.asarray(ids)
        if array.ndim == 1 and array.dtype.kind in "iu":
            yield array


def _texts(subject: Any) -> list[str]:
    """Up to `TEXTS` texts of the rows, from all over the set."""
    rows = subject.train.rows or subject.eval.rows
    rows = rows[:: max(1, len(rows) // TEXTS)][:TEXTS]
    found = [row_keys.text_of(row) if isinstance(row, Mapping) else row for row in rows]
    return [text for text in found if isinstance(text, str)]


# -- T6 and T9 -----------------------------------------------------------------------------------


def check_ids_have_an_embedding(subject: Any) -> Iterable[Finding]:
    """T6, T9: ids, or a whole vocabulary, beyond the rows of the embedding."""
    if subject.model is None:
        raise Skip("does not apply")
    rows = _embedding_rows(subject)
    if rows is None:
        raise Skip("does not apply")
    largest = max((int(ids.max()) for ids in _any_ids(subject) if len(ids)), default=-1)
    tokenizer = subject.tokenizer
    base = getattr(tokenizer, "vocab_size", 0) if tokenizer is not None else 0
    known = len(tokenizer) if tokenizer is not None and hasattr(tokenizer, "__len__") else 0
    if largest < rows and known <= rows:
        return
    measured = {"embedding_rows": rows, "largest_id": largest, "tokens": known}
    if base <= rows < known:
        yield Finding(
            "T9", "error",
            f"the tokenizer knows {known:,} tokens, {known - base:,} of them added, but the "
            f"embedding has {rows:,} rows",
            "call model.resize_token_embeddings(len(tokenizer)) before training",
            measured,
        )  # fmt: skip
    else:
        what = f"the data hold the id {largest:,}" if largest >= rows else \
            f"the tokenizer knows {known:,} tokens"  # fmt: skip
        yield Finding(
            "T6", "error", f"{what}, but the embedding has {rows:,} rows", measured=measured
        )


def _embedding_rows(subject: Any) -> int | None:
    """Rows of the input embedding; of a plain module, those of its largest."""
    base = kinds.base_of(subject.bare)
    try:
        table = base.get_input_embeddings()
    except (AttributeError, NotImplementedError):
        table = None
    if table is None:
        sizes = [m.num_embeddings for m in base.modules() if isinstance(m, nn.Embedding)]
        return max(sizes, default=None)
    rows = getattr(table, "num_embeddings", None)
    if rows is None and getattr(getattr(table, "weight", None), "dim", int)() == 2:
        rows = len(table.weight)
    return rows


def _any_ids(subject: Any) -> Iterator[np.ndarray]:
    """Token ids of rows, of collated batches, and of pairs whose input is whole numbers."""
    found = [t.ids.reshape(-1).numpy() for t in tokens.batches_of(subject)]
    yield from found
    if found or any(isinstance(row, Mapping) for row in subject.train.rows[:1]):
        yield from (ids_of(subject) if found or subject.tokenizer is not None else ())
        return
    for row in subject.train.rows:
        x = row[0] if isinstance(row, list | tuple) and row else None
        if isinstance(x, torch.Tensor) and not x.is_floating_point() and x.dim() == 1:
            yield x.numpy()


# -- T8 ------------------------------------------------------------------------------------------


def check_markers_are_whole(subject: Any) -> Iterable[Finding]:
    """T8: a special string that stands in many texts and encodes to several ids."""
    tokenizer = subject.tokenizer
    if tokenizer is None:
        raise Skip("does not apply")
    raw = _texts(subject)
    texts = raw or _decoded(subject)
    if not texts:
        raise Skip("does not apply")
    template = str(getattr(tokenizer, "chat_template", None) or "")
    meant = {marker for marker in BY_DESIGN if marker in template}
    counts: dict[str, int] = {}
    for text in texts:
        for marker in _markers(text, spaced=not raw) - meant:
            counts[marker] = counts.get(marker, 0) + 1
    often = [m for m, n in counts.items() if n >= max(MARKED_ROWS, MARKED * len(texts))]
    around = _around(texts, spaced=not raw) if subject.kind in READ else {}
    counts, often = counts | around, [*often, *around]
    for marker in sorted(often):
        ids = tokenizer(marker, add_special_tokens=False)["input_ids"]
        if len(ids) > 1:
            yield Finding(
                "T8", "warn",
                f"{marker} stands in {counts[marker] / len(texts):.0%} of the texts and encodes to "
                f"{len(ids)} ids (bound: 1)",
                f"tokenizer.add_tokens([{marker!r}], special_tokens=True), then "
                "resize_token_embeddings",
                {"ids": len(ids), "share": counts[marker] / len(texts)},
            )  # fmt: skip
            return


def _markers(text: str, spaced: bool) -> set[str]:
    """The special strings of a text; WordPiece decodes them with spaces between the pieces."""
    if spaced:
        text = re.sub(r"<\s*\|\s*(\w+(?:\s*_\s*\w+)*)\s*\|\s*>", _closed, text)
        text = re.sub(r"<\s*extra\s*_\s*id\s*_\s*(\d+)\s*>", r"<extra_id_\1>", text)
    return set(MARKER.findall(text))


def _around(texts: list[str], spaced: bool) -> dict[str, int]:
    """Marks with a partner that stand once in nearly every text → the number of these texts."""
    counts: dict[str, int] = {}
    for text in texts:
        if spaced:
            text = re.sub(r"\[ (/ )?(\w+) \]", _bracketed, text)
        found = [one or other for one, _, other, _ in AROUND.findall(text)]
        for mark in {mark for mark in found if found.count(mark) == 1}:
            counts[mark] = counts.get(mark, 0) + 1
    return {m: n for m, n in counts.items() if n >= max(MARKED_ROWS, EVERYWHERE * len(texts))}


def _bracketed(match: re.Match[str]) -> str:
    return f"[{(match.group(1) or '').strip()}{match.group(2).upper()}]"


def _closed(match: re.Match[str]) -> str:
    name = re.sub(r"\s+", "", match.group(1))
    return f"<|{name}|>"


def _decoded(subject: Any) -> list[str]:
    ids = list(ids_of(subject))
    return [subject.tokenizer.decode(row.tolist()) for row in ids[:: max(1, len(ids) // 64)][:64]]


# -- T11 and H3 ----------------------------------------------------------------------------------


def check_prompts_are_padded_on_the_left(subject: Any) -> Iterable[Finding]:
    """T11: a decoder-only model that generates in evaluation, with padding behind its prompts."""
    if subject.kind != "causal-lm" or not getattr(subject.args, "predict_with_generate", False):
        raise Skip("does not apply")
    found = [t for t in tokens.batches_of(subject, "eval") if t.mask is not None]
    behind = sum(int((~t.mask[:, -1] & t.mask[:, 0]).sum()) for t in found)
    if behind:
        count = sum(map(len, (t.ids for t in found)))
        yield Finding(
            "T11", "error",
            f"{behind:,} of {count:,} evaluation prompts have padding behind them, where "
            "generation goes on (bound: none)",
            measured={"rows_padded_behind": behind, "rows": count},
        )  # fmt: skip


def check_padding_is_not_most(subject: Any) -> Iterable[Finding]:
    """H3 as advice: fewer real tokens than padding in the training batches."""
    found = tokens.batches_of(subject)
    total = sum(t.ids.numel() for t in found)
    if not total:
        raise Skip("does not apply")
    real = sum(int((t.attended & ~t.padding).sum()) for t in found) / total
    if real < WASTE:
        yield Finding(
            "H3", "info",
            f"{real:.0%} of the tokens in a batch are real, the rest is padding (bound: "
            f"{WASTE:.0%})",
            "sort rows by length, pad to the longest of a batch, or pack them",
            {"real": real},
        )  # fmt: skip


CHECKS = (
    check_tokens_are_known, check_ids_have_an_embedding, check_markers_are_whole,
    check_prompts_are_padded_on_the_left, check_padding_is_not_most,
)  # fmt: skip
