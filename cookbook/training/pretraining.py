"""Pretrain a masked language model on packed rows, and measure it on held-out ones.

The fast path in one function: packed sequences, the precision that a probe showed to be fastest,
the loss at masked positions, no dropout, fused AdamW, warm-up and decay. It does not clean or
split. Chapters 00 and 03 use it; `docbert` was made by it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from cookbook.data.tokenization import Packed, pack
from cookbook.training.objectives import IGNORE, MaskedLMCollator
from cookbook.training.order import Keyed

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

EVALUATION_SEED = 12345  # held-out masks are the same for every model and every run


@dataclass(frozen=True)
class Pretrained:
    """What a run of `pretrain` leaves: the model, its curve, what it read and how fast."""

    model: Any
    history: list[dict[str, float]]
    tokens: int
    seconds: float

    def curve(self, key: str = "loss") -> list[tuple[float, float]]:
        """(step, value) pairs of `loss`, `eval_loss`, `learning_rate` …"""
        return [(entry["step"], entry[key]) for entry in self.history if key in entry]


def masked_lm_rows(
    texts: Iterable[str],
    tokenizer: PreTrainedTokenizerBase,
    length: int = 128,
    *,
    cross_documents: bool = True,
) -> Packed:
    """Texts as packed rows of `length` tokens, every text between its own [CLS] and [SEP]."""
    limit, tokenizer.model_max_length = tokenizer.model_max_length, int(1e9)
    try:
        ids = tokenizer(list(texts), return_attention_mask=False)["input_ids"]
    finally:
        tokenizer.model_max_length = limit
    return pack(ids, length, pad_id=tokenizer.pad_token_id, cross_documents=cross_documents)


def pretrain(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    rows: Packed,
    evaluation_rows: Packed | None = None,
    *,
    steps: int,
    batch_size: int = 32,
    learning_rate: float = 1e-3,
    warmup: float = 0.06,
    schedule: str = "linear",
    probability: float = 0.15,
    whole_word: bool = False,
    precision: str = "fp32",
    seed: int = 0,
    masked_only: bool = True,
    output_dir: str | Path = "build/pretraining",
    callbacks: list | None = None,
    resume: bool = False,
    **arguments: Any,
) -> Pretrained:
    """Train `model` in place for `steps` updates of masked language modelling.

    `warmup` is a share of the steps, or a number of steps from 1 on; `precision` "fp32", "bf16" or
    "fp16" (autocast: weights stay fp32). `evaluation_rows` are measured four times on the way.
    `resume` goes on from the newest whole checkpoint in `output_dir` (give `save_strategy="steps"`
    and `save_steps`). Further `arguments` go to `TrainingArguments`.
    """
    import transformers

    from cookbook.training.trainer import MaskedLMTrainer

    args = transformers.TrainingArguments(**_arguments(
        output_dir=str(output_dir), max_steps=steps, per_device_train_batch_size=batch_size,
        learning_rate=learning_rate, warmup_steps=warmup, lr_scheduler_type=schedule, seed=seed,
        bf16=precision == "bf16", fp16=precision == "fp16", **arguments,
    ))  # fmt: skip
    masks = {"probability": probability, "whole_word": whole_word, "seed": seed}
    trainer = MaskedLMTrainer(
        model, args, data_collator=MaskedLMCollator(tokenizer, **masks), callbacks=callbacks,
        train_dataset=Keyed(rows), masked_only=masked_only,
    )  # fmt: skip
    if evaluation_rows is not None:
        trainer.add_callback(_measure(trainer, tokenizer, evaluation_rows, max(1, steps // 4)))
    done = trainer.train(resume_from_checkpoint=_resume_point(output_dir) if resume else None)
    tokens = round(rows.tokens * trainer.state.epoch)  # an epoch's last batch is a smaller one
    return Pretrained(model, trainer.state.log_history, tokens, done.metrics["train_runtime"])


def _arguments(**given: Any) -> dict[str, Any]:
    defaults = {
        "optim": "adamw_torch_fused", "weight_decay": 0.01, "adam_beta2": 0.98,
        "max_grad_norm": 1.0, "report_to": "none", "save_strategy": "no",
        "remove_unused_columns": False, "use_cpu": not torch.cuda.is_available(),
        "logging_steps": max(1, given["max_steps"] // 50), "dataloader_pin_memory": False,
    }  # fmt: skip
    return defaults | given


def _resume_point(output_dir: str | Path) -> str | None:
    from cookbook.training.trainer_checkpoints import resume_point

    return resume_point(output_dir)


def _measure(trainer: Any, tokenizer: Any, rows: Packed, every: int) -> Any:
    """A callback that evaluates every `every` steps and logs the result as the Trainer does."""
    import transformers

    class Measure(transformers.TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            if state.global_step % every == 0 or state.global_step == args.max_steps:
                found = evaluate_masked_lm(trainer.model, tokenizer, rows)
                trainer.log({f"eval_{name}": value for name, value in found.items()})

    return Measure()


@torch.no_grad()
def evaluate_masked_lm(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    rows: Packed,
    *,
    probability: float = 0.15,
    batch_size: int = 64,
    seed: int = EVALUATION_SEED,
) -> dict[str, float]:
    """Loss (nats a masked token), perplexity and masked accuracy over all masked tokens of `rows`.

    Sums over tokens, then one division: a mean of batch means would weigh tokens unequally. The
    masks depend on `seed` and the row only, so two models are asked the same questions. Raises
    ValueError if nothing in `rows` can be masked.
    """
    from cookbook.training.trainer import masked_lm_loss

    collate = MaskedLMCollator(tokenizer, probability=probability, seed=seed)
    keyed, training = Keyed(rows), [m for m in model.modules() if m.training]
    model.eval()
    total = correct = count = 0.0
    for start in range(0, len(rows), batch_size):
        batch = collate([keyed[row] for row in range(start, min(start + batch_size, len(rows)))])
        batch = {name: tensor.to(model.device) for name, tensor in batch.items()}
        answers = batch["labels"][batch["labels"] != IGNORE]
        loss, logits = masked_lm_loss(model, batch)
        total += float(loss) * len(answers)
        correct += int((logits.argmax(-1) == answers).sum())
        count += len(answers)
    for module in training:  # one by one: a frozen part may have been in evaluation mode
        module.training = True
    if count == 0:
        raise ValueError(f"{len(rows)} rows hold nothing to mask: give rows with ordinary tokens")
    mean = total / count
    return {
        "loss": mean,
        "perplexity": math.exp(min(mean, 700)),
        "masked_accuracy": correct / count,
        "masked_tokens": count,
    }


def unigram_baseline(rows: Packed, evaluation_rows: Packed, special: Iterable[int]) -> float:
    """Masked accuracy of always answering the most frequent token of `rows`."""
    keep = np.setdiff1d(np.unique(rows.input_ids), list(special))
    counts = np.bincount(rows.input_ids.ravel())
    best = keep[np.argmax(counts[keep])]
    held_out = evaluation_rows.input_ids[~np.isin(evaluation_rows.input_ids, list(special))]
    return float((held_out == best).mean())
