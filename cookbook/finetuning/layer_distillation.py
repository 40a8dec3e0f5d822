"""A student that is shown more than answers: the teacher's inside, and rows that nobody labelled.

`distillation` trains its own teacher and shows its logits; here the teacher is given, reads each
batch beside the student, and may show its hidden states too. `hidden_loss` compares what two
models of different depth think. Used by chapter 16.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from cookbook.finetuning import jobs
from cookbook.finetuning.distillation import SOFT, shortened
from cookbook.finetuning.jobs import Job, Trained
from cookbook.maths.losses import cross_entropy, distillation

UNLABELLED = -100


def hidden_loss(student: Sequence[Tensor], teacher: Sequence[Tensor], mask: Tensor) -> Tensor:
    """How far a student's states are from a teacher's, as a share of the teacher's own size.

    Both are the hidden states of a model, embeddings first, (batch, length, width) each; `mask`
    (batch, length) is 1 at real tokens, and no other counts. Of a teacher of N layers, layer
    round(i N / n) is shown to layer i of a student of n, the embeddings to the embeddings. The mean
    over those pairs of sum (s - t)^2 / sum t^2; the teacher gets no gradient. Source: the uniform
    mapping of Jiao et al. 2020, arXiv:1909.10351. Raises ValueError where the widths differ.

    >>> states = [torch.ones(1, 2, 4), 2 * torch.ones(1, 2, 4), 3 * torch.ones(1, 2, 4)]
    >>> float(hidden_loss([states[0], states[2]], states, torch.ones(1, 2)))
    0.0
    """
    if student[0].shape != teacher[0].shape:
        raise ValueError(
            f"the student's states are {tuple(student[0].shape)}, the teacher's "
            f"{tuple(teacher[0].shape)}: only states of one width can be compared"
        )
    ours, theirs = len(student) - 1, len(teacher) - 1
    real, total = mask[..., None].float(), student[0].new_zeros((), dtype=torch.float32)
    for i, state in enumerate(student):
        shown = teacher[round(i * theirs / ours)].detach().float()
        total = total + (real * (state.float() - shown) ** 2).sum() / (real * shown**2).sum()
    return total / len(student)


class InsideStudent(nn.Module):
    """A classifier beside a frozen `teacher`: labels, the teacher's logits and its hidden states.

    The loss is `soft` times that of the logits at the `temperature`, the rest of 1 times that of
    the labels, and `hidden` times `hidden_loss`. Rows labelled -100 have no label.
    """

    accepts_loss_kwargs = False  # what transformers' Trainer asks a model

    def __init__(
        self, model: nn.Module, teacher: nn.Module, *, hidden: float = 1.0, soft: float = SOFT,
        temperature: float = 2.0,
    ) -> None:  # fmt: skip
        super().__init__()
        self.model, self.hidden, self.soft, self.temperature = model, hidden, soft, temperature
        self.config, self.missing_keys = model.config, model.missing_keys
        # Not a submodule: it is neither trained nor saved.
        self.__dict__["teacher"] = teacher.eval().requires_grad_(False)

    def forward(self, labels: Tensor | None = None, **batch: Tensor) -> dict[str, Any]:
        """What the classifier takes: `loss` (with labels, -100 for none) and `logits`."""
        inside = labels is not None and self.hidden > 0
        out = self.model(**batch, output_hidden_states=inside)
        if labels is None:
            return {"logits": out.logits}
        with torch.no_grad():
            shown = self.teacher(**batch, output_hidden_states=inside)
        logits = out.logits.float()
        loss = self.soft * distillation(logits, shown.logits.float(), self.temperature)
        if (labels != UNLABELLED).any():
            loss = loss + (1 - self.soft) * cross_entropy(logits, labels, ignore_index=UNLABELLED)
        if inside:
            mask = batch["attention_mask"]
            loss = loss + self.hidden * hidden_loss(out.hidden_states, shown.hidden_states, mask)
        return {"loss": loss, "logits": out.logits}


def distil_inside(
    job: Job, teacher: nn.Module, *, layers: int = 0, hidden: float = 1.0, more: Sequence = ()
) -> Trained:
    """Train a student of `layers` (default: half) of the job's checkpoint beside a given teacher.

    `hidden` weighs `hidden_loss`; 0 shows logits only. `more` are further encoded rows: the student
    is told what the teacher says of them, and their labels are not read. The teacher stays as it
    is. Raises ValueError where the hidden states of the two have different widths.
    """
    student = shortened(jobs.classifier(job), layers)
    teacher = teacher.to(next(student.parameters()).device)
    rows = [*job.rows["train"], *({**row, "labels": UNLABELLED} for row in more)]
    both = InsideStudent(student, teacher, hidden=hidden)
    return jobs.train(job, both, rows=rows)._replace(model=student)
