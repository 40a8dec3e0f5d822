"""The house: which way imports run, how long things get, what is written down only once.

The rules of the notebooks are in test_chapter_rules.py.
"""

import ast
import graphlib
import importlib.metadata
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[1]
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
FILES = sorted(path for path in (ROOT / "cookbook").rglob("*.py") if "_shipped" not in path.parts)

GROUND = {"maths", "evaluation", "session", "shipped", "live_memory"}
MIDDLE = {"models", "data", "plots"} | GROUND
MAY_IMPORT = {
    "maths": set(),
    "evaluation": set(),
    "session": set(),
    "shipped": set(),
    "live_memory": set(),  # counts the bytes of tensors for models, scaling and finetuning
    "canvas": set(),  # the axes and colours that plots and heatmaps draw on
    "plots": {"canvas"},
    "heatmaps": {"canvas"},
    "fronts": {"canvas"},
    "training_plots": {"canvas"},
    "evaluation_plots": {"canvas"},
    "embedding_plots": {"canvas"},
    "image_plots": {"canvas"},
    "selection_plots": {"canvas"},
    "speed_plots": {"canvas"},
    "device_plots": {"canvas"},
    "doctor": set(),
    "data": GROUND | {"plots"},
    "models": GROUND | {"plots"},
    "training": MIDDLE,
    "scaling": MIDDLE | {"training"},
    "finetuning": MIDDLE | {"training", "scaling"},
    "chapters": {"session", "shipped"},
    "execution": {"session", "shipped", "chapters"},
    "cli": MIDDLE | {"training", "scaling", "finetuning", "doctor", "chapters", "execution"},
    "__init__": set(),
}
# Used where it happens to be, and never asked for.
OPTIONAL = {
    "cookbook": {"tensorboard"},  # cookbook doctor reads its logs
    "benchmarks": {"torchao"},  # int8.py installs it into build/
}
WINGS = {"data", "maths", "models", "training", "finetuning", "evaluation", "scaling", "doctor"}
HEAVY = {"transformers", "datasets", "peft", "sklearn", "pandas", "matplotlib"}
# A subclass needs its base at the top of the file; the wing's face loads it only when used.
SUBCLASSES = {
    "cookbook/training/trainer.py": {"transformers"},
    "cookbook/doctor/callback.py": {"transformers"},
}


def by_name(path):
    return path.relative_to(ROOT).as_posix()


def dotted(path):
    """cookbook/data/splits.py as cookbook.data.splits; a wing's face as cookbook.data."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


TREES = {path: ast.parse(path.read_text()) for path in FILES}
MODULES = {dotted(path): path for path in FILES}
every_file = pytest.mark.parametrize("path", FILES, ids=by_name)


def faces():
    """What the wings' faces hand on: {cookbook.data.load: cookbook.data.sources}, {modules}."""
    names, modules = {}, set()
    for path, tree in TREES.items():
        keywords = [node for node in ast.walk(tree) if isinstance(node, ast.keyword)]
        for keyword in keywords if path.name == "__init__.py" else []:
            if keyword.arg == "submodules":
                modules |= {f"{dotted(path)}.{name}" for name in ast.literal_eval(keyword.value)}
            elif keyword.arg == "submod_attrs":
                for module, handed in ast.literal_eval(keyword.value).items():
                    home = f"{dotted(path)}.{module}"
                    names |= {f"{dotted(path)}.{name}": home for name in handed}
    return names, modules


HANDED_ON, PUBLIC_MODULES = faces()


def imports(path):
    """The modules of the package that a file imports, at its top or anywhere inside."""
    package = dotted(path) if path.name == "__init__.py" else dotted(path).rpartition(".")[0]
    for node in ast.walk(TREES[path]):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                above = package.split(".")[: len(package.split(".")) - node.level + 1]
                base = ".".join([*above, base] if base else above)
            for alias in node.names:
                full = f"{base}.{alias.name}"
                yield HANDED_ON.get(full, full if full in MODULES else base)


def room(module):
    """The wing or the top-level file that a module lies in."""
    return module.split(".")[1] if "." in module else "__init__"


