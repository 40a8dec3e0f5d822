"""What the columns of an unknown table are for, guessed from their names and types.

Tasks are tried from the most telling (a context and a question) to the least (some text); the
first whose columns are all there wins. It reads only the schema and the length of texts, changes
nothing and prints nothing: `roles` does. Used by `cookbook.data.load`.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from cookbook.data.labels import kind

if TYPE_CHECKING:
    from datasets import Dataset

UNLABELLED = {"context", "tokens", "caption", "source", "summary"}  # the task has other targets
# What a role may hold, in the words of `labels.kind`.
HOLDS = {
    "text": {"text"}, "text_pair": {"text"}, "context": {"text"}, "question": {"text"},
    "answers": {"objects", "lists", "text"}, "source": {"text"}, "target": {"text"},
    "summary": {"text"}, "tokens": {"lists"}, "tags": {"lists"}, "caption": {"text"},
    "image": {"images", "lists", "bytes"},
    "label": {"text", "whole numbers", "numbers", "booleans", "classes"},
}  # fmt: skip

# Roles that a task cannot do without, and roles it may have besides.
TASKS = (
    (("context", "question"), ("answers",)),
    (("tokens",), ("tags",)),
    (("image",), ("caption",)),
    (("source", "target"), ()),
    (("text", "summary"), ()),
    (("text", "text_pair"), ()),
    (("text",), ()),
)

NAMES = {role: names.split() for role, names in {
    "text": "text sentence review content message comment body document doc tweet sms post "
            "utterance article dialogue passage paragraph description prompt query question "
            "input headline sentence1 premise anchor v2 文本 内容 评论",
    "label": "label labels class category target intent sentiment stars rating score similarity "
             "emotion topic polarity toxicity toxic spam stance gold_label given verdict y v1 "
             "标签 类别",
    "context": "context passage paragraph", "question": "question query",
    "answers": "answers answer", "tokens": "tokens words",
    "tags": "tags ner_tags pos_tags chunk_tags upos bio_tags labels ner",
    "image": "image img picture photo pixels",
    "caption": "caption text description title alt sentence",
    "summary": "summary highlights tldr",
}.items()}  # fmt: skip
PAIRS = {
    ("text", "text_pair"): [tuple(pair.split()) for pair in (
        "text text_pair", "sentence1 sentence2", "sentence_1 sentence_2", "premise hypothesis",
        "question1 question2", "text1 text2", "text_a text_b", "sentence_a sentence_b",
        "anchor positive", "query passage", "query document", "query positive",
        "question sentence", "question answer", "instruction response", "instruction output",
        "prompt response", "prompt completion",
    )],
    ("source", "target"): [("source", "target"), ("src", "tgt"), ("source_text", "target_text")],
}  # fmt: skip
LANGUAGES = set(
    "ar bg bn ca cs da de el en es et eu fa fi fr gl he hi hr hu id is it ja ko lt lv ms nl no "
    "pl pt ro ru sk sl sq sr sv sw ta th tr uk ur vi zh".split()
)
# A column about a text rather than the text: review_id, text_length, comment_date.
_ABOUT = set(
    "author count date file hash id ids index key lang language len length name path size source "
    "time timestamp type uri url user votes".split()
)


def guess(main: Dataset, given: dict[str, str]) -> dict[str, str]:
    """`given` (role -> column) with the other roles of the first task that fits; no label.

    >>> from datasets import Dataset
    >>> rows = Dataset.from_dict({"id": ["a"], "premise": ["It rains."], "hypothesis": ["Dry."]})
    >>> guess(rows, {})
    {'text': 'premise', 'text_pair': 'hypothesis'}
    """
    content = given.keys() - {"label", "group"}
    for needs, options in TASKS:
        if content <= {*needs, *options}:
            chosen = _task(main, needs, dict(given))
            if chosen:
                for role in options:
                    if role not in chosen and (column := _named(main, role, chosen)):
                        chosen[role] = column
                return chosen
    return dict(given)


def label_candidates(main: Dataset, chosen: dict[str, str]) -> list[str]:
    """Columns that may be the label by name, the likeliest first; none where the task has none."""
    if UNLABELLED & chosen.keys():
        return []
    return _matches(_free(main, "label", chosen), NAMES["label"])


def only_other(main: Dataset, chosen: dict[str, str]) -> str | None:
    """The one column beside the text, whatever its name, if it could be a label."""
    rest = [name for name in main.column_names if name not in chosen.values()]
    fit = len(rest) == 1 and rest == _free(main, "label", chosen)
    return rest[0] if fit and not UNLABELLED & chosen.keys() else None


def _task(main: Dataset, needs: tuple[str, ...], chosen: dict[str, str]) -> dict[str, str] | None:
    """`chosen` with all of `needs`, or None."""
    if needs in PAIRS:
        chosen |= _pair(main, needs, chosen)
    for role in needs:
        if role not in chosen and (role not in ("text_pair", "source", "target")):
            alone = needs == ("text",) or "text_pair" in chosen
            column = _named(main, role, chosen) or (_longest(main, chosen) if alone else None)
            if column:
                chosen[role] = column
    return chosen if all(role in chosen for role in needs) else None


def _pair(main: Dataset, roles: tuple[str, ...], chosen: dict[str, str]) -> dict[str, str]:
    """Both roles of a pair where two columns have names that belong together, else nothing."""
    fixed = tuple(chosen.get(role) for role in roles)
    free = {_plain(name): name for name in _free(main, "text", chosen)}
    free |= {_plain(name): name for name in fixed if name}
    known = list(PAIRS[roles])
    if roles == ("source", "target"):
        spoken = [name for name in free if name in LANGUAGES]
        if len(spoken) == 3:  # Indonesian, or rather a number
            spoken = [name for name in spoken if name != "id"]
        spoken.sort(key=lambda name: main.column_names.index(free[name]))
        known += [tuple(spoken), tuple(spoken[::-1])] if len(spoken) == 2 else []
    for pair in known:
        columns = tuple(free.get(name) for name in pair)
        if None not in columns and all(f in (None, c) for f, c in zip(fixed, columns, strict=True)):
            return dict(zip(roles, columns, strict=True))
    return {}


def _free(main: Dataset, role: str, chosen: dict[str, str]) -> list[str]:
    """Columns without a role that could hold `role`; an empty column could hold anything."""
    fits = HOLDS[role] | {"nothing"}
    taken = set(chosen.values())
    return [name for name, f in main.features.items() if name not in taken and kind(f) in fits]


def _named(main: Dataset, role: str, chosen: dict[str, str]) -> str | None:
    return next(iter(_matches(_free(main, role, chosen), NAMES[role])), None)


def _matches(columns: list[str], names: list[str]) -> list[str]:
    """Columns of exactly these names in their order, then those with one of them as a word."""
    exact = [column for name in names for column in columns if _plain(column) == name]
    parts = {column: set(_plain(column).split("_")) for column in columns}
    loose = [c for n in names for c in columns if n in parts[c] and not parts[c] & _ABOUT]
    return list(dict.fromkeys(exact + loose))


def _plain(name: str) -> str:
    """`reviewText`, `Review Text` and `review-text` are one name.

    >>> _plain("reviewText"), _plain("Review Text"), _plain("sentence1")
    ('review_text', 'review_text', 'sentence1')
    """
    return re.sub(r"\W+", "_", re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name.strip())).lower()


def _longest(main: Dataset, chosen: dict[str, str]) -> str | None:
    """The column with the longest texts, one named like a label only if there is no other."""
    free = [name for name in _free(main, "text", chosen) if kind(main.features[name]) == "text"]
    free = [name for name in free if not _matches([name], NAMES["label"])] or free
    return max(free, key=lambda name: mean_length(main, name), default=None)


def mean_length(main: Dataset, name: str) -> float:
    """Mean characters (of text) or items (of lists) over the first 10,000 rows."""
    import pyarrow as pa
    import pyarrow.compute as pc

    column = main.data.column(name).slice(0, 10_000)
    listed = pa.types.is_list(column.type) or pa.types.is_large_list(column.type)
    return pc.mean((pc.list_value_length if listed else pc.utf8_length)(column)).as_py() or 0.0
