from cookbook.doctor.checks import Skip, attempt
from cookbook.doctor.findings import Finding

FOUND = Finding("M5", "error", "…")


def finds(subject):
    yield FOUND


def looks_away(subject):
    raise Skip("no labels")
    yield FOUND


def says_nothing(subject):
    raise Skip


def finds_and_breaks(subject):
    yield FOUND
    raise RuntimeError("two\nlines, and " + 200 * "more ")


def test_what_was_found_or_why_nothing_was_looked_for():
    assert attempt(finds, None) == ([FOUND], "")
    assert attempt(looks_away, None) == ([], "no labels")
    assert attempt(says_nothing, None) == ([], "does not apply")


def test_a_failure_is_one_short_line_and_half_a_finding_is_none():
    found, reason = attempt(finds_and_breaks, None)
    assert found == [] and reason.startswith("failed with RuntimeError: two lines, and more")
    assert "\n" not in reason and len(reason) < 200
