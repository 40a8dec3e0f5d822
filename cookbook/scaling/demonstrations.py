"""What chapter 11 shows on ranks: programs for `launching.launch`, each returns plain numbers.

`measure` is a short run with a stop-watch and a scale; `cut` splits a model two ways; `metrics`
evaluates on rows that were dealt out badly and well; `drift` is the mistake of calling the model
inside the wrapper. The functions that they call are tested where they stand.
"""

from __future__ import annotations

import importlib
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import nn

from cookbook.live_memory import LiveMemory
from cookbook.scaling import distributed, job, links, pipeline, tensor_parallel
from cookbook.scaling.sampler import ShardedBatches, share
from cookbook.scaling.small_model import SmallLM
from cookbook.scaling.world import World, in_order, joined
from cookbook.training.loop import summed_cross_entropy, to_device
from cookbook.training.objectives import MaskedLMCollator
from cookbook.training.order import Keyed


def measure(
    rows: str,
    model: str = "small",
    strategy: str = "ddp",
    batch_size: int = 8,
    steps: int = 5,
    precision: str = "fp32",
    seed: int = 0,
    device: str = "",
) -> dict[str, Any]:
    """Seconds of a step (the least of `steps`), bytes held and at most alive, and the link.

    Bytes are counted in a step of its own, because counting costs time. Under "ddp" `alive` are
    those after a step, gradients included, and `peak` the most within it; for "fsdp" neither is
    known, only what is held of weights and optimizer. `device` as for `world.joined`.
    """
    with joined(device=device) as world:
        batch, vocabulary = _first_batch(rows, world, batch_size, seed)
        found = {"seconds": _seconds(world, model, vocabulary, strategy, batch, steps, precision)}
        with LiveMemory() as memory:
            net, optimizer = _ready(world, model, vocabulary, strategy, precision)
            for _ in range(2):  # the first step has no optimizer state yet
                distributed.accumulate(net, [batch], world, precision=precision)
                optimizer.step()
                alive = memory.live
                optimizer.zero_grad()
        state = [v for s in optimizer.state.values() for v in s.values() if torch.is_tensor(v)]
        found |= {"alive": alive, "peak": memory.peak} if strategy == "ddp" else {}
        found["held"] = distributed.held_bytes([*net.parameters(), *state])
        found["link"] = links.measured(world) if world.size > 1 else None
        return found


def _first_batch(rows: str, world: World, size: int, seed: int) -> tuple[dict, job.Vocabulary]:
    packed, vocabulary = job.read_rows(rows)
    keys = ShardedBatches(len(packed), size, rank=world.rank, ranks=world.size, stop=1).keys(0)
    return MaskedLMCollator(vocabulary, seed=seed)(Keyed(packed).__getitems__(keys)), vocabulary


def _ready(
    world: World, model: str, vocabulary: job.Vocabulary, strategy: str, precision: str
) -> tuple[nn.Module, torch.optim.Optimizer]:
    net = distributed.wrap(job.build(model, vocabulary), strategy, world, precision=precision)
    return net, torch.optim.AdamW(net.train().parameters(), lr=1e-5, fused=True)


def _seconds(world: World, model: str, vocabulary: job.Vocabulary, strategy: str, batch: dict,
             steps: int, precision: str) -> float:  # fmt: skip
    """The least, because whatever else runs on the machine only adds; the slowest rank counts."""
    net, optimizer = _ready(world, model, vocabulary, strategy, precision)
    clock = job.Clock()
    for step in range(steps + 1):
        distributed.accumulate(net, [batch], world, precision=precision)
        optimizer.step()
        optimizer.zero_grad()
        world.sum(0.0)  # waits for the others, and for a GPU
        clock(step, 0.0)
    return max(world.everyone(min(clock.seconds[1:])))


