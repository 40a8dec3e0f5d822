"""Models that write, from `transformers`, in small: decoders alone, and behind an encoder.

Every one takes `labels` and returns a `loss`; decoders shift the labels themselves, so hand over
the inputs unshifted. Objectives are in `training.objectives`. Chapters 04 and 06 use it.
"""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

from cookbook.models.text import END, PAD, SPECIAL, START, bert_config, configured, sized

if TYPE_CHECKING:
    from transformers import EncoderDecoderModel, PreTrainedModel


def gpt2(
    size: str = "tiny", *, vocab_size: int = 8192, length: int = 128, dropout: float = 0.1,
    **overrides: Any,
) -> PreTrainedModel:  # fmt: skip
    """GPT-2: each token sees those before it, and the next one is predicted everywhere at once.

    Norms before each sublayer and one after the last; what writes into the residual stream starts
    `1/sqrt(2·layers)` smaller, so that its variance does not grow with depth. The output is the
    embedding matrix. Radford et al., 2019, "Language Models are Unsupervised Multitask Learners".
    """
    from transformers import GPT2Config, GPT2LMHeadModel

    hidden, layers, heads = sized(size)
    settings = SPECIAL | {
        "vocab_size": vocab_size, "n_positions": length, "n_embd": hidden, "n_layer": layers,
        "n_head": heads, "resid_pdrop": dropout, "embd_pdrop": dropout, "attn_pdrop": dropout,
    }  # fmt: skip
    model = GPT2LMHeadModel(configured(GPT2Config, **(settings | overrides)))
    model.loss_type = "ForCausalLM"  # which it takes anyway, with a warning about its own name
    return model


def llama(
    size: str = "tiny", *, vocab_size: int = 8192, length: int = 128, dropout: float = 0.0,
    **overrides: Any,
) -> PreTrainedModel:  # fmt: skip
    """Llama: GPT-2 with four parts exchanged, as most decoders since.

    Rotary positions instead of a table, RMSNorm instead of LayerNorm, a gated feed-forward layer
    `down(silu(gate(x)) * up(x))`, no biases; two query heads share a key and value head (grouped
    queries, from Llama 2 on). `dropout` is that of the attention, the only one it has.
    Touvron et al., 2023, arXiv:2302.13971; grouped queries: Ainslie et al., 2023, arXiv:2305.13245.
    """
    from transformers import LlamaConfig, LlamaForCausalLM

    hidden, layers, heads = sized(size)
    settings = SPECIAL | {
        "vocab_size": vocab_size, "hidden_size": hidden, "num_hidden_layers": layers,
        "num_attention_heads": heads, "num_key_value_heads": heads // 2,
        "head_dim": hidden // heads,
        # 8/3: three matrices with as many weights as two of the usual 4
        "intermediate_size": 8 * hidden // 3, "max_position_embeddings": length,
        "attention_dropout": dropout,
    }  # fmt: skip
    return LlamaForCausalLM(configured(LlamaConfig, **(settings | overrides)))


def xlnet(
    size: str = "tiny", *, vocab_size: int = 8192, length: int = 128, dropout: float = 0.1,
    **overrides: Any,
) -> PreTrainedModel:  # fmt: skip
    """XLNet: predicts tokens one after the other, but in a random order of the sentence.

    So each token is predicted from any subset of the others and no [MASK] is ever seen. A second
    stream of queries knows where it predicts and not what stands there; `perm_mask` (batch, T, T)
    is 1 where a token may not look, `target_mapping` (batch, targets, T) says what is predicted.
    Positions are relative, so `length` changes nothing but is taken for the sake of the others.
    Yang et al., 2019, arXiv:1906.08237.
    """
    from transformers import XLNetConfig, XLNetLMHeadModel

    hidden, layers, heads = sized(size)
    settings = SPECIAL | {
        "vocab_size": vocab_size, "d_model": hidden, "n_layer": layers, "n_head": heads,
        "d_inner": 4 * hidden, "dropout": dropout,
    }  # fmt: skip
    return XLNetLMHeadModel(configured(XLNetConfig, **(settings | overrides)))


