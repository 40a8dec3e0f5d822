"""What fine-tuning a model by a strategy will take, before it starts: bytes and seconds.

It makes the model with random weights, because neither depends on what the weights are, hands it to
`scaling`, which predicts, and adds what `strategies` keeps and does beside the steps. What a run
did take is measured in `costs`. Used by `selection`, chapter 06; predicted against measured stands
in `benchmarks/selection.py`.
"""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import nn

from cookbook.finetuning import adapters, freezing, jobs, peft_methods
from cookbook.finetuning.encoding import collator
from cookbook.finetuning.layers import layers_of, matrices
from cookbook.scaling import calculator, timing
from cookbook.scaling.calculator import Memory

HEADS = {
    "classification": "AutoModelForSequenceClassification",
    "regression": "AutoModelForSequenceClassification",
    "retrieval": "AutoModelForSequenceClassification",
    "tagging": "AutoModelForTokenClassification",
    "question answering": "AutoModelForQuestionAnswering",
    "writing": "AutoModelForSeq2SeqLM",
    "language modelling": "AutoModelForMaskedLM",
}
CAUSAL = {"AutoModelForSeq2SeqLM", "AutoModelForMaskedLM"}  # what a decoder does in its own way
EVALUATION_BATCH = 64  # as `encoding.predict` reads
WHOLE = {"train": 1.0, "validation": 1.0}


def _full(model: nn.Module) -> nn.Module:
    return model


def _partial(model: nn.Module) -> nn.Module:
    own = list(layers_of(model))
    top = {id(p) for layer in own[-math.ceil(len(own) / 2) :] for p in layer.parameters()}
    names = {name for name, p in model.named_parameters() if id(p) in top}
    return freezing.train_only(model, names)


def _lora(model: nn.Module) -> nn.Module:
    how = {"r": 8, "lora_alpha": 16, "target_modules": matrices(model)}
    return peft_methods.wrap(model, "LoraConfig", **how)


def _pfeiffer(model: nn.Module) -> nn.Module:
    model = adapters.insert(model, 16, after_attention=False)
    return freezing.train_only(model, adapters.adapter_names(model))


def _prompt(model: nn.Module) -> nn.Module:
    return peft_methods.wrap(model, "PromptTuningConfig", num_virtual_tokens=peft_methods.TOKENS)


# What each strategy makes of a model with a new head, in place or around it.
PREPARED: dict[str, Callable[[nn.Module], nn.Module]] = {
    "full": _full, "partial": _partial, "lora": _lora, "pfeiffer": _pfeiffer, "prompt": _prompt,
    "linear-probe": _full,
}  # fmt: skip


def build(
    config: Any, strategy: str = "full", *, task: str = "classification", classes: int = 2
) -> nn.Module:
    """The model of `config` with random weights and a head for `task`, as `strategy` trains it.

    On a CPU with the plain attention kernels, as `strategies` uses them. Raises ValueError for an
    architecture without such a head, and for a strategy that has no place in it.
    """
    import transformers

    if strategy not in PREPARED:
        raise ValueError(f"no forecast of {strategy!r}: choose one of {', '.join(PREPARED)}")
    kind = HEADS[task]
    if config.is_encoder_decoder and task != "question answering":
        kind = "AutoModelForSeq2SeqLM"  # a label is a word to write
    elif kind in CAUSAL and type(config) not in _known("AutoModelForMaskedLM"):
        kind = "AutoModelForCausalLM"
    config = copy.deepcopy(config)
    config.num_labels = 2 if task == "question answering" else classes  # start and end
    if config.pad_token_id is None:
        config.pad_token_id = 0
    plain = {} if torch.cuda.is_available() else {"attn_implementation": "eager"}
    model = getattr(transformers, kind).from_config(config, dtype=torch.float32, **plain)
    body = "" if model.base_model is model else f"{model.base_model_prefix}."
    # What a checkpoint of the body would lack: the head, and a pooler that no objective trained.
    names = [name for name, _ in model.named_parameters()]
    model.missing_keys = [n for n in names if not n.startswith(body) or ".pooler." in n]
    return PREPARED[strategy](model)


def _known(kind: str) -> Any:
    import transformers

    return getattr(transformers, kind)._model_mapping


