"""What ids read as: T5 texts that fall to letters by their case, or carry the marks of another
tokenizer; T8 marks before a text that are no token.

The ids are decoded, since a script may have rewritten a text after the column that it keeps.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from cookbook.doctor import text_checks
from cookbook.doctor.checks import Skip
from cookbook.doctor.findings import Finding

ROWS, ENOUGH = 64, 200  # rows that are decoded at most; words or tokens that are enough
READ = (*text_checks.READ, "question-answering", "contrastive")
CAPITALS = 0.5  # share of the letters, under which a text is not written in capitals
SMALL = 0.65  # in small letters a text has fewer than this share of its tokens
# How tokenizers write that a word begins or goes on: SentencePiece, byte pairs, BPE of two kinds.
MARKS = {"\u2581": r"^\u2581\w", "\u0120": r"^\u0120\w", "</w>": r"\w</w>$", "@@": r"\w@@$"}
MARKED, OWN = 0.3, 0.01  # shares of the words with a mark, of the vocabulary that is meant for it
BEFORE = re.compile(r"\s*\[ ?(?!(?i:INST)\b)([A-Za-z][A-Za-z_]{2,}(?: _ \w+)*) ?\]\s*\S")
EVERYWHERE = 0.98  # share of the texts that begin with the same mark: a script wrote it


def check_letters_are_of_the_known_case(subject: Any) -> Iterable[Finding]:
    """T5: texts in capitals that the vocabulary has only letters for, and words in small ones.

    What a decoder is to write may well be in capitals; a text that is only read need not be.
    """
    texts = [text for parts in _read(subject) for text in parts]
    letters = [c for text in texts for c in text if c.isalpha()]
    if subject.kind not in READ or not letters:
        raise Skip("does not apply")
    if sum(c.isupper() for c in letters) < CAPITALS * len(letters):
        return
    as_it_is, small = (_count(subject.tokenizer, t) for t in (texts, map(str.lower, texts)))
    if as_it_is >= ENOUGH and small < SMALL * as_it_is:
        yield Finding(
            "T5", "warn",
            f"the texts are in capitals and have {as_it_is:,} tokens; in small letters they have "
            f"{small / as_it_is:.0%} of them (bound: {SMALL:.0%})",
            "write the texts as the vocabulary does: lower them, or set do_lower_case=True",
            {"tokens": as_it_is, "in_small_letters": small},
        )  # fmt: skip


def _count(tokenizer: Any, texts: Iterable[str]) -> int:
    return sum(len(tokenizer(t, add_special_tokens=False)["input_ids"]) for t in texts)


def check_words_bear_no_foreign_marks(subject: Any) -> Iterable[Finding]:
    """T5: words that bear the mark of another tokenizer's pieces, as if it were a letter."""
    words = [word for parts in _read(subject) for text in parts for word in text.split()]
    if len(words) < ENOUGH:
        raise Skip("does not apply")
    for mark, written in MARKS.items():
        marked = sum(bool(re.search(written, word)) for word in words)
        if marked <= MARKED * len(words):
            continue
        if not _meant(subject.tokenizer, mark):
            yield Finding(
                "T5", "error",
                f"{marked / len(words):.0%} of {len(words):,} words bear {mark!r}, the mark of "
                f"another tokenizer's pieces (bound: {MARKED:.0%})",
                "encode the plain texts, not what another tokenizer made of them",
                {"share": marked / len(words), "words": len(words)},
            )  # fmt: skip
            return


def _meant(tokenizer: Any, mark: str) -> bool:
    """Whether the vocabulary holds marked words that the tokenizer decodes with their mark."""
    known = tokenizer.get_vocab()
    held = [i for piece, i in known.items() if any(map(str.isalnum, piece.replace(mark, "")))
            and mark in piece and mark in tokenizer.decode([i])]  # fmt: skip
    return len(held) > OWN * len(known)


def check_marks_before_a_text_are_whole(subject: Any) -> Iterable[Finding]:
    """T8: a mark such as [CONTEXT] before nearly every text that encodes to several ids."""
    rows = _read(subject)
    if subject.kind not in READ or len(rows) < text_checks.MARKED_ROWS:
        raise Skip("does not apply")
    begun: dict[str, int] = {}
    for parts in rows:
        found = {m.group(1).replace(" ", "").upper() for m in map(BEFORE.match, parts) if m}
        for name in found:
            begun[name] = begun.get(name, 0) + 1
    for name, count in begun.items():
        mark = f"[{name}]"
        ids = subject.tokenizer(mark, add_special_tokens=False)["input_ids"]
        if count >= EVERYWHERE * len(rows) and len(ids) > 1:
            yield Finding(
                "T8", "warn",
                f"{mark} stands before {count / len(rows):.0%} of the texts and encodes to "
                f"{len(ids)} ids (bound: 1)",
                f"tokenizer.add_tokens([{mark!r}], special_tokens=True), then "
                "resize_token_embeddings",
                {"ids": len(ids), "share": count / len(rows)},
            )  # fmt: skip
            return


def _read(subject: Any) -> list[list[str]]:
    """Of each row what its ids read as: the texts between special tokens."""
    tokenizer = subject.tokenizer
    if tokenizer is None or not hasattr(tokenizer, "get_vocab"):
        raise Skip("does not apply")
    special = set(tokenizer.all_special_ids) - {tokenizer.unk_token_id}
    rows = [ids.tolist() for ids in text_checks.ids_of(subject)]
    found = []
    for ids in rows[:: max(1, len(rows) // ROWS)][:ROWS]:
        parts: list[list[int]] = [[]]
        for one in ids:
            if one in special:
                parts.append([])
            else:
                parts[-1].append(one)
        found.append([tokenizer.decode(part) for part in parts if part])
    return found


CHECKS = (
    check_letters_are_of_the_known_case, check_words_bear_no_foreign_marks,
    check_marks_before_a_text_are_whole,
)  # fmt: skip
