"""The cleaning of `cleaning`, step for step, on Dask: two processes here, a thousand elsewhere.

Texts stay in the partitions, on the workers; to the driver come row numbers, reasons and pairs
of near-duplicates, a few bytes each. The kernels are the functions that `cleaning` calls, so
that the kept rows and the ledger are the same, which a test checks. It does not clean faster
what fits into one process. Used by the last section of chapter 01.

Why Dask, of three engines that were tried on 5,000 docstrings and two busy cores. `datatrove`
0.10 is made for this work and knows Slurm, but its MinHash verifies no candidate: it removed 280
rows where 201 are near-duplicates (of ten of the others, one reached the threshold), needed spaCy
for its words and failed with xxhash 4, and its blocks keep no account of single rows. Ray 2.60
takes 245 MB where Dask takes 28, and its node did not come up within its own time limit. Dask
came up, kept the same rows as one process, and cost 9 CPU seconds where that took one.
"""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from cookbook.data import cleaning, cluster_kernels, deduplication
from cookbook.data.errors import DataError
from cookbook.data.filters import Rules
from cookbook.data.ledger import EXAMPLES, Ledger

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa
    from dask.dataframe import DataFrame as DaskFrame
    from datasets import Dataset
    from distributed import Client, Future


class Parts(NamedTuple):
    """The rows that are still there: one pandas frame (`cluster_kernels`) for each file."""

    client: Client
    frames: list[Future]

    def map(self, kernel: Callable, *arguments) -> Parts:
        """Apply `kernel(frame, *arguments)` on the workers; the results stay there."""
        futures = [self.client.submit(kernel, frame, *arguments) for frame in self.frames]
        return Parts(self.client, futures)

    def gather(self) -> pd.DataFrame:
        """All frames, on the driver: for small ones only."""
        import pandas as pd

        return pd.concat(self.client.gather(self.frames), ignore_index=True)

    def total(self, kernel: Callable, *arguments) -> int:
        """The sum of `kernel` over all frames."""
        return sum(self.client.gather(self.map(kernel, *arguments).frames))

    def distributed(self, **types: str) -> DaskFrame:
        """The same rows as one Dask frame, which can be shuffled and joined."""
        import dask.dataframe as dd

        return dd.from_delayed(self.frames, meta=types, verify_meta=False)

    def texts(self, rows: Sequence[int]) -> dict[int, str]:
        """Row number -> compared text, for a few rows."""
        found = self.map(cluster_kernels.select, np.asarray(rows, np.int64)).gather()
        return dict(zip(found["row"], cluster_kernels.keys(found), strict=True))


def clean(
    source: Dataset | str,
    output_dir: str | Path,
    *,
    client: Client | None = None,
    workers: int = 2,
    rules: str | Rules = "auto",
    text_column: str = "text",
    label_column: str = "label",
    near_threshold: float | None = 0.8,
    language: str = "auto",
    mask: bool = True,
) -> tuple[Path, Ledger]:
    """As `cleaning.clean`; writes the kept rows as parquet, returns (their folder, ledger).

    `source` is a `Dataset`, or a glob of parquet files that every worker can read, such as
    "/shared/crawl/*.parquet"; one file is one partition. `client` belongs to a running cluster;
    without it `workers` processes are started here, and stopped at the end.

    Raises what `cleaning.clean` raises, and DataError where Dask is not installed.
    """
    output_dir = Path(output_dir)
    with nullcontext(client) if client else local_client(workers) as client:
        files = _files(source, output_dir, text_column)
        schema, starts = _shape(files, text_column)
        columns = (text_column, label_column if label_column in schema.names else "")
        loads = zip(files, starts, strict=False)
        frames = [client.submit(cluster_kernels.load, *load, *columns) for load in loads]
        parts, ledger = Parts(client, frames), Ledger(starts[-1])
        length = parts.total(cluster_kernels.characters) / starts[-1]
        rules = cleaning.choose_rules(rules, length, columns[1], ledger)
        parts = _normalise_step(parts, rules, mask, ledger)
        parts = _quality_steps(parts, rules, language, ledger)
        parts = _exact_step(parts, ledger)
        if near_threshold is not None:
            parts = _near_step(parts, bool(columns[1]), near_threshold, ledger)
        cleaning.refuse_empty(ledger.check())
        return _write(parts, files, starts, text_column, output_dir / "kept"), ledger


