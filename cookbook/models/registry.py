"""Every architecture by its name: what it is, what it predicts, what it is for, and `build`.

Facts and constructors; the networks are in the other files of this wing, and what they cost is
measured in `profiling`. Chapters 04, 06 and 14 use it.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any, NamedTuple

import torch

if TYPE_CHECKING:
    from torch import nn


class Architecture(NamedTuple):
    """What is known of one architecture; `make` and `sample` are "file.function" of this wing."""

    name: str
    family: str
    objective: str
    paper: str
    good_for: str
    make: str
    sample: str
    settings: tuple[tuple[str, Any], ...] = ()
    rate: float = 5e-3  # at which Adam learns one batch in the tiny size

    def batch(self, seed: int = 0) -> dict[str, Any]:
        """A small batch of its kind, for `model(**batch).loss`."""
        return _function(f"samples.{self.sample}")(seed=seed)

    @property
    def reads(self) -> str:
        """ "text", "images" or "both"."""
        return {"images": "images", "images and text": "both"}.get(self.family, "text")


ARCHITECTURES = (
    Architecture(
        "word2vec", "word vectors", "skip-gram, negative sampling", "arXiv:1310.4546",
        "word similarity; features at no cost", "word2vec.word2vec", "neighbours", (), 0.1,
    ),
    Architecture(
        "rnn", "recurrent", "next token", "Mikolov et al., 2010",
        "why gates were needed; a baseline", "recurrent.recurrent_lm", "causal",
        (("cell", "rnn"),), 0.04,
    ),
    Architecture(
        "lstm", "recurrent", "next token", "Hochreiter and Schmidhuber, 1997",
        "streams: constant memory per token", "recurrent.recurrent_lm", "causal",
        (("cell", "lstm"),), 0.04,
    ),
    Architecture(
        "elmo", "recurrent", "next and previous token", "arXiv:1802.05365",
        "features in context, little hardware", "recurrent.elmo", "causal", (), 0.08,
    ),
    Architecture(
        "bert", "encoder", "masked tokens", "arXiv:1810.04805",
        "classification, tagging, extraction", "text.bert", "masked",
    ),
    Architecture(
        "roberta", "encoder", "masked tokens", "arXiv:1907.11692",
        "as BERT, usually better", "text.roberta", "masked",
    ),
    Architecture(
        "distilbert", "encoder", "masked tokens", "arXiv:1910.01108",
        "as BERT in half the time", "text.distilbert", "masked",
    ),
    Architecture(
        "albert", "encoder", "masked tokens", "arXiv:1909.11942",
        "few parameters to store or send", "text.albert", "masked", (), 0.01,
    ),
    Architecture(
        "electra", "encoder", "replaced tokens", "arXiv:2003.10555",
        "as BERT, from less pretraining", "replaced_tokens.electra", "masked",
    ),
    Architecture(
        "gpt2", "decoder", "next token", "Radford et al., 2019",
        "writing, completion, prompts", "generative.gpt2", "causal",
    ),
    Architecture(
        "llama", "decoder", "next token", "arXiv:2302.13971",
        "writing at scale; long contexts", "generative.llama", "causal",
    ),
    Architecture(
        "xlnet", "decoder", "next token of a permutation", "arXiv:1906.08237",
        "understanding without [MASK]; long texts", "generative.xlnet", "permuted",
    ),
    Architecture(
        "bart", "encoder-decoder", "text infilling", "arXiv:1910.13461",
        "summaries, rewriting", "generative.bart", "infilled",
    ),
    Architecture(
        "t5", "encoder-decoder", "span denoising", "arXiv:1910.10683",
        "many tasks, one model: text to text", "generative.t5", "spans",
    ),
    Architecture(
        "bert-to-bert", "encoder-decoder", "target text", "arXiv:1907.12461",
        "generation from encoders one has", "generative.bert_to_bert", "shortened",
    ),
    Architecture(
        "cnn", "images", "class", "LeCun et al., 1998",
        "small images, small data, no time", "convolutional.cnn", "digits",
    ),
    Architecture(
        "vgg", "images", "class", "arXiv:1409.1556",
        "features for style and perception", "convolutional.vgg", "digits",
    ),
    Architecture(
        "resnet", "images", "class", "arXiv:1512.03385",
        "the default for images; backbone of detectors", "vision.resnet", "digits",
    ),
    Architecture(
        "efficientnet", "images", "class", "arXiv:1905.11946",
        "phones: most accuracy per product", "vision.efficientnet", "digits",
    ),
    Architecture(
        "vit", "images", "class", "arXiv:2010.11929",
        "large data, or a pretrained start", "vision.vit", "digits",
    ),
    Architecture(
        "mae", "images", "masked patches", "arXiv:2111.06377",
        "pretraining on images without labels", "vision.mae", "gaps", (), 4e-3,
    ),
    Architecture(
        "vq-vae", "images", "pixels through codes", "arXiv:1711.00937",
        "images as tokens for a decoder", "image_tokens.image_tokenizer", "pixels",
    ),
    Architecture(
        "clip", "images and text", "matching pairs", "arXiv:2103.00020",
        "search; classes named in words", "multimodal.clip", "paired", (), 2e-3,
    ),
    Architecture(
        "vl-bert", "images and text", "masked words and patches", "arXiv:1908.08530",
        "questions about an image", "multimodal.vl_bert", "asked", (), 0.01,
    ),
    Architecture(
        "dall-e", "images and text", "next token, then next code", "arXiv:2102.12092",
        "images from text", "image_tokens.text_to_image", "captioned", (), 0.01,
    ),
    Architecture(
        "flamingo", "images and text", "next token, given an image", "arXiv:2204.14198",
        "text about images, from two trained models", "bridge.flamingo", "described",
    ),
)  # fmt: skip


def architectures() -> tuple[Architecture, ...]:
    """All of them, text first, in the order in which they were invented within a family.

    >>> [a.name for a in architectures() if a.family == "encoder"]
    ['bert', 'roberta', 'distilbert', 'albert', 'electra']
    """
    return ARCHITECTURES


def architecture(name: str) -> Architecture:
    """The one of that name. Raises ValueError, which lists the names, for any other.

    >>> architecture("t5").objective
    'span denoising'
    """
    known = {entry.name: entry for entry in ARCHITECTURES}
    if name not in known:
        raise ValueError(f"unknown architecture {name!r}: choose one of {', '.join(known)}")
    return known[name]


def build(name: str, size: str = "tiny", *, seed: int = 0, **overrides: Any) -> nn.Module:
    """The architecture with random weights, drawn from `seed`; `size` is a key of `text.SIZES`.

    `model(**batch)` returns something with `.loss` and `.logits`. Text models take `vocab_size`,
    `length` (tokens) and `dropout`, image models `image_size` (pixels), `channels`, `classes` and
    `dropout`, models of both take both; other `overrides` are settings of the configuration.
    Raises ValueError for an unknown name, size or setting.

    >>> build("gpt2", vocab_size=100, length=16).config.n_positions
    16
    """
    entry = architecture(name)
    make = _function(entry.make)
    torch.manual_seed(seed)
    try:
        return make(size, **(dict(entry.settings) | overrides))
    except TypeError as error:
        if "unexpected keyword" not in str(error):
            raise
        raise ValueError(f"{name}: {str(error).split(') ')[-1].split('() ')[-1]}") from error


def _function(dotted: str) -> Any:
    file, name = dotted.split(".")
    return getattr(importlib.import_module(f"cookbook.models.{file}"), name)
