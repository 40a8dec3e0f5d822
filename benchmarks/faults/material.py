"""What the bench's scripts read: slices of real text and digits, tokenizers, tiny checkpoints.

Made once from the embedded sets (two minutes of CPU) and kept under `build/benchmarks/faults`, by
the corpus's fingerprint. The checkpoints are really pretrained, for a minute in all: a fine-tuning
script must start from weights that know something. It holds no script and no fault.
"""

from __future__ import annotations

import functools
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

ROOT = Path(__file__).resolve().parents[2]
VOCABULARY, LENGTH, HIDDEN = 2000, 48, 64
TRAIN, EVAL = 512, 160
CHECKPOINTS = ("bert", "gpt2", "llama", "t5")
PRETRAINING_STEPS = 800


@functools.cache
def folder() -> Path:
    """Where slices and checkpoints lie, made one by one when they are asked for."""
    from cookbook.data import embedded

    place = ROOT / "build" / "benchmarks" / f"faults-{embedded.fingerprint()}"
    place.mkdir(parents=True, exist_ok=True)
    return place


@functools.cache
def checkpoint(name: str) -> str:
    """The folder of a pretrained tiny model and its tokenizer; half a minute the first time."""
    return str(kept(name, lambda place: _pretrain_into(place, name)))


def kept(name: str, write: Callable[[Path], None]) -> Path:
    """A folder of this name, written once, however many processes ask for it."""
    place = folder() / name
    if not place.exists():
        unfinished = place.with_name(f"{name}-{os.getpid()}")
        write(unfinished)
        try:
            unfinished.rename(place)
        except OSError:  # another process was first
            shutil.rmtree(unfinished)
    return place


@functools.cache
def texts() -> dict[str, Any]:
    """`topics`: [text, label] rows; `pairs`: [prompt, answer] rows; each train and eval."""
    place = folder() / "texts.json"
    if not place.exists():
        unfinished = place.with_name(f"{os.getpid()}.json")
        unfinished.write_text(json.dumps(_slices()))
        unfinished.rename(place)
    return json.loads(place.read_text())


@functools.cache
def tokenizer(name: str) -> Any:
    """The tokenizer of a checkpoint; a cached one, so copy it before changing it."""
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(checkpoint(name))


@functools.cache
def digits() -> tuple[torch.Tensor, torch.Tensor]:
    """scikit-learn's digits: (1797, 1, 8, 8) in 0..1, and labels; in a fixed shuffled order."""
    from sklearn.datasets import load_digits

    x, y = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(y))
    pixels = torch.tensor(x[order].reshape(-1, 1, 8, 8) / 16, dtype=torch.float32)
    return pixels, torch.tensor(y[order])


# -- made once -----------------------------------------------------------------------------------


def _slices() -> dict[str, Any]:
    from cookbook.data import load

    topics, pairs, whole = load("docstring-topics"), load("docstring-pairs"), TRAIN * 2
    return {
        "topics": {
            "train": _topics(topics["train"], 2 * whole),
            "eval": _topics(topics["validation"], EVAL * 2),
        },
        "pairs": {
            "train": _pairs(pairs["train"], whole),
            "eval": _pairs(pairs["validation"], EVAL * 2),
        },
        "reading": [row["text"] for row in topics["train"]]
        + [row["summary"] for row in pairs["train"]],
        "subjects": [row["label"] for row in topics["train"]],
    }


def _pretrain_into(place: Path, name: str) -> None:
    reading = texts()["reading"]
    tokens = make_tokenizer(name, reading)
    torch.manual_seed(0)
    model = make_model(name, tokens)
    _pretrain(name, model, tokens, reading)
    model.save_pretrained(place)
    tokens.save_pretrained(place)


def _topics(split: Any, count: int) -> list[list[Any]]:
    """Rows of at least 30 characters, each text once, equally many of each class."""
    rng, seen, by_label = np.random.default_rng(0), set(), {}
    for place in rng.permutation(len(split)):
        row = split[int(place)]
        text = " ".join(row["text"].split())[:300]
        if len(text) > 30 and text.lower() not in seen:
            seen.add(text.lower())
            by_label.setdefault(row["label"], []).append([text, row["label"]])
    rows = [row for group in zip(*by_label.values(), strict=False) for row in group][:count]
    rng.shuffle(rows)
    return rows


def _pairs(split: Any, count: int) -> list[list[str]]:
    """The last part of a function's name → the first line of its docstring; each answer once."""
    rng, seen, rows = np.random.default_rng(0), set(), []
    for place in rng.permutation(len(split)):
        row = split[int(place)]
        name, answer = row["name"].split(".")[-1].replace("_", " "), row["summary"]
        fits = 20 <= len(answer) <= 70 and len(name) <= 30
        if fits and answer.lower() not in seen and name.lower() not in seen:
            seen |= {answer.lower(), name.lower()}
            rows.append([name, answer])
        if len(rows) == count:
            break
    return rows