@contextmanager
def local_client(workers: int = 2) -> Iterator[Client]:
    """A Dask client with `workers` processes of one thread on this machine, stopped at the end.

    Raises DataError where Dask is not installed.
    """
    try:
        import dask.dataframe  # noqa: F401
        from distributed import Client
        from distributed.deploy.subprocess import SubprocessCluster
    except ImportError:
        raise DataError(
            "Dask is not installed: pip install 'dask[dataframe,distributed]'"
        ) from None
    # Subprocesses, because `multiprocessing` would run a reader's unguarded script again.
    options = {"nthreads": 1, "dashboard": False}
    with SubprocessCluster(n_workers=workers, worker_kwargs=options, silence_logs=40) as here:
        with Client(here) as client:
            yield client


def _files(source: Dataset | str, output_dir: Path, text_column: str) -> list[str]:
    from glob import glob

    if isinstance(source, str):
        if files := sorted(glob(source)):
            return files
        raise DataError(f"no file matches {source!r}: check the path of the parquet files")
    cleaning.column_of_text(source, text_column)
    return _shards(source, output_dir / "incoming")


def _shards(dataset: Dataset, folder: Path, rows: int = 50_000) -> list[str]:
    """A table as parquet files of at most `rows` rows, so that each worker reads its own share."""
    from pyarrow.parquet import write_table

    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    count = min(len(dataset), max(4, -(-len(dataset) // rows)))
    files = [str(folder / f"{part:05d}.parquet") for part in range(count)]
    for part, file in enumerate(files):
        shard = dataset.shard(len(files), part, contiguous=True).with_format("arrow")[:]
        write_table(shard.replace_schema_metadata(dataset.features.arrow_schema.metadata), file)
    return files


def _shape(files: Sequence[str], text_column: str) -> tuple[pa.Schema, list[int]]:
    """The columns, and the number of the first row of each file, all rows at the end."""
    from pyarrow.parquet import ParquetFile

    heads = [ParquetFile(file) for file in files]
    schema = heads[0].schema_arrow
    if text_column not in schema.names:
        raise DataError(
            f"there is no column {text_column!r}: the columns are {', '.join(schema.names)}; "
            "pass text_column="
        )
    starts = np.cumsum([0, *(head.metadata.num_rows for head in heads)]).tolist()
    if not starts[-1]:
        raise DataError("there are no rows to clean: check the source")
    return schema, starts


def _normalise_step(parts: Parts, rules: Rules, mask: bool, ledger: Ledger) -> Parts:
    parts = parts.map(cluster_kernels.normalise, rules, mask)
    empty = parts.map(cluster_kernels.without_text).gather()
    before = dict(zip(empty["row"], empty["before"], strict=True))
    changed = parts.total(cluster_kernels.rewritten)
    return _record(parts, "normalise", empty, ledger, texts=before, changed=changed)


def _quality_steps(parts: Parts, rules: Rules, language: str, ledger: Ledger) -> Parts:
    if rules.one_language and language:
        sure = parts.map(cluster_kernels.language).gather()
        if language == "auto":
            language = cleaning.choose_language(Counter(sure["code"]), ledger)
        wrong = sure[(sure["code"] != language) & bool(language)].assign(reason="other language")
        parts = _record(parts, "language", wrong, ledger)
    return _record(
        parts, "quality", parts.map(cluster_kernels.quality, rules, language).gather(), ledger
    )


def _exact_step(parts: Parts, ledger: Ledger) -> Parts:
    keyed = parts.map(cluster_kernels.keyed).distributed(row="int64", label="str", key="str")
    judged = keyed.shuffle("key").map_partitions(
        cluster_kernels.copies, meta=cluster_kernels.COPIES
    )
    found = judged.compute().sort_values(["first", "row"])
    torn = found[found["conflict"]]
    texts = parts.texts(torn["first"].unique())
    for first, group in torn.groupby("first"):
        where = group["row"].tolist()
        ledger.conflicts.append(
            {"text": texts[first], "rows": where, "labels": group["label"].tolist()}
        )
    parts = _record(parts, "exact duplicates", found[found["reason"] != ""], ledger)
    cleaning.note_conflicts(ledger)
    return parts


def _near_step(parts: Parts, labelled: bool, threshold: float, ledger: Ledger) -> Parts:
    from pandas import DataFrame

    rows = ledger.kept
    leader, dead = np.arange(len(rows)), np.zeros(0, np.int64)
    while True:  # as in `near_duplicates`: again where a bucket overflowed, else once
        pairs, fullest = _near_pairs(parts.map(cluster_kernels.compared, dead), threshold)
        if len(pairs):
            leader = deduplication.components(leader, np.searchsorted(rows, pairs))
        dead = rows[leader != np.arange(len(rows))]
        if not len(pairs) or fullest <= deduplication.BUCKET:
            break
    labels = [None] * len(rows)
    if labelled:  # of clusters only
        several = rows[np.isin(leader, leader[leader != np.arange(len(rows))])]
        known = parts.map(cluster_kernels.select, several).gather()
        by_row = dict(zip(known["row"], known["label"], strict=True))
        labels = [by_row.get(row) for row in rows.tolist()]
    reasons, twins = cleaning.judge_near(leader, labels)
    cleaning.note_spared(leader, reasons, ledger)
    found = DataFrame({"row": rows, "reason": reasons, "twin": rows[twins]})
    return _record(parts, "near duplicates", found[found["reason"] != ""], ledger)


def _near_pairs(parts: Parts, threshold: float) -> tuple[np.ndarray, int]:
    """(p, 2) rows that are near-duplicates, and the size of the fullest bucket."""
    texts = parts.distributed(row="int64", text="str")
    buckets = parts.map(cluster_kernels.buckets, threshold)
    buckets = buckets.distributed(bucket="int64", row="int64").shuffle("bucket").persist()
    fullest = buckets.map_partitions(cluster_kernels.largest, meta=(None, "int64")).max()
    pairs = buckets.map_partitions(cluster_kernels.candidates, meta=cluster_kernels.PAIRS)
    pairs = pairs.drop_duplicates()
    for side in cluster_kernels.PAIRS:
        named = texts.rename(columns={"row": side, "text": f"text_{side}"})
        pairs = pairs.merge(named, on=side)
    pairs = pairs.map_partitions(cluster_kernels.verified, threshold, meta=cluster_kernels.PAIRS)
    return pairs.compute().to_numpy(), int(fullest.compute())


def _record(
    parts: Parts,
    step: str,
    dropped: pd.DataFrame,
    ledger: Ledger,
    *,
    texts: dict[int, str] | None = None,
    changed: int | None = None,
) -> Parts:
    """Enter dropped rows (row, reason and perhaps twin) into the ledger; the rows that are left."""
    dropped = dropped.sort_values("row")
    if texts is None:
        texts = parts.texts(dropped.groupby("reason").head(EXAMPLES)["row"])
    reasons = dict(zip(dropped["row"], dropped["reason"], strict=True))
    twins = dict(zip(dropped["row"], dropped["twin"], strict=True)) if "twin" in dropped else None
    rows = ledger.kept.tolist()
    ledger.record(
        step,
        [reasons.get(row, "") for row in rows],
        texts=[texts.get(row) for row in rows],
        twins=None if twins is None else [twins.get(row, row) for row in rows],
        changed=changed,
    )
    return parts.map(cluster_kernels.drop, dropped["row"].to_numpy())


def _write(
    parts: Parts, files: Sequence[str], starts: Sequence[int], text_column: str, folder: Path
) -> Path:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    targets = [str(folder / f"{part:05d}.parquet") for part in range(len(files))]
    jobs = zip(parts.frames, files, starts, targets, strict=False)
    written = [
        parts.client.submit(cluster_kernels.write, frame, file, start, text_column, target)
        for frame, file, start, target in jobs
    ]
    parts.client.gather(written)
    return folder
