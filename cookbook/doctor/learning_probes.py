"""Can the model fit one small batch at all (fault R2)?

A few hundred steps at three rates on a handful of targets, dropout off, only for losses over
classes or tokens. Whatever makes it fail has a name of its own further up the tree: R2 is what
remains to be said where no other probe found the cause. `alignment_probes` asks it too.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch

from cookbook.doctor import gradients, sampling
from cookbook.doctor.checks import Skip
from cookbook.doctor.findings import Curve, Finding
from cookbook.doctor.loss_probes import read_targets
from cookbook.doctor.subject import IGNORE, Subject

RATES, STEPS = (1e-3, 1e-2, 1e-4), 100
KEPT = 0.5  # share of the first loss that must go
ROWS, TOKENS, TARGETS = 8, 32, 64
LARGEST = 20_000_000  # parameters that a CPU can be asked to train for a probe
FROZEN = "most weights are frozen: one batch need not be fitted in 100 steps"
MINORITY = 0.1  # share of trainable weights below which little can be asked of them
ROOM = 30  # trainable weights for each answer, below which a model has no room to memorise


def check_one_batch(subject: Subject) -> Iterable[Finding]:
    """The loss of one small batch after 100 steps at each of three rates."""
    batch = small_batch(subject)
    reason = why_not(subject, batch)
    if reason:
        raise Skip(reason)
    lines = overfit(subject, batch)
    left = {rate: min(line) / line[0] for rate, line in lines.items()}
    best = min(left, key=lambda rate: left[rate])
    if left[best] < KEPT:
        return
    curves = {f"rate {rate:g}": list(enumerate(line)) for rate, line in lines.items()}
    yield Finding(
        "R2", "warn",
        f"{STEPS} steps on one batch of {sampling.batch_size(batch)} rows leave {left[best]:.0%} "
        f"of its loss {lines[best][0]:.3f} at the best of {len(RATES)} rates (bound: "
        f"{KEPT:.0%})", measured={"left": left[best], "rate": best}, curve=Curve(curves),
    )  # fmt: skip


def why_not(subject: Subject, batch: Any) -> str:
    """Why one batch should not be overfitted here; "" where it should."""
    if batch is None:
        return "does not apply"
    trained = [p for p in subject.bare.parameters() if p.requires_grad]
    size, all_of_it = (sum(p.numel() for p in ps) for ps in (trained, subject.bare.parameters()))
    if all_of_it > LARGEST and subject.device.type == "cpu":
        return "too large to be trained on the spot"
    if not trained or any(p.dtype != torch.float32 for p in trained):
        return "does not apply"
    if size < MINORITY * all_of_it:
        return FROZEN
    with subject.mode(training=False):
        loss, outputs = gradients.training_loss(subject, batch)
    logits = subject.logits(outputs)
    if loss is None or loss.dim() or logits is None or not bool(loss.isfinite()):
        return "does not apply"
    read = read_targets(loss, logits)
    if read is None or _cross_entropy(logits, read.target) < 0.2:
        return "does not apply"
    if size < ROOM * int(read.target.ne(IGNORE).sum()):
        return "a model this small has no room to memorise a batch"
    return "does not apply" if _contradicts(batch, read.target) else ""


def overfit(subject: Subject, batch: Any) -> dict[float, list[float]]:
    """Rate → cross-entropies of its steps, up to the rate that halves it. Weights are changed.

    The training loss is descended; what is followed is the cross-entropy of its targets, so that a
    constant or a penalty in the loss does not hide what was learnt.
    """
    trained = [p for p in subject.bare.parameters() if p.requires_grad]
    before = [p.detach().clone() for p in trained]
    with subject.mode(training=False):
        loss, outputs = gradients.training_loss(subject, batch)
        target = read_targets(loss, subject.logits(outputs)).target
        lines: dict[float, list[float]] = {}
        for rate in RATES:
            with torch.no_grad():
                for p, b in zip(trained, before, strict=True):
                    p.copy_(b)
            lines[rate] = _descend(subject, batch, target, trained, rate)
            if min(lines[rate]) < KEPT * lines[rate][0]:
                break
    return lines


def _descend(
    subject: Subject, batch: Any, target: torch.Tensor, trained: list, rate: float
) -> list[float]:
    optimizer, line = torch.optim.Adam(trained, lr=rate), []
    for _ in range(STEPS + 1):
        loss, outputs = gradients.training_loss(subject, batch)
        line.append(_cross_entropy(subject.logits(outputs), target))
        if line[-1] < KEPT * line[0] or not bool(loss.isfinite()) or not loss.requires_grad:
            break
        grads = gradients.gradients(lambda loss=loss: loss, trained)
        for p, grad in zip(trained, grads, strict=True):
            p.grad = grad
        optimizer.step()
    return [value if value == value else float("inf") for value in line]


def _cross_entropy(logits: torch.Tensor, target: torch.Tensor) -> float:
    scores = logits.detach().float().flatten(0, -2)
    return torch.nn.functional.cross_entropy(
        scores, target.flatten(), ignore_index=IGNORE
    ).item()  # fmt: skip


def small_batch(subject: Subject) -> Any:
    """A handful of rows, cut to few tokens where that leaves them a label; None without data."""
    batch = subject.batch(rows=ROWS)
    if batch is None:
        return None
    cut = _cut(batch, TOKENS)
    if gradients.label_counts(subject, cut)[0] >= 4:
        batch = cut
    rows = sampling.batch_size(batch)
    while rows > 2 and gradients.label_counts(subject, batch)[0] > TARGETS:
        rows -= 1
        batch = sampling.first_rows(batch, rows)
    return batch


def _cut(batch: Any, tokens: int) -> Any:
    """A batch of token rows cut to their first tokens; to their last if they are padded left."""
    ids = batch.get("input_ids") if isinstance(batch, Mapping) else None
    if not isinstance(ids, torch.Tensor) or ids.dim() != 2 or "start_positions" in batch:
        return batch
    length, mask = ids.shape[1], batch.get("attention_mask")
    left = isinstance(mask, torch.Tensor) and mask.dim() == 2 and bool((mask[:, 0] == 0).any())
    place = slice(-tokens, None) if left else slice(tokens)
    others = [v for v in batch.values() if isinstance(v, torch.Tensor) and v.dim() > 2]
    if length <= tokens or any(length in v.shape[1:] for v in others):
        return batch

    def cut(value: Any) -> Any:
        tokens_of = isinstance(value, torch.Tensor) and value.dim() == 2
        return value[:, place].contiguous() if tokens_of and value.shape[1] == length else value

    return {name: cut(value) for name, value in batch.items()}


def _contradicts(batch: Any, target: torch.Tensor) -> bool:
    """Whether equal rows of the batch have different targets: nobody fits these."""
    values = batch.values() if isinstance(batch, Mapping) else batch[:1]
    size, seen = len(target), {}
    inputs = [
        v for k, v in (batch.items() if isinstance(batch, Mapping) else enumerate(values))
        if isinstance(v, torch.Tensor) and v.dim() and len(v) == size and "label" not in str(k)
    ]  # fmt: skip
    for row in range(size):
        key = b"".join(v[row].cpu().numpy().tobytes() for v in inputs)
        wanted = tuple(target[row].flatten().tolist())
        if seen.setdefault(key, wanted) != wanted:
            return True
    return bool((target == IGNORE).all())


CHECKS = (check_one_batch,)
