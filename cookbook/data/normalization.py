"""One text in, the same text in one format out: encoding, markup, spaces, private details.

Repairs mojibake (`ftfy`), strips HTML, control characters and odd spaces, masks e-mail addresses
and telephone numbers. It drops no row (`cleaning` does) and changes no letter that a reader can
tell apart: the form is NFC, which only composes accents. NFKC would write `x²` as `x2`, `½` as
`1⁄2` and the Chinese `，` as a comma; it serves as a key for comparison (`shingles`), not as text
to train on. `normalize(normalize(x)) == normalize(x)`, always. Used by chapters 00 and 01.
"""

import re
from functools import lru_cache

# Elements of the HTML standard that turn up in scraped text. Only these are tags: `<unk>`,
# `List<int>`, `<class 'int'>` and `a < b` are text.
_ELEMENTS = (
    "a|abbr|article|aside|b|blockquote|body|br|button|center|code|dd|del|div|dl|dt|em|figure|font"
    "|footer|form|h[1-6]|head|header|hr|html|i|iframe|img|input|ins|label|li|link|main|meta|nav"
    "|noscript|ol|option|p|pre|script|section|select|small|span|strong|style|sub|sup|svg|table"
    "|tbody|td|textarea|tfoot|th|thead|title|tr|tt|u|ul|video"
)
_ATTRIBUTES = r"""(?:\s+[\w:@.-]+(?:\s*=\s*(?:"[^"]*"|'[^']*'|[^\s"'<>]+))?)*\s*"""
_TAG = re.compile(rf"</?({_ELEMENTS}){_ATTRIBUTES}/?>", re.IGNORECASE)
_UNSEEN = re.compile(r"<(script|style)\b[^>]*>.*?</\1\s*>|<!--.*?-->", re.IGNORECASE | re.DOTALL)
_INLINE = set("a abbr b code del em font i ins small span strong sub sup tt u".split())

_CONTROL = re.compile(r"[\x00-\x08\x0e-\x1f\x7f-\x9f\u200b\u2060\ufeff\ufff9-\ufffc]")
_ODD_SPACE = re.compile(r"[\x0b\x0c\xa0\u1680\u2000-\u200a\u202f\u205f]")  # not \u3000: CJK indents
_TRAILING = re.compile(r"[ \t\u3000]+$", re.MULTILINE)
_BLANK_LINES = re.compile(r"\n{3,}")

_EMAIL = re.compile(r"(?<![\w.+-])[\w+-][\w.+-]{0,63}@(?:[A-Za-z0-9-]+\.)+[A-Za-z]{2,24}(?![\w@])")
# E.164 with a plus, a national number behind a trunk 0 (GB, DE, FR …), the American 3-3-4, the
# Chinese mobile. A bare run of digits is a quantity more often than a number to call.
_PHONE = re.compile(
    r"(?<![\w.+/-])(?:"
    r"\+(?=(?:[ .()-]*\d){8})\d{1,3}(?:[ .-]?\(?\d{1,4}\)?){2,5}"
    r"|0\d{2,4}[ -]?\d{3,4}[ -]?\d{3,4}"
    r"|(?:1[ .-])?(?:\(\d{3}\) ?|\d{3}[.-])\d{3}[.-]\d{4}"
    r"|1[3-9]\d{9}"
    r")(?![\w-]|\.\d)"
)
EMAIL, PHONE = "[EMAIL]", "[PHONE]"


def normalize(text: str, *, one_line: bool = False) -> str:
    """The text in NFC, decoded, without markup, control characters or trailing spaces.

    `one_line` turns every run of spaces into one space, for short labelled text; without it
    indentation and single blank lines stay, for they are part of a document.

    >>> normalize("<p>cafe\\u0301 &amp; cr\\u00c3\\u00a8me&nbsp;br\\u00fbl\\u00e9e</p>  ")
    'café & crème brûlée'
    >>> normalize("a <unk> of List<int>, x² < 3")
    'a <unk> of List<int>, x² < 3'
    """
    # What one pass uncovers the next one cleans ("&lt;p&gt;", "<<b>b>"); it ends, since after
    # the encoding is right a pass only shortens.
    for _ in range(20):
        before, text = text, _normalize_once(text, one_line)
        if text == before:
            break
    return text


def mask_private(text: str) -> str:
    """E-mail addresses become `[EMAIL]`, telephone numbers `[PHONE]`.

    By pattern, so it also takes a serial number that looks like a telephone number, and misses
    names and addresses: for those see `presidio`.

    >>> mask_private("Ask ann@example.org or +44 20 7946 0958; version 3.11.2, array([0, 0, 0])")
    'Ask [EMAIL] or [PHONE]; version 3.11.2, array([0, 0, 0])'
    """
    if "@" in text:
        text = _EMAIL.sub(EMAIL, text)
    return _PHONE.sub(PHONE, text)


def _normalize_once(text: str, one_line: bool) -> str:
    if not text.isascii() or "&" in text or _CONTROL.search(text):
        text = _repair(text)
    if "<" in text:
        text = strip_html(text)
    text = _ODD_SPACE.sub(" ", _CONTROL.sub("", text))
    if one_line:
        return " ".join(text.split())
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    return _BLANK_LINES.sub("\n\n", _TRAILING.sub("", text)).strip("\n").rstrip().lstrip("\ufeff")


def strip_html(text: str) -> str:
    """Without the tags of HTML; block elements leave a line break, scripts and styles nothing.

    >>> strip_html("<ul><li>one</li><li><b>t</b>wo</li></ul><script>x()</script>").split()
    ['one', 'two']
    """
    text = _UNSEEN.sub("", text)
    return _TAG.sub(lambda tag: "" if tag[1].lower() in _INLINE else "\n", text)


@lru_cache(maxsize=1)
def _config():
    from ftfy import TextFixerConfig

    # The defaults would also make Chinese punctuation narrow and straighten its quotes.
    return TextFixerConfig(
        uncurl_quotes=False, fix_character_width=False, fix_latin_ligatures=False
    )


def _repair(text: str) -> str:
    """Mojibake, HTML entities, terminal escapes, surrogates, NFC (Speer 2019, `ftfy`)."""
    from ftfy import fix_text

    return fix_text(text, _config())
