"""Small configurations of text architectures, from `transformers`.

Sizes only: weights come from `initialization`, objectives from `training.objectives`. Chapters 03
and 06 use it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from transformers import BertConfig

# hidden size, layers, heads; "small" is docbert, about 5 million parameters.
SIZES = {"tiny": (32, 2, 2), "mini": (128, 2, 4), "small": (256, 4, 4), "base": (768, 12, 12)}


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

    if size not in SIZES:
        raise ValueError(f"unknown size {size!r}: choose one of {', '.join(SIZES)}")
    hidden, layers, heads = SIZES[size]
    settings = {
        "hidden_size": hidden,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "intermediate_size": 4 * hidden,
        "max_position_embeddings": length,
    }
    return BertConfig(vocab_size=vocab_size, **(settings | overrides))
