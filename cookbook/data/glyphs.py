"""`glyphs`: every character of the DejaVu fonts as a small picture, with its Unicode name.

matplotlib ships the fonts, Pillow draws them, Python knows the names ("BLACK CHESS QUEEN"). A
character is on one side of the split with all its faces, and so are characters that are drawn
alike: the Latin A, the Greek Alpha and the Cyrillic A are one picture with three names. It
renders and decides on the sides; caching is `embedded`'s. Chapters 05 and 14 use it.
"""

from __future__ import annotations

import io
import unicodedata
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from cookbook.data import splits
from cookbook.data.errors import DataError
from cookbook.data.ledger import Ledger

if TYPE_CHECKING:
    from datasets import DatasetDict

FACES = tuple(
    f"{family}{style}"
    for family, slanted in (("DejaVuSans", "Oblique"), ("DejaVuSerif", "Italic"),
                            ("DejaVuSansMono", "Oblique"))
    for style in ("", "-Bold", f"-{slanted}", f"-Bold{slanted}")
)  # fmt: skip
SIDE = 32  # pixels; the baseline lies under row 24, so a comma is not an apostrophe
BASELINE = 24
SIZE = 24  # pixels to the em; a glyph that is too large for the picture is drawn smaller
# The distance of two pictures, as a share of the fainter one's ink (Euclidean). At 0.1 they differ
# as a breve does from a caron; from 0.2 on, hexagrams with other lines would be taken for one.
ALIKE = 0.1

# Kinds of character that names tell and shapes show, as regular expressions; the first one counts.
KINDS = {
    "latin": "^LATIN", "greek": "^GREEK", "cyrillic": "^CYRILLIC", "arabic": "^ARABIC",
    "hebrew": "^HEBREW", "armenian": "^ARMENIAN", "georgian": "^GEORGIAN",
    "canadian syllabics": "^CANADIAN", "tifinagh": "^TIFINAGH", "nko": "^NKO",
    "mathematical": "^MATHEMATICAL", "modifier": "^MODIFIER", "combining": "^COMBINING",
    "braille pattern": "^BRAILLE", "box drawings": "^BOX", "domino tile": "^DOMINO",
    "playing card": "^PLAYING", "arrow": r"\bARROW\b",
}  # fmt: skip


def build() -> tuple[DatasetDict, Ledger]:
    """The set and its ledger: columns image, caption, face, codepoint, group.

    `image` is (32, 32), 8-bit grey, black on white; `caption` the Unicode name; `group` the least
    code point among the characters that are drawn alike in any two faces. Characters without a
    name (private use), without ink (spaces) and repeated pictures of one character (a chess queen
    is the same in bold) are left out, and counted. Raises DataError where the fonts are missing.
    """
    rows = [(face, code) for face in FACES for code in _codes(face)]
    names = [unicodedata.name(chr(code), "") for _, code in rows]
    ledger = Ledger(len(rows))
    ledger.record("names", ["" if name else "no Unicode name" for name in names])
    pictures = dict(zip(ledger.kept.tolist(), _render([rows[i] for i in ledger.kept]), strict=True))
    reasons, seen = [], set()
    for i in ledger.kept.tolist():
        key = (rows[i][1], pictures[i].tobytes())
        blank = pictures[i].min() == 255
        reasons.append("nothing to see" if blank else "same in another face" * (key in seen))
        seen.add(key)
    ledger.record("pictures", reasons, texts=[names[i] for i in ledger.kept])
    kept = ledger.check().kept.tolist()
    codes = np.array([rows[i][1] for i in kept])
    pixels = np.stack([pictures[i] for i in kept])
    return _dataset([(*rows[i], names[i]) for i in kept], pixels, groups(pixels, codes)), ledger


