"""Renew the outputs of the chapters in place: one clean run 1..N, `laptop`, nothing of the machine.

    python notebooks/execute.py            every chapter
    python notebooks/execute.py 03 07      these

A notebook is replaced only when it ran to its end; after a failure the partial one lies in
`build/`. Pictures are stored in few colours, less than half of the bytes. Warnings stay in the
outputs, so that the tests of the house see them: mend their cause.
"""

import base64
import io
import os
import re
import sys
import tempfile
from pathlib import Path

import nbformat
from PIL import Image, ImageChops, ImageStat

from cookbook import chapters, execution

ROOT = Path(__file__).resolve().parents[1]
# The longest first: the checkout may lie in the home folder. PREFIX is the environment.
MACHINE = {str(ROOT): ".", sys.prefix: "<environment>"}
MACHINE |= {tempfile.gettempdir(): "<temporary>", str(Path.home()): "~"}


def renew(path: Path) -> None:
    """Execute one notebook with its own parameters and write it back."""
    folder = ROOT / "build" / path.stem
    folder.mkdir(parents=True, exist_ok=True)
    partial = folder / f"{path.stem}.partial.ipynb"
    notebook = execution.execute(path, {}, partial)
    strip(notebook)
    nbformat.write(notebook, partial)
    partial.replace(path)


def strip(notebook: nbformat.NotebookNode) -> None:
    """Take times, papermill's notes, widgets' states and paths of the machine out, in place."""
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    notebook.metadata = nbformat.from_dict(
        {"kernelspec": kernel, "language_info": {"name": "python"}}
    )
    for cell in notebook.cells:
        tags = cell.metadata.get("tags", [])
        cell.metadata = nbformat.from_dict({"tags": tags} if tags else {})
        for output in cell.get("outputs", []):
            if "text" in output:
                output.text = _without_machine(output.text)
            output.get("data", {}).pop("text/latex", None)  # of tables, which HTML shows too
            for kind, content in output.get("data", {}).items():
                if kind == "image/png":
                    output.data[kind] = _in_few_colours(content)
                elif isinstance(content, str) and not kind.startswith("image/"):
                    output.data[kind] = _without_machine(content)


def _in_few_colours(png: str) -> str:
    """A base64 PNG in 32 to 128 colours, as few as leave none visibly off; no photographs."""
    picture = Image.open(io.BytesIO(base64.b64decode(png))).convert("RGB")
    for colours in (32, 64, 128):
        few = picture.quantize(colours, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE)
        off = ImageStat.Stat(ImageChops.difference(picture, few.convert("RGB"))).mean
        if max(off) < 0.5:  # of 255, on average
            break
    small = io.BytesIO()
    few.save(small, "PNG", optimize=True)
    return base64.b64encode(small.getvalue()).decode()


def _without_machine(text: str) -> str:
    for path, name in sorted(MACHINE.items(), key=lambda pair: -len(pair[0])):
        text = text.replace(path, name)
    return re.sub(r"\bat 0x[0-9a-f]{6,}", "at 0x…", text)


def main() -> int:
    os.chdir(ROOT)  # the default output_dir, build/<chapter>, is relative
    os.environ.pop("COOKBOOK_PROFILE", None)
    paths = [chapters.find(name) for name in sys.argv[1:]]
    try:
        for path in paths or [chapter.path for chapter in chapters.chapters()]:
            print(path.relative_to(ROOT), flush=True)
            renew(path)
    except (chapters.UsageError, execution.ChapterError) as error:
        print(f"notebooks: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
