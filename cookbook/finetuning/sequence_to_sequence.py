"""From text to text: rows, a model for them, what it writes greedily or with a beam, baselines.

Serves translation and summarisation with any encoder–decoder: one that is given, two copies of an
encoder, or a small T5 of our own. Metrics are `evaluation.generation`, training is `tuning`.
Chapter 15 uses it.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from cookbook.data.byte_pairs import train_byte_pairs
from cookbook.finetuning.task_fit import family_of
from cookbook.models import registry
from cookbook.models.initialization import load_config, load_model, load_tokenizer, quiet
from cookbook.training import from_parts

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


def end_id(tokenizer: PreTrainedTokenizerBase) -> int:
    """The token that ends a text: EOS, or [SEP] where BERT's tokenizer has no other."""
    return tokenizer.sep_token_id if tokenizer.eos_token_id is None else tokenizer.eos_token_id


def encode(
    sources: Sequence[str],
    targets: Sequence[str] | None,
    tokenizer: PreTrainedTokenizerBase,
    *,
    source_length: int = 96,
    target_length: int = 32,
) -> list[dict[str, list[int]]]:
    """`input_ids`, `attention_mask` and `labels`, which end with the end token even where cut.

    Labels are the target as it stands: the model shifts them to the right by one to get what its
    decoder reads, so position t is predicted from the targets before it.
    """
    coded = tokenizer(list(sources), truncation=True, max_length=source_length)
    rows = [
        {"input_ids": ids, "attention_mask": mask}
        for ids, mask in zip(coded["input_ids"], coded["attention_mask"], strict=True)
    ]
    if targets is not None:
        end, plain = end_id(tokenizer), {"add_special_tokens": False, "verbose": False}
        written = tokenizer(text_target=list(targets), **plain)["input_ids"]
        for row, ids in zip(rows, written, strict=True):
            row["labels"] = [*ids[: target_length - 1], end]
    return rows


def collator(tokenizer: PreTrainedTokenizerBase, *, label_padding: int = -100) -> Any:
    """Pads sources with the padding token, and labels with `label_padding`: -100 counts nowhere."""
    from transformers import DataCollatorForSeq2Seq

    return DataCollatorForSeq2Seq(tokenizer, label_pad_token_id=label_padding)


def prepare(model: str, *, seed: int = 0) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """An encoder–decoder from a checkpoint: itself, or two copies of an encoder.

    Raises ValueError for a decoder alone, which would need source and target in one text.
    """
    tokenizer, family = load_tokenizer(model), family_of(load_config(model))
    if family == "encoder-decoder":
        return load_model(model, "writing", seed=seed), tokenizer
    if family != "encoder":
        raise ValueError(
            f"{model} is of the family {family}: give an encoder or an encoder-decoder"
        )
    made, _ = from_parts.encoder_decoder(model, seed=seed)
    # At every step the library recalls how the loss was computed in version 4.12.
    warnings.filterwarnings("ignore", message="Version v4.12.0", category=FutureWarning)
    # Not the padding token: the library masks it, and the decoder would not see where it starts.
    made.config.decoder_start_token_id = tokenizer.cls_token_id
    made.config.decoder.use_cache = made.generation_config.use_cache = True  # an encoder has none
    return with_end(made, tokenizer), tokenizer


def small_t5(
    tokenizer: PreTrainedTokenizerBase, size: str = "mini", *, seed: int = 0, **overrides: Any
) -> PreTrainedModel:
    """A T5 with random weights for the tokens of `tokenizer`; `size` is a key of `text.SIZES`.

    Without dropout: what is trained for minutes from nothing has no time to overfit.
    """
    settings = {"vocab_size": len(tokenizer), "dropout": 0.0} | overrides
    made = registry.build("t5", size, seed=seed, **settings)
    return with_end(made, tokenizer)


