"""M7 and M10: does evaluation answer twice the same, and is a row's answer its own?

Both compare scores in evaluation mode after a change that must not matter. What must mix rows or
must draw (in-batch contrast, experts with a capacity, a VAE) is left alone.
"""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from cookbook.doctor import kinds, responses, sampling
from cookbook.doctor.checks import Skip
from cookbook.doctor.findings import Finding
from cookbook.doctor.model_checks import is_quantized
from cookbook.doctor.subject import Subject

NORMS = (nn.modules.batchnorm._BatchNorm,)
DROPOUTS = (nn.modules.dropout._DropoutNd,)
FAINT = 2e-5  # share of the scores' deviation that no rounding of equal shapes reaches in fp32
# Tasks in which nothing is drawn when a model is asked for its scores.
CERTAIN = ("causal-lm", "masked-lm", "seq2seq", "classifier", "tagger", "multi-label",
           "question-answering")  # fmt: skip


def check_evaluation_is_certain(subject: Subject) -> Iterable[Finding]:
    """M7: after `model.eval()` a module still trains, or two forward passes differ by dropout."""
    batch = responses.inputs(subject)
    with _evaluating(subject):
        stuck = [name for name, module in subject.bare.named_modules() if _trains(module)]
        first, again = _answer(subject, batch), _answer(subject, batch)
        gap, limit = responses.moved(first, again), responses.still(first, _half(subject))
        drawn = _draws(subject, batch) if gap > limit else set()
    measured = {"difference": gap, "bound": limit, "stuck": len(stuck)}
    if stuck:
        told = f"after model.eval() {len(stuck)} modules still train, such as {stuck[0] or 'it'}"
        told += f"; two forward passes differ by {gap:.2g} (bound: 0 modules)"
        yield Finding("M7", "error", told, "let train(False) reach every module", measured)
    elif gap > limit:
        severity, how = _judge(subject, drawn)
        told = f"two forward passes of one batch after model.eval() differ by {gap:.2g}{how}"
        remedy = "pass training=self.training to functional dropout"
        yield Finding("M7", severity, f"{told} (bound: {limit:.2g})", remedy, measured)


def _judge(subject: Subject, drawn: set[str]) -> tuple[str, str]:
    if "dropout" in drawn:
        return "error", ": dropout acts in evaluation"
    if "uniform" in drawn and subject.kind in CERTAIN:
        return "warn", ": random numbers are drawn in evaluation"
    shipped = type(kinds.base_of(subject.bare)).__module__.startswith("transformers.")
    if "noise" in drawn and subject.kind in CERTAIN and shipped:
        return "warn", ": noise that the model's class does not know is drawn in evaluation"
    return "info", ": the model draws in its forward pass"


@contextlib.contextmanager
def _evaluating(subject: Subject) -> Iterator[None]:
    """As `responses.quiet`, by `model.eval()` as evaluations call it: classes may override it."""
    with responses.quiet(subject):
        subject.model.train(True)
        subject.model.eval()
        yield


def _trains(module: nn.Module) -> bool:
    """Whether a module that behaves otherwise in training is in training mode."""
    if not module.training:
        return False
    acts = isinstance(module, DROPOUTS) and module.p > 0
    return acts or (isinstance(module, NORMS) and module.running_mean is not None)


def _answer(subject: Subject, batch: Any) -> torch.Tensor:
    outputs = subject.forward(batch)
    found = responses.of_outputs(subject, outputs)
    if found is None:
        found = subject.loss_of(outputs, subject.batch("train", responses.ROWS))
    if found is None or not found.is_floating_point():
        raise Skip("does not apply")
    return found.detach().float().cpu()


def _half(subject: Subject) -> bool:
    return responses.computes_in_half(subject)


class _Draws(TorchDispatchMode):
    """Notes which kinds of random numbers the operations within draw.

    "noise" is normal and as large as what the layers compute of `rows` rows, and is drawn by
    nothing that transformers ships: neither random weights nor random hashes look like it.
    """

    KINDS = {"bernoulli": "dropout", "dropout": "dropout", "uniform": "uniform", "rand": "uniform",
             "rand_like": "uniform", "randn": "normal", "randn_like": "normal",
             "normal": "normal"}  # fmt: skip

    def __init__(self, rows: int) -> None:
        super().__init__()
        self.seen, self.rows = set(), rows

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.overloadpacket.__name__.strip("_")
        self.seen |= {kind for word, kind in self.KINDS.items() if name == word}
        if "dropout" in name and name != "scaled_dot_product_flash_attention_for_cpu":
            self.seen.add("dropout")
        made = func(*args, **(kwargs or {}))
        if self.KINDS.get(name) == "normal" and made.dim() > 1 and len(made) == self.rows:
            self.seen |= set() if _by_a_library() else {"noise"}
        return made