def draw(character: str, path: str, size: int = SIZE) -> np.ndarray:
    """(32, 32) uint8: one character, black on white, its ink centred from left to right.

    Heights are kept. `path` is a font file, `size` the pixels to the em.
    """
    for pixels in (size, size * 3 // 4, size // 2, size // 4):
        picture, fits = _drawn(character, path, pixels)
        if fits:
            break
    return picture


def groups(pixels: np.ndarray, codes: np.ndarray) -> np.ndarray:
    """(n,) int: for each picture the least code point of those linked to it by looking alike.

    `pixels` (n, side, side) uint8 with a white ground, `codes` (n,) int. All pictures of one code
    point are linked, and any two that are within `ALIKE` of each other.

    >>> black, white = np.zeros((1, 4, 4), np.uint8), np.full((1, 4, 4), 255, np.uint8)
    >>> bar = white.copy()
    >>> bar[:, :, 1] = 0
    >>> groups(np.concatenate([black, bar, black, bar]), np.array([65, 73, 913, 73]))
    array([65, 73, 65, 73])
    """
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    shapes, shape = np.unique(pixels.reshape(len(pixels), -1), axis=0, return_inverse=True)
    known, code = np.unique(codes, return_inverse=True)
    first, second = _alike(255.0 - shapes.astype(np.float32))
    # a graph of code points and shapes: each picture is an edge, and so is each likeness
    ends = np.concatenate([code, first + len(known)])
    others = np.concatenate([shape.ravel() + len(known), second + len(known)])
    size = len(known) + len(shapes)
    links = coo_matrix((np.ones(len(ends), bool), (ends, others)), shape=(size, size))
    part = connected_components(links, directed=False)[1][: len(known)]
    least = np.full(part.max() + 1, known[-1])
    np.minimum.at(least, part, known)
    return least[part][code]


def _alike(ink: np.ndarray, block: int = 512) -> tuple[np.ndarray, np.ndarray]:
    """Pairs of rows of `ink` (n, d) whose distance is at most ALIKE of the smaller norm.

    Sorted by norm, a row need only be compared with those that are at most ALIKE longer.
    """
    norms = np.linalg.norm(ink, axis=1)
    order = np.argsort(norms)
    ink, norms = ink[order], norms[order]
    stop = np.searchsorted(norms, norms * (1 + ALIKE), side="right")
    pairs = [np.zeros((0, 2), int)]
    for start in range(0, len(ink), block):
        rows, last = slice(start, start + block), stop[min(start + block, len(ink)) - 1]
        near = slice(start, last)
        squares = norms[rows, None] ** 2 + norms[None, near] ** 2 - 2 * ink[rows] @ ink[near].T
        least = np.minimum(norms[rows, None], norms[None, near])
        found = np.argwhere(squares <= (ALIKE * least) ** 2) + start
        pairs.append(found[found[:, 0] < found[:, 1]])
    first, second = np.concatenate(pairs).T
    return order[first], order[second]


def _font(face: str) -> str:
    import matplotlib

    path = Path(matplotlib.get_data_path()) / "fonts" / "ttf" / f"{face}.ttf"
    if not path.is_file():
        raise DataError(f"matplotlib came without its font {path.name}: install it with pip")
    return str(path)


def _codes(face: str) -> list[int]:
    from matplotlib.ft2font import FT2Font

    return sorted(FT2Font(_font(face)).get_charmap())


def _render(rows: list[tuple[str, int]]) -> Iterator[np.ndarray]:
    from tqdm.auto import tqdm

    paths = {face: _font(face) for face in FACES}
    for face, code in tqdm(rows, desc="drawing glyphs", unit="glyph"):
        yield draw(chr(code), paths[face])


_FONTS: dict[tuple[str, int], object] = {}


def _drawn(character: str, path: str, size: int) -> tuple[np.ndarray, bool]:
    """(picture, whether all of the ink is on it)."""
    from PIL import Image, ImageDraw, ImageFont

    if (path, size) not in _FONTS:
        # the basic layout: the same pixels whether or not the reader's Pillow has a shaper
        basic = ImageFont.Layout.BASIC
        _FONTS[path, size] = ImageFont.truetype(path, size, layout_engine=basic)
    room = 2 * SIDE  # a canvas of five sides, the glyph's origin near the middle
    canvas = Image.new("L", (5 * SIDE, 5 * SIDE), 255)
    ImageDraw.Draw(canvas).text(
        (room, room + BASELINE), character, fill=0, font=_FONTS[path, size], anchor="ls"
    )
    left, top, right, bottom = canvas.point(lambda grey: 255 - grey).getbbox() or ((room, room) * 2)
    corner = (left + right - SIDE) // 2
    fits = right - left <= SIDE and room <= top and bottom <= room + SIDE
    return np.asarray(canvas.crop((corner, room, corner + SIDE, room + SIDE))), fits


def _dataset(
    rows: list[tuple[str, int, str]], pixels: np.ndarray, group: np.ndarray
) -> DatasetDict:
    from datasets import Dataset, DatasetDict, Features, Image, Value

    features = Features(
        image=Image(), caption=Value("string"), face=Value("string"), codepoint=Value("int32"),
        group=Value("int32"),
    )  # fmt: skip
    sides: dict[str, list[dict]] = {name: [] for name in splits.NAMES}
    for (face, code, name), picture, least in zip(rows, pixels, group.tolist(), strict=True):
        row = {"image": {"bytes": _png(picture), "path": None}, "caption": name}
        row |= {"face": face, "codepoint": code, "group": least}
        sides[splits.assign(f"glyphs/{least}")].append(row)
    parts = {name: Dataset.from_list(part, features=features) for name, part in sides.items()}
    return DatasetDict(parts)


def _png(picture: np.ndarray) -> bytes:
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(picture).save(file, "png")
    return file.getvalue()
