"""Which task a data set asks for, which family a model is of, and whether the two go together.

It reads column names and configurations, and knows what each family was built for; how well a
model does is for `transferability` and training to say. Used by `selection`, chapter 06.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from datasets import DatasetDict

FAMILIES = ("encoder", "decoder", "encoder-decoder", "vision", "joint")


class Fit(NamedTuple):
    """2: made for it; 1: can do it, at a price; 0: cannot. `why` is part of a sentence."""

    grade: int
    why: str


_NO_TEXT = Fit(0, "reads images, and there are none in the data")
_NO_IMAGE = Fit(0, "reads text, and the data are images")
_CAPTIONS = Fit(1, "its text half has learnt to match short captions, not to understand text")
# What each task asks of each family, in the order of FAMILIES.
FITS = {
    "classification": (
        Fit(2, "every token sees the whole text, which is what a label needs"),
        Fit(1, "a token sees only what stands before it, so the last one has to know everything"),
        Fit(1, "half of it writes, which a label does not need"),
        _NO_TEXT,
        _CAPTIONS,
    ),
    "tagging": (
        Fit(2, "every token sees both sides before it is tagged"),
        Fit(1, "a token is tagged before the words behind it are seen"),
        Fit(1, "only its encoder half is of use"),
        _NO_TEXT,
        _CAPTIONS,
    ),
    "question answering": (
        Fit(2, "question and passage see each other; the answer is a span of it"),
        Fit(1, "writes an answer, which need not stand in the passage"),
        Fit(1, "writes an answer, which need not stand in the passage"),
        _NO_TEXT,
        Fit(0, "answers about images; the data are passages"),
    ),
    "writing": (
        Fit(0, "has nothing to write with: it fills in blanks"),
        Fit(1, "writes, but source and target have to share one text and one reading direction"),
        Fit(2, "reads the source both ways and writes the target"),
        _NO_TEXT,
        Fit(0, "writes about images at best; the data are texts"),
    ),
    "language modelling": (
        Fit(1, "learns to fill in blanks; it cannot continue a text"),
        Fit(2, "continues texts, token by token"),
        Fit(1, "learns to restore damaged texts, at twice the layers"),
        _NO_TEXT,
        Fit(0, "needs an image to every text"),
    ),
    "image classification": (
        _NO_IMAGE,
        _NO_IMAGE,
        _NO_IMAGE,
        Fit(2, "reads images, and a label is all that is asked"),
        Fit(2, "its image half knows images by their captions; it may even do without training"),
    ),
    "matching": (
        Fit(0, "knows no images"),
        Fit(0, "knows no images"),
        Fit(0, "knows no images"),
        Fit(0, "knows no text"),
        Fit(2, "puts images and texts into one space"),
    ),
}
FITS["regression"] = FITS["classification"]
FITS["retrieval"] = FITS["classification"]


def task_fit(task: str, family: str) -> Fit:
    """How a family suits a task. Raises KeyError for a task that is not in FITS.

    >>> task_fit("classification", "vision").grade
    0
    """
    if family not in FAMILIES:
        return Fit(0, "its architecture is none that is known here")
    return FITS[task][FAMILIES.index(family)]


def task_of(dataset: DatasetDict) -> str:
    """What the columns of `dataset` ask for: a key of FITS.

    Columns are named by their roles, as `cookbook.data.load` leaves them.
    """
    from datasets import ClassLabel

    features = dataset["train"].features
    has = features.keys().__contains__
    if has("image"):
        return "matching" if has("caption") or has("text") else "image classification"
    if has("tags"):
        return "tagging"
    if has("question"):
        return "question answering"
    if has("target") or has("summary"):
        return "writing"
    if has("label"):
        return "classification" if isinstance(features["label"], ClassLabel) else "regression"
    return "retrieval" if has("text_pair") else "language modelling"


def family_of(config: Any) -> str:
    """One of FAMILIES, or "unknown", for a configuration of transformers.

    BERT can be told to decode and is still an encoder; what counts is what the checkpoint was
    saved as, then what its type is first of all.

    >>> from transformers import BertConfig, GPT2Config, T5Config, ViTConfig
    >>> [family_of(c()) for c in (BertConfig, GPT2Config, T5Config, ViTConfig)]
    ['encoder', 'decoder', 'encoder-decoder', 'vision']
    """
    from transformers.models.auto import modeling_auto as auto

    kind, saved_as = config.model_type, " ".join(getattr(config, "architectures", None) or [])
    halves = [getattr(config, name, None) for name in ("vision_config", "encoder")]
    if any(_sees(half) for half in halves) and not _sees(config):
        return "joint"
    if getattr(config, "is_encoder_decoder", False):
        return "encoder-decoder"
    if _sees(config):
        return "vision"
    causal = "CausalLM" in saved_as or "LMHead" in saved_as or getattr(config, "is_decoder", False)
    if kind in auto.MODEL_FOR_MASKED_LM_MAPPING_NAMES and not causal:
        return "encoder"
    return "decoder" if kind in auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES else "unknown"


def _sees(config: Any) -> bool:
    """Whether a configuration is that of a network for images alone."""
    has = [hasattr(config, name) for name in ("image_size", "num_channels")]
    return any(has) and not hasattr(config, "vocab_size") and not hasattr(config, "vision_config")
