"""Ink as another set has it: printed characters like handwritten digits, and the other way round.

Does: cut a dark character on white out to its ink, as light ink on black in a small square; set a
small light picture on white paper where a character would stand. Does not: load anything.
Chapter 14 uses it, to carry what was learned from fonts over to handwriting.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from cookbook.data.glyphs import BASELINE, SIDE

TALL = 18  # pixels of a digit among the glyphs, from the baseline up


def cut_out(image: Any, side: int = 8) -> np.ndarray:
    """A grey PIL image, dark on white, as its ink alone: (side, side) uint8, light on black.

    The ink fills the height or the width, in the middle of the other; its shape is kept.

    >>> from PIL import Image
    >>> page = np.full((32, 32), 255, np.uint8)
    >>> page[10:20, 15:17] = 0
    >>> cut_out(Image.fromarray(page), 8).max(0).tolist()[:3]
    [0, 0, 0]
    """
    from PIL import Image, ImageOps

    ink = ImageOps.invert(image.convert("L"))
    box = ink.getbbox()
    if box is None:
        return np.zeros((side, side), np.uint8)
    fitted = ImageOps.contain(ink.crop(box), (side, side), Image.Resampling.BOX)
    square = Image.new("L", (side, side))
    square.paste(fitted, ((side - fitted.width) // 2, (side - fitted.height) // 2))
    return np.asarray(square)


def on_paper(image: Any) -> Any:
    """A PIL image, light on black, as a grey one of 32 x 32: dark on white, where a glyph stands.

    It ends on the baseline of `glyphs` and is as tall as a printed digit.

    >>> from PIL import Image
    >>> page = np.asarray(on_paper(Image.new("L", (8, 8), 255)))
    >>> page[5].min(), page[6].min(), page[23].min(), page[24].min()
    (np.uint8(255), np.uint8(0), np.uint8(0), np.uint8(255))
    """
    from PIL import Image, ImageOps

    ink = ImageOps.invert(image.convert("L"))
    width = max(1, round(ink.width * TALL / ink.height))
    ink = ink.resize((min(width, SIDE), TALL), Image.Resampling.BICUBIC)
    page = Image.new("L", (SIDE, SIDE), 255)
    page.paste(ink, ((SIDE - ink.width) // 2, BASELINE - TALL))
    return page