def cut(vocab: int, width: int = 64, layers: int = 4, microbatches: int = 4) -> dict[str, float]:
    """A `SmallLM` over the ranks that are there, by tensor and by pipeline, against one process.

    Largest differences of logits and gradients, and the share of the blocks that a rank holds.
    """
    with joined() as world:
        build = partial(_small, vocab, world.device, width=width, layers=layers)
        ids = torch.randint(0, vocab, (8, 32), generator=torch.Generator().manual_seed(0))
        ids = ids.to(world.device)
        whole, split = build(), tensor_parallel.cut(build(), world.size, world.device.type)
        logits = [net(ids) for net in (whole, split)]
        for found in logits:
            nn.functional.cross_entropy(found.flatten(0, 1), ids.flatten()).backward()
        pairs = zip(whole.parameters(), split.parameters(), strict=True)
        gradients = [(a.grad - distributed.gathered(b.grad)).abs().max().item() for a, b in pairs]
        held = [distributed.held_bytes(net.blocks.parameters()) for net in (split, whole)]
        return {
            "tensor_logits": (logits[0] - logits[1]).abs().max().item(),
            "tensor_gradients": max(gradients),
            "tensor_share": held[0] / held[1],
            "pipeline_gradients": pipeline.same_step(build, world, ids, microbatches),
        }


def _small(vocab: int, device: torch.device, **settings: Any) -> SmallLM:
    torch.manual_seed(0)
    return SmallLM(vocab, **settings).to(device)


def metrics(right: list[bool]) -> dict[str, float]:
    """Accuracy over rows of which it is known whether the answer was `right`, in three ways.

    "gathered": each row once; "padded": with the rows that torch's DistributedSampler repeats;
    "mean of ranks": each rank's accuracy, averaged.
    """
    with joined() as world:
        rows, answers = share(len(right), world.rank, world.size), np.array(right)
        once = in_order(world, rows, answers[list(rows)], len(right))
        sampler = torch.utils.data.DistributedSampler(right, world.size, world.rank, shuffle=False)  # type: ignore[arg-type]
        padded = np.concatenate(world.everyone(answers[list(sampler)]))
        means = world.everyone(float(answers[list(rows)].mean()))
        return {
            "gathered": float(once.mean()),
            "padded": float(padded.mean()),
            "mean of ranks": float(np.mean(means)),
        }


def drift(
    rows: str, broken: bool, steps: int = 24, batch_size: int = 16, seed: int = 0, watch: str = ""
) -> dict[str, Any]:
    """Train on each rank's share, calling the wrapper, or (`broken`) the model inside it.

    Inside, gradients are never sent: every rank trains a model of its own. Returns the losses of
    this rank, the distance between the replicas after each step (of their length), and what
    `watch`, "module:class" with the interface of `cookbook.doctor.Watch`, has to say.
    """
    with joined() as world:
        packed, vocabulary = job.read_rows(rows)
        inner = job.build("small", vocabulary, seed=seed)
        wrapped = distributed.wrap(inner, "ddp", world)
        called = inner if broken else wrapped
        optimizer = torch.optim.AdamW(wrapped.parameters(), lr=3e-3)
        collate, keyed = MaskedLMCollator(vocabulary, seed=seed), Keyed(packed)
        sampler = ShardedBatches(
            len(packed), batch_size, rank=world.rank, ranks=world.size, seed=seed, stop=steps
        )
        found: dict[str, Any] = {"losses": [], "apart": []}
        with _watching(watch, called, optimizer) as look:
            for keys in sampler:
                batch = to_device(collate(keyed.__getitems__(keys)), world.device)
                total, labels = summed_cross_entropy(called, batch)
                loss = total / labels
                loss.backward()
                optimizer.step()
                optimizer.zero_grad()
                look(loss, batch)
                found["losses"].append(loss.item())
                found["apart"].append(apart(world, inner))
        return found | look.found()


def apart(world: World, model: nn.Module) -> float:
    """Largest distance of a replica's weights from rank 0's, relative to their length."""
    mine = torch.cat([p.detach().flatten() for p in model.parameters()]).double()
    first, *others = map(torch.as_tensor, world.everyone(mine.cpu().numpy()))
    return max((float((o - first).norm() / first.norm()) for o in others), default=0.0)


class _watching:
    """A watcher that is given by name: no object can be handed to another process."""

    def __init__(self, name: str, model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
        module, _, attribute = name.partition(":")
        make = getattr(importlib.import_module(module), attribute) if name else None
        self.watch = make(model, optimizer) if make else None

    def __enter__(self) -> _watching:
        if self.watch:
            self.watch.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        if self.watch:
            self.watch.__exit__(*error)

    def __call__(self, loss: torch.Tensor, batch: dict) -> None:
        if self.watch:
            self.watch.step(loss.detach(), batch=batch)

    def found(self) -> dict[str, Any]:
        """The faults by name, and the report as text."""
        if not self.watch:
            return {}
        return {"faults": list(self.watch.report.faults()), "report": str(self.watch.report)}
