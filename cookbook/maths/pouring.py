"""Weights of torch's and transformers' modules poured into ours: the proof that they are alike.

Does: copies every weight (ours share no memory with theirs, and keep dtype and device). Does not:
import `transformers`, or accept a configuration that our blocks do not have; it says which.
Used by chapter 02, and by the tests of `attention`, `blocks` and `language_models`.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from cookbook.maths.attention import MultiHeadAttention
from cookbook.maths.blocks import DecoderBlock, EncoderBlock, gelu, relu
from cookbook.maths.language_models import Bert, Gpt2

ACTIVATIONS = {F.relu: relu, F.gelu: gelu, nn.ReLU: relu, nn.GELU: gelu}


def attention(theirs: nn.MultiheadAttention) -> MultiHeadAttention:
    """Ours with the weights of `torch.nn.MultiheadAttention`, whose three inputs share a matrix.

    >>> attention(nn.MultiheadAttention(8, 2, batch_first=True)).heads
    2
    """
    _need(theirs.in_proj_weight is not None, "keys or values of another width")
    _need(theirs.bias_k is None and not theirs.add_zero_attn, "extra keys")
    bias = theirs.in_proj_bias is not None
    ours = MultiHeadAttention(theirs.embed_dim, theirs.num_heads, bias=bias)
    _fill_thirds(ours, theirs.in_proj_weight, theirs.in_proj_bias)
    _fill(ours.output, theirs.out_proj.weight, theirs.out_proj.bias)
    return ours


def encoder_block(theirs: nn.TransformerEncoderLayer) -> EncoderBlock:
    """Ours with the weights of `torch.nn.TransformerEncoderLayer`.

    >>> encoder_block(nn.TransformerEncoderLayer(8, 2, 16, norm_first=True)).norm_first
    True
    """
    return _torch_block(EncoderBlock, theirs, {"attention": "self_attn"}, ("norm1", "norm2"))


def decoder_block(theirs: nn.TransformerDecoderLayer) -> DecoderBlock:
    """Ours with the weights of `torch.nn.TransformerDecoderLayer`.

    >>> decoder_block(nn.TransformerDecoderLayer(8, 2, 16)).cross_attention.heads
    2
    """
    attentions = {"attention": "self_attn", "cross_attention": "multihead_attn"}
    return _torch_block(DecoderBlock, theirs, attentions, ("norm1", "norm2", "norm3"))


def bert(theirs: nn.Module) -> Bert:
    """Our `Bert` with the weights of a `transformers.BertForMaskedLM`.

    Raises ValueError for another architecture, or an activation other than the exact GELU.
    """
    config = theirs.config
    encoder = config.model_type == "bert" and hasattr(theirs, "cls") and not config.is_decoder
    _need(encoder, f"a {type(theirs).__name__} of type {config.model_type!r}")
    _need(config.hidden_act == "gelu", f"the activation {config.hidden_act!r}")
    ours = Bert(
        config.vocab_size, config.hidden_size, config.num_hidden_layers,
        config.num_attention_heads, config.intermediate_size, config.max_position_embeddings,
        eps=config.layer_norm_eps, segments=config.type_vocab_size,
    )  # fmt: skip
    embeddings, head = theirs.bert.embeddings, theirs.cls.predictions
    _fill_from(ours.tokens, embeddings.word_embeddings)
    _fill_from(ours.segments, embeddings.token_type_embeddings)
    _fill_from(ours.positions, embeddings.position_embeddings)
    _fill_from(ours.norm, embeddings.LayerNorm)
    for block, layer in zip(ours.blocks, theirs.bert.encoder.layer, strict=True):
        for name in ("query", "key", "value"):
            _fill_from(getattr(block.attention, name), getattr(layer.attention.self, name))
        _fill_from(block.attention.output, layer.attention.output.dense)
        _fill_from(block.norm1, layer.attention.output.LayerNorm)
        _fill_from(block.feed_forward.up, layer.intermediate.dense)
        _fill_from(block.feed_forward.down, layer.output.dense)
        _fill_from(block.norm2, layer.output.LayerNorm)
    _fill_from(ours.dense, head.transform.dense)
    _fill_from(ours.head_norm, head.transform.LayerNorm)
    _fill_from(ours.logits, head.decoder)
    return ours.train(theirs.training)


def gpt2(theirs: nn.Module) -> Gpt2:
    """Our `Gpt2` with the weights of a `transformers.GPT2LMHeadModel`.

    Its linear layers store the transposed matrix, queries, keys and values in one. Raises
    ValueError for another architecture, or a setting that changes the attention.
    """
    config = theirs.config
    decoder = config.model_type == "gpt2" and hasattr(theirs, "lm_head")
    _need(decoder, f"a {type(theirs).__name__} of type {config.model_type!r}")
    _need(
        config.activation_function == "gelu_new", f"the activation {config.activation_function!r}"
    )
    plain = config.scale_attn_weights and not config.scale_attn_by_inverse_layer_idx
    _need(plain, "another scale than 1/sqrt(d_k)")
    ours = Gpt2(
        config.vocab_size, config.n_embd, config.n_layer, config.n_head,
        config.n_inner or 4 * config.n_embd, config.n_positions, eps=config.layer_norm_epsilon,
    )  # fmt: skip
    body = theirs.transformer
    _fill_from(ours.tokens, body.wte)
    _fill_from(ours.positions, body.wpe)
    for block, layer in zip(ours.blocks, body.h, strict=True):
        _fill_thirds(block.attention, layer.attn.c_attn.weight.T, layer.attn.c_attn.bias)
        _fill(block.attention.output, layer.attn.c_proj.weight.T, layer.attn.c_proj.bias)
        _fill(block.feed_forward.up, layer.mlp.c_fc.weight.T, layer.mlp.c_fc.bias)
        _fill(block.feed_forward.down, layer.mlp.c_proj.weight.T, layer.mlp.c_proj.bias)
        _fill_from(block.norm1, layer.ln_1)
        _fill_from(block.norm2, layer.ln_2)
    _fill_from(ours.norm, body.ln_f)
    return ours.train(theirs.training)


def _torch_block(
    kind: type[nn.Module], theirs: nn.Module, attentions: dict[str, str], norms: tuple[str, ...]
) -> nn.Module:
    act = theirs.activation
    _need(act in ACTIVATIONS or type(act) in ACTIVATIONS, f"the activation {act}")
    _need(theirs.linear1.bias is not None, "layers without bias")
    ours = kind(
        theirs.linear1.in_features, theirs.self_attn.num_heads, theirs.linear1.out_features,
        norm_first=theirs.norm_first, eps=theirs.norm1.eps,
        activation=ACTIVATIONS.get(act) or ACTIVATIONS[type(act)],
    )  # fmt: skip
    for name, their_name in attentions.items():
        setattr(ours, name, attention(getattr(theirs, their_name)))
    for name in norms:
        _fill_from(getattr(ours, name), getattr(theirs, name))
    _fill_from(ours.feed_forward.up, theirs.linear1)
    _fill_from(ours.feed_forward.down, theirs.linear2)
    return ours.train(theirs.training)


def _fill_thirds(ours: MultiHeadAttention, weight: Tensor, bias: Tensor | None) -> None:
    """Queries, keys and values out of one matrix (3 * width, width)."""
    biases = [None] * 3 if bias is None else bias.chunk(3)
    for name, w, b in zip(("query", "key", "value"), weight.chunk(3), biases, strict=True):
        _fill(getattr(ours, name), w, b)


def _fill_from(ours: nn.Module, theirs: nn.Module) -> None:
    _fill(ours, theirs.weight, getattr(theirs, "bias", None))


def _fill(ours: nn.Module, weight: Tensor, bias: Tensor | None = None) -> None:
    for name, values in {"weight": weight, "bias": bias}.items():
        if values is not None:
            _need(getattr(ours, name).shape == values.shape, f"a {name} of another shape")
            setattr(ours, name, nn.Parameter(values.detach().clone().contiguous()))


def _need(met: bool, found: str) -> None:
    if not met:
        raise ValueError(f"our blocks do not have {found}: see the top of maths/blocks.py")
