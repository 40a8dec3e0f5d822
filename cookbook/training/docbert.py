"""The recipe of `docbert`, the small BERT that ships in `data/docbert`: one command makes it again.

    python -m cookbook.training.docbert            (or: make docbert)

Training split of `docstrings` -> without exact and near duplicates -> WordPiece tokenizer ->
packed rows -> masked language modelling -> half precision on disk -> measured from the stored
file -> model card. It goes on from its last whole checkpoint when it was stopped. Chapter 03 walks
through it at a smaller scale.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from cookbook import session
from cookbook.data import deduplication, embedded, tokenization
from cookbook.models import initialization, text
from cookbook.training import pretraining

# The eager kernels beat fused attention here: at 128 tokens the score matrix is small, and the
# backward pass of the fused CPU kernel was measured at half the speed. The rate stays constant
# until the last fifth (warm-up, stable, decay), so that a longer run can go on from any checkpoint.
RECIPE = {"vocab_size": 8192, "size": "small", "length": 128, "steps": 7500, "batch_size": 32,
          "learning_rate": 1e-3, "warmup": 400, "schedule": "warmup_stable_decay", "decay": 0.2,
          "probability": 0.15, "seed": 0, "attention": "eager"}  # fmt: skip
DROPOUT = 0.1  # in the shipped configuration: fine-tuning and contrastive learning need it


def training_texts() -> list[str]:
    """The training split of `docstrings`, the first of each cluster of (near-)duplicates."""
    texts = list(embedded.build("docstrings")["train"]["text"])
    first = deduplication.near_duplicates(texts)
    return [texts[row] for row in np.flatnonzero(first == np.arange(len(texts)))]


def make(folder: Path, work: Path, **changes: Any) -> dict[str, Any]:
    """Train with `RECIPE` (and `changes`), write model, tokenizer and card; returns the figures."""
    recipe = RECIPE | changes
    torch.manual_seed(recipe["seed"])
    texts = training_texts()
    tokenizer = _tokenizer(texts, recipe, work)
    rows = pretraining.masked_lm_rows(texts, tokenizer, recipe["length"])
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model = _new_model(recipe, tokenizer)
    precision = session.fastest_precision(device, seconds=1.0)
    began = time.process_time()
    done = pretraining.pretrain(
        model, tokenizer, rows, _held_out("validation", tokenizer, recipe["length"], 200),
        precision=precision, output_dir=work, resume=True,
        save_strategy="steps", save_steps=250, save_total_limit=2, callbacks=_verified(),
        lr_scheduler_kwargs={"num_decay_steps": round(recipe["decay"] * recipe["steps"])},
        **{k: recipe[k] for k in ("steps", "batch_size", "learning_rate", "warmup", "schedule",
                                  "probability", "seed")},
    )  # fmt: skip
    model.config.hidden_dropout_prob = model.config.attention_probs_dropout_prob = DROPOUT
    initialization.save_half(model, tokenizer, folder)
    made = {
        "tokens": done.tokens, "epochs": done.tokens / rows.tokens, "documents": len(texts),
        "wall_minutes": done.seconds / 60, "cpu_minutes": (time.process_time() - began) / 60,
        "threads": torch.get_num_threads(), "device": device, "precision": precision,
        "corpus": embedded.fingerprint(), "recipe": recipe,
    }  # fmt: skip
    (work / "made.json").write_text(json.dumps(made | {"curve": done.history}, indent=1))
    return made


def _tokenizer(texts: list[str], recipe: dict[str, Any], work: Path) -> Any:
    """The tokenizer of the run in `work`: a second training would number some tokens otherwise."""
    folder = work / "tokenizer"
    if folder.is_dir():
        return initialization.load_tokenizer(str(folder))
    if any(work.glob("checkpoint-*")):
        raise ValueError(
            f"{work} holds checkpoints without the tokenizer they were trained with: remove it or "
            "name another --work"
        )
    tokenizer = tokenization.train_tokenizer(
        texts, recipe["vocab_size"], max_length=recipe["length"]
    )
    scratch = work / f".tokenizer.{os.getpid()}"
    tokenizer.save_pretrained(scratch)
    scratch.rename(folder)
    return tokenizer


def _new_model(recipe: dict[str, Any], tokenizer: Any) -> Any:
    from transformers import BertForMaskedLM

    config = text.bert_config(
        len(tokenizer), recipe["size"], length=recipe["length"], hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0, pad_token_id=tokenizer.pad_token_id,
        attn_implementation=recipe["attention"],
    )  # fmt: skip
    return BertForMaskedLM(config)


def _held_out(split: str, tokenizer: Any, length: int, rows: int | None = None) -> Any:
    texts = embedded.build("docstrings")[split]["text"]
    return pretraining.masked_lm_rows(texts[:rows], tokenizer, length)


def _verified() -> list:
    from cookbook.training.trainer_checkpoints import VerifiedCheckpoints

    return [VerifiedCheckpoints()]


CARD = """---
language: en
license: apache-2.0
library_name: transformers
pipeline_tag: fill-mask
tags: [bert, masked-lm, docstrings]
---

