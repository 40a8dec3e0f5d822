"""`locale-names`: how English, German and Chinese write countries, languages, money, dates, units.

From CLDR, the tables behind every localised interface, through `babel`. Names must be known to be
translated; dates, numbers and units follow rules that can be learned, and the column `kind` tells
them apart. Which values are written is drawn once and for all; the split depends on the English
text alone, so it is the same in both languages. Chapter 15 uses it.
"""

from __future__ import annotations

import datetime
import random
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from cookbook.data import splits
from cookbook.data.deduplication import fingerprint
from cookbook.data.ledger import Ledger

if TYPE_CHECKING:
    from babel import Locale
    from datasets import DatasetDict

SOURCE, TARGETS = "en", ("de", "zh")
CURRENCIES = ("USD", "EUR", "CNY", "GBP", "JPY", "CHF", "INR", "BRL", "RUB", "KRW", "SEK", "PLN")
LENGTHS = ("short", "medium", "long", "full")
DATES, NUMBERS, AMOUNTS, MEASURES = 900, 500, 600, 900  # how many values are drawn of each kind


def build() -> tuple[DatasetDict, Ledger]:
    """Columns source (English), target, language ("de", "zh"), kind; and the ledger.

    A name that the other language lacks, and an English text that stood there already in this
    language ("Latin" is a script and a language), are left out.
    """
    from datasets import Dataset, DatasetDict, Features, Value

    rows = [row for language in TARGETS for row in _pairs(language)]
    ledger = Ledger(len(rows))
    ledger.record("names", ["" if row["target"] else "no name in the language" for row in rows])
    reasons, seen = [], set()
    for i in ledger.kept:
        key = (rows[i]["language"], fingerprint(rows[i]["source"]) or rows[i]["source"])
        reasons.append("English text of another row" * (key in seen))
        seen.add(key)
    ledger.record("sources", reasons, texts=[rows[i]["source"] for i in ledger.kept])
    made: dict[str, list] = {side: [] for side in splits.NAMES}
    for i in ledger.check().kept:
        source = rows[i]["source"]
        made[splits.assign(f"locale-names/{fingerprint(source) or source}")].append(rows[i])
    columns = ("source", "target", "language", "kind")
    features = Features({name: Value("string") for name in columns})
    parts = {side: Dataset.from_list(part, features=features) for side, part in made.items()}
    return DatasetDict(parts), ledger


def written(kind: str, value: Any, locale: Locale) -> str:
    """A value as a locale writes it; "" where the locale has no word for it.

    >>> from babel import Locale
    >>> [written("measure", ("length-kilometer", 5), Locale(name)) for name in ("en", "de", "zh")]
    ['5 kilometers', '5 Kilometer', '5公里']
    """
    from babel import dates, numbers, units

    if kind == "date":
        day, length = value
        return dates.format_date(day, length, locale=locale)
    if kind == "number":
        return numbers.format_decimal(value, locale=locale)
    if kind == "amount":
        amount, currency = value
        return numbers.format_currency(amount, currency, locale=locale, format_type="name")
    if kind == "measure":
        unit, amount = value
        # CLDR leaves out a long form that is the short one, and babel does not fall back to it
        length = "long" if "long" in locale._data["unit_patterns"][unit] else "short"
        return units.format_unit(amount, unit, length=length, locale=locale)
    return getattr(locale, _TABLES[kind]).get(value) or ""


_TABLES = {"territory": "territories", "language": "languages", "script": "scripts",
           "currency": "currencies"}  # fmt: skip


def _pairs(language: str) -> Iterator[dict[str, str]]:
    from babel import Locale

    here, there = Locale.parse(SOURCE), Locale.parse(language)
    for kind, value in [*_names(here), *_values(here)]:
        source, target = written(kind, value, here), written(kind, value, there)
        yield {"source": source, "target": target, "language": language, "kind": kind}


def _names(locale: Locale) -> Iterator[tuple[str, str]]:
    for kind, table in _TABLES.items():
        yield from ((kind, code) for code in sorted(getattr(locale, table)))


def _values(locale: Locale) -> Iterator[tuple[str, Any]]:
    """The same values in every locale and run: `random` draws alike under every Python."""
    rng = random.Random(0)
    first = datetime.date(1950, 1, 1).toordinal()
    for _ in range(DATES):
        day = datetime.date.fromordinal(first + int(rng.random() * 36_500))
        yield "date", (day, LENGTHS[int(rng.random() * len(LENGTHS))])
    for _ in range(NUMBERS):
        digits = 1 + int(rng.random() * 9)
        yield "number", round(rng.random() * 10**digits, int(rng.random() * 3))
    for _ in range(AMOUNTS):
        amount = round(rng.random() * 10 ** (1 + int(rng.random() * 5)), 2)
        yield "amount", (amount, CURRENCIES[int(rng.random() * len(CURRENCIES))])
    known = _units(locale)
    for _ in range(MEASURES):
        unit = known[int(rng.random() * len(known))]
        yield "measure", (unit, 1 + int(rng.random() ** 3 * 500))


def _units(locale: Locale) -> list[str]:
    """Units that every one of the languages can write, sorted."""
    from babel import Locale

    tables = [Locale.parse(name)._data["unit_patterns"] for name in (str(locale), *TARGETS)]
    common = sorted(set.intersection(*(set(table) for table in tables)))
    return [unit for unit in common if all(_pattern(table[unit]) for table in tables)]


def _pattern(forms: Any) -> str:
    """The pattern for several of a unit; "" for forms of compounds ("per"), which have none."""
    found = forms.get("long", forms.get("short", {})).get("other", "")
    return found if isinstance(found, str) else ""
