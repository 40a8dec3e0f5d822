import re

from cookbook.doctor import catalogue_html, verdict
from cookbook.doctor.catalogue import FAULTS, Fault


def test_every_fault_has_its_anchor_once():
    ids = re.findall(r"id='(\w+)'", catalogue_html.catalogue())
    assert ids == list(FAULTS)


def test_a_section_of_this_chapter_is_a_link_within_the_page():
    fault = Fault("X9", "A & B", "s < t", "x", "y", "s", "A", section="13_when.ipynb#A-heading")
    other = Fault("X8", "C", "s", "x", "y", "s", "A", section="03_masked.ipynb#A-heading")
    page = catalogue_html.catalogue({"X9": fault, "X8": other})
    assert "<a href='#A-heading'>A &amp; B</a>" in page and "s &lt; t" in page
    assert "<a href='03_masked.ipynb#A-heading'>C</a>" in page


def test_the_tree_asks_in_the_order_of_the_verdict():
    page = catalogue_html.tree()
    assert re.findall(r"href='#(\w+)'", page) == list(verdict.ORDER)
