"""Questions about texts that are longer than a model reads: windows with a stride, and back.

A context is cut into overlapping windows, each behind its question; an answer becomes the first and
the last token of it in the windows that hold it whole, and position 0 in the others. What a span of
tokens says is read off the context itself, so nothing is lost in decoding. It trains nothing. Used
by `finetuning.question_answering`, chapter 15.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from cookbook.data.errors import DataError

if TYPE_CHECKING:
    from datasets import Dataset
    from transformers import PreTrainedTokenizerBase

Offsets = list[tuple[int, int] | None]


class Windows(NamedTuple):
    """Windows over all rows of a data set, in order.

    `rows` are what a model reads, with `start_positions` and `end_positions`; `example[i]` is the
    number of the row that window i is of; `offsets[i]` gives for each of its tokens the characters
    of the context, None for the question and special tokens.
    """

    rows: list[dict[str, Any]]
    example: list[int]
    offsets: list[Offsets]

    def holding(self) -> list[int]:
        """The windows that hold their answer whole."""
        return [i for i, row in enumerate(self.rows) if row["end_positions"] > 0]


def windows(
    dataset: Dataset,
    tokenizer: PreTrainedTokenizerBase,
    *,
    max_length: int = 128,
    stride: int = 32,
    cut: bool = False,
) -> Windows:
    """Every context in windows of `max_length` tokens that share `stride` tokens of context.

    With `cut` only the first window of each is kept: plain truncation, which loses what stands
    behind it. An answer that fits between stride and window is whole in some window. A question
    that would take more than half of a window is cut. Without a column `answers` all positions
    are 0. Columns are `context`, `question`, `answers`, as SQuAD has them.
    """
    questions = [_shortened(one, tokenizer, max_length // 2) for one in dataset["question"]]
    contexts = list(dataset["context"])
    coded = tokenizer(
        questions, contexts, truncation="only_second", max_length=max_length, stride=stride,
        return_overflowing_tokens=True, return_offsets_mapping=True,
    )  # fmt: skip
    known = "answers" in dataset.column_names
    answers = dataset["answers"] if known else [""] * len(contexts)
    spans = [first_span(one, context) for one, context in zip(answers, contexts, strict=True)]
    names = [name for name in coded if name in tokenizer.model_input_names]
    found = Windows([], [], [])
    for i, example in enumerate(coded["overflow_to_sample_mapping"]):
        if cut and found.example and found.example[-1] == example:
            continue
        inside = coded.sequence_ids(i)
        offsets = [
            tuple(place) if side == 1 else None
            for place, side in zip(coded["offset_mapping"][i], inside, strict=True)
        ]
        start, end = positions(offsets, spans[example])
        row = {name: coded[name][i] for name in names}
        found.rows.append(row | {"start_positions": start, "end_positions": end})
        found.example.append(example)
        found.offsets.append(offsets)
    return found


def positions(offsets: Sequence[tuple[int, int] | None], span: tuple[int, int]) -> tuple[int, int]:
    """First and last token of the characters `span` = (start, end); (0, 0) unless all are there.

    >>> positions([None, (0, 3), (4, 7), (8, 9)], (4, 9))
    (2, 3)
    >>> positions([None, (0, 3), (4, 7)], (4, 9))
    (0, 0)
    """
    start, end = span
    seen = [(i, place) for i, place in enumerate(offsets) if place is not None]
    if start >= end or not seen or seen[0][1][0] > start or seen[-1][1][1] < end:
        return 0, 0
    touched = [i for i, (low, high) in seen if low < end and high > start]
    return (touched[0], touched[-1]) if touched else (0, 0)


def text_between(context: str, offsets: Offsets, start: int, end: int) -> str:
    """The words of the context from token `start` to token `end`; "" where one is not of it.

    >>> text_between("the red fox", [None, (0, 3), (4, 7), (8, 11)], 2, 3)
    'red fox'
    """
    if not 0 <= start <= end < len(offsets) or offsets[start] is None or offsets[end] is None:
        return ""
    return context[offsets[start][0] : offsets[end][1]]


def answer_texts(answers: Any) -> list[str]:
    """All accepted answers, from SQuAD's `{"text": [...]}`, a list, or one text.

    >>> answer_texts({"text": ["axis", "the axis"], "answer_start": [3, 0]}), answer_texts("axis")
    (['axis', 'the axis'], ['axis'])
    """
    if isinstance(answers, Mapping):
        answers = answers.get("text", [])
    return [answers] if isinstance(answers, str) else [str(text) for text in answers]


def first_span(answers: Any, context: str) -> tuple[int, int]:
    """(start, end) in characters of the first answer; (0, 0) where there is none.

    A start that is given has to fit: raises DataError where the context says something else there.
    Without one, the first place where the context has the answer counts.

    >>> first_span({"text": ["fox"], "answer_start": [8]}, "the red fox")
    (8, 11)
    """
    texts = answer_texts(answers)
    if not texts or not texts[0]:
        return 0, 0
    starts = answers.get("answer_start") if isinstance(answers, Mapping) else None
    start = starts[0] if starts else context.find(texts[0])
    if starts and context[start : start + len(texts[0])] != texts[0]:
        raise DataError(
            f"answer_start {start} points at {context[start : start + 20]!r}, the answer is "
            f"{texts[0][:20]!r}: count characters from 0 in the context as it stands"
        )
    return (start, start + len(texts[0])) if start >= 0 else (0, 0)


def _shortened(question: str, tokenizer: PreTrainedTokenizerBase, most: int) -> str:
    """The question, cut where it would leave its context less than half of a window."""
    coded = tokenizer(
        question, add_special_tokens=False, return_offsets_mapping=True, verbose=False
    )
    places = coded["offset_mapping"]
    return question if len(places) <= most else question[: places[most - 1][1]]
