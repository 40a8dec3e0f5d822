import ast
from pathlib import Path

import pytest

from cookbook import chapters
from cookbook.doctor import catalogue_data, catalogue_model, catalogue_run, verdict
from cookbook.doctor.catalogue import FAULTS, PHASES, TIERS
from cookbook.shipped import folder

DOCTOR = Path(__file__).resolve().parents[2] / "cookbook" / "doctor"


def test_no_id_is_given_twice_and_all_of_the_specification_are_there():
    entries = [*catalogue_data.FAULTS, *catalogue_model.FAULTS, *catalogue_run.FAULTS]
    assert len(entries) == len(FAULTS) == 66  # 65 of the specification, and C1
    counts = {"D": 9, "T": 14, "M": 10, "L": 4, "O": 10, "R": 2, "P": 4, "X": 3, "K": 3, "E": 3}
    for letter, count in counts.items():
        assert {f"{letter}{n}" for n in range(1, count + 1)} <= FAULTS.keys()


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
def test_every_entry_says_all_a_reader_needs(fault):
    assert fault.title[0].isupper() or fault.title.startswith(("zero_grad", "fp16"))
    assert fault.symptom and fault.signal and fault.remedy
    assert set(fault.phases) <= PHASES.keys() and fault.phases
    assert fault.tier in TIERS
    assert fault.id in fault.explain() and fault.remedy in fault.explain()


def test_every_fault_has_one_place_in_the_tree():
    placed = [fault for _, level in verdict.TREE for fault in level]
    assert sorted(placed) == sorted(FAULTS)


def test_sections_that_are_named_exist():
    for fault in FAULTS.values():
        if fault.section:
            notebook, _, anchor = fault.section.partition("#")
            cells = chapters.read(folder("notebooks") / notebook)["cells"]
            texts = ["".join(c["source"]) for c in cells if c["cell_type"] == "markdown"]
            markdown = "\n".join(texts)
            headings = [line.lstrip("# ") for line in markdown.splitlines() if line.startswith("#")]
            assert anchor in [heading.replace(" ", "-") for heading in headings], fault.id


def test_what_is_marked_as_built_is_named_by_some_check():
    named = set()
    for path in DOCTOR.glob("*.py"):
        if not path.stem.startswith(("catalogue", "verdict")):
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.Constant) and node.value in FAULTS:
                    named.add(node.value)
    assert {fault.id for fault in FAULTS.values() if fault.built} <= named


def test_what_no_run_looks_for_says_so():
    said = "neither examine nor Doctor nor Watch looks for it"
    assert [fault.id for fault in FAULTS.values() if said in fault.explain()] == ["D3"]
