"""Whether a model's tokenizer can read a data set at all: asked before any training.

Two numbers: the share of tokens that the tokenizer has no piece for, and into how many pieces it
cuts a word. It measures and refuses; choosing another model is `selection`'s. `strategies` asks it
before every run; chapters 06 and 07 use it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from cookbook.data.errors import DataError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

MOST_UNKNOWN = 0.2  # of the tokens; the doctor's T5 speaks from 5 % on and calls 20 % an error
LOOKED_AT = 300  # texts, evenly spread over the data
# A word is a run of letters or digits; where no spaces are written, each character is one.
WORD = re.compile(r"[\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af]|[^\W_\u3040-\uffef]+")


class TokenizerFit(NamedTuple):
    """How well a tokenizer fits texts: shares and counts over all of them."""

    unknown: float
    pieces_per_word: float
    tokens: int
    words: int


def tokenizer_fit(tokenizer: PreTrainedTokenizerBase, texts: Sequence[str]) -> TokenizerFit:
    """`unknown`, the share of unknown tokens, and pieces per word, over at most 300 of `texts`.

    Special tokens do not count; punctuation counts as pieces but not as words. English under its
    own tokenizer takes 1.2 to 1.8 pieces a word; beyond 3 little is left of the words that the
    model was pretrained on, even where nothing is unknown, as with byte-level tokenizers. Raises
    DataError where there is no text.
    """
    texts = [text for text in texts[:: max(1, len(texts) // LOOKED_AT)] if text]
    words = sum(len(WORD.findall(text)) for text in texts)
    ids = (
        tokenizer(list(texts), add_special_tokens=False, verbose=False)["input_ids"]
        if texts
        else []
    )
    tokens = [token for row in ids for token in row]
    if not tokens or not words:
        raise DataError(f"{len(texts)} texts hold no words: name the column with text_column")
    unknown = sum(token == tokenizer.unk_token_id for token in tokens)
    return TokenizerFit(unknown / len(tokens), len(tokens) / words, len(tokens), words)


def check_tokenizer(
    tokenizer: PreTrainedTokenizerBase, texts: Sequence[str], *, name: str = "the model"
) -> TokenizerFit:
    """The fit, if at most a fifth of the tokens are unknown.

    Raises DataError otherwise: every unknown token is the same one to the model, so fine-tuning
    would run, and learn next to nothing.
    """
    fit = tokenizer_fit(tokenizer, texts)
    if fit.unknown > MOST_UNKNOWN:
        raise DataError(
            f"{name} cannot read this text: its tokenizer has no piece for {fit.unknown:.0%} of "
            "the tokens; take a model that was pretrained on this language or alphabet"
        )
    return fit
