"""Has a contrastive run collapsed: do all embeddings point one way (fault C1)?

`collapse` judges embeddings and a loss; it serves the online doctor as well. The probe finds both
for models that answer with embeddings (CLIP's `text_embeds`, a sentence encoder under a `loss_fn`).
A pretrained encoder is anisotropic and a fresh one nearly constant: neither is a collapse, so a
verdict needs a loss at chance too, and either steps that were taken or a temperature that leaves
nothing to learn. After Wang and Isola 2020, arXiv:2005.10242.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

import torch

from cookbook.doctor import gradients, sampling
from cookbook.doctor.checks import Skip
from cookbook.doctor.findings import Finding
from cookbook.doctor.subject import Subject

COSINE = 0.95  # mean cosine between unrelated rows; a pretrained BERT starts at 0.8 to 0.95
NEAR = 0.02  # relative distance of the loss from ln N that counts as chance
STARTED = 50  # steps after which a run has had its chance to leave the start
DEGENERATE = 0.1  # scale of the similarities (1 / temperature) under which chance is the optimum
NARROW = 4  # numbers a row under which all rows point one way by themselves
ONE_POINT, GONE = 0.998, 0.05  # cosine, and share of the first loss, of nothing but attraction
DRAWN, FELL = 0.1, 0.02  # share of the angle between rows that is left; fall of a signed loss
ROWS = 16
PAIRS, NOTHING = 3, 1e-6  # batches of one pair that are looked at, and their loss


def collapse(
    embeddings: torch.Tensor,
    loss: float,
    n: int,
    *,
    steps: int | None = None,
    scale: float | None = None,
) -> Finding | None:
    """C1 if unrelated rows point one way and the loss is that of guessing among `n`; else None.

    `embeddings` (rows, dimensions) are of rows that do not belong together, one side only;
    `loss` is a contrastive cross-entropy over `n` candidates (rows of the batch, with their
    negatives). `steps` are the optimizer steps taken, None if nobody knows; `scale` is what cosines
    are multiplied by (1 / temperature), None if unknown. Before `STARTED` steps only a degenerate
    scale is named.

    >>> collapse(torch.ones(8, 4), loss=2.08, n=8, steps=200).fault
    'C1'
    >>> collapse(torch.eye(8), loss=2.08, n=8, steps=200) is None
    True
    """
    if n < 4 or embeddings.dim() != 2 or len(embeddings) < 4 or not math.isfinite(loss):
        return None
    if embeddings.shape[1] < NARROW:
        return None
    cosine, chance = mean_cosine(embeddings), math.log(n)
    if not (cosine > COSINE and abs(loss - chance) <= NEAR * chance):
        return None
    flat = scale is not None and scale <= DEGENERATE
    if not flat and (steps is None or steps < STARTED):
        return None
    told = f" at a temperature of {1 / scale:.3g}" if scale and flat else f" after {steps} steps"
    return Finding(
        "C1", "error",
        f"unrelated embeddings have a mean cosine of {cosine:.3f} (bound: {COSINE}) and the loss "
        f"is {loss:.3f}, that of guessing among {n} ({chance:.3f}){told}",
        measured={"mean_cosine": cosine, "loss": loss, "chance": chance},
    )  # fmt: skip


def pulled_together(
    sides: list[torch.Tensor], loss: float, first: float, cosine_first: float | None = None
) -> Finding | None:
    """C1 if two sides of a run are one point and its loss fell with it; else None.

    Nothing pushes: where unrelated rows agree this far, a contrast at any usual temperature is at
    chance, so a loss that has all but gone is that of attraction alone. Where a loss has no zero (a
    negative cosine), it must have fallen while the rows drew together: `first` and `cosine_first`
    are the loss and the least mean cosine of a side at the start.
    """
    if len(sides) < 2 or min(len(side) for side in sides) < 4 or sides[0].shape[1] < NARROW:
        return None
    cosine = min(mean_cosine(side) for side in sides)
    gone = math.isfinite(loss) and 0 <= loss < GONE * first
    drawn = cosine_first is not None and 1 - cosine < DRAWN * (1 - cosine_first)
    fell = math.isfinite(loss) and loss < first - FELL * abs(first)
    if not (cosine > ONE_POINT and (gone or (drawn and fell and loss < 0))):
        return None
    return Finding(
        "C1", "error",
        f"unrelated embeddings have a mean cosine of {cosine:.4f} (bound: {ONE_POINT}) while the "
        f"loss fell from {first:.3g} to {loss:.3g}: pairs are drawn together and nothing apart",
        "add negatives, or a term that keeps the embeddings' variance",
        {"mean_cosine": cosine, "loss": loss},
    )  # fmt: skip


def mean_cosine(embeddings: torch.Tensor) -> float:
    """The mean cosine over pairs of different rows; NaN rows and zero rows count as 0.

    >>> mean_cosine(torch.tensor([[1.0, 0.0], [0.0, 2.0]]))
    0.0
    """
    unit = torch.nn.functional.normalize(embeddings.detach().float().nan_to_num(), dim=1)
    rows = len(unit)
    total = float(unit.sum(0).square().sum()) - float(unit.square().sum())
    return total / (rows * (rows - 1))


def check_collapse(subject: Subject) -> Iterable[Finding]:
    """Embeddings and loss of one batch, judged by `collapse`."""
    batch = subject.batch(rows=ROWS)
    if batch is None:
        raise Skip("does not apply")
    with torch.no_grad(), subject.mode(training=False):
        loss, outputs = gradients.training_loss(subject, batch)
    sides = embeddings_of(outputs, sampling.batch_size(batch))
    if loss is None or not sides or loss.dim():
        raise Skip("does not apply")
    for side in sides:
        found = collapse(
            side, float(loss), len(side), steps=steps_taken(subject), scale=scale_of(subject)
        )
        if found is not None:
            yield found
            return


def embeddings_of(outputs: Any, rows: int) -> list[torch.Tensor]:
    """The sides of a contrastive output, each (rows, dimensions); empty where there are none.

    Fields that end in `embeds`, `sentence_embedding`, or a pair of matrices of equal shape.
    """
    named = outputs if isinstance(outputs, Mapping) else getattr(outputs, "__dict__", {})
    found = [
        v for k, v in named.items()
        if str(k).endswith(("_embeds", "embeddings", "sentence_embedding"))
    ]  # fmt: skip
    if not found and isinstance(outputs, tuple | list) and len(outputs) == 2:
        found = list(outputs)
    fits = [v for v in found if isinstance(v, torch.Tensor) and v.dim() == 2 and len(v) == rows]
    return fits if len({tuple(v.shape) for v in fits}) == 1 else []


def steps_taken(subject: Subject) -> int | None:
    """The optimizer steps of a run that has begun: its state's count, or the schedule's."""
    state = getattr(subject.optimizer, "state", None) or {}
    counts = [float(held["step"]) for held in state.values() if "step" in held]
    trained = getattr(getattr(subject.trainer, "state", None), "global_step", 0)
    last = getattr(subject.lr_scheduler, "last_epoch", 0) or 0
    return int(max([*counts, trained, last, 0])) or None


def scale_of(subject: Subject) -> float | None:
    """What similarities are multiplied by: CLIP's `logit_scale`, or a temperature by its name."""
    for name, parameter in (*subject.bare.named_parameters(), *subject.bare.named_buffers()):
        if name.rpartition(".")[2] == "logit_scale" and parameter.numel() == 1:
            return float(parameter.detach().exp())
    for place in (subject.bare, subject.config, subject.loss_fn):
        value = getattr(place, "temperature", None)
        if isinstance(value, torch.Tensor) and value.numel() == 1:
            value = float(value)
        if isinstance(value, int | float) and not isinstance(value, bool) and value > 0:
            return 1 / float(value)
    return None


