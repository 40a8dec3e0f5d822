"""Strategies that come from `peft`: LoRA, DoRA, IA3, prompt tuning, P-tuning, prefix tuning.

Each is a configuration; what they share is that everything the checkpoint lacked trains beside the
adapter, at a rate of its own. The formulas are in `maths.adapters`. Used by `strategies`, ch. 07.
"""

from __future__ import annotations

import dataclasses
import warnings
from typing import Any

from torch import nn

from cookbook.finetuning import jobs
from cookbook.finetuning.jobs import HEAD_RATE, Job, Trained
from cookbook.finetuning.layers import matrices

TOKENS = 10  # virtual tokens; with 48 to 128 real ones, more would cost as much as they bring


def lora(job: Job, rank: int = 8, dora: bool = False) -> Trained:
    """A product of rank `rank` beside every matrix of the layers (Hu et al. 2021, 2106.09685).

    On all matrices and not on query and value alone, as in the paper: at the same rank it comes
    closer to full fine-tuning (Dettmers et al. 2023, arXiv:2305.14314, section 4).
    """
    model = jobs.classifier(job)
    how = {"r": rank, "lora_alpha": 2 * rank, "target_modules": matrices(model), "use_dora": dora}
    return _train(job, model, "LoraConfig", **how)


def dora(job: Job, rank: int = 8) -> Trained:
    """LoRA that turns rows, and a learned length for each (Liu et al. 2024, arXiv:2402.09353)."""
    return lora(job, rank, dora=True)


def ia3(job: Job) -> Trained:
    """A factor for each key, value and hidden feature (Liu et al. 2022, arXiv:2205.05638).

    Which modules those are `peft` knows for the common architectures, and says where it does not.
    """
    return _train(job, jobs.classifier(job), "IA3Config")


def prompt(job: Job, tokens: int = TOKENS) -> Trained:
    """Vectors in front of the embedded text, nothing else (Lester et al. 2021, 2104.08691)."""
    return _prepend(job, jobs.classifier(job), "PromptTuningConfig", tokens)


def p_tuning(job: Job, tokens: int = TOKENS) -> Trained:
    """A prompt that a small network writes while it trains (Liu et al. 2021, arXiv:2103.10385)."""
    model = jobs.classifier(job)
    width = model.config.hidden_size
    return _prepend(job, model, "PromptEncoderConfig", tokens, encoder_hidden_size=width)


def prefix(job: Job, tokens: int = TOKENS) -> Trained:
    """Keys and values in front of those of every layer (Li and Liang 2021, arXiv:2101.00190)."""
    return _train(job, jobs.classifier(job), "PrefixTuningConfig", num_virtual_tokens=tokens)


def wrap(model: nn.Module, configuration: str, **settings: Any) -> nn.Module:
    """`model` under a `peft` configuration for classification; all that is new in it trains.

    `peft` unfreezes modules called "classifier" or "score". Where the checkpoint lacked more, as a
    masked language model lacks a pooler, that would stay as it was drawn.
    """
    import peft

    new, missing = jobs.head_modules(model), list(model.missing_keys)
    kind = getattr(peft, configuration)
    if not issubclass(kind, peft.PromptLearningConfig):
        settings["modules_to_save"] = new
    with warnings.catch_warnings():  # about an attribute of transformers that peft still reads
        warnings.simplefilter("ignore", FutureWarning)
        wrapped = peft.get_peft_model(model, kind(task_type="SEQ_CLS", **settings))
    wrapped.missing_keys = missing
    for name, parameter in wrapped.named_parameters():
        if jobs.is_head(wrapped, name) and "original_module" not in name:
            parameter.requires_grad_(True)
    return wrapped


def _train(job: Job, model: nn.Module, configuration: str, **settings: Any) -> Trained:
    wrapped = wrap(model, configuration, **settings)
    return jobs.train(job, wrapped, head_rate=HEAD_RATE)


def _prepend(job: Job, model: nn.Module, configuration: str, tokens: int, **how: Any) -> Trained:
    """Train with `tokens` positions in front, for which the longest rows have to make room."""
    limit = min(job.tokenizer.model_max_length, model.config.max_position_embeddings) - tokens
    rows = {split: shorten(part, limit) for split, part in job.rows.items()}
    cut = dataclasses.replace(job, rows=rows)
    trained = _train(cut, model, configuration, num_virtual_tokens=tokens, **how)
    return trained._replace(logits=lambda rows: trained.logits(shorten(rows, limit)))


def shorten(rows: list[dict[str, Any]], limit: int) -> list[dict[str, Any]]:
    """Encoded rows of at most `limit` tokens; the last token, which ends a text, stays.

    >>> shorten([{"input_ids": [2, 7, 8, 9, 3], "labels": 1}], 3)
    [{'input_ids': [2, 7, 3], 'labels': 1}]
    """
    return [
        row if len(row["input_ids"]) <= limit
        else {k: [*v[: limit - 1], v[-1]] if isinstance(v, list) else v for k, v in row.items()}
        for row in rows
    ]  # fmt: skip
