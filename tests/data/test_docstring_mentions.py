"""What the markup named is tagged, the markup is gone, and what it does not say is left out."""

import pytest

from cookbook.data import docstring_mentions as mentions


def read(sentence, known=("axis", "out")):
    """The sentence with tags, `word/tag`, plain words bare; `?` where the kind is not said."""
    named = {None: "?"} | dict(enumerate(mentions.TAGS))
    words = mentions.tagged(sentence, set(known))
    return " ".join(word if tag == 0 else f"{word}/{named[tag]}" for word, tag in words)


@pytest.mark.parametrize(
    ("sentence", "tagged"),
    [
        (":class:`Tensor` here", "Tensor/B-class here"),
        (":py:class:`~torch.nn.Linear`.", "Linear/B-class ."),
        (":exc:`ValueError`!", "ValueError/B-class !"),
        (":meth:`.Axes.plot()` draws",
         "Axes/B-function ./I-function plot/I-function draws"),
        (":func:`the sum <numpy.sum>`", "the/B-function sum/I-function"),
        (":mod:`os.path`", "os/B-module ./I-module path/I-module"),
        (":func:`!open`", "open/B-function"),
        ("along *axis* of ``out``", "along axis/B-parameter of out/B-parameter"),
        ("`axis` is *very* small", "axis/B-parameter is very small"),
        ("``None`` or ``a + b``", "None or a + b"),
        ("a `str` of it", "a str/? of it"),
        (":math:`x^2` and :ref:`this <there>`", "x ^ 2 and this"),
        ("2 * 3 * 4 and a*b*c", "2 * 3 * 4 and a * b * c"),
        (":class:`A`, :class:`B`", "A/B-class , B/B-class"),
    ],
)  # fmt: skip
def test_markup_becomes_tags(sentence, tagged):
    assert read(sentence) == tagged


def test_only_prose_is_read():
    text = (
        "First :class:`A` one. Second one,\nwrapped. Third\n\n>>> :class:`B`\n\n.. note:: C\n\n"
        "Args:\n    x: a :class:`D`\n\nname : int\n    of it\n\nLast `e` one."
    )
    assert list(mentions.sentences(text)) == [
        "First :class:`A` one.", "Second one, wrapped.", "Third", "Last `e` one.",
    ]  # fmt: skip


def test_rows_and_reasons():
    text = (
        "Take the :class:`Tensor` that was given first. Nothing is said of it here.\n\n"
        "It is *axis* that :func:`sum` takes next. The `mystery` of a :class:`Tensor` stays dark. "
        ":class:`A` too."
    )
    rows = mentions.mark({"text": text, "signature": "(self, axis=0, *, out)"})
    assert [row["reason"] for row in rows] == [
        "", "", "markup of an unknown kind", "sentence too short or too long",
    ]  # fmt: skip
    assert rows[1]["tokens"] == "It is axis that sum takes next .".split()
    assert [mentions.TAGS[tag] for tag in rows[1]["tags"]] == [
        "O", "O", "B-parameter", "O", "B-function", "O", "O", "O",
    ]  # fmt: skip
    assert all(len(row["tokens"]) == len(row["tags"]) for row in rows)
    assert mentions.mark({"text": "Nothing.", "signature": ""}) == "nothing mentioned"


def test_parameters_are_known_from_the_signature_and_from_the_section():
    section = "\n\nParameters\n----------\nalpha, beta : float\n    Both."
    text = "Mix by *alpha* and `beta` and *gamma*, then give back." + section
    (row,) = mentions.mark({"text": text, "signature": "(gamma: int = 3)"})
    found = [w for w, t in zip(row["tokens"], row["tags"], strict=True) if t]
    assert found == ["alpha", "beta", "gamma"]
    (row,) = mentions.mark({"text": text, "signature": "(self)"})
    assert [w for w, t in zip(row["tokens"], row["tags"], strict=True) if t] == ["alpha", "beta"]
