"""What passes through the model: labels, losses, modes, logits of evaluations, the first bad one.

Fed by `monitor`'s hooks, it fills the `Run`; it judges nothing. A forward pass counts as one of
training when a backward pass follows, whatever the mode the model is in.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from cookbook.doctor import contrastive, graphs, kinds, parameters, sampling, suspects, tallies
from cookbook.doctor.order import length_of
from cookbook.doctor.records import Evaluation, Run

IGNORE = -100
HASHED, OPENING = 64, 3  # batches that are hashed; of them at the beginning of each epoch
ROWS, SPREAD = 32, 64  # of embeddings that are kept; of logits whose spread is measured


class Seen:
    """Collects what forward passes show. `run` is filled; `last` is the latest input."""

    def __init__(self, run: Run, model: nn.Module, loader: Any = None) -> None:
        self.run, self.model, self.loader = run, model, loader
        self.tags = type(kinds.base_of(model)).__name__.endswith("ForTokenClassification")
        self.noisy, self.width = parameters.dropouts(model), 0  # classes of a classifier
        self.norms = parameters.batch_norms(model)
        self.moded = [m for m in model.modules() if parameters.is_dropout(m)] + self.norms
        self.last: tuple[tuple, dict] | None = None
        self.waiting: dict[str, Any] | None = None  # a forward pass without a backward yet
        self.batch_counted = False
        self.logit_grads, self.row_spread = None, None
        self.own: Any = None  # the loss of the last pass as we know it
        self.graphs = graphs.Graphs(run)
        self.paused = self.generating = self.remembered = False
        self.epoch: int | None = None
        self.counted, self.opening = False, []  # the batches to come that open an epoch
        self._fresh_evaluation()

    def release(self) -> None:
        """Forget inputs and outputs."""
        self.last = self.waiting = self.logit_grads = None

    # -- training ----------------------------------------------------------------------------------

    def forward(
        self, args: tuple, kwargs: dict, output: Any, *, training: bool, measure: bool
    ) -> torch.Tensor | None:
        """One pass of the model; returns its own loss if it has one and it can be descended."""
        if self.paused or (self.generating and not training):
            return None
        if not training:
            self._evaluation_forward(args, kwargs, output)
            return None
        self.last, self.generating = (args, kwargs), False
        loss = tallies.own_loss(output)
        self.waiting = {"kwargs": kwargs, "args": args, "off": self._dropout_off()}
        logits = kinds.logits_of(output)
        whole = logits if isinstance(logits, torch.Tensor) and logits.requires_grad else loss
        self.remembered = whole is not None and whole.requires_grad
        if self.remembered:
            self.graphs.remember(whole)  # alive with whatever is kept: the loss, or the output
        if loss is not None and loss.requires_grad:
            if measure and self.run.steps < 16:
                loss.register_hook(self._loss_gradient)
                self.own = loss.detach()
            self.finite(loss.detach())
        first = not self.run.steps and "cosine_first" not in self.run.facts
        if measure and (first or self.run.steps >= contrastive.STARTED) and not self.run.uphill:
            self._embeddings(args, kwargs, output)
        seen = logits is not None and (logits.dim() == 2 or self.tags and logits.dim() == 3)
        if measure and seen and logits.requires_grad:
            self._look_at(logits, kwargs)
        return loss

    def _embeddings(self, args: tuple, kwargs: dict, output: Any) -> None:
        """Embeddings of unrelated rows, for the detector of collapse."""
        rows = sampling.batch_size(kwargs or args)
        found = tallies.embeddings(output, rows)
        if found is not None and kinds.label_key(kwargs) is None:
            self.run.facts["embeddings"] = found.detach()[:ROWS].clone()
            self.run.facts["rows"] = rows
            sides = contrastive.embeddings_of(output, rows)
            self.run.facts["sides"] = [side.detach()[:ROWS].clone() for side in sides]
            if sides and len(sides[0]) > 3 and not self.run.steps:
                self.run.facts["cosine_first"] = min(map(contrastive.mean_cosine, sides))

    def _look_at(self, logits: torch.Tensor, kwargs: dict) -> None:
        rows, self.width = logits.detach().flatten(0, -2), logits.shape[-1]
        if len(rows) > 1:  # of many tokens some: all, a vocabulary wide, cost more than the rest
            self.row_spread = rows[:: -(-len(rows) // SPREAD)].float().std(0).mean()
        if self.run.steps < 16 and logits.dim() == 2:
            labels, held = kwargs.get(kinds.label_key(kwargs)), logits.detach()  # no cycle

            def keep(grad: torch.Tensor) -> None:
                self.logit_grads = (grad.detach(), held)
                self._uphill(labels)

            logits.register_hook(keep)

    def _uphill(self, labels: Any) -> None:
        """Share of rows in which the gradient at the label's own logit is above zero."""
        if self.logit_grads is None or not isinstance(labels, torch.Tensor):
            return
        grad, logits = self.logit_grads
        whole = not (labels.is_floating_point() or labels.dtype == torch.bool)
        if not whole or labels.dim() != 1 or len(labels) != len(grad) or not len(labels):
            return
        if grad.shape[1] < 2 or int(labels.min()) < 0 or int(labels.max()) >= grad.shape[1]:
            return
        at = grad.gather(1, labels.to(grad.device)[:, None])
        self.run.uphill.append((len(at), float((at > 0).float().mean())))
        self._factor(at[:, 0], logits.gather(1, labels.to(grad.device)[:, None])[:, 0], logits)
        self.logit_grads = None

    def _factor(self, at: torch.Tensor, own: torch.Tensor, logits: torch.Tensor) -> None:
        """How many times the gradient of a mean cross-entropy this is, if it is a multiple."""
        mean = ((own - logits.logsumexp(1)).exp() - 1).float() / len(at)
        found = at.float() / mean.clamp_max(-1e-12)
        if bool((mean < -1e-4 / len(at)).all()) and bool((found / found[0] - 1).abs().max() < 0.02):
            self.run.loss_gradients.append(float(found.median()))
            self.own = (logits.logsumexp(1) - own).mean()

    def _loss_gradient(self, grad: torch.Tensor) -> None:
        self.run.loss_gradients.append(float(grad))

    def _dropout_off(self) -> bool | None:
        if self.noisy:
            return not any(module.training for module in self.noisy)
        # Layers alone may be put to rest on purpose; a whole model that was training before was
        # forgotten after its evaluation.
        if not self.norms or not (self.run.dropout_on or self.model.training):
            return None
        return not (self.model.training or any(norm.training for norm in self.norms))

    def commit(self) -> None:
        """A backward pass begins: what went forward was training."""
        held, self.waiting = self.waiting, None
        if held is None:
            return
        self._fresh_evaluation()
        run = self.run
        run.forwards += 1
        if held["off"] is not None:
            run.dropout_off = run.dropout_off + 1 if held["off"] else 0
            run.dropout_on += not held["off"]
        self.batch_counted = self._count_labels(held["kwargs"])
        self._hash(held["kwargs"] or held["args"])

    def _count_labels(self, batch: Any) -> bool:
        """Whether the batch has labels; those without any are noted."""
        key = kinds.label_key(batch) if isinstance(batch, Mapping) else None
        labels = batch[key] if key else None
        if not isinstance(labels, torch.Tensor) or labels.is_floating_point():
            return False
        if labels.device.type != "cpu" and self.run.steps % 25:
            return True
        self.run.labelled += 1
        self._rates(labels)
        if labels.numel() and bool((labels == IGNORE).all()):
            self.run.unlabelled.append(self.run.forwards)
        return True

    def _rates(self, labels: Any) -> None:
        if self.width and self.run.forwards <= HASHED:
            known = self.run.facts.get("label_counts")
            self.run.facts["label_counts"] = tallies.rates(known, labels, self.width)

    def _hash(self, batch: Any) -> None:
        run, place = self.run, self.run.forwards - 1
        length = length_of(self.loader)
        first = length is not None and length > 1 and place % length == 0
        if self.epoch is not None:  # somebody counts them
            first, length, place = (length or 2) > 1, 1, self.epoch
            self.epoch = None
        elif self.counted:
            first = False
        epoch = place // length if first else None
        if epoch is not None:
            known = epoch in run.epochs or epoch >= HASHED
            self.opening = [] if known else [epoch] * OPENING
        if len(run.batches) < HASHED or self.opening:
            found = tallies.fingerprint(batch)
            if len(run.batches) < HASHED:
                run.batches.append(found)
                run.widths.append(tallies.width(batch))
            if self.opening:  # the longest batch may come first in every epoch, and on purpose
                epoch = self.opening.pop()
                run.epochs[epoch] = run.epochs.get(epoch, "") + found

    def loss(self, loss: Any, batch: Any) -> None:
        """What the loop tells: the loss that it descends, and the batch it came from."""
        known, self.remembered = self.remembered, False
        if isinstance(loss, torch.Tensor) and loss.grad_fn is not None and not known:
            self.graphs.remember(loss)
        self.finite(loss.detach() if isinstance(loss, torch.Tensor) else loss)
        if batch is not None:
            self._batch(batch)
        own, self.own = self.own, None
        if own is not None and tallies.is_single(loss):
            self.run.told_by_own.append(torch.as_tensor(loss).item() / max(own.item(), 1e-12))

    def _batch(self, batch: Any) -> None:
        tallies.note_mask(self.run.facts, self.model, self.last, batch)
        if not self.batch_counted:
            self._count_labels(batch)
        if not self.run.forwards and len(self.run.batches) < HASHED:
            self.run.batches.append(tallies.fingerprint(batch))  # the model is called in parts
        if not self.batch_counted and not isinstance(batch, Mapping):
            self._rates(tallies.labels_of(batch))
        self.batch_counted = False
        if self.logit_grads is not None:
            self._uphill(tallies.labels_of(batch))

    def spread(self) -> Any:
        """How much the logits differed between rows, once."""
        found, self.row_spread = self.row_spread, None
        return found

    # -- what is not finite ------------------------------------------------------------------------

    def finite(self, loss: Any) -> None:
        """Note the first loss that is not finite, and where it comes from."""
        if isinstance(loss, torch.Tensor):
            if loss.device.type != "cpu" or loss.dim():
                return  # read later, with the record
            loss = loss.item()
        if loss != loss or loss in (float("inf"), float("-inf")):
            self.not_finite("loss")

    def not_finite(self, what: str) -> None:
        """A loss or gradient that is not finite: the first is looked into, all are counted."""
        run = self.run
        place = run.forwards + (self.waiting is not None)
        if run.not_finite[-1:] != [place]:  # a loss is seen twice: in the output, and when told
            run.not_finite.append(place)
        if run.bad is None:
            run.bad = {"what": what, "step": run.resumed + run.steps + 1,
                       "batch": run.forwards - 1 + (self.waiting is not None)}  # fmt: skip
            self.paused = True  # our own forward pass is nobody's evaluation
            try:
                run.bad["where"] = suspects.first(self.model, self.last, what)
            finally:
                self.paused = False

    # -- evaluation --------------------------------------------------------------------------------

    def _fresh_evaluation(self) -> None:
        self.evaluating = self.rows = self.dropping = 0
        self.counts: torch.Tensor | None = None
        self.surprise: Any = 0.0  # sum over what was counted, None where there was a part without

    def _evaluation_forward(self, args: tuple, kwargs: dict, output: Any) -> None:
        self.evaluating += 1
        self.rows += sampling.batch_size(kwargs or args) if kwargs or args else 0
        self.dropping += bool(self.moded) and all(m.training for m in self.moded)
        key, logits = kinds.label_key(kwargs), kinds.logits_of(output)
        if key is not None and logits is not None:
            self.count(logits, kwargs[key])
        elif judged := tallies.answered(output, kwargs):
            self.count(*judged)

    def count(self, scores: Any, labels: Any) -> None:
        """Add rows to the confusion of this evaluation; scores (rows, classes) or (rows,)."""
        found = tallies.confusion(scores, labels, tokens=self.tags)
        if found is not None and (self.counts is None or self.counts.shape == found.shape):
            self.counts = found if self.counts is None else self.counts + found
            self._surprised(tallies.surprise(scores, labels, tokens=self.tags))

    def predictions(self, scores: Any, labels: Any) -> None:
        """All predictions of an evaluation at once; they count instead of what was seen."""
        scores = scores[0] if isinstance(scores, tuple) else scores
        found = tallies.confusion(scores, labels, tokens=self.tags)
        if found is not None:
            self.counts, self.surprise = found, 0.0
            self._surprised(tallies.surprise(scores, labels, tokens=self.tags))

    def _surprised(self, by: torch.Tensor | None) -> None:
        known = by is not None and self.surprise is not None
        self.surprise = self.surprise + by if known else None

    def new_epoch(self, epoch: int) -> None:
        """An epoch begins: its first batch is marked."""
        self.epoch, self.counted = epoch, True

    def evaluation(self, metrics: Mapping[str, float], rows: int | None = None) -> Evaluation:
        """What was seen since the last backward pass or evaluation, with the given metrics."""
        found = Evaluation(
            self.run.resumed + self.run.steps, dict(metrics), self.rows or None, rows,
            None if self.counts is None else self.counts.cpu(), self.evaluating, self.dropping,
        )  # fmt: skip
        if found.counts is not None and self.surprise is not None:
            found.surprise = float(self.surprise) / max(1, int(found.counts.sum()))
        self._fresh_evaluation()
        return found