def translator(
    model: str, texts: Sequence[str], *, vocab_size: int = 400, size: str = "mini", seed: int = 0,
    **overrides: Any,
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:  # fmt: skip
    """`model` where it is an encoder–decoder; else a small T5 with a tokenizer made from `texts`.

    An encoder of one language has no pieces for another, so nothing of it would be of use.
    """
    if family_of(load_config(model)) == "encoder-decoder":
        return prepare(model, seed=seed)
    tokenizer = train_byte_pairs(texts, vocab_size, digits=True)
    return small_t5(tokenizer, size, seed=seed, **overrides), tokenizer


def with_end(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> PreTrainedModel:
    """`model`, told by which token a text ends, for training and for `generate`."""
    end = end_id(tokenizer)
    for config in (model.config, model.generation_config):
        config.eos_token_id, config.pad_token_id = end, tokenizer.pad_token_id
        config.decoder_start_token_id = model.config.decoder_start_token_id
    return model


@torch.no_grad()
def loss_of(
    model: PreTrainedModel,
    rows: Sequence[dict[str, Any]],
    tokenizer: PreTrainedTokenizerBase,
    *,
    batch_size: int = 32,
) -> float:
    """Mean cross-entropy in nats a token of the targets; padding and dropout have no part in it."""
    device, training, total, tokens = next(model.parameters()).device, model.training, 0.0, 0
    pad = collator(tokenizer)
    model.eval()
    for start in range(0, len(rows), batch_size):
        batch = pad(list(rows[start : start + batch_size])).to(device)
        count = int((batch["labels"] != -100).sum())
        total, tokens = total + float(model(**batch).loss) * count, tokens + count
    model.train(training)
    return total / tokens


@torch.no_grad()
def write(
    model: PreTrainedModel,
    rows: Sequence[dict[str, Any]],
    tokenizer: PreTrainedTokenizerBase,
    *,
    beams: int = 1,
    longest: int = 32,
    batch_size: int = 64,
) -> list[str]:
    """What the model writes about each row, in order: greedy, or the best of `beams` hypotheses."""
    return [
        tokenizer.decode(ids, skip_special_tokens=True).strip()
        for ids in write_ids(
            model, rows, tokenizer, beams=beams, longest=longest, batch_size=batch_size
        )
    ]


@torch.no_grad()
def write_ids(
    model: PreTrainedModel,
    rows: Sequence[dict[str, Any]],
    tokenizer: PreTrainedTokenizerBase,
    *,
    beams: int = 1,
    longest: int = 32,
    batch_size: int = 64,
) -> list[list[int]]:
    """The same as token ids, from behind the start token up to the end token or `longest`."""
    device, training = next(model.parameters()).device, model.training
    order = np.argsort([len(row["input_ids"]) for row in rows], kind="stable").tolist()
    found: list[list[int]] = [[]] * len(rows)
    end, pad = end_id(tokenizer), tokenizer.pad_token_id
    model.eval()
    for start in range(0, len(order), batch_size):
        places = order[start : start + batch_size]
        inputs = [{k: rows[i][k] for k in ("input_ids", "attention_mask")} for i in places]
        batch = tokenizer.pad(inputs, return_tensors="pt").to(device)
        with quiet():
            written = model.generate(
                **batch, max_new_tokens=longest, num_beams=beams, do_sample=False
            )
        for i, ids in zip(places, written[:, 1:].tolist(), strict=True):
            stop = ids.index(end) + 1 if end in ids else len(ids)
            found[i] = [token for token in ids[:stop] if token != pad]
    model.train(training)
    return found


def lead(text: str) -> str:
    """The first sentence: what a summary has to beat.

    >>> lead("Sums the values.  Then it\\nreturns them.")
    'Sums the values.'
    """
    return " ".join(re.split(r"(?<=[.!?])\s|\n\s*\n", text.strip(), maxsplit=1)[0].split())


def nearest(
    sources: Sequence[str], targets: Sequence[str], unseen: Sequence[str], *, most: int = 20_000
) -> list[str]:
    """The target of the most similar training source, by runs of 1 to 4 letters (TF-IDF cosine).

    At most the first `most` training rows are looked through.

    >>> nearest(["5 May", "red"], ["5. Mai", "rot"], ["6 May"])
    ['5. Mai']
    """
    from sklearn.feature_extraction.text import TfidfVectorizer

    vectors = TfidfVectorizer(analyzer="char", ngram_range=(1, 4), sublinear_tf=True)
    known = vectors.fit_transform(sources[:most])
    found = []
    for start in range(0, len(unseen), 256):
        alike = vectors.transform(unseen[start : start + 256]) @ known.T
        found += [targets[i] for i in np.asarray(alike.argmax(axis=1)).ravel()]
    return found
