"""Candidates made from one checkpoint: random, cut, with more words, of another family.

For comparing where weights may come from without downloading anything: each is written into a
folder of its own, as a checkpoint that `load_model` takes. Nothing is trained. Chapter 06.
"""

from __future__ import annotations

import collections
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from cookbook.finetuning.fit import WORD
from cookbook.models.initialization import (
    extend_vocabulary,
    load_config,
    load_model,
    load_tokenizer,
    save_half,
)

NAMES = ("random", "cut", "extended", "decoder", "vision")


def make(
    model: str, folder: Path, texts: Sequence[str], *, new_words: int = 200, seed: int = 0
) -> dict[str, str]:
    """Name -> folder of `model` itself and of what is made from it, in `folder`.

    "random": its architecture, drawn anew. "cut": its lower half. "extended": with the `new_words`
    frequent words of `texts` that its tokenizer cuts into the most pieces. "decoder": a GPT-2 of
    its width and depth, random, with its tokenizer. "vision": a ViT's configuration. Only the
    "decoder" and the "vision" have nothing of it, and only "random", "decoder" and "vision" have
    learnt nothing. Raises ValueError where `model` cannot be loaded.
    """
    config, tokenizer = load_config(model), load_tokenizer(model)
    layers = max(1, config.num_hidden_layers // 2)
    made = {
        "random": load_model(model, random=True, seed=seed),
        "cut": load_model(model, num_hidden_layers=layers),
        "extended": load_model(model),
        "decoder": _decoder(config, tokenizer, seed),
    }
    for name in ("random", "cut", "decoder"):
        save_half(made[name], tokenizer, folder / name)
    extend_vocabulary(made["extended"], tokenizer, split_words(texts, tokenizer, new_words))
    save_half(made["extended"], tokenizer, folder / "extended")
    _vision().save_pretrained(folder / "vision")
    return {Path(model).name: model} | {name: str(folder / name) for name in NAMES}


def split_words(texts: Iterable[str], tokenizer: Any, count: int, *, least: int = 5) -> list[str]:
    """The words of `texts` that take the most pieces in all: frequent ones, cut into many.

    A word occurs at least `least` times and has at least two pieces; at most `count` words.

    >>> from cookbook.models.initialization import load_tokenizer
    >>> split_words(["hyperventilate calmly"] * 5, load_tokenizer("docbert"), 1)
    ['hyperventilate']
    """
    counts = collections.Counter(word for text in texts for word in WORD.findall(text))
    frequent = [word for word, times in counts.items() if times >= least]
    pieces = {word: len(tokenizer.tokenize(word)) for word in frequent}
    spared = {word: counts[word] * (pieces[word] - 1) for word in frequent if pieces[word] > 1}
    return sorted(spared, key=lambda word: (-spared[word], word))[:count]


def _decoder(config: Any, tokenizer: Any, seed: int) -> Any:
    import torch
    import transformers

    torch.manual_seed(seed)
    return transformers.GPT2LMHeadModel(
        transformers.GPT2Config(
            vocab_size=len(tokenizer), n_embd=config.hidden_size,
            n_layer=config.num_hidden_layers, n_head=config.num_attention_heads,
            n_positions=tokenizer.model_max_length if tokenizer.model_max_length < 10**5 else 512,
            pad_token_id=tokenizer.pad_token_id, bos_token_id=tokenizer.cls_token_id,
            eos_token_id=tokenizer.sep_token_id,
        )
    )  # fmt: skip


def _vision() -> Any:
    import transformers

    return transformers.ViTConfig(architectures=["ViTForImageClassification"])
