"""A model on one page: what it was asked, how well it does, where not, and how sure it is.

Does: one HTML file without anything to load, from numbers that are measured elsewhere. Does not:
measure. Used by chapter 12. Source of the idea: Mitchell et al. 2019, arXiv:1810.03993.
"""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd

STYLE = """body{font:15px/1.5 system-ui,sans-serif;color:#222;max-width:62rem;margin:2rem auto;
padding:0 1rem}h1{font-size:1.6rem;margin:0}h2{font-size:1.1rem;margin:1.6rem 0 .4rem}
p.lead{color:#555;margin:.2rem 0 1rem}table{border-collapse:collapse;font-size:.9rem}
td,th{padding:.2rem .8rem .2rem 0;border-bottom:1px solid #ddd;text-align:left}
.figures{display:flex;flex-wrap:wrap;gap:1rem}.figures img{max-width:30rem;height:auto}"""


def page(
    title: str,
    facts: Mapping[str, Any],
    *,
    tables: Mapping[str, pd.DataFrame] | None = None,
    figures: Mapping[str, Any] | None = None,
    limits: tuple[str, ...] = (),
) -> str:
    """One HTML page: `facts` as a list, `tables` (at most 12 rows each), `figures`, `limits`.

    Figures are matplotlib figures or axes, embedded as PNG; everything else is escaped, so a text
    of the data cannot become part of the page. What the model is not for stands last, in `limits`.

    >>> "<h1>docbert &lt;3</h1>" in page("docbert <3", {"accuracy": 0.75})
    True
    """
    parts = [f"<h1>{html.escape(title)}</h1>", _facts(facts)]
    for name, frame in (tables or {}).items():
        rows = frame.head(12).to_html(index=False, border=0, float_format="{:.3f}".format)
        more = f"<p class=lead>{len(frame) - 12} more rows</p>" if len(frame) > 12 else ""
        parts.append(f"<h2>{html.escape(name)}</h2>{rows}{more}")
    if figures:
        pictures = "".join(_picture(name, drawn) for name, drawn in figures.items())
        parts.append(f"<h2>Figures</h2><div class=figures>{pictures}</div>")
    if limits:
        items = "".join(f"<li>{html.escape(limit)}</li>" for limit in limits)
        parts.append(f"<h2>What it is not for</h2><ul>{items}</ul>")
    head = f'<meta charset="utf-8"><title>{html.escape(title)}</title><style>{STYLE}</style>'
    return f'<!doctype html><html lang="en"><head>{head}</head><body>{"".join(parts)}</body></html>'


def write(path: str | Path, *args: Any, **more: Any) -> Path:
    """Write `page(…)` to a file, UTF-8, and return its path. Raises OSError where it cannot."""
    target = Path(path)
    target.write_text(page(*args, **more), encoding="utf-8")
    return target


def _facts(facts: Mapping[str, Any]) -> str:
    cells = "".join(
        f"<tr><th>{html.escape(str(name))}</th><td>{html.escape(_said(value))}</td></tr>"
        for name, value in facts.items()
    )
    return f"<table>{cells}</table>"


def _said(value: Any) -> str:
    if isinstance(value, tuple) and len(value) == 3:  # an estimate with its interval
        return "{:.3f} (95 % interval {:.3f} to {:.3f})".format(*value)
    return f"{value:,.3f}" if isinstance(value, float) else str(value)


def _picture(name: str, drawn: Any) -> str:
    content = io.BytesIO()
    figure = getattr(drawn, "figure", drawn)
    figure.savefig(content, format="png", dpi=90, bbox_inches="tight")
    data = base64.b64encode(content.getvalue()).decode()
    return f'<img alt="{html.escape(name)}" src="data:image/png;base64,{data}">'
