import math
import xml.etree.ElementTree as ET

from cookbook.doctor import svg
from cookbook.doctor.findings import Curve


def parsed(curve):
    return ET.fromstring(svg.draw(curve).removeprefix("<br>"))


def test_it_is_well_formed_and_inside_its_frame():
    curve = Curve({"training": [(0, 3.0), (10, 1.0)], "a < b": [(0, 3.0), (10, 2.0)]}, bound=2.5)
    root = parsed(curve)
    lines = root.findall("polyline")
    assert len(lines) == 2
    for line in lines:
        for point in line.get("points").split():
            x, y = map(float, point.split(","))
            assert 0 <= x <= svg.WIDTH and 0 <= y <= svg.HEIGHT
    words = [text.text for text in root.findall("text")]
    assert {"training", "a < b", "2.5", "3", "1"} <= set(words)


def test_what_is_not_finite_is_left_out_and_nothing_is_drawn_of_nothing():
    assert svg.draw(Curve({"loss": []})) == ""
    assert svg.draw(Curve({"loss": [(0, math.nan)]})) == ""
    line = parsed(Curve({"loss": [(0, 1.0), (1, math.inf), (2, 1.0)]})).find("polyline")
    assert len(line.get("points").split()) == 2
