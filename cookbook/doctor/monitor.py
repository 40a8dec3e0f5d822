"""The core of the online doctor: hooks on model, optimizer, schedule and scaler fill a `Run`.

It knows nothing of `Trainer` and of loops, judges nothing and changes nothing: `watch` and
`callback` feed it, the detectors read `run`. At each step it costs a few microseconds, at some
steps (all of the first, then ever fewer) a fraction of a millisecond.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import nn

from cookbook.doctor import batches, calls, hooks, parameters, preserve, ranks, schedules, tallies
from cookbook.doctor.records import Record, Run
from cookbook.doctor.weights import ByHand, WeightSamples, cosine, no_gradient, sample, spread

# Each of the first steps is measured, then two of every ten, of the later ones two of every 25.
DENSE, SOMETIMES, RARELY = 12, 10, 25
LONGEST_WINDOW = 512  # micro-batches whose losses are kept
LEAVES = 3  # parameters whose backward passes are counted


class Monitor:
    """Attached to a model and what trains it; `run` is what was seen, `cost` what it took."""

    def __init__(self, model: nn.Module, optimizers: Sequence[Any], scheduler: Any = None, *,
                 scaler: Any = None, loader: Any = None, planned: int | None = None,
                 resumed: int = 0, own_losses: bool = False,
                 after_step: Callable[[], None] | None = None) -> None:  # fmt: skip
        self.model, self.cost, self.scaler = model, hooks.Cost(), scaler
        self.optimizers = [preserve.unwrap(o) for o in optimizers if o is not None]
        self.own_losses, self.after_step = own_losses, after_step
        self.run = Run(planned=planned, resumed=resumed)
        self.samples = WeightSamples(model, [p for g in self._groups() for p in g["params"]])
        self.leaves = spread(list(self.samples.chosen.values()), LEAVES)
        self.device = self.leaves[0].device if self.leaves else torch.device("cpu")
        self.run.accelerator = self.device.type not in ("cpu", "meta")
        self.seen = batches.Seen(self.run, model, loader)
        self.ranks, self.by_hand = ranks.Ranks(model), ByHand()
        self.record: Record | None = None
        self.inside = 0  # how many optimizer steps deep we are
        self.forward_since = self.unscaled = False
        self.losses: list[Any] = []  # of the open window
        self.kept: list[Any] = []  # of the last closed one
        self.frozen: list[tuple[torch.Tensor, torch.Tensor]] = []
        self.stepped_at = -1  # optimizer steps when the scaler last tried
        self.ended, self.wait = time.perf_counter(), None
        self._new_window()
        self._observe = self._hook(self._note_loss)
        self._evaluate = self._hook(self._note_evaluation)
        self.undo: list[Callable[[], None]] = calls.follow(model, self.run, self.cost, self.seen)
        self._attach(scheduler)

    def _new_window(self) -> None:
        self.micro, self.counts = 0, [0] * len(self.leaves)
        self.zeroed: bool | None = None  # did a backward pass of this window find empty gradients
        self.closure, self.arrived = False, None

    # -- attaching ---------------------------------------------------------------------------------

    def _attach(self, scheduler: Any) -> None:
        model, hook = self.model, self._hook
        handles = [
            model.register_forward_pre_hook(hook(self._before_forward), with_kwargs=True),
            model.register_forward_hook(hook(self._after_forward), with_kwargs=True),
        ]
        for place, leaf in enumerate(self.leaves):
            handles.append(leaf.register_hook(hook(self._arrival(place, leaf))))
        main = parameters.main_optimizer(self.optimizers, self.samples.chosen.values())
        if main is not None:
            handles.append(main.register_step_pre_hook(hook(self._before_step)))
            handles.append(main.register_step_post_hook(hook(self._after_step)))
        self.undo += [handle.remove for handle in handles]
        if callable(getattr(preserve.unwrap(scheduler), "step", None)):
            counter = schedules.Counter(scheduler)
            self.run.schedule = counter.schedule
            self.undo.append(counter.close)
        if self.scaler is not None and self.scaler.is_enabled():
            step = hooks.intercept(self.scaler, "step", hook(self._attempt), hook(self._attempted))
            self.undo.append(step)
            self.undo.append(hooks.intercept(self.scaler, "unscale_", hook(self._unscale)))
        elif self.scaler is None:  # nobody named one: the first that steps our optimizer is it
            for name, told, after in (("step", self._attempt, hook(self._attempted)),
                                      ("unscale_", self._unscale, None)):  # fmt: skip
                found = hook(functools.partial(self._found, told))
                self.undo.append(hooks.intercept_all(torch.amp.GradScaler, name, found, after))
        self.lora = parameters.LoraBs(model)
        self.run.facts |= parameters.facts(model, self.optimizers) | {"lora": len(self.lora.held)}
        self.lacking = parameters.Lacking(model, self.run.facts["lacking"])

    def _hook(self, function: Callable) -> hooks.Hook:
        return hooks.Hook(function, self.cost)

    def close(self) -> None:
        """Everything as it was; the run is over."""
        for undo in reversed(self.undo):
            undo()
        self.undo = []
        self.run.closed = True
        self.seen.release()

    # -- forward and backward ----------------------------------------------------------------------

    def measures(self) -> bool:
        """Whether the coming step is one of those that are looked at closely."""
        step = self.run.steps
        every = SOMETIMES if step < 100 else RARELY if step < 1000 else 4 * RARELY
        return step < DENSE or step % every < 2

    def _before_forward(self, module: nn.Module, args: tuple, kwargs: dict) -> None:
        if not torch.is_grad_enabled():
            return
        self.inside = 0  # an exception inside a step must not leave us in it
        if not self.forward_since and self.run.steps and not self.seen.evaluating:
            self.wait = time.perf_counter() - self.ended
        self.forward_since = True

    def _after_forward(self, module: nn.Module, args: tuple, kwargs: dict, output: Any) -> None:
        training = torch.is_grad_enabled()
        loss = self.seen.forward(
            args, kwargs, output, training=training, measure=self.measures()
        )  # fmt: skip
        if self.own_losses and loss is not None:
            self.losses.append(loss.detach())

    def _arrival(self, place: int, leaf: nn.Parameter) -> Callable[[torch.Tensor], None]:
        def arrives(grad: torch.Tensor) -> None:
            if self.inside:
                self.closure = True
                return
            self.counts[place] += 1
            if self.counts[place] > self.micro:
                self._backward_begins(leaf, grad)

        return arrives

    def _backward_begins(self, leaf: nn.Parameter, grad: torch.Tensor) -> None:
        first = self.micro == 0
        self.micro += 1
        self.run.backwards += 1
        self.seen.commit()
        if not self.measures() or grad.is_sparse:
            return
        empty = all(no_gradient(other.grad) for other in self._together(leaf))
        if empty and not first:  # somebody emptied them, and no step was made
            self.run.discarded += 1
        self.zeroed = bool(self.zeroed) or empty
        self.by_hand.look(leaf, grad, self.run)
        self.arrived = (leaf, sample(grad).float().clone())  # it may become leaf.grad itself
        if "arrived" not in self.run.facts:
            self.run.facts["arrived"] = bool(grad.any())

    def _together(self, leaf: nn.Parameter) -> list[nn.Parameter]:
        """The leaves that are emptied with this one: those of its optimizer, if there is but one.

        Two optimizers may take turns, and each empties its own.
        """
        return self.leaves if len(self.optimizers) == 1 else [leaf]

    # -- the optimizer's step ----------------------------------------------------------------------

    def _attempt(self, *_: Any, **__: Any) -> None:
        """`GradScaler.step` is called; if no optimizer step followed the last one, it skipped."""
        run = self.run
        if run.attempts and self.stepped_at == run.steps:
            run.skipped.append(run.attempts)
            self._new_window()
        run.attempts += 1
        self.stepped_at = run.steps
        run.facts["unscaled_first"] = run.facts.get("unscaled_first", 0) + self.unscaled

    def _attempted(self, *_: Any) -> None:
        self.unscaled = False

    def _unscale(self, *_: Any, **__: Any) -> None:
        self.unscaled = True
        half = [p for g in self._groups() for p in g["params"] if p.dtype == torch.float16]
        self.run.facts["half_scaled"] = sum(p.requires_grad for p in half)

    def _found(self, told: Callable, scaler: Any, optimizer: Any, *_: Any, **__: Any) -> None:
        if scaler.is_enabled() and preserve.unwrap(optimizer) in self.optimizers:
            self.scaler = scaler
            told()

    def _before_step(self, *_: Any) -> None:
        self.inside += 1
        if self.inside > 1:  # a step that calls its parent's
            return
        run = self.run
        self.record = Record(run.resumed + run.steps + 1, rate=self._rate(), micro=self.micro)
        self.lora.before(run.steps)
        if self.measures():
            self.samples.before()
            self._look_at_gradients(self.record)
            return
        self.samples.skip()
        if self.device.type == "cpu":
            grad = next((p.grad for p in self.leaves if p.grad is not None), None)
            if grad is not None and not grad.is_sparse and not sample(grad).sum().isfinite():
                self.seen.not_finite("gradient")

    def _look_at_gradients(self, record: Record) -> None:
        steps = self.run.steps
        record.fresh = self.zeroed if self.micro else None
        if steps < DENSE or steps % 50 == 0:
            held = [p.grad for g in self._groups() for p in g["params"] if p.grad is not None]
            plain = [g for g in held if g.layout == torch.strided and g.device == self.device]
            record.norm = torch.nn.utils.get_total_norm(plain) if plain else None
            if plain and self.device.type == "cpu" and not record.norm.isfinite():
                self.seen.not_finite("gradient")
        if self.arrived is not None and self.micro == 1:
            leaf, came = self.arrived
            if leaf.grad is not None and not leaf.grad.is_sparse:
                left = sample(leaf.grad).float()
                record.clipped = left.norm() / came.norm() if came.any() else None  # it cancels out
                record.turned = cosine(left, came)
        self.lacking.look(steps, self.run.facts, self._groups())
        if self.scaler is not None and (steps < DENSE or steps % 50 == 0):
            record.scale = float(self.scaler.get_scale())
        if steps < 4 * DENSE:
            self.frozen = parameters.frozen_samples(self._groups())

    def _groups(self) -> list[dict]:
        return [group for o in self.optimizers for group in getattr(o, "param_groups", [])]

    def _rate(self) -> float | None:
        """The largest rate of a group that trains something."""
        rates = [
            float(g["lr"]) for g in self._groups()
            if "lr" in g and any(p.requires_grad for p in g["params"])
        ]  # fmt: skip
        return max(rates, default=None)

    def _after_step(self, *_: Any) -> None:
        self.inside = max(0, self.inside - 1)
        record, run, now = self.record, self.run, time.perf_counter()
        if self.inside or record is None:
            return
        self.samples.after(record)
        self._frozen_moved()
        if self.closure:  # the gradients of a closure come and go inside the step
            record.fresh = record.angle = None
        record.wait, record.seconds, record.spread = self.wait, now - self.ended, self.seen.spread()
        if self.device.type == "cuda" and run.steps % 10 == 0:
            record.memory = torch.cuda.memory_allocated(self.device)
        self.lora.after(run.steps, run.facts)
        record.loss, self.kept, self.losses = tallies.average(self.losses), self.losses, []
        run.steps += 1
        run.add(record)
        if self.ranks.active:
            self.ranks.look(run.steps, run, self.samples.values())
        self._new_window()
        self.ended, self.wait, self.forward_since, self.record = now, None, False, None
        if self.after_step is not None:
            self.after_step()

    def _frozen_moved(self) -> None:
        for parameter, before in self.frozen:
            if not torch.equal(sample(parameter), before):
                held = self.run.facts.setdefault("frozen_moved", {})
                name = parameters.name_of(self.model, parameter)
                held[name] = held.get(name, 0) + 1
        self.frozen = []

    # -- what the loop tells -----------------------------------------------------------------------

    def observing(self, loss: Any, batch: Any = None) -> None:
        """A loss, before or after the optimizer's step, and the batch it came from, if given."""
        self._observe(loss, batch)

    def _note_loss(self, loss: Any, batch: Any) -> None:
        self.seen.loss(loss, batch)
        self.run.told += 1
        loss = loss.detach() if isinstance(loss, torch.Tensor) else loss
        if self.forward_since or self.micro or not self.run.records:
            self.losses = [*self.losses[-LONGEST_WINDOW:], loss]
        else:
            self.kept.append(loss)
            self.run.records[-1].loss = tallies.average(self.kept)

    def evaluated(self, metrics: dict[str, float], predictions: Any = None, labels: Any = None,
                  rows: int | None = None) -> None:  # fmt: skip
        """An evaluation is over: what it measured, and its predictions where they are at hand."""
        self._evaluate(metrics, predictions, labels, rows)

    def _note_evaluation(self, metrics: dict, predictions: Any, labels: Any, rows: Any) -> None:
        if predictions is not None and labels is not None:
            self.seen.counts, self.seen.surprise = None, 0.0
            self.seen.count(predictions, labels)
        found = self.seen.evaluation(metrics, rows)
        if predictions is not None:
            found.scored = len(predictions)
        self.run.evaluations.append(found)
        self.wait = None