def _by_a_library() -> bool:
    """Whether it is transformers' code that asked torch for random numbers."""
    frame = inspect.currentframe()
    while frame is not None:
        package = frame.f_globals.get("__name__", "").partition(".")[0]
        if package not in ("torch", __name__.partition(".")[0]):
            return package == "transformers"
        frame = frame.f_back
    return False


def _draws(subject: Subject, batch: Any) -> set[str]:
    with _Draws(sampling.batch_size(batch)) as mode:
        _answer(subject, batch)
    return mode.seen


def check_rows_are_apart(subject: Subject) -> Iterable[Finding]:
    """M10: a change of one row of a batch moves the scores of another."""
    if mixes_rightly(subject):
        raise Skip("does not apply")
    batch = responses.inputs(subject)
    size = sampling.batch_size(batch)
    if size < 2:
        raise Skip("does not apply")
    with responses.quiet(subject):
        if any(_trains(module) for module in subject.bare.modules()):
            raise Skip("a module still trains in evaluation")
        first = _by_row(responses.scores(subject, batch), size)
        limit = responses.bound(subject, batch, responses.scores(subject, batch))
        gaps = [_gap(subject, batch, size, first, row) for row in (0, size - 1)]
        faint = min(gaps) > _audible(subject, batch, first) and max(gaps) <= limit
        mixed = (max(gaps) > limit or faint) and not _one_to_all(subject, batch, size)
        limit = _audible(subject, batch, first) if faint else limit
    if mixed:
        told = f"another row of the batch moves a row's scores by {max(gaps):.2g}"
        measured = {"difference": max(gaps), "bound": limit}
        unkept = "keep running statistics in batch norm" if _unkept(subject) else ""
        how = "warn" if faint else "error"
        yield Finding("M10", how, f"{told} (bound: {limit:.2g})", unkept, measured)


def _audible(subject: Subject, batch: Any, first: torch.Tensor) -> float:
    """Above which a row is heard in another, however faintly: equal shapes give equal numbers.

    Infinite in half precision, where scales and tiles may be those of a whole batch.
    """
    if _half(subject):
        return float("inf")
    plain = first[first.isfinite() & (first.abs() < 1e4)]
    if not plain.numel():
        return float("inf")
    again = _by_row(responses.scores(subject, batch), len(first))
    spread, largest = float(plain.std(correction=0)), float(plain.abs().max())
    return max(FAINT * spread, FAINT / 4 * largest, 50 * responses.moved(first, again))


def mixes_rightly(subject: Subject) -> bool:
    """Contrast within a batch, experts with a capacity, graphs, packed integers, batch statistics.

    Integers are scaled by the largest activation of a batch.
    """
    config = subject.config
    experts = ("num_experts", "num_local_experts", "n_routed_experts", "expert_capacity")
    graph = {"edge_index", "adj", "adjacency", "adj_t"} & kinds.accepts(subject.bare)[0]
    unkept = _unkept(subject) and subject.kind not in CERTAIN
    some = any(getattr(config, name, None) for name in experts)
    return bool(subject.kind == "contrastive" or some or graph or unkept) or is_quantized(
        subject.model
    )


def _unkept(subject: Subject) -> bool:
    """Whether a batch norm takes the batch's statistics in evaluation too."""
    norms = [module for module in subject.model.modules() if isinstance(module, NORMS)]
    return any(norm.running_mean is None for norm in norms)


def _by_row(scores: torch.Tensor, size: int) -> torch.Tensor:
    """Scores with the batch in front, also where a model flattens or turns them; else Skip."""
    if len(scores) == size:
        return scores
    if scores.dim() > 1 and scores.shape[1] == size and len(scores) % size:
        return scores.transpose(0, 1)
    if len(scores) % size == 0 and len(scores):
        return scores.reshape(size, -1)
    raise Skip("the scores have no batch dimension")


def _gap(subject: Subject, batch: Any, size: int, first: torch.Tensor, row: int) -> float:
    """How far the other rows move when a row is replaced by its farthest neighbour."""
    others = [place for place in range(size) if place != row]
    source = others[-1] if row == 0 else others[0]

    def replaced(tensor: torch.Tensor) -> torch.Tensor:
        changed = tensor.clone()
        changed[row] = tensor[source]
        return changed

    changed = responses.each_tensor(batch, size, replaced)
    after = responses.scores(subject, changed)
    return responses.moved(first[others], _by_row(after, size)[others])


def _one_to_all(subject: Subject, batch: Any, size: int) -> bool:
    """Whether scores compare each row with all: then their width is that of the batch."""
    fewer = sampling.first_rows(batch, size - 1)
    widths = [responses.scores(subject, part).shape[1:] for part in (batch, fewer)]
    return widths[0] != widths[1]


CHECKS = (check_evaluation_is_certain, check_rows_are_apart)
