"""One training function for one rank or many: DDP or FSDP2, the same weights either way.

Three things are easy to get wrong and are done here once. The ranks average their gradients, but
hold unequal numbers of labels: the gradient is of the sum over all labels, and divided once. While
micro-batches accumulate, nothing is sent. And what a step draws (rows, masks, dropout) is a
function of seed, step and rank, so that a run that was killed needs only weights and optimizer.

It starts no processes: `launching` does, `job` is what they run. Chapter 11 shows it.

>>> from cookbook.scaling.world import joined
>>> rows = [{"input": torch.tensor([float(i), 1.0]), "labels": i % 3} for i in range(8)]
>>> with joined() as world:
...     _ = torch.manual_seed(0)
...     model = wrap(torch.nn.Linear(2, 3), "ddp", world)
...     optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
...     run = train(model, optimizer, rows, world=world, batch_size=4, steps=6)
>>> len(run.losses), run.losses[-1] < run.losses[0]
(6, True)
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from cookbook.scaling import sharded
from cookbook.scaling.sampler import ShardedBatches
from cookbook.scaling.sharded import Progress
from cookbook.scaling.world import RanksError, World
from cookbook.training.loop import autocast, summed_cross_entropy, to_device
from cookbook.training.order import Keyed, key_generator, without_keys


def wrap(model: nn.Module, strategy: str, world: World, *, precision: str = "fp32") -> nn.Module:
    """The model on this rank's device, its gradients kept together by "ddp" or "fsdp".

    "ddp": every rank holds everything, and averages gradients while the backward pass runs. "fsdp":
    every rank holds a share of each tensor; the blocks of the model (its longest `ModuleList`) are
    gathered one at a time and dropped again. `precision` "bf16" or "fp16" under "fsdp" is the
    type of the gathered weights; gradients are summed in fp32. Make the optimizer afterwards, of
    the parameters of what is returned. Raises ValueError for another strategy.
    """
    model = model.to(world.device)
    if strategy == "ddp":
        return DistributedDataParallel(model)
    if strategy != "fsdp":
        raise ValueError(f"unknown strategy {strategy!r}: choose ddp or fsdp")
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard

    dtype = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(precision)
    policy = MixedPrecisionPolicy(param_dtype=dtype, reduce_dtype=torch.float32)
    mesh = init_device_mesh(world.device.type, (world.size,))
    for block in blocks_of(model):
        fully_shard(block, mesh=mesh, mp_policy=policy)
    return fully_shard(model, mesh=mesh, mp_policy=policy)


def blocks_of(model: nn.Module) -> list[nn.Module]:
    """The model's repeated layers: the entries of its longest `ModuleList`."""
    lists = [list(m) for m in model.modules() if isinstance(m, nn.ModuleList)]
    return max(lists, key=len, default=[])


def train(
    model: nn.Module, optimizer: torch.optim.Optimizer, rows: Sequence[dict], *,
    world: World, batch_size: int, steps: int, accumulation: int = 1,
    collate: Callable[[list[dict]], Any] = without_keys,
    loss_fn: Callable = summed_cross_entropy, rate: Callable[[int], float] | None = None,
    seed: int = 0, clip: float = 1.0, precision: str = "fp32", not_finite: str = "stop",
    folder: str = "", save_every: int = 0, workers: int = 0,
    on_step: Callable[[int, float], object] = lambda step, loss: None,
) -> Progress:  # fmt: skip
    """Train a wrapped model up to `steps`, from the last whole checkpoint in `folder` on.

    `batch_size` are the rows of a micro-batch on all ranks together; `loss_fn(model, batch)` gives
    the sum of the losses and the number of labels; `rate(step)` a factor of the optimizer's rate.
    A step whose gradient is not finite is left out and counted (`not_finite="skip"`), or ends the
    run on all ranks ("stop": RanksError). `workers` load data in processes of their own.
    """
    model.train()
    done = sharded.resume(folder, model, optimizer, world) if folder else Progress()
    span = done.step * accumulation, steps * accumulation
    batches = _loader(rows, world, batch_size, span, seed, collate, workers)
    for step in range(done.step + 1, steps + 1):
        torch.manual_seed(_seed_of(seed, step, world.rank))
        share = [next(batches) for _ in range(accumulation)]
        loss = accumulate(model, share, world, loss_fn=loss_fn, precision=precision)
        norm = _whole(nn.utils.clip_grad_norm_(model.parameters(), clip))
        if math.isfinite(norm):
            _update(optimizer, rate(step) if rate else 1.0)
        elif not_finite == "skip":
            done.skipped.append(step)
        else:
            raise RanksError(f"step {step}: the gradient is {norm}; weights are those before it")
        optimizer.zero_grad()
        done.losses.append(loss)
        done.step = step
        on_step(step, loss)
        if save_every and (step % save_every == 0 or step == steps):
            sharded.save(folder, model, optimizer, done, world)
    return done


