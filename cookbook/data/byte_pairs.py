"""A byte-level BPE tokenizer, which loses nothing: what was encoded decodes to the same text.

WordPiece forgets where spaces and line ends stood, which is no matter for a model that reads, and
will not do for one that writes, nor for counting bits per character. Packing and masking are
elsewhere. Chapter 04 uses it.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from cookbook.data.tokenization import SPECIAL

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def train_byte_pairs(
    texts: Iterable[str], vocab_size: int = 2048, *, max_length: int = 128, digits: bool = False
) -> PreTrainedTokenizerBase:
    """A tokenizer trained on `texts`: 256 bytes, the most frequent pairs of pieces, five specials.

    The special tokens are those of `train_tokenizer`, with the same ids; a text stands between
    [CLS] and [SEP]. A text that speaks of "[MASK]" means the word: encode it with
    `split_special_tokens=True`, or it becomes the token. `digits` makes each digit a piece of its
    own, so that any number can be copied; otherwise "1984" may be one piece and "1985" two. Source:
    Sennrich et al. 2016, arXiv:1508.07909; on bytes, Radford et al. 2019. Raises ValueError for
    fewer than 261 tokens, for which there would be no room.

    >>> tokenizer = train_byte_pairs(["the cat  sat\\n"] * 50, vocab_size=280)
    >>> tokenizer.decode(tokenizer("a cat\\n\\n  sat", add_special_tokens=False)["input_ids"])
    'a cat\\n\\n  sat'
    """
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from tokenizers.processors import TemplateProcessing
    from transformers import PreTrainedTokenizerFast

    least = 256 + len(SPECIAL)
    if vocab_size < least:
        raise ValueError(f"vocab_size is {vocab_size}: the bytes alone take {least}")
    pieces = Tokenizer(models.BPE())
    cut = pre_tokenizers.ByteLevel(add_prefix_space=False)
    if digits:
        cut = pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), cut])
    pieces.pre_tokenizer = cut
    pieces.decoder = decoders.ByteLevel()
    pieces.train_from_iterator(
        texts,
        trainers.BpeTrainer(
            vocab_size=vocab_size, special_tokens=list(SPECIAL.values()), show_progress=False,
            initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        ),
    )  # fmt: skip
    ends = [(token, pieces.token_to_id(token)) for token in ("[CLS]", "[SEP]")]
    pieces.post_processor = TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=ends)
    return PreTrainedTokenizerFast(
        tokenizer_object=pieces, model_max_length=max_length, clean_up_tokenization_spaces=False,
        bos_token="[CLS]", eos_token="[SEP]", **SPECIAL,
    )  # fmt: skip
