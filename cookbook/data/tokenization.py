"""Train a tokenizer, encode, and pack documents into rows of equal length.

It makes WordPiece vocabularies for BERT-like models and packs token ids; masking is an objective
(`training.objectives`), not a tokenisation. Chapters 01 and 03 use it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from datasets import Dataset
    from tokenizers import Tokenizer
    from transformers import PreTrainedTokenizerBase

SPECIAL = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]",
           "mask_token": "[MASK]"}  # fmt: skip


def train_tokenizer(
    texts: Iterable[str], vocab_size: int = 8192, *, max_length: int = 128
) -> PreTrainedTokenizerBase:
    """A cased WordPiece tokenizer trained on `texts`, with BERT's special tokens.

    Cased, because in technical English `Tensor` is a class and `tensor` a thing. Source:
    Schuster and Nakajima 2012 (WordPiece); `tokenizers` does the training. Left alone it numbers
    the letters by a random hash, and breaks ties by number: each process gets another vocabulary.
    Here the letters are numbered first, in order, so that equal texts give equal tokens.

    >>> tokenizer = train_tokenizer(["the cat sat"] * 50, vocab_size=60)
    >>> tokenizer.decode(tokenizer("the cat")["input_ids"])
    '[CLS] the cat [SEP]'
    """
    from tokenizers import decoders, trainers
    from tokenizers.processors import TemplateProcessing
    from transformers import PreTrainedTokenizerFast

    texts, special = list(texts), list(SPECIAL.values())
    trained = _untrained()
    trained.train_from_iterator(
        texts,
        trainers.WordPieceTrainer(
            vocab_size=vocab_size,
            special_tokens=special + _inner_letters(texts),
            show_progress=False,
        ),
    )
    pieces = _untrained(trained.get_vocab())  # the inner letters are not special in this one
    pieces.add_special_tokens(special)
    pieces.decoder = decoders.WordPiece()
    ends = [(token, pieces.token_to_id(token)) for token in ("[CLS]", "[SEP]")]
    pieces.post_processor = TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=ends
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=pieces,
        model_max_length=max_length,
        model_input_names=["input_ids", "token_type_ids", "attention_mask"],
        **SPECIAL,
    )


def _untrained(vocabulary: dict[str, int] | None = None) -> Tokenizer:
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers

    model = models.WordPiece(vocabulary or {}, unk_token="[UNK]", max_input_chars_per_word=100)
    pieces = Tokenizer(model)
    pieces.normalizer = normalizers.BertNormalizer(lowercase=False, strip_accents=False)
    pieces.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    return pieces


def _inner_letters(texts: list[str]) -> list[str]:
    """`##a`, `##b` …, in order: every character that stands behind another in one word."""
    blank, known = _untrained(), {word for text in texts for word in text.split()}
    words = blank.normalizer.normalize_str(" ".join(known)).split()
    pairs = {word[i : i + 2] for word in words for i in range(len(word) - 1)}
    cut = blank.pre_tokenizer.pre_tokenize_str
    return sorted({f"##{pair[1]}" for pair in pairs if len(cut(pair)) == 1})


def encode(
    dataset: Dataset,
    tokenizer: PreTrainedTokenizerBase,
    *,
    max_length: int | None = None,
    text_column: str = "text",
) -> Dataset:
    """Add `input_ids`, `attention_mask` … to every row; the text columns go, the others stay.

    `text_pair` is encoded as the second segment where there is one. `max_length=None` cuts
    nothing: packing wants whole documents.
    """
    pair = "text_pair" if "text_pair" in dataset.column_names else None

    def batch(rows: dict) -> dict:
        second = [rows[pair]] if pair else []
        return tokenizer(
            rows[text_column], *second, truncation=max_length is not None, max_length=max_length
        )

    drop = [c for c in (text_column, pair) if c]
    # Long documents are cut or packed by us: the warning about 512 tokens would mislead.
    limit, tokenizer.model_max_length = tokenizer.model_max_length, int(1e9)
    try:
        return dataset.map(batch, batched=True, remove_columns=drop, desc="encoding")
    finally:
        tokenizer.model_max_length = limit


@dataclass(frozen=True)
class Packed:
    """Rows of equal length, as arrays of shape (rows, length).

    `document_ids` numbers the documents in a row from 1, 0 is padding; tokens may attend to each
    other where the numbers agree. `position_ids` count inside what may be attended to.
    """

    input_ids: np.ndarray
    document_ids: np.ndarray
    position_ids: np.ndarray

    def __len__(self) -> int:
        return len(self.input_ids)

    def __getitem__(self, row: int) -> dict[str, np.ndarray]:
        return {"input_ids": self.input_ids[row], "document_ids": self.document_ids[row],
                "position_ids": self.position_ids[row]}  # fmt: skip

    @property
    def tokens(self) -> int:
        """Tokens that are not padding: the useful ones."""
        return int((self.document_ids > 0).sum())


def pack(
    documents: Iterable[Sequence[int]],
    length: int,
    *,
    pad_id: int = 0,
    cross_documents: bool = True,
) -> Packed:
    """Pack token ids into rows of `length` without losing one.

    With `cross_documents` the stream is cut every `length` tokens and a row is one context, as
    most pretraining does. Without, documents are placed whole (first fit; only those longer than
    `length` are cut) and keep separate `document_ids`, for a mask that stops attention between
    them.

    >>> pack([[1, 2, 3], [4, 5]], length=4).input_ids.tolist()
    [[1, 2, 3, 4], [5, 0, 0, 0]]
    >>> pack([[1, 2, 3], [4, 5], [6]], length=4, cross_documents=False).document_ids.tolist()
    [[1, 1, 1, 2], [1, 1, 0, 0]]
    """
    if length < 1:
        raise ValueError(f"length is {length}: a row needs at least one token")
    if cross_documents:
        parts = [np.asarray(document, np.int32) for document in documents]
        stream = np.concatenate(parts) if parts else np.empty(0, np.int32)
        rows = [[stream[i : i + length]] for i in range(0, len(stream), length)]
    else:
        rows = _first_fit(documents, length)
    return _lay_out(rows, length, pad_id)


def _first_fit(documents: Iterable[Sequence[int]], length: int) -> list[list]:
    """Rows of whole documents; only the 64 newest rows stay open, so that it is linear."""
    rows: list[list] = []
    open_rows: list[list[int]] = []  # [room, row]
    for document in documents:
        for start in range(0, len(document), length):
            piece = document[start : start + length]
            place = next((entry for entry in open_rows if entry[0] >= len(piece)), None)
            if place is None:
                rows.append([])
                place = [length, len(rows) - 1]
                open_rows = [*open_rows[-63:], place]
            rows[place[1]].append(piece)
            place[0] -= len(piece)
            if place[0] == 0:  # a full row would only keep one with room out of the 64
                open_rows = [entry for entry in open_rows if entry is not place]
    return rows


def _lay_out(rows: list[list], length: int, pad_id: int) -> Packed:
    shape = (len(rows), length)
    ids, documents = np.full(shape, pad_id, np.int32), np.zeros(shape, np.int32)
    positions = np.zeros(shape, np.int32)
    for row, pieces in enumerate(rows):
        start = 0
        for number, piece in enumerate(pieces, 1):
            end = start + len(piece)
            ids[row, start:end] = piece
            documents[row, start:end] = number
            positions[row, start:end] = np.arange(end - start)
            start = end
    return Packed(ids, documents, positions)