def _loader(
    rows: Sequence[dict],
    world: World,
    batch_size: int,
    span: tuple[int, int],
    seed: int,
    collate: Callable[[list[dict]], Any],
    workers: int,
) -> Iterator[Any]:
    """This rank's share of the batches from `span[0]` up to `span[1]`."""
    sampler = ShardedBatches(
        len(rows), batch_size, rank=world.rank, ranks=world.size, seed=seed,
        start=span[0], stop=span[1],
    )  # fmt: skip
    return iter(torch.utils.data.DataLoader(
        Keyed(rows), batch_sampler=sampler, collate_fn=collate, num_workers=workers
    ))  # fmt: skip


def _update(optimizer: torch.optim.Optimizer, factor: float) -> None:
    """A step at `factor` times the rates that the optimizer was made with."""
    for group in optimizer.param_groups:
        group["lr"] = group.setdefault("peak", group["lr"]) * factor
    optimizer.step()


def accumulate(
    model: nn.Module,
    batches: Sequence[dict],
    world: World,
    *,
    loss_fn: Callable = summed_cross_entropy,
    precision: str = "fp32",
) -> float:
    """The gradient of the mean loss over all labels of all micro-batches on all ranks.

    Left in `.grad`, equal on all ranks (under FSDP: each rank's share of it). Returns that mean
    loss. The ranks' gradients are of sums; DDP and FSDP divide their sum by the number of ranks,
    which is undone, and the number of labels is added up over ranks as the losses are.
    """
    total, labels = 0.0, 0
    for number, batch in enumerate(batches):
        with synchronised(model, number == len(batches) - 1):
            with autocast(world.device, precision):
                loss, count = loss_fn(model, to_device(batch, world.device))
            loss.backward()
        total, labels = total + loss.detach(), labels + count
    total, labels = world.sum(float(total), labels)
    for parameter in model.parameters():
        if parameter.grad is not None:
            parameter.grad.mul_(world.size / max(labels, 1))
    return total / max(labels, 1)


@contextlib.contextmanager
def synchronised(model: nn.Module, now: bool) -> Iterator[None]:
    """Send gradients in this backward pass, or keep them to oneself until a later one."""
    if isinstance(model, DistributedDataParallel):
        with contextlib.nullcontext() if now else model.no_sync():
            yield
    else:
        set_sync = getattr(model, "set_requires_gradient_sync", lambda now: None)  # of FSDP2
        set_sync(now)
        yield
        set_sync(True)


def full_weights(model: nn.Module) -> dict[str, torch.Tensor]:
    """All weights, whole, on the CPU of every rank, under the names of the unwrapped model."""
    from torch.distributed.checkpoint.state_dict import get_model_state_dict

    found = get_model_state_dict(model)
    return {name: gathered(tensor).detach().cpu().clone() for name, tensor in found.items()}


def held_bytes(things: Iterable[torch.Tensor]) -> int:
    """Bytes that this rank holds of tensors, some of which may be shared among ranks."""
    return sum(getattr(t, "_local_tensor", t).untyped_storage().nbytes() for t in things)


def gathered(tensor: torch.Tensor) -> torch.Tensor:
    """A tensor whole that may be spread over ranks; all ranks call it."""
    return tensor.full_tensor() if hasattr(tensor, "full_tensor") else tensor


def _whole(norm: torch.Tensor) -> float:
    """FSDP's norm is of shares, and adds up when it is gathered."""
    return float(gathered(norm))


def _seed_of(seed: int, step: int, rank: int) -> int:
    """Dropout of a step, on a rank: its own stream, and the same again after a restart."""
    return int(key_generator(seed, step, rank).integers(2**63))
