import copy

import pytest
import tokenizers
import transformers
from tokenizers import normalizers

from cookbook.doctor import piece_checks
from cookbook.doctor.checks import Skip
from cookbook.doctor.subject import Subject

KNOWN = "the solver computes two tensors and returns a copy of it"
CLASSIFIER, READER = "BertForSequenceClassification", "BertForQuestionAnswering"


def of(check, model, rows, tokenizer):
    subject = Subject(model, train_dataset=rows, processing_class=tokenizer)
    try:
        return [(f.fault, f.severity) for f in check(subject)]
    except Skip:
        return []


def encoded(tokenizer, texts):
    return [dict(tokenizer(text)) | {"labels": i % 2} for i, text in enumerate(texts)]


def cased(tokenizer, letters=True):
    """The tokenizer without its lower-casing; it knows single capitals, so nothing is unknown."""
    made = copy.deepcopy(tokenizer)
    names = dict(made.get_vocab())
    for c in "ABCDEFGHIJKLMNOPQRSTUVWXYZ" if letters else "":
        for piece in (c, f"##{c}", c.lower(), f"##{c.lower()}"):
            names.setdefault(piece, len(names))
    made.backend_tokenizer.model = tokenizers.models.WordPiece(names, unk_token="[UNK]")
    made.backend_tokenizer.normalizer = normalizers.NFC()
    return made


# -- T5 ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (str.upper, [("T5", "warn")]),
        (str, []),
        (str.title, []),  # a capital at each word's beginning is how headings are written
        (lambda text: text.replace("tensors", "TENSORS"), []),
        (lambda text: "ACGTTGCAACGGTTAC" * 3, []),  # letters are what there is to read
    ],
)
def test_capitals_that_the_vocabulary_has_only_as_letters(tiny_bert, tokenizer, change, expected):
    known, model = cased(tokenizer), tiny_bert(CLASSIFIER)
    rows = encoded(known, [change(KNOWN)] * 40)
    check = piece_checks.check_letters_are_of_the_known_case
    assert of(check, model, rows, known) == expected
    lowering = copy.deepcopy(known)
    lowering.backend_tokenizer.normalizer = normalizers.Lowercase()
    assert of(check, model, encoded(lowering, [change(KNOWN)] * 40), lowering) == []
    assert of(check, model, rows[:2], known) == []  # too few to tell


def foreign(mark):
    kinds = {"@@": "{}@@", "</w>": "{}</w>"}
    return " ".join(kinds.get(mark, mark + "{}").format(word) for word in KNOWN.split())


@pytest.mark.parametrize("mark", ["\u2581", "\u0120", "</w>", "@@"])
def test_marks_of_another_tokenizer(mark):
    words = sorted(set(KNOWN.split()))
    marked = tokenizers.Tokenizer(tokenizers.models.WordLevel(
        {w: i for i, w in enumerate(["[UNK]", *words, *foreign(mark).split()])}, "[UNK]"
    ))  # fmt: skip
    marked.pre_tokenizer = tokenizers.pre_tokenizers.WhitespaceSplit()
    own = transformers.PreTrainedTokenizerFast(tokenizer_object=marked, unk_token="[UNK]")
    check = piece_checks.check_words_bear_no_foreign_marks
    rows = encoded(own, [foreign(mark)] * 40)
    assert of(check, None, rows, own) == []  # a vocabulary of such pieces
    letters = sorted({*KNOWN, *mark} - {" "})
    pieces = [f"##{c}" for c in letters]
    vocabulary = {w: i for i, w in enumerate(["[UNK]", *letters, *pieces, *words])}
    plain = tokenizers.Tokenizer(tokenizers.models.WordPiece(vocabulary, unk_token="[UNK]"))
    plain.pre_tokenizer = tokenizers.pre_tokenizers.WhitespaceSplit()
    plain.decoder = tokenizers.decoders.WordPiece()
    other = transformers.PreTrainedTokenizerFast(tokenizer_object=plain, unk_token="[UNK]")
    assert of(check, None, encoded(other, [foreign(mark)] * 40), other) == [("T5", "error")]
    few = [KNOWN] * 36 + [foreign(mark)] * 4  # a text about tokenizers
    assert of(check, None, encoded(other, few), other) == []
    assert of(check, None, encoded(other, [KNOWN] * 40), other) == []


# -- T8 ------------------------------------------------------------------------------------------


def marks(model, rows, tokenizer):
    return of(piece_checks.check_marks_before_a_text_are_whole, model, rows, tokenizer)


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        ([f"[CONTEXT] {KNOWN}"] * 20, [("T8", "warn")]),
        ([f"[QUESTION_TEXT] {KNOWN}"] * 20, [("T8", "warn")]),
        ([KNOWN] * 20, []),
        ([f"[CONTEXT] {KNOWN}"] * 15 + [KNOWN] * 5, []),  # of some sources, or of log levels
        ([f"{KNOWN} [CONTEXT] {KNOWN}"] * 20, []),
        ([f"[A] {KNOWN}, see [1]"] * 20, []),
        ([f"[INST] {KNOWN}"] * 20, []),
        (["[removed]"] * 20, []),
    ],
)
def test_marks_before_a_text(tiny_bert, tokenizer, texts, expected):
    model, whole = tiny_bert(CLASSIFIER), copy.deepcopy(tokenizer)
    known = cased(tokenizer)
    known.backend_tokenizer.normalizer = normalizers.Lowercase()
    numbered = known.get_vocab()
    names = sorted(numbered, key=numbered.get)  # a vocabulary comes in no order of its own
    known.backend_tokenizer.model = tokenizers.models.WordPiece(
        {p: i for i, p in enumerate([*names, *(c for c in "[]_1," if c not in names)])},
        unk_token="[UNK]",
    )
    whole = copy.deepcopy(known)
    whole.add_tokens(["[CONTEXT]", "[QUESTION_TEXT]"])
    assert marks(model, encoded(known, texts), known) == expected
    assert marks(model, encoded(whole, texts), whole) == []
    hidden = [row | {"text": KNOWN} for row in encoded(known, texts)]
    assert marks(model, hidden, known) == expected  # the column does not tell what is read


def test_marks_before_both_texts_of_a_reader(tiny_bert, tokenizer):
    known = cased(tokenizer)
    known.backend_tokenizer.normalizer = normalizers.Lowercase()
    pair = "a copy", f"[CONTEXT] {KNOWN}"
    rows = [dict(known(*pair)) | {"start_positions": 9, "end_positions": 9} for _ in range(20)]
    model = tiny_bert(READER)
    found = marks(model, rows, known)
    assert found == ([("T8", "warn")] if "[" in known.get_vocab() else [])
