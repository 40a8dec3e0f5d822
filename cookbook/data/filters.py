"""Is this row text worth training on? Published quality rules, one named reason per failure.

`DOCUMENTS` holds the rules of Gopher (Rae et al. 2021, "Scaling Language Models", table A1) and
the template phrases of C4 (Raffel et al. 2020, section 2.2); `LABELLED` holds almost none, since
a label makes a row of three words worth keeping. A rule judges one row alone: duplicates are
`deduplication`'s, and no rule looks at meaning. The shares were published for web pages of at
least 50 words; on shorter rows they are noise and are not applied, nor are shares of lines on
fewer than three. Chapter 01 shows what each of them drops.
"""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from cookbook.data.shingles import UNSPACED

# Gopher: a page needs two of these.
STOP_WORDS = frozenset({"the", "be", "to", "of", "and", "that", "have", "with"})
# C4: pages with these lines are templates, not prose. (C4's rule on "{" would drop all code.)
_BOILERPLATE = re.compile(r"lorem ipsum|please enable javascript", re.IGNORECASE)
_BULLETS = ("-", "*", "•", "‣", "·", "●", "–")
_WORD_CHARACTER = re.compile(r"[^\W_]")
_LETTER = re.compile(r"[^\W\d_]")
_UNSPACED_CHARACTER = re.compile(f"[{UNSPACED}]")
# Written alike, and told apart by nothing that a filter should act on.
_SAME_LANGUAGE = {"wuu": "zh", "yue": "zh", "nb": "no", "nn": "no"}


@dataclass(frozen=True)
class Rules:
    """Thresholds of one set of rules; `dataclasses.replace(DOCUMENTS, min_words=50)` changes one.

    Ratios are shares of words or lines, 0 to 1, and are judged from `ratios_from` words on.
    """

    name: str
    min_words: int = 1
    max_words: int = 100_000
    ratios_from: int = 50
    mean_word_length: tuple[float, float] = (3, 10)
    symbols_per_word: float = 0.1
    bullet_lines: float = 0.9
    unfinished_lines: float = 0.3
    alphabetic_words: float = 0.8
    stop_words: int = 2
    repeated_lines: float = 0.3
    repeated_ngrams: tuple[tuple[int, float], ...] = ((2, 0.20), (3, 0.18), (4, 0.16))
    one_language: bool = True


DOCUMENTS = Rules("documents")
LABELLED = Rules("labelled", min_words=0, max_words=10**9, ratios_from=10**9, one_language=False)


def quality(text: str, rules: Rules = DOCUMENTS, language: str = "en") -> str:
    """The reason why `rules` drop this text, or `""` if they keep it.

    `language` is that of the whole corpus: the stop words of Gopher are English.

    >>> quality("to be and have the click " * 20)
    'repeated words'
    >>> quality("- - -"), quality("Returns the sum.")
    ('too few words', '')
    """
    spaced = len(_UNSPACED_CHARACTER.findall(text)) < 0.1 * len(text)
    # Tokenised text puts spaces around its punctuation: a comma alone is no word.
    found = [word for word in text.split() if _WORD_CHARACTER.search(word)]
    letters = sum(1 for word in found if _LETTER.search(word))
    size = len(found) if spaced else len(text)
    if (letters if spaced else size) < rules.min_words:
        return "too few words"
    if size > rules.max_words:
        return "too many words"
    if size < rules.ratios_from:
        return ""
    return (
        (_words_reason(text, found, letters, rules, language) if spaced else "")
        or _lines_reason(text, rules)
        or (_repetition_reason(found, rules) if spaced else "")
    )


def _words_reason(
    text: str, found: Sequence[str], letters: int, rules: Rules, language: str
) -> str:
    shortest, longest = rules.mean_word_length
    symbols = text.count("#") + text.count("…") + text.count("...")
    if not shortest <= sum(map(len, found)) / len(found) <= longest:
        return "odd word length"
    if symbols > rules.symbols_per_word * len(found):
        return "too many symbols"
    if letters < rules.alphabetic_words * len(found):
        return "too few letters"
    stops = STOP_WORDS.intersection(word.lower() for word in found)
    if language == "en" and len(stops) < rules.stop_words:
        return "no stop words"
    return ""


def _lines_reason(text: str, rules: Rules) -> str:
    lines = [line for line in map(str.strip, text.splitlines()) if line]
    if _BOILERPLATE.search(text):
        return "boilerplate"
    if len(lines) < 3:  # a share of one or two lines says nothing
        return ""
    if sum(line.startswith(_BULLETS) for line in lines) > rules.bullet_lines * len(lines):
        return "list of bullets"
    if sum(line.endswith(("...", "…")) for line in lines) > rules.unfinished_lines * len(lines):
        return "unfinished lines"
    if len(lines) - len(set(lines)) > rules.repeated_lines * len(lines):
        return "repeated lines"
    return ""


def _repetition_reason(found: Sequence[str], rules: Rules) -> str:
    """Share of characters inside the most frequent n-gram (Gopher, table A1)."""
    characters = sum(map(len, found))
    for size, most in rules.repeated_ngrams:
        grams = Counter(zip(*(found[i:] for i in range(size)), strict=False))
        gram, count = grams.most_common(1)[0]
        if count > 1 and count * sum(map(len, gram)) > most * characters:
            return "repeated words"
    return ""


@lru_cache(maxsize=1)
def _identifier():
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)


def language(text: str, *, sure: float = 0.9, shortest: int = 50) -> str:
    """ISO 639 code of a text's language, or `""` where the guess is not `sure` (0 to 1).

    By `py3langid` (Lui and Baldwin 2012), which ships its model; three of Gopher's stop words are
    English without asking. Judged on the first 400 characters; a text under `shortest` characters
    (a fifth of it in Chinese) is never sure.

    >>> language("Das ist ein ganz gewöhnlicher Satz in deutscher Sprache, nicht wahr?")
    'de'
    >>> language("x = y")
    ''
    """
    text = text[:400]
    if len(text) + 4 * len(_UNSPACED_CHARACTER.findall(text)) < shortest:
        return ""
    if len(STOP_WORDS.intersection(text.lower().split())) >= 3:  # saves the model most of its work
        return "en"
    code, probability = _identifier().classify(text)
    if probability < sure or code == "zxx":  # zxx: no language at all, formulas for instance
        return ""
    return _SAME_LANGUAGE.get(code, code)
