"""`docstring-mentions`: which words of a sentence name a class, function, module or parameter.

The markup of docstrings says it (:class:`Tensor`, :func:`torch.sum`, *axis*); the markup is then
removed, and the words are to be found without it. Sentences that mention something only; a name
that its author did not mark up counts as a plain word, which no tagger can know. Splits and ledger
are `docstring_tasks`'. Chapter 15 uses it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from cookbook.data.docstring_questions import parameters
from cookbook.data.docstring_tasks import WHERE, derive

if TYPE_CHECKING:
    from datasets import DatasetDict

    from cookbook.data.ledger import Ledger

KINDS = ("class", "function", "module", "parameter")
TAGS = ("O", *(f"{place}-{kind}" for kind in KINDS for place in "BI"))
SHORTEST, LONGEST = 5, 80  # words of a sentence, signs included
_ROLES = {"class": "class", "exc": "class", "func": "function", "meth": "function",
          "mod": "module"}  # fmt: skip
_MARKUP = re.compile(
    r":(?:py:)?(?P<role>[a-z]+):`(?P<of_role>[^`]+)`"
    r"|``(?P<literal>[^`]+)``"
    r"|(?<![`\w:])`(?P<plain>[^`]+)`(?![`_\w])"
    r"|(?<![*\w])\*(?P<stress>[A-Za-z_]\w*)\*(?![*\w])"
)
_WORD = re.compile(r"\w+|[^\w\s]")
_SENTENCE_END = re.compile(r"(?<=[.!?])\s+(?=[A-Z`:*])")
# Examples, directives, tables, headings, lists of parameters in the two usual styles.
_NOT_PROSE = re.compile(
    r">>>|^\s*\.\. |^\s*[-=~^+|]{3,}|::\s*$|\|\s*$|^\s*\S+ : |^\s*[A-Z]\w*( [Aa]rg\w*)?:\s*$",
    re.MULTILINE,
)
_ARGUMENT = re.compile(r"[(,]\s*\*{0,2}([A-Za-z_]\w*)")


def mentions(corpus: DatasetDict) -> tuple[DatasetDict, Ledger]:
    """Columns tokens, tags (nine, in BIO), and where the docstring stands; a row a sentence."""
    from datasets import ClassLabel, Features, Value

    text = Value("string")
    features = Features(
        tokens=[text], tags=[ClassLabel(names=list(TAGS))], **dict.fromkeys(WHERE, text)
    )
    return derive(corpus, mark, same=("sentence",), leak="sentence", features=features)


def mark(row: dict[str, str]) -> list[dict[str, Any]] | str:
    """The sentences of one docstring that mention something, or why there is none.

    >>> text = "Apply :func:`torch.sum` to the *axis* of a :class:`~torch.Tensor`."
    >>> (row,) = mark({"text": text, "signature": "(axis)"})
    >>> print(*(f"{word}/{TAGS[tag]}" for word, tag in zip(row["tokens"], row["tags"])))
    Apply/O torch/B-function ./I-function sum/I-function to/O the/O axis/B-parameter of/O a/O \
Tensor/B-class ./O
    """
    known = set(_ARGUMENT.findall(row.get("signature", ""))) - {"self", "cls"}
    known |= {name for names, _, _ in parameters(row["text"]) for name in names.split(", ")}
    found = []
    for sentence in sentences(row["text"]):
        words = list(tagged(sentence, known))
        if not any(tag for _, tag in words):
            continue
        tokens, tags = [word for word, _ in words], [tag for _, tag in words]
        reason = ""
        if None in tags:
            reason = "markup of an unknown kind"
        elif not SHORTEST <= len(tokens) <= LONGEST:
            reason = "sentence too short or too long"
        found.append(
            {"tokens": tokens, "tags": tags, "sentence": " ".join(tokens), "reason": reason}
        )
    return found or "nothing mentioned"


def sentences(text: str) -> Iterator[str]:
    """The sentences of the paragraphs that are prose, each in one line, markup included."""
    for paragraph in re.split(r"\n\s*\n", text):
        if not _NOT_PROSE.search(paragraph):
            yield from _SENTENCE_END.split(" ".join(paragraph.split()))


def tagged(sentence: str, known: set[str]) -> Iterator[tuple[str, int | None]]:
    """(word, tag number) without markup; None for a marked name whose kind nobody says.

    `known` are the parameters: a name in backticks or stars is one if it is among them.
    """
    place = 0
    for match in _MARKUP.finditer(sentence):
        yield from ((word, 0) for word in _WORD.findall(sentence[place : match.start()]))
        kind, shown = _read(match, known)
        for n, word in enumerate(_WORD.findall(shown)):
            tag = (
                None if kind is None else TAGS.index(f"{'I' if n else 'B'}-{kind}" if kind else "O")
            )
            yield word, tag
        place = match.end()
    yield from ((word, 0) for word in _WORD.findall(sentence[place:]))


def _read(match: re.Match, known: set[str]) -> tuple[str | None, str]:
    """(kind, text as a reader sees it): "" for plain words, None for a kind that is not said."""
    if match["role"]:
        return _ROLES.get(match["role"], ""), _shown(match["of_role"])
    shown = match["literal"] or match["plain"] or match["stress"]
    if shown.strip("*") in known:
        return "parameter", shown.strip("*")
    unsaid = match["plain"] and re.fullmatch(r"~?[A-Za-z_][\w.]*(?:\(\))?", shown)
    return (None if unsaid else ""), shown


def _shown(target: str) -> str:
    """What Sphinx prints of a role: `title <target>`, `~` for the last part, no brackets."""
    titled = re.fullmatch(r"(?s)(.+?)\s*<[^>]+>", target)
    shown = titled[1] if titled else target.lstrip("!")
    shown = shown.rpartition(".")[2] if shown.startswith("~") else shown
    return shown.removesuffix("()").lstrip("~.")
