"""Docstrings are read out of source that is parsed, never imported."""

import inspect
import json
import subprocess
import sys
from textwrap import dedent

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cookbook.data.harvest import docstrings, harvest


def found(source):
    return list(docstrings(dedent(source)))


def test_everything_nested_is_named_by_its_path_in_the_order_of_the_source():
    source = '''
        "Module."
        class Outer(Base, Generic[T], metaclass=M):
            """Outer class."""
            class Inner:
                """Inner class."""
                async def method(self, *args, key: int = 3, **rest) -> str:
                    """A coroutine."""
                    def helper():
                        """Inside a function."""
    '''
    assert found(source) == [
        ("", "", "Module."),
        ("Outer", "(Base, Generic[T])", "Outer class."),
        ("Outer.Inner", "()", "Inner class."),
        ("Outer.Inner.method", "(self, *args, key: int=3, **rest) -> str", "A coroutine."),
        ("Outer.Inner.method.helper", "()", "Inside a function."),
    ]


def test_decorators_and_missing_docstrings_do_not_matter():
    source = '''
        def silent(): return 1
        @property
        @cache(maxsize=None)
        def spoken(self):
            """Said."""
        class Silent:
            """"""
            def inside(self): "Said inside."
    '''
    assert found(source) == [
        ("spoken", "(self)", "Said."),
        ("Silent.inside", "(self)", "Said inside."),
    ]


@pytest.mark.parametrize("around", [
    "if sys.version_info > (3,):\n    {}\nelse:\n    pass",
    "if a:\n    pass\nelif b:\n    {}",
    "if a:\n    pass\nelse:\n    {}",
    "try:\n    {}\nfinally:\n    pass",
    "try:\n    pass\nfinally:\n    {}",
    "with x:\n    {}",
    "for x in y:\n    {}",
    "if a:\n    try:\n        {}\n    except E: pass",
])  # fmt: skip
def test_definitions_under_a_condition_are_found(around):
    assert found(around.format('def f(): "Said."')) == [("f", "()", "Said.")]


@pytest.mark.parametrize("call, expected", [
    ('add_docstr(torch.abs, r"""abs(x)\n\n    Absolute value.\n    """)',
     ("abs", "", "abs(x)\n\nAbsolute value.")),
    ('_add_docstr(torch.linalg.inv, "Inverse.")', ("linalg.inv", "", "Inverse.")),
    ('add_docstr(torch.add, "Sum of {x}.".format(**common))', ("add", "", "Sum of {x}.")),
    ('add_newdoc("numpy._core.umath", "sin", "Sine.")', ("sin", "", "Sine.")),
    ('add_newdoc("numpy", "ndarray", ("T", "Transposed."))', ("ndarray", "", "Transposed.")),
    ('np.core.add_newdoc("numpy", "dot", "Product.")', ("dot", "", "Product.")),
    ('add_newdoc_for_scalar_type("float64", ["double"], "Double.")', ("float64", "", "Double.")),
])  # fmt: skip
def test_documentation_added_by_a_call_is_found(call, expected):
    assert found(call) == [expected]


@pytest.mark.parametrize("call", [
    'add_docstr(torch.abs, TEXT)', 'add_docstr("only one")', 'print(a, "not documentation")',
    'add_newdoc("a", "b", 3)', "add_newdoc()", '(lambda: 0)(1, "x")',
])  # fmt: skip
def test_other_calls_say_nothing(call):
    assert found(call) == []


def test_a_docstring_is_unindented():
    assert found('def f():\n    """First.\n\n        Indented.\n    Last.\n    """') == [
        ("f", "()", "First.\n\n    Indented.\nLast.")
    ]


def test_source_is_parsed_and_never_run(tmp_path):
    path = tmp_path / "trap.py"
    path.write_text(f'"Said."\nopen({str(tmp_path / "ran")!r}, "w")\nraise SystemExit\n')
    assert harvest(path) == [("", "", "Said.")]
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("content", [
    b"def f(:\n", b"print 'python 2'\n", b"\xff\xfe\x00", b"x = 1\x00\n",
    b"# -*- coding: latin-1 -*-\n'\xe9t\xe9'\n", b"(" * 5000, b"",
])  # fmt: skip
def test_a_file_that_cannot_be_parsed_has_no_docstrings(tmp_path, content):
    (tmp_path / "bad.py").write_bytes(content)
    assert harvest(tmp_path / "bad.py") == []


def test_half_a_surrogate_pair_does_not_stop_the_harvest(tmp_path):
    (tmp_path / "odd.py").write_text('"Half: \\ud800."')
    assert harvest(tmp_path / "odd.py") == [("", "", "Half: ?.")]


def test_bad_escapes_in_other_peoples_strings_do_not_warn(recwarn):
    assert found('"a \\\\d"')[0][2] == "a \\d"
    list(docstrings('"\\d+"'))
    assert not recwarn.list


@given(st.text(alphabet=st.characters(exclude_categories=("Cs", "Cc")), min_size=1))
def test_any_text_comes_back_as_python_itself_reads_it(text):
    source = f"def f():\n    {text!r}\n"
    namespace = {}
    exec(source, namespace)
    expected = inspect.getdoc(namespace["f"])
    assert [row[2] for row in docstrings(source)] == ([expected] if expected else [])


def test_the_worker_answers_a_line_for_a_line(tmp_path):
    good, bad = tmp_path / "gut é.py", tmp_path / "bad.py"
    good.write_text('"Straße."', encoding="utf-8")
    bad.write_text("def")
    asked = f"{good}\n{bad}\n".encode()
    command = [sys.executable, "-X", "utf8", "-m", "cookbook.data.harvest"]
    told = subprocess.run(command, input=asked, capture_output=True, check=True).stdout.splitlines()
    assert [json.loads(line) for line in told] == [
        [str(good), [["", "", "Straße."]]], [str(bad), []],
    ]  # fmt: skip
