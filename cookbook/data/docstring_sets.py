"""What each set made of docstrings holds: the corpus, topics, pairs.

It shapes rows and decides on which side they are; reading source is `harvest`'s, caching is
`embedded`'s. A module is on one side in all sets, and a validation or test text that says (nearly)
what the training split says is left out. Chapters 00, 01, 03, 05 and 07 use the sets.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from cookbook.data import deduplication, splits

if TYPE_CHECKING:
    from datasets import Dataset, DatasetDict

TOPICS = ("matplotlib", "networkx", "pandas", "scikit-learn", "scipy", "sympy", "torch",
          "transformers")  # fmt: skip
CAP = {"train": 1200, "validation": 200, "test": 200}  # rows a class
SHORTEST = 60  # characters: "Return the name." names no library

# The library's own names give a quarter to a half of the rows away, inside longer words too
# (TorchInductor, matplotlibrc); so do the usual aliases before a dot.
_NAMES = re.compile(
    r"(?<![a-z])[a-z]*(?:torch|scipy|numpy|pandas|matplotlib|pyplot|sklearn|networkx|sympy)[a-z]*"
    r"|hugging[\s_-]?face|\btransformers\b|scikits?[-_ ]learn|(?<![a-z])mpl[a-z]*"
    r"|\b(?:np|pd|plt|nx)(?=\.)",
    re.IGNORECASE,
)
MASK = "library"


def corpus(rows: Sequence[dict[str, str]]) -> DatasetDict:
    """`docstrings`: columns text, library, module, name, signature; splits by module.

    The training split keeps its duplicates: chapter 01 cleans them.
    """
    from datasets import Dataset, DatasetDict

    sides: dict[str, list[dict[str, str]]] = {name: [] for name in splits.NAMES}
    for row in rows:
        sides[splits.assign(f"{row['library']}/{row['module']}")].append(row)
    return drop_leaks(DatasetDict({name: Dataset.from_list(part) for name, part in sides.items()}))


def topics(corpus: DatasetDict) -> DatasetDict:
    """`docstring-topics`: text, label (one of 8 libraries), module; the libraries' names masked."""
    from datasets import ClassLabel, DatasetDict, Features, Value

    label = ClassLabel(names=list(TOPICS))
    features = Features(text=Value("string"), label=label, module=Value("string"))
    made = {}
    for name, part in corpus.items():
        rows = [
            {"text": mask_names(row["text"]), "label": row["library"], "module": row["module"]}
            for row in part.to_list()  # by row through `map` it would take a minute
            if row["library"] in TOPICS and len(row["text"]) >= SHORTEST
        ]
        made[name] = cap(distinct(type(part).from_list(rows, features=features)), CAP[name])
    return drop_leaks(DatasetDict(made))


def pairs(corpus: DatasetDict) -> DatasetDict:
    """`docstring-pairs`: text (name, signature, first line) and text_pair (the rest)."""
    from datasets import DatasetDict

    made = {}
    for name, part in corpus.items():
        rows = [pair for row in part.to_list() if (pair := pair_of(row))]
        made[name] = distinct(type(part).from_list(rows), "text_pair")
    # Either half would give the answer away: overloads share a first line, copies a body.
    return drop_leaks(drop_leaks(DatasetDict(made), "text_pair"), "text")


DERIVED: dict[str, Callable] = {"docstring-topics": topics, "docstring-pairs": pairs}


def mask_names(text: str) -> str:
    """Replace the names of the libraries to be told apart, and their aliases.

    >>> mask_names("np.sum of a torch_dtype in scikit-learn, not a plot")
    'library.sum of a library_dtype in library, not a plot'
    """
    return _NAMES.sub(MASK, text)


def pair_of(row: dict[str, str]) -> dict[str, str] | None:
    """First line and rest of one docstring, or None where there is too little of either."""
    first, _, rest = row["text"].strip().partition("\n")
    rest = rest.strip()
    if len(first) < 10 or len(rest) < 80:
        return None
    head = f"{row['name']}{row['signature']}"
    return {"text": f"{head[:200]}\n{first}", "text_pair": rest, "summary": first,
            "library": row["library"], "module": row["module"], "name": row["name"]}  # fmt: skip


def distinct(dataset: Dataset, column: str = "text") -> Dataset:
    """The first row of each normalised text."""
    first = deduplication.exact_duplicates(dataset[column])
    return dataset.select(np.flatnonzero(first == np.arange(len(first))))


def cap(dataset: Dataset, rows: int) -> Dataset:
    """At most `rows` rows a class, chosen by the hash of their text, kept in order."""
    labels = np.asarray(dataset["label"])
    rank = np.array(
        [hashlib.blake2b(t.encode(), digest_size=8).hexdigest() for t in dataset["text"]]
    )
    kept = []
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        kept.extend(members[np.argsort(rank[members])][:rows])
    return dataset.select(sorted(kept))


def drop_leaks(dataset: DatasetDict, column: str = "text") -> DatasetDict:
    """Drop from validation what training (nearly) says, and from test what either says.

    The held-out side loses the row, so that training keeps its natural repetitions and a held-out
    row is one that was never read.
    """
    from datasets import DatasetDict

    seen = list(dataset["train"][column])
    kept = {"train": dataset["train"]}
    for name in ("validation", "test"):
        texts = list(dataset[name][column])
        leaks = deduplication.near_duplicates_across(seen, texts)
        kept[name] = dataset[name].select(np.flatnonzero(leaks < 0))
        seen += kept[name][column]
    return DatasetDict(kept)
