"""What kind of thing a docstring describes: class, function or method, in chosen libraries.

A second label for the rows of `docstrings`, read off the object's name; with it a model can be
trained on some libraries and tested on others. Splits stay those of the corpus, by module. Used by
chapter 07.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from cookbook.data.errors import DataError

if TYPE_CHECKING:
    from datasets import DatasetDict

KINDS = ("class", "function", "method")


def kind_of(name: str) -> str:
    """By the usual spelling: classes start with a capital, and what lies in a class is a method.

    >>> [kind_of(name) for name in ("Axes", "Axes.plot", "softmax", "_Impl.run")]
    ['class', 'method', 'function', 'method']
    """
    *outer, own = [part.lstrip("_") for part in name.split(".")]
    if own[:1].isupper():
        return "class"
    return "method" if outer and outer[-1][:1].isupper() else "function"


def object_kinds(corpus: DatasetDict, libraries: Sequence[str]) -> DatasetDict:
    """Columns text, label (one of three kinds) and library, of the rows of `libraries`.

    Docstrings of modules are left out. Raises DataError where a split has no row of them.
    """
    from datasets import ClassLabel, Dataset, DatasetDict, Features, Value

    label = ClassLabel(names=list(KINDS))
    features = Features(text=Value("string"), label=label, library=Value("string"))
    made = {}
    for split, part in corpus.items():
        columns = (part[column] for column in ("text", "library", "name", "module"))
        rows = [
            (text, KINDS.index(kind_of(name)), library)
            for text, library, name, module in zip(*columns, strict=True)
            if library in libraries and name != module
        ]
        if not rows:
            raise DataError(f"the {split} split has no rows of {', '.join(libraries)}")
        made[split] = Dataset.from_dict(
            dict(zip(features, zip(*rows, strict=True), strict=True)), features=features
        )
    return DatasetDict(made)
