"""A key for a row's input, equal for equal inputs: normalised words, token ids, pixels; its label.

Labels, padding, special tokens, letter case and spaces do not count. Rows too short to mean
anything have no key. It reads rows of dicts and `(x, y)` pairs and compares nothing.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from cookbook.doctor import kinds

TOKENS, CHARACTERS = 5, 10  # an input of fewer words, ids or numbers has no key
TARGETS = {*kinds.LABEL_KEYS, "answer", "answers", "class", "category", "stars", "sentiment"}
IDENTITY = re.compile(r"(^|_)(id|ids|idx|index|guid|uuid|url|path|file|name|source|split|hash)$")
# What is read, where a column says so by its name; other texts of the row (a file, a signature) do
# not make two rows different.
MAIN = (("text", "text_pair"), ("sentence", "sentence_pair"), ("sentence1", "sentence2"),
        ("premise", "hypothesis"), ("question1", "question2"), ("question", "context"),
        ("instruction", "input"), ("prompt", "completion"), ("source",), ("review",),
        ("content",), ("document",), ("body",), ("comment",))  # fmt: skip
NO_INPUT = {*TARGETS, "token_type_ids", "position_ids", "decoder_input_ids", "group_ids"}
CHATS = ("messages", "conversations", "conversation")
PIXELS = ("pixel_values", "image", "images", "img", "input_values", "input_features", "x",
          "inputs", "features")  # fmt: skip


def input_key(row: Any, drop: frozenset[int] = frozenset()) -> bytes | None:
    """The key of a row's input, without the token ids in `drop`; None where there is too little.

    >>> input_key({"text": "A  row of five Words"}) == input_key({"text": "a row of five words"})
    True
    >>> input_key({"input_ids": [1, 2, 3]}) is None
    True
    """
    if isinstance(row, Mapping):
        words = text_of(row)
        if words is not None:
            return _of_text(words)
        spoken = next((row[name] for name in CHATS if row.get(name)), None)
        if spoken is not None:
            return _of_text(str(spoken))
        if "input_ids" in row:
            return _of_ids(row["input_ids"], row.get("attention_mask"), drop)
        if several := [k for k in sorted(row) if k.endswith("_ids") and k not in NO_INPUT]:
            return _of_several([row[k] for k in several], drop)
    elif isinstance(row, list | tuple) and row and isinstance(row[0], str):
        return _of_text(row[0])
    array = array_of(row)
    return None if array is None else _of_array(array)


def read_key(row: Any, drop: frozenset[int] = frozenset()) -> bytes | None:
    """The key of a row's token ids alone, which are all that a model reads of a text that was cut.

    >>> read_key({"text": "A row of five words", "input_ids": [1, 2]}) is None
    True
    """
    if not isinstance(row, Mapping) or "input_ids" not in row:
        return None
    return _of_ids(row["input_ids"], row.get("attention_mask"), drop)


def array_of(row: Any) -> np.ndarray | None:
    """The pixels or features of a row; None for text, token ids and what is no array."""
    if isinstance(row, Mapping):
        given = None if "input_ids" in row else next(
            (row[name] for name in PIXELS if row.get(name) is not None), None
        )  # fmt: skip
    else:
        given = row[0] if isinstance(row, list | tuple) and row else None
    if given is None or isinstance(given, str):
        return None
    if isinstance(given, torch.Tensor):
        given = given.detach().cpu()
        given = given.float() if given.is_floating_point() else given
    array = np.asarray(given)
    return None if array.dtype == object else array


def text_columns(row: Mapping[str, Any]) -> list[str]:
    """The names of the columns that hold text to read: no labels, no names of rows.

    >>> text_columns({"text": "a b", "label": "good", "row_id": "x 1", "n": 3})
    ['text']
    """
    found = [k for k, v in row.items() if isinstance(v, str) and k not in TARGETS]
    return [k for k in found if not IDENTITY.search(k)]


def text_of(row: Mapping[str, Any]) -> str | None:
    """The text of a row that is read: columns of `MAIN` names, else all text columns, joined.

    >>> text_of({"text": "Return the sum.", "module": "numpy.core"})
    'Return the sum.'
    """
    columns = text_columns(row)
    named = ([k for k in main if k in columns] for main in MAIN if main[0] in columns)
    columns = next(named, columns)
    return " \n ".join(row[k] for k in columns) if columns else None


def label(row: Any, names: Any = None) -> Any:
    """The row's class, hashable: a whole number, a word, or a tuple of them; None without one."""
    if isinstance(row, Mapping):
        key = kinds.label_key(row, names)
        value = row[key] if key else None
    else:
        value = row[1] if isinstance(row, list | tuple) and len(row) == 2 else None
    if isinstance(value, torch.Tensor | np.ndarray | np.generic):
        value = value.tolist()
    if isinstance(value, list):
        return tuple(value) if value and all(isinstance(v, int | str) for v in value) else None
    return value if isinstance(value, int | str) else None


def scalar_label(row: Any, names: Any = None) -> int | str | None:
    """The row's class where it is one number or word."""
    value = label(row, names)
    return None if isinstance(value, tuple) else value


def number(row: Any, names: Any = None) -> float | None:
    """The row's label where it is one number, whole or not."""
    if isinstance(row, Mapping):
        key = kinds.label_key(row, names)
        value = row[key] if key else None
    else:
        value = row[1] if isinstance(row, list | tuple) and len(row) == 2 else None
    if isinstance(value, torch.Tensor | np.ndarray | np.generic):
        value = value.item() if int(np.prod(value.shape)) == 1 else None
    return value if isinstance(value, int | float) and value == value else None


def _of_text(text: str) -> bytes | None:
    words = text.lower().split()
    if len(words) < TOKENS and (len(words) > 1 or len(text.strip()) < CHARACTERS):
        return None
    return _digest(" ".join(words).encode())


def _of_ids(ids: Any, mask: Any, drop: frozenset[int]) -> bytes | None:
    numbers = np.asarray(ids)
    if numbers.dtype == object or numbers.ndim != 1:
        return _of_array(numbers) if numbers.dtype != object else None
    if mask is not None and np.shape(mask) == numbers.shape:
        numbers = numbers[np.asarray(mask) != 0]
    if drop:
        numbers = numbers[~np.isin(numbers, list(drop))]
    return None if len(numbers) < TOKENS else _digest(numbers.astype(np.int64).tobytes())


def _of_several(parts: list[Any], drop: frozenset[int]) -> bytes | None:
    """Of the towers of a pair, each with ids of its own; None where a part is no list of them."""
    if not all(isinstance(part, list | np.ndarray | torch.Tensor) for part in parts):
        return None
    found = [np.asarray(part) for part in parts]
    if any(one.dtype.kind not in "iu" or one.ndim != 1 for one in found):
        return None
    keys = [_of_ids(one, None, drop) for one in found]
    return None if None in keys else _digest(b"".join(keys))


def _of_array(array: np.ndarray) -> bytes | None:
    """Of pixels, features or ids of any shape; None for few numbers or one number repeated."""
    if array.size < TOKENS or (array == array.flat[0]).all():
        return None
    if array.dtype.kind == "f":
        array = array.astype(np.float32)
    return _digest(np.ascontiguousarray(array).tobytes())


def _digest(content: bytes) -> bytes:
    return hashlib.blake2b(content, digest_size=12).digest()