@every_file
def test_arrows_run_one_way(path):
    here = room(dotted(path))
    assert here in MAY_IMPORT, f"{here} is new: give it a place in MAY_IMPORT and in DESIGN"
    there = {room(name) for name in imports(path) if name.split(".")[0] == "cookbook"}
    assert there - {here, "__init__"} <= MAY_IMPORT[here]


def test_no_file_imports_itself_in_a_circle():
    graph = {
        dotted(path): {name for name in imports(path) if name in MODULES} - {dotted(path)}
        for path in FILES
    }
    graphlib.TopologicalSorter(graph).prepare()  # raises CycleError, with the circle


def test_every_wing_has_a_face_that_defines_nothing():
    assert {path.parent.name for path in FILES if path.name == "__init__.py"} <= WINGS | {
        "cookbook"
    }
    for path in FILES:
        if path.name == "__init__.py":
            documentation, *rest = TREES[path].body
            assert isinstance(documentation, ast.Expr), f"{by_name(path)}: no docstring"
            for node in rest:
                attaches = isinstance(node, ast.Assign) and "attach" in ast.unparse(node.value)
                version = isinstance(node, ast.Assign) and "__version__" in ast.unparse(node)
                allowed = isinstance(node, ast.Import) or attaches or version
                assert allowed, f"{by_name(path)}:{node.lineno} defines something"


@every_file
def test_a_file_is_one_screenful_of_one_idea(path):
    assert ast.get_docstring(TREES[path]), "open with what it does and what it does not"
    assert len(path.read_text().splitlines()) < 300


def code_lines(function):
    """Lines from `def` to the end, less the docstring, which owes the reader what it takes."""
    first = function.body[0]
    documented = ast.get_docstring(function, clean=False) is not None
    told = first.end_lineno - first.lineno + 1 if documented else 0
    return function.end_lineno - function.lineno + 1 - told


@every_file
def test_functions_stay_short(path):
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef)
    found = [node for node in ast.walk(TREES[path]) if isinstance(node, kinds)]
    assert {node.name: code_lines(node) for node in found if code_lines(node) > 40} == {}


def public(path):
    """What a wing's face hands on from a file, by name or with its whole module."""
    for node in TREES[path].body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_"):
            wing = dotted(path).rpartition(".")[0]
            named = HANDED_ON.get(f"{wing}.{node.name}") == dotted(path)
            if named or dotted(path) in PUBLIC_MODULES:
                yield node


@every_file
def test_what_is_public_is_documented_and_typed(path):
    for node in public(path):
        assert ast.get_docstring(node), f"{node.name}: no docstring"
        if isinstance(node, ast.FunctionDef):
            given = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
            bare = [argument.arg for argument in given if argument.annotation is None]
            assert not bare and node.returns is not None, f"{node.name}: no types for {bare}"


@every_file
def test_every_file_has_a_test_file_that_mirrors_it(path):
    if path.name not in ("__init__.py", "errors.py"):  # an errors.py has its doctest
        inside = path.relative_to(ROOT / "cookbook")
        assert (ROOT / "tests" / inside.parent / f"test_{inside.name}").is_file()


def top_level(tree):
    """The statements that run on import: not those in functions, nor under TYPE_CHECKING."""
    todo = list(tree.body)
    while todo:
        node = todo.pop()
        skipped = isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
        if not skipped and not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node
            todo.extend(child for child in ast.iter_child_nodes(node))


@every_file
def test_heavy_libraries_are_imported_where_they_are_used(path):
    names = set()
    for node in top_level(TREES[path]):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module.split(".")[0])
    assert names & HEAVY <= SUBCLASSES.get(by_name(path), set())


@pytest.mark.parametrize("module", ["cookbook", "cookbook.cli"])
def test_importing_costs_next_to_nothing(module):
    """CPU seconds of the import alone, the least of three: what other processes do is not in it."""
    program = (
        "import sys, time; began = time.process_time(); "
        f"import {module}; print(time.process_time() - began, *sys.modules)"
    )
    runs = [
        subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
        for _ in range(3)
    ]
    seconds, *loaded = min((run.stdout.split() for run in runs), key=lambda words: float(words[0]))
    assert set(loaded) & (HEAVY | {"torch", "numpy", "evaluate", "papermill", "nbformat"}) == set()
    assert float(seconds) < 0.2


