import json

from cookbook.doctor.findings import Curve, Finding
from cookbook.doctor.report import Report

NAN = Finding("P1", "error", "the loss is nan at step 3 & 4")
EMPTY = Finding("T3", "error", "2 of 8 batches have no label", measured={"batches": 2})
DECAY = Finding("O8", "info", "decay on 4 norms")


def test_a_healthy_report_has_no_primary():
    report = Report([], checked=["a", "b"])
    assert report.primary is None and report.findings == [] and report.healthy
    assert str(report) == "no fault found (2 checks)"
    assert repr(report) == "<Report: healthy>"
    assert "no fault found in 2 checks" in report._repr_html_()


def test_one_verdict_and_the_rest_under_what_it_is():
    report = Report([NAN, DECAY, EMPTY])
    assert report.primary is EMPTY and report.faults() == ["T3", "P1"]
    lines = str(report).splitlines()
    assert lines[0] == "T3 · Rows without any label  (error)"
    assert lines[lines.index("probably a consequence") + 1].startswith("  P1 ")
    assert lines[lines.index("advice") + 1].startswith("  O8 ")


def test_advice_alone_is_healthy_but_said():
    report = Report([DECAY])
    assert report.healthy and "O8" in str(report) and report.faults() == []


def test_html_escapes_what_it_was_told_and_draws_the_evidence():
    curve = Curve({"loss": [(0, 1.0), (1, 4.0)]}, bound=2.0)
    html = Report([Finding("O1", "warn", "loss <b>4</b>", curve=curve)])._repr_html_()
    assert "<b>4</b>" not in html and "&lt;b&gt;4" in html
    assert html.count("<polyline") == 1 and "stroke-dasharray" in html


def test_what_could_not_be_checked_is_said_everywhere():
    report = Report([], not_checked={"label_shift": "no logits"})
    assert "not checked: label_shift (no logits)" in str(report)
    page = report._repr_html_()
    assert "not checked: label_shift" in page and "<summary><small>1 check could" in page
    assert "<details>" not in Report([])._repr_html_()
    assert report.to_dict()["not_checked"] == {"label_shift": "no logits"}


def test_two_reports_are_ranked_together():
    both = Report([NAN], checked=["a"]) + Report([EMPTY], checked=["a", "b"], not_checked={"c": ""})
    assert both.primary is EMPTY and both.checked == ["a", "b"] and both.not_checked == {"c": ""}


def test_to_dict_goes_through_json_and_back():
    plain = json.loads(json.dumps(Report([NAN, EMPTY]).to_dict(), allow_nan=False))
    assert plain["primary"]["fault"] == "T3" and plain["primary"]["measured"] == {"batches": 2}
    assert [f["fault"] for f in plain["findings"]] == ["P1"]
