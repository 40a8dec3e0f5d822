"""Evidence as a small inline SVG: lines, and the bound that one of them broke.

The doctor imports no wing, so it draws by itself; it draws nothing else than a `Curve`.
"""

from __future__ import annotations

import html
import math

from cookbook.doctor.findings import Curve

WIDTH, HEIGHT, LEFT, BOTTOM, TOP, RIGHT = 460, 150, 62, 30, 10, 90
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7")


def draw(curve: Curve) -> str:
    """The curve as an `<svg>` element; points that are not finite are left out.

    >>> draw(Curve({"loss": [(0, 1.0), (1, 2.0)]}, bound=1.5)).count("<polyline")
    1
    """
    lines = {name: _finite(points) for name, points in curve.lines.items()}
    points = [point for line in lines.values() for point in line]
    if not points:
        return ""
    bounds = [curve.bound] if curve.bound is not None and math.isfinite(curve.bound) else []
    x = _scale([p[0] for p in points], LEFT, WIDTH - RIGHT)
    y = _scale([p[1] for p in points] + bounds, HEIGHT - BOTTOM, TOP)
    parts = [_axes(curve, points, bounds, x, y)]
    free = -math.inf
    ends = sorted(((y(line[-1][1]), name) for name, line in lines.items() if line))
    for place, name in ends:
        line, colour = lines[name], COLOURS[list(lines).index(name) % len(COLOURS)]
        free = max(place, free + 13)
        path = " ".join(f"{x(a):.1f},{y(b):.1f}" for a, b in line)
        parts.append(
            f"<polyline points='{path}' fill='none' stroke='{colour}' stroke-width='1.8'/>"
        )
        parts.append(_text(WIDTH - RIGHT + 5, free + 4, name, colour))
    for bound in bounds:
        parts.append(
            f"<line x1='{LEFT}' x2='{WIDTH - RIGHT}' y1='{y(bound):.1f}' y2='{y(bound):.1f}' "
            "stroke='#767676' stroke-dasharray='4 3'/>"
        )
    size = f"viewBox='0 0 {WIDTH} {HEIGHT}' width='{WIDTH}' height='{HEIGHT}'"
    return f"<br><svg {size} role='img' style='background:white'>{''.join(parts)}</svg>"


def _finite(points: list[tuple[float, float]]) -> list[tuple[float, float]]:
    return [(a, b) for a, b in points if math.isfinite(a) and math.isfinite(b)]


def _scale(values: list[float], start: float, end: float):
    low, high = min(values), max(values)
    span = (high - low) or 1.0
    return lambda value: start + (value - low) / span * (end - start)


def _axes(curve: Curve, points: list, bounds: list, x, y) -> str:
    xs, ys = [p[0] for p in points], [p[1] for p in points] + bounds
    base = HEIGHT - BOTTOM
    frame = f"<path d='M{LEFT},{TOP} V{base} H{WIDTH - RIGHT}' fill='none' stroke='#999999'/>"
    marks = [
        _text(LEFT - 5, y(value) + 4, f"{value:.3g}", "#222222", "end")
        for value in dict.fromkeys([min(ys), max(ys), *(b for b in bounds if _apart(b, ys, y))])
    ]
    marks += [
        _text(x(value), base + 13, f"{value:g}", "#222222", "middle")
        for value in {min(xs), max(xs)}
    ]
    middle = (LEFT + WIDTH - RIGHT) / 2
    marks.append(_text(middle, HEIGHT - 4, curve.x_label, "#767676", "middle"))
    marks.append(_text(LEFT + 4, TOP + 8, curve.y_label, "#767676"))
    return frame + "".join(marks)


def _apart(bound: float, values: list[float], y) -> bool:
    return all(abs(y(bound) - y(end)) > 13 for end in (min(values), max(values)))


def _text(x: float, y: float, words: str, colour: str, anchor: str = "start") -> str:
    return (
        f"<text x='{x:.1f}' y='{y:.1f}' font-size='11' font-family='sans-serif' fill='{colour}' "
        f"text-anchor='{anchor}'>{html.escape(str(words))}</text>"
    )