def bart(
    size: str = "tiny", *, vocab_size: int = 8192, length: int = 128, dropout: float = 0.1,
    **overrides: Any,
) -> PreTrainedModel:  # fmt: skip
    """BART: an encoder reads a text with holes, a causal decoder writes all of it.

    Whole spans are replaced by one [MASK], also spans of length 0, so the decoder must find out how
    much is missing. Cross-attention in each decoder layer; one embedding matrix for both sides and
    the output. `length` holds for either side. Lewis et al., 2020, arXiv:1910.13461.
    """
    from transformers import BartConfig, BartForConditionalGeneration

    hidden, layers, heads = sized(size)
    both = {"layers": layers, "attention_heads": heads, "ffn_dim": 4 * hidden}
    settings = SPECIAL | {f"{s}_{n}": v for s in ("encoder", "decoder") for n, v in both.items()}
    settings |= {
        "vocab_size": vocab_size, "d_model": hidden, "max_position_embeddings": length,
        "dropout": dropout, "attention_dropout": dropout,
        # generation begins with the end token, as the published model does
        "decoder_start_token_id": END, "forced_eos_token_id": END,
    }  # fmt: skip
    return BartForConditionalGeneration(configured(BartConfig, **(settings | overrides)))


def t5(
    size: str = "tiny", *, vocab_size: int = 8192, length: int = 128, dropout: float = 0.1,
    **overrides: Any,
) -> PreTrainedModel:  # fmt: skip
    """T5: every task is text to text; pretraining writes only the spans that were cut out.

    Each span leaves a sentinel behind, and the target lists sentinel, span, sentinel, span. So the
    decoder works on a fraction of the text, unlike BART's. Positions are a learned bias per
    distance and head, shared by all layers; RMSNorm first; no biases, and no 1/sqrt(d_k): the
    scale is in the initial weights. Positions have no end, so `length` changes nothing.
    Raffel et al., 2020, arXiv:1910.10683.
    """
    from transformers import T5Config, T5ForConditionalGeneration

    hidden, layers, heads = sized(size)
    settings = {
        "vocab_size": vocab_size, "d_model": hidden, "d_kv": hidden // heads, "d_ff": 4 * hidden,
        "num_layers": layers, "num_decoder_layers": layers, "num_heads": heads,
        "dropout_rate": dropout, "pad_token_id": PAD, "eos_token_id": END,
    }  # fmt: skip
    config = configured(T5Config, **(settings | overrides))
    config.decoder_start_token_id = PAD  # by convention; the configuration does not ask
    return T5ForConditionalGeneration(config)


def bert_to_bert(
    size: str = "tiny", *, vocab_size: int = 8192, length: int = 128, dropout: float = 0.1,
    **overrides: Any,
) -> EncoderDecoderModel:  # fmt: skip
    """An encoder–decoder out of two BERTs: both may start from one pretrained checkpoint.

    The second BERT gets a causal mask and, in each layer, a cross-attention that no checkpoint
    has: those weights start at random and are what fine-tuning has to learn. `overrides` hold for
    both. Rothe et al., 2020, arXiv:1907.12461.
    """
    from transformers import BertConfig, EncoderDecoderConfig, EncoderDecoderModel

    sizes = bert_config(vocab_size, size, length=length).to_diff_dict() | SPECIAL
    sizes |= {"hidden_dropout_prob": dropout, "attention_probs_dropout_prob": dropout}
    sizes = {name: value for name, value in sizes.items() if name != "transformers_version"}
    encoder, decoder = (configured(BertConfig, **(sizes | overrides)) for _ in range(2))
    config = EncoderDecoderConfig.from_encoder_decoder_configs(
        encoder, decoder, pad_token_id=PAD, decoder_start_token_id=START, eos_token_id=END
    )
    # It recalls at every step how the loss was computed in version 4.12.
    warnings.filterwarnings("ignore", message="Version v4.12.0", category=FutureWarning)
    return EncoderDecoderModel(config=config)
