"""How fast does training go here, what does it hold, and what of that is waste: measured.

`climb` trains the same model by every setup of a ladder, in turns, and reports useful tokens a
second, live bytes, and which share of this machine's own rate of matrix products the arithmetic
reaches. `loss_at` says what a setup has learned after some tokens. Where a step's time goes is
`profile_step`'s to say, which settings to take `autotune`'s. Predictions are in `calculator` and
`timing`. Chapter 10.
"""

from __future__ import annotations

import shutil
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import torch

from cookbook.live_memory import LiveMemory
from cookbook.scaling.speed_autotune import Tuned, autotune
from cookbook.scaling.speed_operations import flop_counter, matmul_rate, nominal_flops
from cookbook.scaling.speed_profile import Profile, profile_step
from cookbook.scaling.speed_setups import (
    Material,
    Setup,
    Stream,
    builder,
    changes,
    checkpoint_layers,
    ladder,
    masked_sum,
)
from cookbook.training import loop
from cookbook.training.schedules import scheduler

__all__ = [
    "Material", "Profile", "Rung", "Runner", "Setup", "Stream", "Tuned", "autotune", "builder",
    "changes", "climb", "flop_counter", "gradient", "has_compiler", "ladder", "loss_at",
    "matmul_rate", "nominal_flops", "profile_step",
]  # fmt: skip


class Turn(NamedTuple):
    """One turn of a setup: useful tokens, seconds by the wall clock and of this process's CPU."""

    tokens: int
    wall: float
    cpu: float


@dataclass(frozen=True)
class Rung:
    """What was measured of one setup; lists have one number a round.

    `speeds` are useful tokens a second by the clock that was asked for, `wall` by the wall clock,
    `ratios` those of `speeds` to the rung that it `stands_on`, within a round. `peak` is live bytes
    of one update (None under torch.compile, whose buffers are not seen). `nominal` are operations
    that the objective needs a useful token, `executed` those that were done; `utilisation` and
    `occupation` are their share of the rate that a plain matrix product reaches.
    """

    name: str
    stands_on: str
    speeds: list[float]
    wall: list[float]
    ratios: list[float]
    peak: int | None
    nominal: float
    executed: float
    utilisation: float
    occupation: float

    @property
    def speed(self) -> float:
        """The median of `speeds`."""
        return statistics.median(self.speeds)

    def to_dict(self) -> dict[str, Any]:
        """The fields as plain JSON."""
        return asdict(self)


