"""Layers dealt out to ranks: a batch flows through them in micro-batches, like goods on a belt.

`stage` cuts a `SmallLM`, `run` sends a batch through with torch's GPipe schedule; `timeline` says
who works when and `bubble` how long they wait. Huang et al. 2019, GPipe (arXiv:1811.06965).
Chapter 11 shows it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from torch import Tensor, nn

from cookbook.scaling.small_model import SmallLM
from cookbook.scaling.world import World


class Stage(nn.Module):
    """Some of the blocks of a `SmallLM`; the first stage embeds, the last has the head.

    The head has an embedding of its own (a copy: tied weights would live on two ranks).
    """

    def __init__(self, model: SmallLM, number: int, stages: int) -> None:
        super().__init__()
        share = len(model.blocks) / stages
        first, last = round(number * share), round((number + 1) * share)
        self.blocks = nn.ModuleList(model.blocks[first:last])
        self.embed, self.positions = (model.embed, model.positions) if number == 0 else (None, None)
        self.norm = model.norm if number == stages - 1 else None
        if self.norm is not None:
            self.head = nn.Linear(model.embed.embedding_dim, model.embed.num_embeddings)
            self.head.weight = nn.Parameter(model.embed.weight.detach().clone())
            self.head.bias = model.bias

    def forward(self, x: Tensor) -> Tensor:
        if self.embed is not None:
            x = self.embed(x) + self.positions.weight[: x.shape[1]]
        for block in self.blocks:
            x = block(x)
        return x if self.norm is None else self.head(self.norm(x))


def run(
    stage: Stage, world: World, input_ids: Tensor, labels: Tensor, *, microbatches: int
) -> list[float]:
    """One step of all ranks: gradients are left in the stages, losses returned by the last.

    `input_ids` and `labels` (batch, length) are needed by the first and by the last rank. The
    batch must be divisible by `microbatches`. The loss is the mean over labels, so that here all
    micro-batches must hold the same number: a causal or unpadded one.
    """
    from torch.distributed.pipelining import PipelineStage, ScheduleGPipe

    losses: list[Tensor] = []
    schedule = ScheduleGPipe(
        PipelineStage(stage, world.rank, world.size, world.device), microbatches, loss_fn=_loss
    )
    first, last = world.rank == 0, world.rank == world.size - 1
    schedule.step(
        *([input_ids] if first else []),
        target=labels if last else None,
        losses=losses if last else None,
    )
    return [float(loss.detach()) for loss in losses]


def _loss(logits: Tensor, labels: Tensor) -> Tensor:
    return nn.functional.cross_entropy(logits.flatten(0, 1), labels.flatten())


class Slot(NamedTuple):
    """A micro-batch on a stage: from `start` to `end`, in units of one forward pass."""

    stage: int
    microbatch: int
    backward: bool
    start: float
    end: float


def timeline(stages: int, microbatches: int, *, backward: float = 2.0) -> list[Slot]:
    """Who works when under GPipe: all forward, then all backward in the opposite direction.

    A backward pass takes `backward` times as long as a forward pass.

    >>> max(slot.end for slot in timeline(2, 1))  # one after the other: half of it is waiting
    6.0
    """
    slots, turn = [], microbatches + stages - 1
    for stage in range(stages):
        for m in range(microbatches):
            slots.append(Slot(stage, m, False, stage + m, stage + m + 1.0))
            start = turn + backward * (stages - 1 - stage + m)
            slots.append(Slot(stage, m, True, start, start + backward))
    return slots


def bubble(stages: int, microbatches: int) -> float:
    """Share of the time that a stage waits: (s - 1) / (m + s - 1).

    >>> bubble(2, 1), bubble(4, 32) < 0.09
    (0.5, True)
    """
    return (stages - 1) / (microbatches + stages - 1)


def same_step(build: Callable[[], SmallLM], world: World, ids: Tensor, microbatches: int) -> float:
    """Largest difference between this rank's gradients and those of one process.

    Both predict `ids` (batch, length) from themselves. 0 but for rounding.
    """
    stage, whole = Stage(build(), world.rank, world.size), build()
    run(stage, world, ids, ids, microbatches=microbatches)
    alone = [Stage(whole, number, world.size) for number in range(world.size)]
    x = ids
    for part in alone:
        x = part(x)
    _loss(x, ids).backward()
    pairs = zip(stage.parameters(), alone[world.rank].parameters(), strict=True)
    return max(float((a.grad - b.grad).abs().max()) for a, b in pairs)
