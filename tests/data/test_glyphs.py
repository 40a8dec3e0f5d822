"""Pictures of characters: every one is accounted for, and none that looks alike is on two sides."""

import io
import unicodedata

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageFont

from cookbook.data import embedded, glyphs, splits
from cookbook.data.errors import DataError

# what is drawn alike, what is not, a blank, a private code point, and enough to fill all splits
FEW = [0x20, 0x41, 0x391, 0x410, 0x43, 0x2C, 0x27, 0x265B, 0xE000, *range(0x2800, 0x2830)]
SANS, BOLD = "DejaVuSans", "DejaVuSans-Bold"


@pytest.fixture(scope="module")
def few():
    """(rows of all splits with `split` and `pixels`, the ledger) of a few characters, two faces."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(glyphs, "FACES", (SANS, BOLD))
        patch.setattr(glyphs, "_codes", lambda face: sorted(FEW))
        made, ledger = glyphs.build()
    rows = [row | {"split": name} for name, part in made.items() for row in part]
    return [row | {"pixels": np.asarray(row["image"])} for row in rows], ledger


def find(rows, character, face=SANS):
    (row,) = [r for r in rows if (r["codepoint"], r["face"]) == (ord(character), face)]
    return row


def test_a_row_is_a_grey_picture_with_its_name(few):
    rows, _ = few
    queen = find(rows, "\N{BLACK CHESS QUEEN}")
    assert queen["caption"] == "BLACK CHESS QUEEN"
    assert queen["pixels"].shape == (32, 32) and queen["pixels"].dtype == np.uint8
    assert queen["image"].mode == "L" and queen["pixels"].max() == 255
    assert all(row["caption"] == unicodedata.name(chr(row["codepoint"])) for row in rows)


def test_every_glyph_is_kept_or_left_out_for_a_reason(few):
    rows, ledger = few
    assert ledger.rows_in == 2 * len(FEW) and len(rows) == len(ledger.kept)
    assert ledger.dropped["no Unicode name"] == 2  # U+E000 in two faces
    assert ledger.dropped["nothing to see"] == 4  # the space and the empty braille cell
    repeated = ledger.dropped["same in another face"]
    assert repeated >= 1 and sum(ledger.dropped.values()) + len(rows) == ledger.rows_in


def test_a_picture_that_another_face_repeats_is_kept_once(few):
    rows, _ = few
    queens = [row["face"] for row in rows if row["codepoint"] == 0x265B]
    assert queens == [SANS]  # the bold face draws the same one
    pictures = [(row["codepoint"], row["pixels"].tobytes()) for row in rows]
    assert len(set(pictures)) == len(pictures)


def test_what_is_drawn_alike_is_one_group_on_one_side(few):
    rows, _ = few
    letters = [find(rows, letter) for letter in "A\u0391\u0410"]
    assert {row["group"] for row in letters} == {0x41}
    assert len({row["pixels"].tobytes() for row in letters}) == 1
    assert find(rows, "C")["group"] == ord("C")
    for row in rows:
        assert row["split"] == splits.assign(f"glyphs/{row['group']}")


def test_no_character_and_no_picture_is_on_two_sides(few):
    rows, _ = few
    assert {row["split"] for row in rows} == set(splits.NAMES)
    for key in ("codepoint", "group"):
        sides = {(row[key], row["split"]) for row in rows}
        assert len(sides) == len({row[key] for row in rows})
    pictures = {(row["pixels"].tobytes(), row["split"]) for row in rows}
    assert len(pictures) == len({row["pixels"].tobytes() for row in rows})


def test_heights_are_kept_so_that_a_comma_is_not_an_apostrophe():
    comma, apostrophe = (glyphs.draw(c, glyphs._font(SANS)) < 128 for c in ",'")
    assert np.flatnonzero(comma.any(1)).min() > 16 > np.flatnonzero(apostrophe.any(1)).max()


@pytest.mark.parametrize("character", ["A", "—", "\u01c4", "\u01d7", "\u0345", "i", "\u21da"])
def test_all_of_the_ink_is_on_the_picture(character):
    """What is too wide or too high is drawn smaller, not cut: its proportions stay."""
    path = glyphs._font(BOLD)
    ink = glyphs.draw(character, path) < 255
    rows, columns = np.flatnonzero(ink.any(1)), np.flatnonzero(ink.any(0))
    basic = ImageFont.Layout.BASIC
    whole = ImageFont.truetype(path, 384, layout_engine=basic).getmask(character).getbbox()
    scale = glyphs.SIZE / 384
    sizes = [[scale * (whole[i + 2] - whole[i]) * part for part in (1, 0.75, 0.5)] for i in (0, 1)]
    drawn = (columns[-1] - columns[0] + 1, rows[-1] - rows[0] + 1)
    fits = [abs(drawn[0] - w) <= 2 and abs(drawn[1] - h) <= 2 for w, h in zip(*sizes, strict=True)]
    assert any(fits), (drawn, sizes)
    assert abs((columns[0] + columns[-1]) / 2 - 15.5) <= 1  # centred from left to right


@given(st.integers(0, 2**32 - 1))
def test_near_pairs_are_those_that_a_plain_double_loop_finds(seed):
    rng = np.random.default_rng(seed)
    ink = rng.integers(1, 255, (4, 6)).astype(np.float32)
    ink = np.concatenate([ink, ink + rng.normal(0, 6, ink.shape).astype(np.float32)])
    first, second = glyphs._alike(ink, block=3)
    found = {frozenset(pair) for pair in zip(first.tolist(), second.tolist(), strict=True)}
    norms = np.linalg.norm(ink, axis=1)
    expected = {
        frozenset((i, j))
        for i in range(8)
        for j in range(i)
        if np.linalg.norm(ink[i] - ink[j]) <= glyphs.ALIKE * min(norms[i], norms[j])
    }
    assert found == expected


def test_groups_reach_through_a_third_picture():
    """A and B share a picture, B and C another: one group, named after the least code point."""
    shapes = np.full((3, 8, 8), 255, np.uint8)
    shapes[0, 0], shapes[1, 4], shapes[2, 7] = 0, 0, 0
    pixels = shapes[[0, 0, 1, 1, 2]]
    assert glyphs.groups(pixels, np.array([7, 5, 5, 6, 9])).tolist() == [5, 5, 5, 5, 9]


def test_a_missing_font_is_named(monkeypatch, tmp_path):
    monkeypatch.setattr("matplotlib.get_data_path", lambda: str(tmp_path))
    with pytest.raises(DataError, match="came without its font DejaVuSans.ttf"):
        glyphs._font(SANS)


def test_the_cache_keeps_the_set_and_its_ledger(few, monkeypatch, tmp_path):
    rows, ledger = few
    monkeypatch.setenv("COOKBOOK_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(glyphs, "FACES", (SANS, BOLD))
    monkeypatch.setattr(glyphs, "_codes", lambda face: sorted(FEW))
    built = embedded.build("glyphs")
    assert {name: len(part) for name, part in built.items()} == {
        name: sum(row["split"] == name for row in rows) for name in splits.NAMES
    }
    assert embedded.ledger("glyphs") == ledger.rows()
    picture = Image.open(io.BytesIO(built["train"].data["image"][0]["bytes"].as_py()))
    assert picture.format == "PNG"
