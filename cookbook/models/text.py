"""Text encoders from `transformers`, in small: BERT and what was made of it.

Sizes and configurations only: objectives are in `training.objectives`, decoders in `generative`,
weights other than random ones come from `initialization`. Chapters 03, 04 and 06 use it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from transformers import BertConfig, PreTrainedModel

# hidden size, layers, heads; "small" is docbert, about 5 million parameters.
SIZES = {"tiny": (32, 2, 2), "mini": (128, 2, 4), "small": (256, 4, 4), "base": (768, 12, 12)}

# As the tokenizers number them that `data.tokenization` trains: [PAD] [UNK] [CLS] [SEP] [MASK].
PAD, UNKNOWN, START, END, MASK = range(5)
SPECIAL = {"pad_token_id": PAD, "bos_token_id": START, "eos_token_id": END}


def sized(size: str) -> tuple[int, int, int]:
    """(hidden size, layers, heads). Raises ValueError for an unknown size.

    >>> sized("mini")
    (128, 2, 4)
    """
    if size not in SIZES:
        raise ValueError(f"unknown size {size!r}: choose one of {', '.join(SIZES)}")
    return SIZES[size]


def configured(kind: type, **settings: Any) -> Any:
    """`kind(**settings)`, after a look whether it has them all.

    `transformers` takes a misspelt setting without a word, and builds the model without it. Raises
    ValueError with its name.
    """
    known = kind()
    for name in settings:
        if not hasattr(known, name):
            raise ValueError(f"{kind.__name__} has no setting {name!r}")
    return kind(**settings)


def bert_config(
    vocab_size: int = 8192, size: str = "small", *, length: int = 128, **overrides: Any
) -> BertConfig:
    """A BERT configuration: bidirectional encoder, learned positions, post-layer-norm.

    `length` is the longest sequence in tokens; `overrides` are any other settings, sizes included.
    Source: Devlin et al. 2019, arXiv:1810.04805; the sizes follow Turc et al. 2019,
    arXiv:1908.08962. Raises ValueError for an unknown size.

    >>> bert_config(100, "tiny").hidden_size
    32
    """
    from transformers import BertConfig

    settings = _bert_like(size, 0.1) | {"max_position_embeddings": length}
    return BertConfig(vocab_size=vocab_size, **(settings | overrides))


def bert(
    size: str = "tiny", *, vocab_size: int = 8192, length: int = 128, dropout: float = 0.1,
    **overrides: Any,
) -> PreTrainedModel:  # fmt: skip
    """BERT: every token sees both sides, so 15 % are hidden and guessed.

    A sum of token, segment and position embeddings, then blocks with the norm after each residual;
    one more layer with a norm stands before the output, which is the embedding matrix itself.
    Devlin et al., 2019, arXiv:1810.04805.
    """
    from transformers import BertConfig, BertForMaskedLM

    settings = _bert_like(size, dropout) | {"max_position_embeddings": length}
    settings |= {"vocab_size": vocab_size, "pad_token_id": PAD}
    return BertForMaskedLM(configured(BertConfig, **(settings | overrides)))


def roberta(
    size: str = "tiny", *, vocab_size: int = 8192, length: int = 128, dropout: float = 0.1,
    **overrides: Any,
) -> PreTrainedModel:  # fmt: skip
    """RoBERTa: the network of BERT, trained for longer, on more text, and on one task less.

    No next sentence prediction and one segment; masks are drawn anew in every epoch; byte-level
    BPE. Positions are counted from the padding token's id plus 1, a relic of its first code, so
    the table has that many rows more than a text has tokens. Liu et al., 2019, arXiv:1907.11692.
    """
    from transformers import RobertaConfig, RobertaForMaskedLM

    settings = _bert_like(size, dropout) | SPECIAL | {"vocab_size": vocab_size}
    settings |= {"type_vocab_size": 1, "max_position_embeddings": length + PAD + 1}
    return RobertaForMaskedLM(configured(RobertaConfig, **(settings | overrides)))


def distilbert(
    size: str = "tiny", *, vocab_size: int = 8192, length: int = 128, dropout: float = 0.1,
    **overrides: Any,
) -> PreTrainedModel:  # fmt: skip
    """DistilBERT: half of BERT's layers, no segments, taught by BERT's own probabilities.

    The published model starts from every second layer of its teacher and learns from the
    teacher's softened predictions, hidden states and the text. Here it has half of the layers that
    the other encoders have in this size, and random weights: how to distil is chapter 16.
    Sanh et al., 2019, arXiv:1910.01108.
    """
    from transformers import DistilBertConfig, DistilBertForMaskedLM

    hidden, layers, heads = sized(size)
    settings = {
        "vocab_size": vocab_size, "dim": hidden, "n_layers": max(1, layers // 2), "n_heads": heads,
        "hidden_dim": 4 * hidden, "max_position_embeddings": length, "dropout": dropout,
        "attention_dropout": dropout, "pad_token_id": PAD,
    }  # fmt: skip
    return DistilBertForMaskedLM(configured(DistilBertConfig, **(settings | overrides)))


def albert(
    size: str = "tiny", *, vocab_size: int = 8192, length: int = 128, dropout: float = 0.1,
    **overrides: Any,
) -> PreTrainedModel:  # fmt: skip
    """ALBERT: one layer, used again and again, and a narrow embedding matrix.

    All layers share their weights: fewer parameters, not less computation. The vocabulary is
    embedded in a quarter of the width here and then projected, `V·E + E·H` weights instead of
    `V·H`. Sentence order, not next sentence, is its second task. Published without dropout in its
    largest size. Lan et al., 2020, arXiv:1909.11942.
    """
    from transformers import AlbertConfig, AlbertForMaskedLM

    settings = _bert_like(size, dropout) | SPECIAL | {"vocab_size": vocab_size}
    settings |= {"embedding_size": max(8, settings["hidden_size"] // 4)}
    settings |= {"max_position_embeddings": length}
    return AlbertForMaskedLM(configured(AlbertConfig, **(settings | overrides)))


def _bert_like(size: str, dropout: float) -> dict[str, Any]:
    """The names under which most encoders know their sizes."""
    hidden, layers, heads = sized(size)
    return {
        "hidden_size": hidden, "num_hidden_layers": layers, "num_attention_heads": heads,
        "intermediate_size": 4 * hidden, "hidden_dropout_prob": dropout,
        "attention_probs_dropout_prob": dropout,
    }  # fmt: skip
