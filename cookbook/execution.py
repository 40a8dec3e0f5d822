"""Run one chapter: papermill, progress on the terminal, and nothing half-done left as whole.

It does not choose the chapter or its parameters (`chapters.py`) and prints no result
(`cli.py`). Every chapter is run through it, by `cookbook run` and `notebooks/execute.py`.
"""

from __future__ import annotations

import os
import re
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TextIO

from cookbook import session
from cookbook.chapters import UsageError, parameters

# Raised inside a cell, these speak to the reader: the message is the whole story.
READER_ERRORS = {"DataError", "OutputError", "CheckpointError"}

# The kernel keeps its own remarks to itself, and bars are text: a terminal shows no widgets.
TEXT_BARS = "import sys, tqdm.std; sys.modules['tqdm.auto'] = tqdm.std"
KERNEL = ["--log-level=ERROR", f'--IPKernelApp.exec_lines=["{TEXT_BARS}"]']


class ChapterError(RuntimeError):
    """A cell failed; one line that says which, why, and where the partial notebook lies."""


def run(path: Path, values: Mapping[str, Any], output_dir: Path) -> Path:
    """Execute a chapter into `output_dir` and return the executed notebook's path.

    Relative paths among `values` mean the working directory, which is also the kernel's. While
    it runs, and after a failure, the notebook is `<name>.partial.ipynb`; only a whole one, with
    its HTML, gets its final name. Raises ChapterError for a failed cell, UsageError with the
    cell's own message for one of `READER_ERRORS`, OutputError for a folder or disk that cannot
    be written.
    """
    final = output_dir / path.name
    partial = final.with_suffix(".partial.ipynb")
    if "output_dir" in parameters(path):
        values = {**values, "output_dir": str(output_dir)}
    try:
        _clear(output_dir, path.stem)
        notebook = execute(path, values, partial)
        _write_html(notebook, final.with_suffix(".html"))
        os.replace(partial, final)
    except session.OutputError:
        raise
    except OSError as error:
        raise session.OutputError(
            f"cannot write {output_dir} ({error.strerror or error}): make room or name another"
        ) from error
    return final


def execute(path: Path, values: Mapping[str, Any], partial: Path) -> Any:
    """Run a notebook by papermill, saved to `partial` as it goes; return it executed.

    Raises as `run` does.
    """
    import nbformat
    import papermill
    from papermill.exceptions import PapermillExecutionError

    notebook = nbformat.read(path, as_version=4)
    progress = Progress(len(notebook.cells), sys.stderr)
    try:
        notebook = papermill.execute_notebook(
            notebook,
            str(partial).replace("{", "{{").replace("}", "}}"),  # papermill formats this name
            parameters=dict(values),
            kernel_name="python3",  # this interpreter's, whatever the notebook was saved with
            language="python",
            progress_bar=False,
            stdout_file=progress,
            stderr_file=progress,
            on_cell_start=progress.start_cell,
            coalesce_streams=True,
            extra_arguments=KERNEL,
        )
    except PapermillExecutionError as error:
        raise _told(error, path.stem, progress.section, partial) from None
    except RuntimeError as error:  # the kernel died, most often for want of memory
        raise ChapterError(
            f"{path.stem} broke off in {progress.section!r}: {_one_line(error)}; "
            f"the notebook so far: {partial}"
        ) from None
    finally:
        progress.close()
    without_progress_bars(notebook)
    nbformat.write(notebook, partial)
    return notebook


def without_progress_bars(notebook: Any) -> None:
    """Drop from a notebook's outputs, in place, the lines that progress bars left in stderr."""
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            if output.get("name") == "stderr":
                lines = re.split(r"[\r\n]+", output.text)
                kept = [line for line in lines if line.strip() and not _is_bar(line)]
                output.text = "\n".join(kept)
        if "outputs" in cell:
            cell.outputs = [output for output in cell.outputs if output.get("text") != ""]


class Progress:
    """One line on the terminal: which cell, which section, and the last words of the cell.

    nbclient calls it at each cell, and papermill writes the cells' streams to it as to a file.
    Where there is no terminal, each section is one line in the log.
    """

    def __init__(self, cells: int, out: TextIO) -> None:
        self.cells, self.out, self.live = cells, out, out.isatty()
        self.number, self.section = 0, ""

    def start_cell(self, cell: Any, cell_index: int) -> None:
        self.number = cell_index + 1
        heading = re.match(r"#+ +(.+)", cell.source) if cell.cell_type == "markdown" else None
        if heading:
            self.section = heading.group(1)
        if heading and not self.live:
            self.out.write(f"[{self.number}/{self.cells}] {self.section}\n")
            self.out.flush()
        self._show(self.section)

    def write(self, text: str) -> None:
        lines = [line for line in re.split(r"[\r\n]+", text) if line.strip()]
        if lines:
            self._show(f"{self.section} · {lines[-1].strip()}")

    def flush(self) -> None:
        """papermill calls it after each write; `_show` has flushed."""

    def close(self) -> None:
        if self.live:
            self.out.write("\r\x1b[K")
            self.out.flush()

    def _show(self, text: str) -> None:
        if self.live:
            width = shutil.get_terminal_size().columns - 1
            self.out.write("\r\x1b[K" + f"[{self.number}/{self.cells}] {text}"[:width])
            self.out.flush()


def _told(error: Any, name: str, section: str, partial: Path) -> Exception:
    message = _one_line(error.evalue)
    if error.ename in READER_ERRORS:
        return UsageError(message)
    return ChapterError(
        f"{name} failed in {section!r}, cell [{error.exec_count}]: {error.ename}: {message}; "
        f"the notebook so far: {partial}"
    )


def _one_line(message: Any, limit: int = 300) -> str:
    words = " ".join(str(message).split())
    return words if len(words) <= limit else words[: limit - 1] + "…"


def _clear(output_dir: Path, stem: str) -> None:
    """Make the folder, and take away what an earlier run left: it would pass for this one's."""
    session._writable(output_dir)
    for name in (f"{stem}.ipynb", f"{stem}.html", f"{stem}.partial.ipynb", "results.json"):
        (output_dir / name).unlink(missing_ok=True)


def _write_html(notebook: Any, path: Path) -> None:
    from nbconvert import HTMLExporter

    session.write_whole(path, HTMLExporter().from_notebook_node(notebook)[0])


def _is_bar(line: str) -> bool:
    return re.search(r"\d+%\||\d+\w* \[\d+:\d+", line) is not None
