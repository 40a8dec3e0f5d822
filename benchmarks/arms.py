"""What the two pretraining benchmarks share: the corpus, the models, and the plain path.

The corpus is the one that `docbert` learns from, tokenised once and kept under `build/benchmarks`.
The plain path is what transformers' example `run_mlm.py` does when nothing is asked of it, built
from the same library pieces, so that both paths run in one process on the same rows. It measures
nothing. Run by itself it fills the cache (about two minutes).
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cookbook.data.tokenization import Packed

LENGTH, VOCABULARY = 128, 8192
HELD_OUT_ROWS, PADDED_ROWS = 2000, 8192
ROOT = Path(__file__).resolve().parent.parent
CACHE, RESULTS = ROOT / "build" / "benchmarks", ROOT / "benchmarks" / "results"


@dataclass(frozen=True)
class Corpus:
    """Token ids: packed rows to learn from and held out, and documents padded one to a row."""

    tokenizer: Any
    rows: Packed
    held_out: Packed
    padded: np.ndarray
    fingerprint: str


def corpus() -> Corpus:
    """The training split of `docstrings` without duplicates, from the cache or made now."""
    from cookbook.data import embedded
    from cookbook.models.initialization import load_tokenizer

    fingerprint = embedded.fingerprint()
    folder = CACHE / f"corpus-{fingerprint}"
    if not (folder / "ids.npz").exists():
        _make(folder)
    with np.load(folder / "ids.npz") as ids:
        return Corpus(load_tokenizer(str(folder)), whole(ids["rows"]), whole(ids["held_out"]),
                      ids["padded"].astype(np.int64), fingerprint)  # fmt: skip


def whole(ids: np.ndarray) -> Packed:
    """Rows without padding, (rows, LENGTH), each one context."""
    positions = np.broadcast_to(np.arange(LENGTH, dtype=np.int32), ids.shape)
    return Packed(ids.astype(np.int32), np.ones(ids.shape, np.int32), positions)


def _make(folder: Path) -> None:
    from cookbook.data import embedded, tokenization
    from cookbook.training import docbert, pretraining

    rng = np.random.default_rng(0)
    texts = docbert.training_texts()
    tokenizer = tokenization.train_tokenizer(texts, VOCABULARY, max_length=LENGTH)
    held_out = list(embedded.build("docstrings")["validation"]["text"])
    rng.shuffle(held_out)
    some = [texts[i] for i in rng.permutation(len(texts))[:PADDED_ROWS]]
    padded = tokenizer(some, truncation=True, max_length=LENGTH, padding="max_length")["input_ids"]
    # The last row of the stream is not full; `group_texts` of run_mlm.py drops it, and so do we.
    train, test = (
        pretraining.masked_lm_rows(part, tokenizer, LENGTH).input_ids[:-1]
        for part in (texts, held_out)
    )
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save_pretrained(folder)
    unfinished = folder / f"{os.getpid()}.npz"
    np.savez(unfinished, rows=train.astype(np.int16), padded=np.asarray(padded, np.int16),
             held_out=test[:HELD_OUT_ROWS].astype(np.int16))  # fmt: skip
    unfinished.rename(folder / "ids.npz")


def model(tokenizer: Any, seed: int, *, fast: bool) -> Any:
    """The small BERT: as `docbert` is trained, or with what its configuration defaults to.

    Both draw the same first weights from `seed`. The defaults are dropout 0.1 and whichever
    attention kernel transformers prefers (sdpa).
    """
    import transformers

    from cookbook.models import text
    from cookbook.training.docbert import RECIPE

    ours = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0,
            "attn_implementation": RECIPE["attention"]}  # fmt: skip
    transformers.set_seed(seed)
    config = text.bert_config(
        len(tokenizer), RECIPE["size"], length=LENGTH, pad_token_id=tokenizer.pad_token_id,
        **(ours if fast else {}),
    )  # fmt: skip
    return transformers.BertForMaskedLM(config)


def plain_dataset(ids: np.ndarray, tokenizer: Any) -> Any:
    """The columns that run_mlm.py leaves in its `datasets.Dataset`, for rows of token ids."""
    from datasets import Dataset

    special = np.zeros(len(tokenizer), np.int8)
    special[tokenizer.all_special_ids] = 1
    return Dataset.from_dict({
        "input_ids": ids, "token_type_ids": np.zeros(ids.shape, np.int8),
        "attention_mask": (ids != tokenizer.pad_token_id).astype(np.int8),
        "special_tokens_mask": special[ids],
    })  # fmt: skip


def plain_trainer(
    model: Any, tokenizer: Any, dataset: Any, *, callbacks: list, **given: Any
) -> Any:
    """transformers' own `Trainer` as run_mlm.py sets it up, reporting to nobody.

    Whatever is not in `given` is the default of `TrainingArguments`: fp32, no accumulation, clipped
    at 1.0, and from torch 2.8 on the fused AdamW, which the plain path therefore has too.
    """
    import torch
    import transformers

    args = transformers.TrainingArguments(
        report_to="none", disable_tqdm=True, use_cpu=not torch.cuda.is_available(),
        dataloader_pin_memory=torch.cuda.is_available(), **given,
    )  # fmt: skip
    collator = transformers.DataCollatorForLanguageModeling(tokenizer, mlm_probability=0.15)
    return transformers.Trainer(
        model, args, data_collator=collator, train_dataset=dataset, processing_class=tokenizer,
        callbacks=callbacks,
    )  # fmt: skip


def write(name: str, found: dict[str, Any], folder: Path = RESULTS) -> None:
    """`found` as `<folder>/<name>.json`, whole or not at all."""
    import json

    from cookbook.session import write_whole

    folder.mkdir(parents=True, exist_ok=True)
    write_whole(folder / f"{name}.json", json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    made = corpus()
    print(f"{len(made.rows):,} rows, {made.rows.tokens:,} tokens; held out {len(made.held_out):,}")
