"""One format for every text: by hand, and the same when done twice."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cookbook.data.normalization import mask_private, normalize, strip_html


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("plain text stays.", "plain text stays."),
        ("cafe\u0301", "café"),  # composed
        ("x² ½ ｆ，ﬁ", "x² ½ ｆ，ﬁ"),  # NFKC would rewrite all of these
        ("donâ€™t", "don’t"),  # UTF-8 read as Windows-1252
        ("“quoted”", "“quoted”"),  # Chinese quotes must not become straight ones
        ("a\x00b\x07c\ufeff", "abc"),
        ("a\xa0b\u2003c", "a b c"),
        ("tab\there  \nnext \t\n\n\n\nlast\n\n", "tab\there\nnext\n\nlast"),
        ("    indented\n        code", "    indented\n        code"),
        ("a\r\nb\rc", "a\nb\nc"),
        ("&lt;b&gt;bold&lt;/b&gt; &amp; more", "bold & more"),
        ("fish &amp;amp; chips", "fish & chips"),
        ("the <unk> of <class 'int'> < 3 > 2", "the <unk> of <class 'int'> < 3 > 2"),
        ("\x1b[31mred\x1b[0m", "red"),
        ("", ""),
        (" \n\t ", ""),
    ],
)
def test_normalize_by_hand(text, expected):
    assert normalize(text) == expected


def test_short_text_becomes_one_line():
    assert normalize(" a\n b\u3000c <br> d ", one_line=True) == "a b c d"


def test_html_goes_and_its_words_stay_apart():
    page = "<html><style>p{}</style><h1 class='x'>Title</h1><p>One<br/>two <a href=u>link</a></p>"
    assert strip_html(page).split() == ["Title", "One", "two", "link"]
    assert strip_html("a<!-- hidden -->b<script src='x'>var a = '<p>';</script>c") == "abc"


def test_tags_made_of_tags_go_too():
    assert normalize("<<b>b>bold</<b>b>") == "bold"


TEXT = st.text() | st.text(alphabet="<>/b&;ltgamp#x1é\u0301Ã©â€™ \n\x00\x1b[", max_size=40)


@settings(max_examples=300)
@given(TEXT, st.booleans())
def test_normalizing_twice_is_normalizing_once(text, one_line):
    once = normalize(text, one_line=one_line)
    assert normalize(once, one_line=one_line) == once
    assert once == once.rstrip()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("write to ann.lee+x@mail.example.co.uk.", "write to [EMAIL]."),
        ("call 08712460324 now", "call [PHONE] now"),
        ("call 0800 169 6031", "call [PHONE]"),
        ("+44 (20) 7946-0958", "[PHONE]"),
        ("(212) 555-0123 or 212-555-0123", "[PHONE] or [PHONE]"),
        ("手机13051325039.", "手机13051325039."),  # no boundary before it: see below
        ("手机：13051325039。", "手机：[PHONE]。"),
    ],
)
def test_private_details_are_masked(text, expected):
    assert mask_private(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "@pytest.fixture on 2024-01-31 at 10:00",
        "version 3.11.2, 192.168.10.100, 0.1234567890",
        "array([0, 0, 0, 100, 2000]) of shape (3, 224, 224)",
        "£1,000,000 in 1999 and 87077 votes; +0000; 1e-05",
        "x@y, user@host",
        "00000000000000000000",
    ],
)
def test_numbers_that_are_no_telephone_stay(text):
    assert mask_private(text) == text


@given(st.text(alphabet="a@.c0123456789+-() ,", max_size=60))
def test_masking_twice_is_masking_once(text):
    once = mask_private(text)
    assert mask_private(once) == once
    assert normalize(once) == normalize(mask_private(normalize(once)))
