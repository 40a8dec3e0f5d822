"""The strategy that shrinks: a student of half the layers learns what a fine-tuned teacher answers.

The teacher is the same model, fully fine-tuned on the same rows by the same seed; the student its
checkpoint's lower layers. It trains both. Quantising and pruning are not here. Used by
`strategies`, chapter 07; the loss is `maths.losses.distillation`.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import torch
from torch import nn

from cookbook.finetuning import jobs
from cookbook.finetuning.jobs import Job, Trained
from cookbook.finetuning.layers import layers_of
from cookbook.maths.losses import distillation

TEACHER_RATE = 1e-3
SOFT = 0.5  # weight of the teacher's answers beside that of the labels

# The last teacher's rows and answers: a choice of rates needs one teacher. The rows are kept, so
# that their id belongs to no other.
_teachers: dict[tuple, tuple[dict, list]] = {}


class Student(nn.Module):
    """A classifier whose loss also asks for the `teacher`'s logits, where a batch brings them."""

    accepts_loss_kwargs = False  # what transformers' Trainer asks a model

    def __init__(self, model: nn.Module, temperature: float = 2.0, soft: float = SOFT) -> None:
        super().__init__()
        self.model, self.temperature, self.soft = model, temperature, soft
        self.config, self.missing_keys = model.config, model.missing_keys

    def forward(self, teacher: torch.Tensor | None = None, **batch: torch.Tensor) -> dict[str, Any]:
        """`teacher` (batch, classes) and what the classifier takes: `loss` and `logits`."""
        out = self.model(**batch)
        if teacher is None or "labels" not in batch:
            return {"logits": out["logits"]}
        soft = distillation(out["logits"].float(), teacher, self.temperature)
        return {"loss": self.soft * soft + (1 - self.soft) * out["loss"], "logits": out["logits"]}


def distil(job: Job, layers: int = 0) -> Trained:
    """Train a student of `layers` (default: half) on labels and on a teacher's answers.

    The teacher reads each training row once: without dropout it would say the same every time. The
    time that it takes to train is part of the strategy's (Hinton et al. 2015, arXiv:1503.02531;
    the student from the teacher's layers as in Sanh et al. 2019, arXiv:1910.01108).
    """
    answers = teach(job)
    student = Student(shortened(jobs.classifier(job), layers))
    rows = [
        {**row, "teacher": answer} for row, answer in zip(job.rows["train"], answers, strict=True)
    ]
    trained = jobs.train(job, student, rows=rows)
    return trained._replace(model=student.model)


def teach(job: Job) -> list[list[float]]:
    """The fine-tuned teacher's logits for the training rows, (rows, classes)."""
    key = (job.model, job.seed, job.epochs, job.max_steps, job.batch_size, id(job.rows))
    if key not in _teachers:
        teacher = dataclasses.replace(job, learning_rate=TEACHER_RATE, callbacks=())
        trained = jobs.train(teacher, jobs.classifier(teacher))
        _teachers.clear()
        _teachers[key] = job.rows, trained.logits(job.rows["train"]).tolist()
    return _teachers[key][1]


def shortened(model: nn.Module, layers: int = 0) -> nn.Module:
    """`model` with its lowest `layers` only (default: half), in place."""
    own = layers_of(model)
    keep = layers or math.ceil(len(own) / 2)
    del own[keep:]
    model.config.num_hidden_layers = keep
    return model