def make_tokenizer(name: str, reading: list[str]) -> Any:
    """WordPiece for BERT; byte-level BPE for the others, with the special tokens of each kind."""
    from cookbook.data.tokenization import train_tokenizer

    if name == "bert":
        return train_tokenizer(reading, VOCABULARY, max_length=LENGTH)
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    special = {
        "gpt2": {
            "eos_token": "<|endoftext|>",
            "bos_token": "<|endoftext|>",
            "pad_token": "<|pad|>",
        },
        "llama": {
            "unk_token": "<unk>",
            "bos_token": "<s>",
            "eos_token": "</s>",
            "pad_token": "<pad>",
        },
        "t5": {"pad_token": "<pad>", "eos_token": "</s>", "unk_token": "<unk>"},
    }[name]
    pieces = Tokenizer(models.BPE())
    pieces.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    pieces.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=list(dict.fromkeys(special.values())),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    pieces.train_from_iterator(reading, trainer)
    template = {"llama": "<s> $A", "t5": "$A </s>"}.get(name)
    if template:
        ends = [
            (token, pieces.token_to_id(token)) for token in ("<s>", "</s>") if token in template
        ]
        pieces.post_processor = processors.TemplateProcessing(single=template, special_tokens=ends)
    return PreTrainedTokenizerFast(tokenizer_object=pieces, model_max_length=LENGTH, **special)


def make_model(name: str, tokens: Any) -> Any:
    """A model of two layers and hidden size 64 with freshly drawn weights."""
    import transformers as tf

    ids = {"pad_token_id": tokens.pad_token_id, "vocab_size": len(tokens)}
    if name == "bert":
        from cookbook.models.text import bert_config

        sizes = {
            "hidden_size": HIDDEN,
            "intermediate_size": 2 * HIDDEN,
            "num_hidden_layers": 2,
            "initializer_range": 0.1,
        }
        return tf.BertForPreTraining(
            bert_config(ids.pop("vocab_size"), "tiny", length=LENGTH, **sizes, **ids)
        )
    ids["eos_token_id"] = tokens.eos_token_id
    if name != "t5":  # 0.02 is meant for 768 dimensions
        ids["initializer_range"] = 0.1
    if name == "gpt2":
        return tf.GPT2LMHeadModel(
            tf.GPT2Config(
                n_embd=HIDDEN,
                n_layer=2,
                n_head=2,
                n_positions=2 * LENGTH,
                bos_token_id=tokens.bos_token_id,
                **ids,
            )
        )
    if name == "llama":
        return tf.LlamaForCausalLM(
            tf.LlamaConfig(
                hidden_size=HIDDEN,
                num_hidden_layers=2,
                num_attention_heads=2,
                num_key_value_heads=2,
                intermediate_size=2 * HIDDEN,
                max_position_embeddings=2 * LENGTH,
                bos_token_id=tokens.bos_token_id,
                **ids,
            )
        )
    return tf.T5ForConditionalGeneration(
        tf.T5Config(
            d_model=HIDDEN,
            d_kv=32,
            d_ff=2 * HIDDEN,
            num_layers=2,
            num_heads=2,
            decoder_start_token_id=tokens.pad_token_id,
            **ids,
        )
    )


def _pretrain(name: str, model: Any, tokens: Any, reading: list[str]) -> None:
    """A minute's reading: masked, causal, or the second half from the first."""
    rng = np.random.default_rng(0)
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, PRETRAINING_STEPS)
    subjects = torch.tensor(texts()["subjects"])
    model.train()
    for _ in range(PRETRAINING_STEPS):
        places = rng.integers(len(subjects) if name == "bert" else len(reading), size=32)
        batch = _task(name, tokens, [reading[i] for i in places], rng)
        if name == "bert":
            loss = _two_tasks(model, batch, subjects[places])
        else:
            loss = model(**batch).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step(), schedule.step(), optimizer.zero_grad()
    print(f"{name}: pretrained to a loss of {loss.item():.2f}")
    model.eval()


def _two_tasks(model: Any, batch: dict[str, torch.Tensor], subjects: torch.Tensor) -> torch.Tensor:
    """Masked tokens, and what the text is about: [CLS] must say something, as BERT's does."""
    labels, cross_entropy = batch.pop("labels"), torch.nn.functional.cross_entropy
    outputs = model(**batch)
    masked = cross_entropy(outputs.prediction_logits.flatten(0, 1), labels.flatten())
    about = model.bert(**batch).pooler_output[:, :8]
    return masked + cross_entropy(5 * about, subjects)


def _task(name: str, tokens: Any, some: list[str], rng: Any) -> dict[str, torch.Tensor]:
    batch = tokens(
        some,
        truncation=True,
        max_length=32,
        padding=True,
        return_tensors="pt",
        return_token_type_ids=False,
    )
    ids, mask = batch["input_ids"], batch["attention_mask"]
    if name == "bert":
        special = torch.isin(ids, torch.tensor(tokens.all_special_ids))
        chosen = torch.tensor(rng.random(ids.shape) < 0.15) & ~special
        chosen[:, 1] = True
        inputs = torch.where(chosen, tokens.mask_token_id, ids)
        return {
            "input_ids": inputs,
            "attention_mask": mask,
            "labels": torch.where(chosen, ids, -100),
        }
    if name == "t5":
        answers = torch.where(mask[:, 8:] == 1, ids[:, 8:], -100)
        return {"input_ids": ids[:, :16], "attention_mask": mask[:, :16], "labels": answers}
    return {"input_ids": ids, "attention_mask": mask, "labels": torch.where(mask == 1, ids, -100)}


if __name__ == "__main__":
    for name in CHECKPOINTS:
        print(Path(checkpoint(name)).name)
