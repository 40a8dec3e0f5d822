"""The family of the seventh set: a BART that writes what a function does, from notes about it.

Learned positions, a byte-level BPE whose rows stand between <s> and </s>, a decoder that starts
with </s>, one embedding for encoder, decoder and head: what T5 has not. The checkpoint is
pretrained as BART was, by filling in the spans that a mask covers. It holds no fault; faults stand
in `mutations/seventh_*`, healthy writers in `seventh_healthy`.
"""

from __future__ import annotations

import functools
import random
import re
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from faults import material
from faults.families import some
from faults.recipe import Recipe

NAME = "summary"
SOURCE, TARGET = 40, 48  # pieces at most
TRAIN, EVAL = 384, 128
PRETRAINING_STEPS = 1000
SPECIAL = {
    "bos_token": "<s>",
    "pad_token": "<pad>",
    "eos_token": "</s>",
    "unk_token": "<unk>",
    "mask_token": "<mask>",
}


# -- made once -----------------------------------------------------------------------------------


@functools.cache
def checkpoint() -> str:
    """The folder of the pretrained BART and its tokenizer; a minute the first time."""
    return str(material.kept("bart", _pretrain_into))


def make_tokenizer(reading: list[str], size: int = material.VOCABULARY) -> Any:
    """Byte-level BPE with BART's special tokens, in BART's order, and BART's template."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    pieces = Tokenizer(models.BPE(unk_token=SPECIAL["unk_token"]))
    pieces.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    pieces.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=size,
        special_tokens=list(SPECIAL.values()),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    pieces.train_from_iterator(reading, trainer)
    ends = [(token, pieces.token_to_id(token)) for token in ("<s>", "</s>")]
    pieces.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", pair="<s> $A </s> </s> $B </s>", special_tokens=ends
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=pieces,
        model_max_length=material.LENGTH,
        model_input_names=["input_ids", "attention_mask"],
        **SPECIAL,
    )


def make_model(tokens: Any, **settings: Any) -> nn.Module:
    """A BART of two and two layers and hidden size 64 with freshly drawn weights."""
    import transformers

    sizes = {
        "vocab_size": len(tokens),
        "d_model": material.HIDDEN,
        "encoder_layers": 2,
        "decoder_layers": 2,
        "encoder_attention_heads": 2,
        "decoder_attention_heads": 2,
        "encoder_ffn_dim": 2 * material.HIDDEN,
        "decoder_ffn_dim": 2 * material.HIDDEN,
        "max_position_embeddings": 2 * material.LENGTH,
        "init_std": 0.1,  # 0.02 is meant for 768 dimensions
        "bos_token_id": tokens.bos_token_id,
        "pad_token_id": tokens.pad_token_id,
        "eos_token_id": tokens.eos_token_id,
        "decoder_start_token_id": tokens.eos_token_id,
        "forced_eos_token_id": tokens.eos_token_id,
    }
    return transformers.BartForConditionalGeneration(transformers.BartConfig(**(sizes | settings)))


def _pretrain_into(place: Path) -> None:
    reading = material.texts()["reading"]
    tokens = make_tokenizer(reading)
    torch.manual_seed(0)
    model = make_model(tokens)
    _denoise(model, tokens, reading)
    model.save_pretrained(place)
    tokens.save_pretrained(place)


def covered(ids: list[int], mask: int, draws: Any) -> list[int]:
    """The ids of a text with a share of its pieces behind masks, one mask for a span.

    The share differs from text to text: where little is left, the decoder must know the language.
    """
    if draws.random() < 0.3:  # one span up to the end
        return [*ids[: draws.integers(2, 8)], mask, ids[-1]]
    kept, place, often = ids[:1], 1, draws.uniform(0.05, 0.6)
    while place < len(ids) - 1:
        if draws.random() < often:
            kept.append(mask)
            place += draws.poisson(3) or 1
        else:
            kept.append(ids[place])
            place += 1
    return [*kept, ids[-1]]


def _denoise(model: nn.Module, tokens: Any, reading: list[str]) -> None:
    """Fill in what is covered: a minute's reading."""
    import transformers

    draws = np.random.default_rng(0)
    collate = transformers.DataCollatorForSeq2Seq(tokens)
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 4e-3, PRETRAINING_STEPS)
    model.train()
    for _ in range(PRETRAINING_STEPS):
        some_texts = [reading[i] for i in draws.integers(len(reading), size=32)]
        whole = tokens(some_texts, truncation=True, max_length=32)["input_ids"]
        noisy = [covered(ids, tokens.mask_token_id, draws) for ids in whole]
        batch = collate([{"input_ids": a, "labels": b} for a, b in zip(noisy, whole, strict=True)])
        loss = model(**batch).loss
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step(), schedule.step(), optimizer.zero_grad()
    print(f"bart: pretrained to a loss of {loss.item():.2f}")
    model.eval()