def batch_for(
    rows: Sequence[Mapping[str, Any]], tokenizer: Any, config: Any, *, task: str = "classification"
) -> dict[str, torch.Tensor]:
    """Encoded rows as one padded batch with labels of the shape that `task` has; their values: 0.

    `input_ids` and `attention_mask` (rows, longest), and what else the tokenizer gives.
    """
    plain = [{k: v for k, v in row.items() if k != "labels"} for row in rows]
    batch = dict(collator(tokenizer)(plain))
    ids = batch["input_ids"]
    if config.is_encoder_decoder and task != "question answering":
        return batch | {"labels": ids.new_zeros(len(ids), ids.shape[1] if task == "writing" else 4)}
    if task == "question answering":
        return batch | {n: ids.new_zeros(len(ids)) for n in ("start_positions", "end_positions")}
    if task in ("tagging", "writing", "language modelling"):
        return batch | {"labels": torch.zeros_like(ids)}
    labels = ids.new_zeros(len(ids))
    return batch | {"labels": labels.float() if task == "regression" else labels}


def memory(
    config: Any, strategy: str, batch: Mapping[str, torch.Tensor], *,
    task: str = "classification", classes: int = 2, precision: str = "fp32",
) -> Memory:  # fmt: skip
    """Peak bytes of fine-tuning on batches of the shapes of `batch` (see `batch_for`).

    Beside the steps, one copy of the weights: those of the best epoch. A linear probe reads in
    batches of 64, and trains on features that take rows · hidden · 4 bytes.
    """

    def make() -> nn.Module:
        return build(config, strategy, task=task, classes=classes)

    if strategy == "linear-probe":
        shapes = {n: t.new_zeros(EVALUATION_BATCH, *t.shape[1:]) for n, t in batch.items()}
        return calculator.inference_memory(make, shapes, precision=precision)
    return calculator.training_memory(make, batch, precision=precision, copies=1)


def seconds(
    config: Any, strategy: str, rows: Mapping[str, Sequence[Mapping[str, Any]]], tokenizer: Any, *,
    task: str = "classification", classes: int = 2, epochs: int = 4, batch_size: int = 16,
    precision: str = "fp32", shares: Mapping[str, float] = WHOLE, rounds: int = 2, seed: int = 0,
    clock: Callable[[], float] = time.perf_counter,
) -> float:  # fmt: skip
    """How long `strategies.fine_tune` will take with one learning rate, from a few steps here.

    `rows` are encoded, by split ("train", "validation"): all, or a sample that stands for `shares`
    times as many. Steps are timed on batches of short, of middling and of the longest rows,
    `rounds` times; the validation split is read once an epoch, at most eight times, and once more.
    Not in it: loading, and whatever else the machine has to do.
    """
    model = build(config, strategy, task=task, classes=classes)
    model = model.to("cuda" if torch.cuda.is_available() else "cpu")

    def timed(step: Callable, part: Sequence[Mapping], size: int) -> timing.StepTimes:
        batches = [batch_for(some, tokenizer, config, task=task) for some in _samples(part, size)]
        return timing.probe(step, batches, rounds=rounds, clock=clock)

    train, validation = rows["train"], rows["validation"]
    step = timing.forward_step(model, precision=precision)
    reading = timed(step, validation, EVALUATION_BATCH)
    looks = _read(reading, validation) * shares["validation"]
    if strategy == "linear-probe":
        return looks + _read(reading, train) * shares["train"]
    steps = timed(timing.training_step(model, precision=precision), train, batch_size)
    drawn = timing.padded_sizes(_lengths(train), batch_size, epochs=epochs, seed=seed)
    return steps.total(drawn) * shares["train"] + (min(epochs, jobs.LOOKS) + 1) * looks


def _read(times: timing.StepTimes, rows: Sequence[Mapping]) -> float:
    return times.total(timing.padded_sizes(_lengths(rows), EVALUATION_BATCH, seed=None))


def _lengths(rows: Sequence[Mapping[str, Any]]) -> np.ndarray:
    return np.array([len(row["input_ids"]) for row in rows])


def _samples(rows: Sequence[Mapping[str, Any]], size: int) -> list[list[Mapping[str, Any]]]:
    """Three batches: of short rows, of middling ones, and of the longest."""
    order = np.argsort(_lengths(rows), kind="stable")
    size = min(size, len(order))
    ends = [max(size, round(len(order) * share)) for share in (0.25, 0.75, 1.0)]
    return [[rows[i] for i in order[end - size : end]] for end in ends]