def check_others_are_there(subject: Subject) -> Iterable[Finding]:
    """Batches of one pair, whose loss is 0 whatever the embeddings: there is nothing to tell from.

    Under a sum of micro-batches each is alone all the same.
    """
    alone = [b for b in subject.train.batches if sampling.batch_size(b) == 1][:PAIRS]
    if len(alone) < PAIRS or len(alone) < len(subject.train.batches[:PAIRS]):
        raise Skip("does not apply")
    with torch.no_grad(), subject.mode(training=False):
        passed = [gradients.training_loss(subject, batch) for batch in alone]
    losses = [float(loss) for loss, _ in passed if loss is not None and not loss.dim()]
    paired = all(len(embeddings_of(outputs, 1)) > 1 for _, outputs in passed)
    if len(losses) == PAIRS and paired and max(map(abs, losses)) <= NOTHING:
        yield Finding(
            "C1", "error",
            f"batches hold 1 pair, and the loss of {PAIRS} of them is {max(losses, key=abs):.1g} "
            "(bound: above 0): no other row is there to be told from",
            "more rows a batch; accumulation adds no negatives, a cache of gradients does",
            {"loss": max(losses, key=abs), "rows": 1},
        )  # fmt: skip


CHECKS = (check_collapse, check_others_are_there)
