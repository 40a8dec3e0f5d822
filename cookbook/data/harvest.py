"""Read docstrings out of Python source, by parsing and never importing it.

It knows nothing of splits, caches or columns; `embedded` runs it in worker processes as
`python -m cookbook.data.harvest`, one file name a line on standard input, one JSON list a line on
standard output. Chapter 01 uses what it finds.
"""

from __future__ import annotations

import ast
import inspect
import json
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path

# numpy and torch document their compiled functions by calls: add_docstr(torch.abs, "…").
ADDERS = {"add_newdoc", "add_docstr", "_add_docstr", "add_newdoc_for_scalar_type"}
DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)


def docstrings(source: str) -> Iterator[tuple[str, str, str]]:
    """Yield `(name, signature, text)` for everything in `source` that is documented.

    `name` is dotted inside the module and empty for the module itself; `signature` is empty for
    modules, and the base classes for a class.

    >>> list(docstrings('def add(a, b=1):\\n    "Sum of two numbers."'))
    [('add', '(a, b=1)', 'Sum of two numbers.')]
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # invalid escapes in other people's strings
        tree = ast.parse(source)
    yield from _visit(tree, "")


def _visit(node: ast.AST, prefix: str) -> Iterator[tuple[str, str, str]]:
    if isinstance(node, DOCUMENTED) and (text := ast.get_docstring(node)):
        yield prefix, _signature(node), text
    for child in ast.iter_child_nodes(node):
        if isinstance(child, DOCUMENTED):
            yield from _visit(child, f"{prefix}.{child.name}" if prefix else child.name)
        elif isinstance(child, ast.Expr) and isinstance(child.value, ast.Call):
            yield from _added(child.value)
        elif isinstance(child, (ast.If, ast.Try, ast.With, ast.For)):
            yield from _visit(child, prefix)


def _signature(node: ast.AST) -> str:
    if isinstance(node, ast.ClassDef):
        return "(" + ", ".join(ast.unparse(base) for base in node.bases) + ")"
    if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
        returns = f" -> {ast.unparse(node.returns)}" if node.returns else ""
        return f"({ast.unparse(node.args)}){returns}"
    return ""


def _added(call: ast.Call) -> Iterator[tuple[str, str, str]]:
    function = getattr(call.func, "attr", getattr(call.func, "id", ""))
    if function not in ADDERS or len(call.args) < 2:
        return
    name = call.args[1] if function == "add_newdoc" else call.args[0]
    text = call.args[-1]
    if isinstance(text, ast.Call) and isinstance(text.func, ast.Attribute):
        text = text.func.value  # r"""…""".format(**common)
    if isinstance(text, ast.Tuple) and len(text.elts) == 2:  # ("method", "text")
        text = text.elts[1]
    if isinstance(text, ast.Constant) and isinstance(text.value, str):
        label = name.value if isinstance(name, ast.Constant) else ast.unparse(name)
        yield str(label).split(".", 1)[-1], "", inspect.cleandoc(text.value)


def harvest(path: Path) -> list[tuple[str, str, str]]:
    """All docstrings of one file; a file that is not valid Python of this version has none."""
    try:
        found = docstrings(path.read_text(encoding="utf-8"))
        # A table of text can hold no half of a surrogate pair, which an escape can write.
        return [(name, signature, _valid(text)) for name, signature, text in found]
    except (SyntaxError, UnicodeDecodeError, ValueError, RecursionError):
        return []


def _valid(text: str) -> str:
    return text.encode("utf-8", "replace").decode()


def main() -> None:
    for line in sys.stdin:
        path = line.rstrip("\n")
        print(json.dumps([path, harvest(Path(path))]), flush=True)


if __name__ == "__main__":
    main()
