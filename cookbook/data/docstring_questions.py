"""`docstring-qa`: "what is `axis`?" over docstrings, answered by a span of the text.

The parameter sections of numpydoc name each parameter and describe it; the first sentence of the
description is the answer. It reads numpydoc only, and asks one kind of question: to answer it is
to find the right entry and where its first sentence ends. Libraries repeat their conventions: a
quarter of the held-out questions have the words of their answer in training too (not the text in
which to find them). Splits and ledger are `docstring_tasks`'. Chapter 15 uses it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from cookbook.data.docstring_tasks import WHERE, derive

if TYPE_CHECKING:
    from datasets import DatasetDict

    from cookbook.data.ledger import Ledger

SHORTEST, LONGEST = 10, 250  # characters of an answer
_SECTION = re.compile(r"^(?:Other )?Parameters[ \t]*\n-{3,}[ \t]*\n", re.MULTILINE)
_NEXT_SECTION = re.compile(r"^\S[^\n]*\n[-=]{3,}[ \t]*$|^\.\. ", re.MULTILINE)
# `axis : int`, `x, y : array_like`, or the bare name; the description is indented below
_ENTRY = re.compile(
    r"^(?P<name>\*{0,2}[A-Za-z_]\w*(?:, ?\*{0,2}[A-Za-z_]\w*)*)[ \t]*(?::[^\n]*)?\n"
    r"(?P<about>(?:[ \t]+\S[^\n]*(?:\n|\Z)|[ \t]*\n(?=[ \t]+\S))*)",
    re.MULTILINE,
)
_SENTENCE = re.compile(r"(?s)(.+?(?:(?<!e\.g)(?<!i\.e)(?<!cf)(?<!etc)[.!?](?=\s|\Z)|\n\s*\n|\Z))")


def questions(corpus: DatasetDict) -> tuple[DatasetDict, Ledger]:
    """Columns context, question, answers (as SQuAD has them), and where the docstring stands."""
    from datasets import Features, Value

    text = Value("string")
    answers = {"text": [text], "answer_start": [Value("int32")]}
    features = Features(context=text, question=text, answers=answers, **dict.fromkeys(WHERE, text))
    return derive(corpus, ask, same=("context", "question"), leak="context", features=features)


def ask(row: dict[str, str]) -> list[dict[str, Any]] | str:
    """A row for each described parameter of one docstring, or why there is none.

    >>> text = "Sum.\\n\\nParameters\\n----------\\naxis : int\\n    Which axis to sum. None: all."
    >>> (one,) = ask({"text": text})
    >>> one["question"], one["answers"]
    ('what is `axis`?', {'text': ['Which axis to sum.'], 'answer_start': [43]})
    """
    text, found = row["text"], []
    for name, start, stop in parameters(text):
        answer = text[start:stop]
        reason = ""
        if len(answer) < SHORTEST:
            reason = "parameter without a description"
        elif len(answer) > LONGEST:
            reason = "answer too long"
        found.append({
            "context": text, "question": f"what is `{name}`?", "reason": reason,
            "answers": {"text": [answer], "answer_start": [start]},
        })  # fmt: skip
    return found or "no parameter section"


def parameters(text: str) -> Iterator[tuple[str, int, int]]:
    """(name, start, end) of each entry's first sentence; start = end where there is none."""
    for section in _SECTION.finditer(text):
        end = _NEXT_SECTION.search(text, section.end())
        stop = end.start() if end else len(text)
        for entry in _ENTRY.finditer(text, section.end(), stop):
            about = entry["about"]
            start = entry.start("about") + len(about) - len(about.lstrip())
            sentence = _SENTENCE.match(text, start, entry.end("about"))
            length = len(sentence[1].rstrip()) if sentence and about.strip() else 0
            yield entry["name"], start, start + length