class Runner:
    """A model that is trained by one setup, turn by turn, and what its steps cost."""

    def __init__(
        self, setup: Setup, material: Material, build: Callable[[str], Any], *,
        device: str = "cpu", rate: float = 1e-3, total: int = 0, seed: int = 0,
    ) -> None:  # fmt: skip
        self.setup, self.material = setup, material
        self.stream = material.batches(setup, seed=seed)
        self.model = build(setup.attention).to(device)
        if setup.checkpointing:
            checkpoint_layers(self.model)
        if setup.compiled:
            self.model.base_model.compile()
        kind = {"fused": True} if setup.fused else {"foreach": False}
        self.optimizer = torch.optim.AdamW(self.model.parameters(), rate, **kind)
        shape = {"warmup": total // 10, "total": total} if total else {}
        self.scheduler = scheduler(self.optimizer, "linear" if total else "constant", **shape)
        self.loss_fn = masked_sum if setup.masked_only else loop.summed_cross_entropy

    def turn(self, steps: int) -> Turn:
        """Train for `steps` updates; reading and masking rows is in the time."""
        before = self.stream.tokens
        wall, cpu = time.perf_counter(), time.process_time()
        loop.train(
            self.model, self.stream, self.optimizer, self.scheduler, steps=steps,
            accumulation=self.setup.accumulation, precision=self.setup.precision,
            loss_fn=self.loss_fn,
        )  # fmt: skip
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        took = time.perf_counter() - wall, time.process_time() - cpu
        return Turn(self.stream.tokens - before, *took)

    def peak(self) -> int | None:
        """The most bytes of tensors alive at once in one update, weights and optimizer included."""
        if self.setup.compiled:
            return None
        with LiveMemory(self.model, self.optimizer) as memory:
            self.turn(1)
        return memory.peak

    def executed(self) -> float:
        """Operations a useful token of one update, as torch counts matrix products."""
        before = self.stream.tokens
        with flop_counter() as counter:
            self.turn(1)
        return counter.get_total_flops() / (self.stream.tokens - before)


def climb(
    rungs: Mapping[str, tuple[Setup, str]],
    material: Material,
    build: Callable[[str], Any],
    *,
    rounds: int = 3,
    tokens: int = 4096,
    device: str = "cpu",
    clock: str = "",
) -> list[Rung]:
    """Every rung in turns of about `tokens` tokens, in `rounds` rounds, so that what else slows the
    machine slows all of them.

    `build(attention)` makes the model. `clock` is "cpu" (seconds that this process computed, the
    default on a CPU: other processes do not count) or "wall" (the default on a GPU). Workers of a
    loader compute in processes of their own: their effect shows by the wall clock alone.
    """
    clock = clock or ("cpu" if device == "cpu" else "wall")
    runners = {n: Runner(setup, material, build, device=device) for n, (setup, _) in rungs.items()}
    counts: dict[str, tuple[int | None, float]] = {}
    for name, (_, on) in rungs.items():
        counts[name] = _counts(runners[name], counts.get(on, (None, 0.0))[1])
    rates = {p: matmul_rate(p, device) for p in {s.precision for s, _ in rungs.values()}}
    turns: dict[str, list[Turn]] = {name: [] for name in rungs}
    for number in range(rounds):
        names = list(rungs)[number % len(rungs) :] + list(rungs)[: number % len(rungs)]
        for name in names:
            steps = max(1, round(tokens / (rungs[name][0].batch * material.length)))
            turns[name].append(runners[name].turn(steps))
    for runner in runners.values():
        runner.stream.close()
    speeds = {c: {n: [t.tokens / getattr(t, c) for t in ts] for n, ts in turns.items()}
              for c in ("wall", "cpu")}  # fmt: skip
    nominal = nominal_flops(build("eager"), material.length)
    return [
        _rung(name, on, speeds[clock], speeds["wall"], counts[name], nominal, rates[s.precision])
        for name, (s, on) in rungs.items()
    ]


def _counts(runner: Runner, uncompiled: float) -> tuple[int | None, float]:
    """Peak and executed operations, after one update: the optimizer has no state before."""
    runner.turn(1)
    if runner.setup.compiled:  # counters look between operations, and these are fused
        return None, uncompiled
    return runner.peak(), runner.executed()


def _rung(
    name: str, on: str, speeds: dict, wall: dict, counts: tuple, nominal: float, rate: float
) -> Rung:
    ratios = [a / b for a, b in zip(speeds[name], speeds[on or name], strict=True)]
    peak, executed = counts
    speed = statistics.median(speeds[name])
    return Rung(
        name, on, speeds[name], wall[name], ratios, peak, nominal, executed,
        utilisation=nominal * speed / rate, occupation=executed * speed / rate,
    )  # fmt: skip


def loss_at(
    setup: Setup,
    material: Material,
    build: Callable[[str], Any],
    held_out: Any,
    *,
    tokens: int,
    rate: float = 1e-3,
    device: str = "cpu",
    seed: int = 0,
) -> float:
    """Loss (nats a masked token) on packed `held_out` rows after about `tokens` useful tokens.

    The rate is that of a batch of 8 rows and grows with the square root of the batch; a tenth of
    the updates are warm-up, then it falls to 0.
    """
    from cookbook.training.pretraining import evaluate_masked_lm

    steps = max(1, round(tokens / (setup.batch * material.useful(setup.rows))))
    runner = Runner(
        setup, material, build, device=device, total=steps, seed=seed,
        rate=rate * (setup.batch / 8) ** 0.5,
    )  # fmt: skip
    runner.turn(steps)
    return evaluate_masked_lm(runner.model, material.tokenizer, held_out)["loss"]


def gradient(
    setup: Setup, build: Callable[[str], Any], batch: Mapping[str, torch.Tensor]
) -> torch.Tensor:
    """The gradient (weights,) of the mean loss of one batch as `setup` computes it, in fp32.

    With accumulation the batch is cut into that many parts. What a rung may not change can be held
    against what came before it.
    """
    model = build(setup.attention)
    if setup.checkpointing:
        checkpoint_layers(model)
    loss_fn, labels = masked_sum if setup.masked_only else loop.summed_cross_entropy, 0
    parts = {name: tensor.chunk(setup.accumulation) for name, tensor in batch.items()}
    for number in range(setup.accumulation):
        with loop.autocast(torch.device("cpu"), setup.precision):
            part = {name: tensors[number] for name, tensors in parts.items()}
            loss, count = loss_fn(model.train(), part)
        loss.backward()
        labels += count
    loop.divide_gradients(model, labels)
    return torch.cat([x.grad.flatten() for x in model.parameters() if x.grad is not None])


def has_compiler() -> bool:
    """Whether torch.compile has what it needs here: a C++ compiler, or a GPU and its Triton."""
    if torch.cuda.is_available():
        import importlib.util

        return importlib.util.find_spec("triton") is not None
    return any(map(shutil.which, ("g++", "clang++", "c++")))
