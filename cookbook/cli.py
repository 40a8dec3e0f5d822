"""The command line: `cookbook list`, `run NAME`, `data SOURCE`, `doctor RUN`, `search QUERY`,
`recommend DATA`.

It parses, prints and turns errors into one line; the work is done by the package. Every chapter
can be run through it, from any working directory and from an installed wheel.

A subcommand is one `_<name>` function and one `_add_<name>`, which hangs it into the parser.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cookbook import chapters
from cookbook.chapters import UsageError
from cookbook.session import PROFILES, OutputError


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; return 0, 1 for a chapter that failed, 2 for what the reader can mend.

    >>> main(["run", "no-such-chapter"])
    2
    """
    from cookbook.data.errors import DataError
    from cookbook.doctor.logs import LogError
    from cookbook.execution import ChapterError

    asked = _parser().parse_args(arguments)
    try:
        asked.command(asked)
    except (UsageError, DataError, OutputError, LogError) as error:
        return _say(error, 2)
    except ChapterError as error:
        return _say(error, 1)
    except KeyboardInterrupt:
        return _say("stopped", 130)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("cookbook", description="Chapters on pretrained models.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for add in (_add_list, _add_run, _add_data, _add_doctor, _add_search, _add_recommend):
        add(commands)
    return parser


def _add_list(commands: Any) -> None:
    command = commands.add_parser("list", help="the chapters: title, run time, question")
    command.set_defaults(command=_list)


def _list(asked: argparse.Namespace) -> None:
    for chapter in chapters.chapters():
        time = f"  ({chapter.run_time})" if chapter.run_time else ""
        print(f"{chapter.path.stem}{time}\n    {chapter.title}\n    {chapter.question}\n")


def _add_run(commands: Any) -> None:
    command = commands.add_parser("run", help="execute a chapter, on your own data if you like")
    command.add_argument("name", metavar="NAME", help="00, 00_quickstart or quickstart")
    command.add_argument(
        "-p", dest="given", metavar="KEY=VALUE", action="append", default=[],
        help="a parameter of the chapter, as often as needed",
    )  # fmt: skip
    command.add_argument("--profile", choices=PROFILES, help="how much to compute")
    command.add_argument("-o", dest="output_dir", metavar="DIR", help="default: build/<chapter>")
    command.set_defaults(command=_run)


def _run(asked: argparse.Namespace) -> None:
    from cookbook import execution

    path = chapters.find(asked.name)
    given = _pairs(asked.given)
    if asked.profile:
        given["profile"] = asked.profile
    values = chapters.typed(given, chapters.parameters(path))
    folder = Path(asked.output_dir or values.get("output_dir") or Path("build") / path.stem)
    notebook = execution.run(path, values, folder)
    print(_measured(folder / "results.json"))
    print(f"{notebook} · {notebook.with_suffix('.html').name} · figures · results.json")


def _add_columns(command: argparse.ArgumentParser) -> None:
    command.add_argument("--text-column", default="", help="default: guessed, and said")
    command.add_argument("--label-column", default="", help="default: guessed, and said")


def _add_data(commands: Any) -> None:
    command = commands.add_parser("data", help="preview any source as the chapters would read it")
    command.add_argument("source", metavar="SOURCE", help="embedded name, file, folder or hub id")
    _add_columns(command)
    command.set_defaults(command=_data)


def _data(asked: argparse.Namespace) -> None:
    from cookbook import data

    splits = data.load(asked.source, text_column=asked.text_column, label_column=asked.label_column)
    print("splits  " + " · ".join(f"{name} {len(rows):,}" for name, rows in splits.items()))
    train = splits["train"]
    print("\ncolumns")
    print(_table([(name, _kind(kind)) for name, kind in train.features.items()]))
    print("\nthe first rows of train")
    for row in train.select(range(min(3, len(train)))):
        print(_table([(name, _short(value)) for name, value in row.items()]) + "\n")
    if "label" in train.features:
        print("labels of train\n" + _balance(train))


def _add_doctor(commands: Any) -> None:
    command = commands.add_parser("doctor", help="what is wrong with a run, or with a data set")
    command.add_argument("run", nargs="?", metavar="RUN", help="a run's folder, or its log: "
                         "trainer_state.json, .csv, TensorBoard's events")  # fmt: skip
    command.add_argument("--data", metavar="SOURCE", help="training data to check")
    command.add_argument("--eval", metavar="SOURCE", help="held-out data to check against it")
    command.add_argument("--model", default="", help="whose tokenizer to check them with")
    _add_columns(command)
    command.add_argument("--explain", metavar="FAULT", help="an entry of the catalogue, as L3")
    command.add_argument("--json", action="store_true", help="the report as JSON")
    command.set_defaults(command=_doctor)


def _doctor(asked: argparse.Namespace) -> None:
    if asked.explain:
        print(_explained(asked.explain))
    elif asked.data:
        _print_report(_data_report(asked), asked.json)
    elif asked.run:
        from cookbook.doctor import aftermath, logs

        log = logs.read(asked.run)
        _print_report(aftermath.examine_log(log), asked.json)
        if not asked.json:
            print(f"\n{aftermath.scope(log)}")
    else:
        raise UsageError("name a run's folder, or --data SOURCE, or --explain FAULT")


def _explained(fault: str) -> str:
    from cookbook.doctor.catalogue import FAULTS

    if fault.upper() not in FAULTS:
        raise UsageError(f"no fault {fault!r}: there are {', '.join(FAULTS)}")
    return FAULTS[fault.upper()].explain()


def _data_report(asked: argparse.Namespace) -> Any:
    from cookbook import data
    from cookbook.doctor import data_examination
    from cookbook.models.initialization import load_tokenizer

    files = {"train": asked.data} | ({"test": asked.eval} if asked.eval else {})
    columns = {"text_column": asked.text_column, "label_column": asked.label_column}
    parts = data.load_apart(files, **columns)
    try:
        tokenizer = load_tokenizer(asked.model) if asked.model else None
    except ValueError as error:
        raise UsageError(str(error)) from error
    return data_examination.examine_data(
        parts["train"], parts.get("test"), processing_class=tokenizer
    )


def _print_report(report: Any, as_json: bool) -> None:
    print(json.dumps(report.to_dict(), indent=1) if as_json else report)


def _add_search(commands: Any) -> None:
    command = commands.add_parser("search", help="find an installed function by what it does")
    command.add_argument("query", nargs="+", metavar="QUERY", help="how do I reverse an array")
    command.add_argument("--top", type=int, default=10, metavar="N", help="how many; default: 10")
    command.add_argument("--library", default="", help="search this one only, such as numpy")
    command.set_defaults(command=_search)


def _search(asked: argparse.Namespace) -> None:
    from cookbook.training import search

    query = " ".join(asked.query)
    try:
        search.question(query)  # before an index is made for nothing
        hits = search.ready().find(query, top=max(1, asked.top), library=asked.library)
    except ValueError as error:
        raise UsageError(str(error)) from error
    for hit in hits:
        print(f"{hit.score:.2f}  {_short(hit.function, 100)}\n      {_short(hit.summary, 100)}")


def _add_recommend(commands: Any) -> None:
    command = commands.add_parser("recommend", help="which model for this data, memory and time")
    command.add_argument("source", metavar="DATA", help="embedded name, file, folder or hub id")
    command.add_argument(
        "--candidates", nargs="+", metavar="MODEL", default=["docbert"],
        help="folders, hub ids; default: docbert",
    )  # fmt: skip
    command.add_argument("--memory", default="8GB", help="what the process may take; default: 8GB")
    command.add_argument("--minutes", type=float, default=30, help="for one run; default: 30")
    command.add_argument("--epochs", type=int, default=4, help="of that run; default: 4")
    command.add_argument("--rows", type=int, default=600, help="to look at; default: 600")
    _add_columns(command)
    command.add_argument("--json", action="store_true", help="the findings as JSON")
    command.set_defaults(command=_recommend)


def _recommend(asked: argparse.Namespace) -> None:
    from cookbook import data
    from cookbook.finetuning import selection

    splits = data.load(asked.source, text_column=asked.text_column, label_column=asked.label_column)
    limits = {name: getattr(asked, name) for name in ("memory", "minutes", "epochs", "rows")}
    try:
        found = selection.recommend(splits, asked.candidates, **limits)
    except ValueError as error:
        raise UsageError(error) from None
    if asked.json:
        print(json.dumps(found.to_dict(), indent=1))
    elif found.best or len(asked.candidates) > 1:
        print(found)
    if found.best is None:
        raise UsageError(found.candidates[0].reasons[-1])


def _balance(rows: Any) -> str:
    """The classes of a labelled set with their counts and shares, or the range of a number."""
    from collections import Counter

    values = rows["label"]
    names = getattr(rows.features["label"], "names", None)
    if names is None:
        return _table([("lowest", f"{min(values):g}"), ("highest", f"{max(values):g}")])
    counts = Counter(values).most_common()
    return _table(
        [(names[value], f"{count:>7,}  {count / len(rows):6.1%}") for value, count in counts]
    )


def _pairs(given: Sequence[str]) -> dict[str, str]:
    """`["seed=3"]` as `{"seed": "3"}`; UsageError for what is not KEY=VALUE."""
    for pair in given:
        if "=" not in pair.lstrip("="):
            raise UsageError(f"-p {pair}: write KEY=VALUE, as in -p seed=1")
    return dict(pair.split("=", 1) for pair in given)


def _measured(results: Path) -> str:
    """What a run wrote into `results.json`, as a table."""
    if not results.is_file():
        return "the chapter measured nothing"
    numbers: Mapping[str, float] = json.loads(results.read_text())
    return _table([(name, f"{number:>12,.6g}") for name, number in numbers.items()])


def _table(rows: Sequence[tuple[str, str]]) -> str:
    width = max((len(name) for name, _ in rows), default=0)
    return "\n".join(f"  {name:<{width}}  {value}" for name, value in rows)


def _kind(feature: Any) -> str:
    names = getattr(feature, "names", None)
    return f"{len(names)} classes" if names else str(getattr(feature, "dtype", feature))


def _short(value: Any, limit: int = 80) -> str:
    if hasattr(value, "getbands"):  # a PIL image prints as an address in memory
        return f"a picture of {value.width} x {value.height} pixels, {value.mode}"
    words = " ".join(str(value).split())
    return words if len(words) <= limit else words[: limit - 1] + "…"


def _say(message: object, code: int) -> int:
    print(f"cookbook: {message}", file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(main())
