"""The page holds what it was given, loads nothing, and cannot be broken into by a text."""

import re

import pandas as pd

from cookbook.evaluation import model_report


def test_everything_is_on_the_page_and_nothing_is_loaded():
    import matplotlib.pyplot as plt

    figure, ax = plt.subplots()
    frame = pd.DataFrame({"label": ["ham"] * 20, "rows": range(20)})
    made = model_report.page(
        "A model", {"accuracy": (0.75, 0.7, 0.8), "rows": 240}, tables={"Confusions": frame},
        figures={"curve": ax}, limits=("other languages",),
    )  # fmt: skip
    plt.close(figure)
    assert "0.750 (95 % interval 0.700 to 0.800)" in made and "<td>240</td>" in made
    assert made.count("<td>ham</td>") == 12 and "8 more rows" in made
    assert "other languages" in made
    assert not re.findall(r'(?:src|href)="(?!data:)', made)


def test_a_text_of_the_data_stays_text():
    frame = pd.DataFrame({"text": ["<script>alert(1)</script>"]})
    made = model_report.page("<b>", {"<i>": "<u>"}, tables={"<s>": frame}, limits=("<p>x",))
    for tag in ("<script>", "<b>", "<i>", "<u>", "<s>"):
        assert tag not in made


def test_it_is_written_whole(tmp_path):
    path = model_report.write(tmp_path / "report.html", "übung", {})
    assert path.read_text(encoding="utf-8").endswith("</html>")