def names_of(requirements):
    """{'scikit-learn', …}, spelled as the package index spells them."""
    found = (re.match(r"[A-Za-z0-9._-]+", line).group() for line in requirements)
    return {re.sub(r"[-_.]+", "-", name).lower() for name in found}


def test_environment_yml_says_nothing_that_pyproject_says():
    """Python, because conda needs it first; and pip, which reads the rest from pyproject."""
    wanted = yaml.safe_load((ROOT / "environment.yml").read_text())
    python, pip, by_pip = wanted["dependencies"]
    assert python == "python" + PYPROJECT["project"]["requires-python"]
    assert pip == "pip"
    assert by_pip == {"pip": ["-c constraints.txt", "-e .[test]"]}
    assert "test" in PYPROJECT["project"]["optional-dependencies"]


def imported_anywhere(folder):
    """The libraries that the files of a folder import, wherever in the file."""
    for path in sorted((ROOT / folder).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                yield from (alias.name.split(".")[0] for alias in node.names)
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                yield node.module.split(".")[0]


@pytest.mark.parametrize("folder", ["cookbook", "tests", "benchmarks"])
def test_what_is_imported_is_also_declared(folder):
    """Installed here is not enough: an empty environment gets only what pyproject.toml asks for."""
    declared = names_of(PYPROJECT["project"]["dependencies"])
    if folder != "cookbook":
        declared |= names_of(PYPROJECT["project"]["optional-dependencies"]["test"])
    ours = {"cookbook"} | {path.stem for path in (ROOT / folder).rglob("*")}
    sold_as = importlib.metadata.packages_distributions()
    wanted = set(imported_anywhere(folder)) - set(sys.stdlib_module_names) - ours
    missing = {name for name in wanted if not declared & names_of(sold_as.get(name, [name]))}
    assert missing - OPTIONAL.get(folder, set()) == set()


def test_constraints_pin_every_dependency_and_nothing_else_than_versions():
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pins = [line for line in lines if line and not line.startswith("#")]
    assert all(re.fullmatch(r"[A-Za-z0-9._-]+==[A-Za-z0-9.!]+", line) for line in pins)
    extras = PYPROJECT["project"]["optional-dependencies"].values()
    wanted = names_of(sum(extras, PYPROJECT["project"]["dependencies"]))
    assert wanted <= names_of(pins)
    assert "cookbook" not in names_of(pins)


def tracked():
    """The text files that git has or would take; without git, all that is not ignored."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    ignored = {".venv", "build", "__pycache__", ".git", ".pytest_cache", ".ruff_cache"}
    paths = (
        [ROOT / line for line in listed.stdout.splitlines()]
        if listed.returncode == 0
        else [path for path in ROOT.rglob("*") if not ignored & set(path.parts)]
    )
    binary = {".safetensors", ".png", ".jpg", ".gif", ".parquet", ".npz", ".ipynb"}
    return [path for path in paths if path.is_file() and path.suffix not in binary]


def lines_with(pattern):
    return [
        f"{by_name(path)}:{number}"
        for path in tracked()
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if re.search(pattern, line)
    ]


def test_no_registry_address_stands_anywhere():
    """Where packages come from is the machine's business: pip is told by its own settings."""
    # Put together here, or this file would name them.
    hosts = "|".join(rf"{name}\.org" for name in ("pypi", "pythonhosted", "anaconda", "pytorch"))
    address = rf"https?://[\w.-]*({hosts}|/simple)\b.*(simple|whl|packages|conda-forge)"
    option = "--(extra-)?index" + "-url|--find" + "-links"
    assert lines_with(f"{address}|{option}") == []


def test_no_path_of_this_machine_stands_anywhere():
    places = {str(ROOT), str(Path.home()), sys.prefix} - {"/"}
    assert lines_with("|".join(rf"{re.escape(place)}(/|\b)" for place in places)) == []


def test_make_help_knows_every_target():
    text = (ROOT / "Makefile").read_text()
    targets = re.search(r"^\.PHONY: (.+)$", text, re.MULTILINE).group(1).split()
    assert re.findall(r"^([a-z]+):.*## ", text, re.MULTILINE) == targets


def test_ci_calls_make_test():
    script = ROOT / ".ci" / "run"
    assert script.stat().st_mode & 0o100
    assert "make --no-print-directory test" in script.read_text()