# -- the script ----------------------------------------------------------------------------------


@functools.cache
def tokenizer() -> Any:
    """That of the checkpoint; a cached one, so copy it before changing it."""
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(checkpoint())


def writer(head: str = "BartForConditionalGeneration", **settings: Any) -> nn.Module:
    """The pretrained BART."""
    import transformers

    return getattr(transformers, head).from_pretrained(checkpoint(), **settings)


def notes(name: str, line: str) -> str:
    """What the writer is given: a function's name, and long words of the line in some order."""
    words = sorted({word.lower() for word in re.findall(r"[A-Za-z]{4,}", line)})
    told = random.Random(line).sample(words, min(5, len(words)))
    return f"{' '.join(name.split())}: {' '.join(told)}"


def pairs(split: str, seed: int, count: int) -> list[tuple[str, str]]:
    """Notes about a function, and the first line of its docstring."""
    chosen = some(material.texts()["pairs"][split], seed, count)
    return [(notes(name, line), line) for name, line in chosen]


def encoded(tokens: Any, source: str, target: str, target_length: int = TARGET) -> dict[str, list]:
    """One row, as `map` with `remove_columns` leaves it: the texts are gone."""
    row = dict(tokens(source, truncation=True, max_length=SOURCE))
    labels = tokens(text_target=target, truncation=True, max_length=target_length)
    return {**row, "labels": labels["input_ids"]}


def rows(split: str, seed: int, count: int, tokens: Any = None) -> list[dict[str, list]]:
    """The encoded pairs of a split."""
    return [encoded(tokens or tokenizer(), *pair) for pair in pairs(split, seed, count)]


def token_accuracy(prediction: Any) -> dict[str, float]:
    """`compute_metrics` of a writer that is told the pieces before: the share of right ones."""
    scores, labels = prediction
    scores = scores[0] if isinstance(scores, tuple) else scores
    kept = labels != -100
    return {"accuracy": float((scores.argmax(-1) == labels)[kept].mean())}


def seq2seq_trainer() -> type:
    """The trainer that the examples of summarization use."""
    import transformers

    return transformers.Seq2SeqTrainer


def summary(seed: int, loop: str = "trainer") -> Recipe:
    """`BartForConditionalGeneration`: what does the function do that these notes are about?

    The collator leaves `decoder_input_ids` to the model, as the guide to summarization does.
    """
    import transformers

    tokens = tokenizer()
    return Recipe(
        NAME,
        seed,
        writer,
        rows("train", seed, TRAIN),
        rows("eval", seed, EVAL),
        collate=transformers.DataCollatorForSeq2Seq(tokens),
        tokenizer=tokens,
        loop=loop,
        lr=2e-3,
        steps=50,
        warmup=5,
        trainer=seq2seq_trainer if loop == "trainer" else None,
        note={"seq2seq": True} if loop == "trainer" else {},
    )