# docbert

A small BERT ({parameters:,} parameters, {layers} layers, hidden size {hidden}, sequences of up to
{length} tokens, cased WordPiece vocabulary of {vocab_size:,}) that has read nothing but docstrings:
technical English from the source of installed Python packages. It ships with the cookbook to be
fine-tuned, taken apart and compared with; it is no general language model.

| measured on the stored file, docstrings of held-out modules | |
|---|---|
| masked accuracy | {masked_accuracy:.1%} |
| always the most frequent token | {baseline:.1%} |
| loss, nats a masked token | {loss:.3f} |
| perplexity | {perplexity:.1f} |
| masked tokens asked | {masked_tokens:,.0f} |

How it was made:

- **command** `make docbert`, which is `python -m cookbook.training.docbert`
- **text** the training split of `docstrings`, {documents:,} documents after exact and near
  de-duplication; fingerprint `{corpus}` (other package versions give another text and model)
- **objective** masked language modelling of {probability:.0%} of the tokens, 80/10/10, in packed
  rows of {length}
- **tokens read** {tokens:,}: {steps:,} steps of {batch_size} rows, {epochs:.1f} epochs
- **optimizer** AdamW, peak rate {learning_rate}; {warmup} steps of warm-up, then constant, then
  linear decay over the last {decay:.0%}; seed {seed}
- **precision** {precision} autocast in training, fp16 on disk; load it as fp32, as
  `load_model` does
- **dropout** none in pretraining, {dropout} in the configuration
- **time** {cpu_minutes:.0f} CPU minutes, {threads} thread(s), on {device}

What it was tested on was in no split that it read: splits are by module, and a held-out text that
(nearly) repeats a training text was left out.
"""


def write_card(folder: Path, made: dict[str, Any]) -> dict[str, float]:
    """Measure the stored file and write its model card; returns the figures."""
    tokenizer = initialization.load_tokenizer(str(folder))
    model = initialization.load_model(str(folder), "masked-lm")
    test = _held_out("test", tokenizer, tokenizer.model_max_length)
    figures = pretraining.evaluate_masked_lm(model, tokenizer, test)
    figures["baseline"] = pretraining.unigram_baseline(
        _held_out("validation", tokenizer, tokenizer.model_max_length), test,
        tokenizer.all_special_ids,
    )  # fmt: skip
    config = model.config
    shape = {"parameters": initialization.count_parameters(model)[0], "dropout": DROPOUT,
             "layers": config.num_hidden_layers, "hidden": config.hidden_size}  # fmt: skip
    card = CARD.format(**(made["recipe"] | made | shape | figures))
    session.write_whole(folder / "README.md", card)
    session.write_whole(
        folder / "figures.json", json.dumps(figures | {"corpus": made["corpus"]}, indent=1)
    )
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, default=Path("data/docbert"))
    parser.add_argument("--work", type=Path, default=Path("build/docbert"))
    parser.add_argument("--steps", type=int, default=RECIPE["steps"])
    parser.add_argument("--card", action="store_true", help="only measure and write the card again")
    asked = parser.parse_args()
    if not asked.card:
        make(asked.folder, asked.work, steps=asked.steps)
    figures = write_card(asked.folder, json.loads((asked.work / "made.json").read_text()))
    print(json.dumps(figures, indent=1))


if __name__ == "__main__":
    main()
