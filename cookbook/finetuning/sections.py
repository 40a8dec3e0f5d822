"""Which sections of chapter 15 run on which data, and the cell magic that leaves the others out.

Without a data set every task has its own embedded one; a reader's set decides by its columns which
task it is for, and the other sections are skipped. It loads and says what it decided; it trains
nothing. Used by chapter 15.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from cookbook.data import load
from cookbook.data.errors import DataError

if TYPE_CHECKING:
    from datasets import DatasetDict


class Section(NamedTuple):
    """A task: the embedded set for it, what it is scored by, and the columns that it needs."""

    embedded: str
    metric: str
    columns: tuple[str, ...]


SECTIONS = {
    "classification": Section("docstring-topics", "macro F1", ("text", "label")),
    "pairs": Section("docstring-pairs", "accuracy, Spearman", ("text", "text_pair")),
    "tagging": Section("docstring-mentions", "entity F1", ("tokens", "tags")),
    "questions": Section("docstring-qa", "exact match, F1", ("context", "question", "answers")),
    "translation": Section("locale-names", "BLEU, chrF", ("source", "target")),
    "summaries": Section("docstring-summaries", "ROUGE", ("text", "summary")),
}
_TELLING = ("tags", "question", "target", "summary", "text_pair", "label")  # in this order


def guess(dataset: DatasetDict) -> str:
    """The task that the columns of `dataset` ask for; DataError where they ask for none here."""
    features = dataset["train"].features
    named = dict(zip(_TELLING, ("tagging", "questions", "translation", "summaries", "pairs",
                                "classification"), strict=True))  # fmt: skip
    for column, task in named.items():
        if column in features:
            return task
    raise DataError(
        f"the columns are {', '.join(features)}: none of them tells the task; name a column with "
        "label_column, tags_column, question_column, target_column or summary_column"
    )


def plan(
    dataset: str = "", task: str = "", *, columns: Mapping[str, str] | None = None, seed: int = 0
) -> dict[str, DatasetDict]:
    """Section -> its data: all six embedded sets, or the reader's set for the one that it fits.

    `task`, a key of SECTIONS, chooses a section, with the embedded set or with `dataset`; empty
    means all, or what the columns of `dataset` say. A set that has test rows only is tested on,
    and the embedded set trained on. Prints one line a section. Raises DataError for an unknown
    task, or columns that do not serve it.
    """
    if task and task not in SECTIONS:
        raise DataError(f"unknown task {task!r}: choose one of {', '.join(SECTIONS)}")
    if not dataset:
        chosen = [task] if task else list(SECTIONS)
        planned = {name: load(SECTIONS[name].embedded, seed=seed) for name in chosen}
        sources = {name: SECTIONS[name].embedded for name in chosen}
    else:
        own = load(dataset, columns=columns, seed=seed)
        name = task or guess(own)
        planned, sources = {name: _fitting(own, name)}, {name: dataset}
    for name, data in planned.items():
        rows = ", ".join(f"{len(part):,} {split}" for split, part in data.items())
        print(f"{name} on {sources[name].rpartition('/')[2]}: {rows} rows; {SECTIONS[name].metric}")
    if left := [name for name in SECTIONS if name not in planned]:
        print(f"skipped: {', '.join(left)}")
    return planned


def register(planned: Mapping[str, Any]) -> None:
    """Make `%%section NAME` known to this notebook: the cell runs if NAME is in `planned`."""
    from IPython import get_ipython

    shell = get_ipython()

    def section(line: str, cell: str) -> None:
        if line.strip() in planned:
            quiet = cell.rstrip().endswith(";")  # which the shell looks for at the outer cell's end
            shell.run_cell(cell + "\nNone" * quiet).raise_error()
        else:
            print(f"skipped: this run is about {' and '.join(planned)}")

    shell.register_magic_function(section, "cell")


def _fitting(data: DatasetDict, task: str) -> DatasetDict:
    """`data`, if it has the columns of the task; trained on the embedded set if it cannot be."""
    from datasets import DatasetDict

    missing = [name for name in SECTIONS[task].columns if name not in data["test"].features]
    if missing:
        raise DataError(
            f"{task} needs {' and '.join(missing)}, the columns are "
            f"{', '.join(data['test'].features)}: name them with {missing[0]}_column"
        )
    if len(data["train"]):
        return data
    print(f"nothing to train on: trained on {SECTIONS[task].embedded}, tested on the given rows")
    other = load(SECTIONS[task].embedded)
    return DatasetDict({**other, "test": data["test"]})
