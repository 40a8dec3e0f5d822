"""What does the doctor say of plain PyTorch: perceptrons, convolutions, GRUs, forecasts, factors?

No transformers, no tokenizer, no configuration: thirteen tasks (`plain_networks.py`), each healthy
in usual and odd ways, and with the faults that a plain loop can have. They were written by the
author of the checks, who mended what they showed: no blind figure, but one that others can rerun.
Some two minutes on one core.
"""

from __future__ import annotations

import argparse
import os
import random
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

os.environ["OMP_NUM_THREADS"] = "1"  # before torch is imported

import arms
import machine
import plain_networks
import torch
from plain_networks import Script, dense
from torch import nn
from torch.nn import functional
from torch.optim import SGD, Adagrad, Adam, AdamW, RMSprop, SparseAdam, lr_scheduler

NAME = "doctor_plain"
CLASSES = "dense picture lines attending"


@dataclass(frozen=True)
class Way:
    """A fault (a set of names that are right), or "" for a healthy script; and what it changes."""

    fault: str
    name: str
    tasks: tuple[str, ...]
    change: Callable[[Script], Any]


WAYS: list[Way] = []


def way(fault: str, name: str, tasks: str, change: Callable | None = None, **fields: Any) -> None:
    """Add a way: fields of the script are set, and `change` may set more."""

    def both(script: Script) -> None:
        for key, value in fields.items():
            setattr(script, key, value)
        if change is not None:
            change(script)

    WAYS.append(Way(fault, name, tuple(tasks.split()), both))


def by(kind: Any, **how: Any) -> Callable[[nn.Module], Any]:
    """An optimizer of this kind over all that the model has."""
    return lambda model: kind(model.parameters(), **how)


def lines(*order: str) -> Callable[..., torch.Tensor]:
    """A step of these lines: loss, minus, zero, backward, clip, step."""

    def step(model: nn.Module, optimizer: Any, x: Any, y: Any, loss: Any, n: int) -> torch.Tensor:
        value = None
        for line in order:
            if line == "loss":
                value = loss(model(x), y)
            elif line == "minus":
                value = -value
            elif line == "zero":
                optimizer.zero_grad()
            elif line == "backward":
                value.backward()
            elif line == "clip":
                nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            elif line == "step":
                optimizer.step()
        return value

    return step


def rows(change: Callable[[list], list], *where: str) -> Callable[[Script], None]:
    """Other rows, for training unless `where` names `held_out`."""

    def apply(script: Script) -> None:
        for name in where or ("train",):
            setattr(script, name, change(getattr(script, name)))

    return apply


def shuffled(pairs: list) -> list:
    """Labels of other rows."""
    labels = [y for _, y in pairs]
    random.Random(0).shuffle(labels)
    return [(x, y) for (x, _), y in zip(pairs, labels, strict=True)]


def bent(forward: Callable) -> Callable[[Script], None]:
    """The task's network with another forward pass, which gets the network and the input."""

    def apply(script: Script) -> None:
        made = script.model

        class Bent(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.net = made()

            def forward(self, x: torch.Tensor) -> torch.Tensor:
                return forward(self.net, x)

        script.model = Bent

    return apply


# -- healthy -------------------------------------------------------------------------------------

EVERY = " ".join(plain_networks.tasks())
way("", "as it is", EVERY)
for task, rate in {"dense": 0.1, "picture": 0.05, "attending": 0.02, "numbers": 0.01, "drawn": 0.5,
                   "lines": 0.1, "segments": 0.1, "tags": 0.3, "wave": 0.05}.items():  # fmt: skip
    way("", "momentum", task, optimizer=by(SGD, lr=rate, momentum=0.9), epochs=6)
way("", "RMSprop", "dense", optimizer=by(RMSprop, lr=1e-3))
way("", "Adagrad", "dense", optimizer=by(Adagrad, lr=2e-2))
way("", "sparse Adam", "factors", model=lambda: plain_networks.Factors(sparse=True),
    optimizer=by(SparseAdam, lr=2e-2))  # fmt: skip
way("", "one cycle", "picture", schedule=lambda o: lr_scheduler.OneCycleLR(o, 5e-3, 172))
way("", "cosine by epochs", "picture dense", by_epoch=True, epochs=6,
    schedule=lambda o: lr_scheduler.CosineAnnealingLR(o, 6))  # fmt: skip
way("", "warm restarts", "dense", by_epoch=True, epochs=6,
    schedule=lambda o: lr_scheduler.CosineAnnealingWarmRestarts(o, 2))  # fmt: skip
way("", "plateau", "numbers", by_epoch=True, epochs=12,
    schedule=lambda o: lr_scheduler.ReduceLROnPlateau(o, patience=3))  # fmt: skip
way("", "accumulation", "picture tags", accumulation=4, batch=8)
way("", "label smoothing", "attending dense", loss=nn.CrossEntropyLoss(label_smoothing=0.1))
way("", "Huber", "numbers wave", loss=nn.HuberLoss())
way("", "absolute", "numbers drawn", loss=nn.L1Loss())
way("", "binary pixels", "drawn", loss=nn.BCEWithLogitsLoss())
way("", "weighted", "one_score", loss=nn.BCEWithLogitsLoss(pos_weight=torch.tensor([2.0])))
way("", "quantile", "wave", loss=lambda o, y: torch.maximum(0.9 * (y - o), 0.1 * (o - y)).mean())
way("", "clipped", "letters attending numbers",
    step=lines("zero", "loss", "backward", "clip", "step"))  # fmt: skip
way("", "small batches", "dense", batch=4, epochs=2)
way("", "one batch", "dense", batch=1400, epochs=60, optimizer=by(Adam, lr=5e-3))
way("", "not evaluated", "picture", evaluated=False)
way("", "few rows", "dense", rows(lambda pairs: pairs[:300]), epochs=8)
way("", "decay", "dense", optimizer=by(AdamW, lr=1e-3, weight_decay=0.05))

# -- faults --------------------------------------------------------------------------------------

for task, rate in {"dense": 30.0, "picture": 30.0, "attending": 3.0, "numbers": 3.0,
                   "lines": 30.0}.items():  # fmt: skip
    way("O1 O3 P1", "SGD far too fast", task, optimizer=by(SGD, lr=rate))
for task, rate in {"dense": 1.0, "picture": 1.0, "attending": 0.3, "letters": 1.0, "numbers": 3.0,
                   "drawn": 3.0, "lines": 1.0, "one_score": 3.0, "segments": 1.0, "tags": 1.0,
                   "wave": 1.0, "factors": 30.0}.items():  # fmt: skip
    way("O1 O3 P1", "Adam far too fast", task, optimizer=by(Adam, lr=rate))
way("O2", "Adam hardly moves", EVERY, optimizer=by(Adam, lr=1e-9))
way("O2", "SGD hardly moves", "dense", optimizer=by(SGD, lr=1e-7))
way("D8", "labels of other rows", f"{CLASSES} numbers one_score many wave factors", rows(shuffled))
way(
    "D5",
    "sorted",
    "dense picture numbers one_score",
    shuffle=False,
    change=rows(lambda pairs: sorted(pairs, key=lambda pair: float(pair[1].reshape(-1)[0]))),
)
way("D1", "trained on", "picture segments tags",
    lambda s: setattr(s, "held_out", s.train[:200]))  # fmt: skip
way("D2", "two labels", "picture dense",
    rows(lambda pairs: pairs + [(x, (y + 1) % 10) for x, y in pairs[:300]]))  # fmt: skip
way("D6", "another scale", "picture dense segments",
    rows(lambda pairs: [(255 * x, y) for x, y in pairs], "held_out"))  # fmt: skip
way(
    "D9 P1",
    "a row of NaN",
    "picture numbers segments wave",
    rows(lambda pairs: [(torch.full_like(pairs[0][0], torch.nan), pairs[0][1]), *pairs[1:]]),
)
way("D9", "one input", "picture", evaluated=False,
    change=rows(lambda pairs: [(torch.zeros_like(x), y) for x, y in pairs]))  # fmt: skip
way("O5", "gradients never emptied", "picture letters numbers one_score segments tags factors",
    step=lines("loss", "backward", "step"))  # fmt: skip
way("O7", "emptied before the step", "picture wave", step=lines("loss", "backward", "zero", "step"))
way("O7", "no step", "dense letters segments", step=lines("zero", "loss", "backward"))
way("L4", "minus the loss", "dense numbers segments one_score",
    step=lines("zero", "loss", "minus", "backward", "step"))  # fmt: skip
way("L4", "maximized", "picture", optimizer=by(SGD, lr=0.05, maximize=True))
way("L2", "softmax before", "picture", bent(lambda net, x: net(x).softmax(-1)))
way("L2", "softmax of segments", "segments", bent(lambda net, x: net(x).softmax(1)))
way("L2", "sigmoid before", "one_score many drawn", loss=nn.BCEWithLogitsLoss(),
    change=bent(lambda net, x: torch.sigmoid(net(x))))  # fmt: skip
way("L2", "likelihood of scores", "dense", loss=nn.NLLLoss())
way("M4", "one score to choose", "one_score", loss=nn.CrossEntropyLoss())
way("M4", "compared all with all", "numbers wave", evaluated=False,
    change=rows(lambda pairs: [(x, y[0]) for x, y in pairs], "train", "held_out"))  # fmt: skip
way("M4", "classes from one", "picture", evaluated=False,
    change=rows(lambda pairs: [(x, y + 1) for x, y in pairs]))  # fmt: skip
way("M7", "never told to evaluate", "dense", modes=False, model=lambda: nn.Sequential(
    nn.Linear(64, 128), nn.ReLU(), nn.Dropout(0.5), nn.Linear(128, 10)))  # fmt: skip
way("M7", "dropout without its flag", "picture",
    bent(lambda net, x: net.out(functional.dropout(net.seen(x), 0.4))))  # fmt: skip
way("M8", "detached", "picture", bent(lambda net, x: net.out(net.seen(x).detach())))
way("M8", "detached state", "wave", bent(lambda net, x: net.out(net.read(x)[0][:, -1].detach())))
way("M9", "reads both ways", "letters", lambda s: setattr(
    s, "model", lambda made=s.model: plain_networks.Recurrent(
        made().table.num_embeddings, made().out.out_features, both=True)))  # fmt: skip
way("M10", "batch first forgotten", "attending", model=lambda: plain_networks.Attending(False))
way("M10", "less the mean of the batch", "lines", bent(lambda net, x: net(x) - net(x).mean(0)))
way("O4", "one cycle by epochs", "picture", by_epoch=True,
    schedule=lambda o: lr_scheduler.OneCycleLR(o, 5e-3, 172))  # fmt: skip
way("O4", "steps by batches", "dense", schedule=lambda o: lr_scheduler.StepLR(o, 3, 0.1))
way("O4", "exponential by batches", "attending",
    schedule=lambda o: lr_scheduler.ExponentialLR(o, 0.9))  # fmt: skip
way("O6", "the head alone", "attending", optimizer=lambda m: AdamW(m.out.parameters(), lr=2e-3))
way("O6", "one table alone", "factors", optimizer=lambda m: Adam(m.one.parameters(), lr=2e-2))
way("R1", "too long on few rows", "dense", rows(lambda pairs: pairs[:60]), epochs=120, batch=16,
    model=lambda: dense(64, 256, 256, 10), rate=3e-3)  # fmt: skip
way("R1", "too long on few patients", "numbers", rows(lambda pairs: pairs[:100]), epochs=150,
    batch=64, model=lambda: dense(10, 256, 256, 1), rate=3e-3)  # fmt: skip


def main() -> None:
    """Run, say what was missed, write the result."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", default="", help="names of faults, ways or tasks, by commas")
    given = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    names, load, began = set(filter(None, given.only.split(","))), machine.load_average(), 0.0
    began, told = time.process_time(), []
    for one in WAYS:
        for task in one.tasks:
            if not names or names & {one.name, task, *one.fault.split()}:
                told.append(_told(one, task))
    found = {"machine": machine.describe() | {"load_before": load}, **_summary(told)}
    found["cpu_s"] = round(time.process_time() - began, 1)
    print({key: value for key, value in found.items() if key != "machine"})
    arms.write(NAME, found, arms.CACHE if names else arms.RESULTS)


def _told(one: Way, task: str) -> dict[str, Any]:
    script = plain_networks.tasks()[task]
    one.change(script)
    reports = plain_networks.run(script, seed=0)
    whole = reports[0] + reports[1]
    right = set(one.fault.split())
    said = {"faults": whole.faults(), "primary": whole.primary.fault if whole.primary else None}
    detected, named = bool(right & set(said["faults"])), said["primary"] in right
    about = {"fault": one.fault, "name": f"{one.name}, {task}"}
    return about | said | {"detected": detected, "right": named}


def _summary(told: list[dict[str, Any]]) -> dict[str, Any]:
    faults, fine = ([t for t in told if bool(t["fault"]) is broken] for broken in (True, False))
    line = "{fault} {name}: {faults}".format_map
    return {
        "fault_runs": len(faults),
        "detected": round(sum(t["detected"] for t in faults) / max(1, len(faults)), 4),
        "right": round(sum(t["right"] for t in faults) / max(1, len(faults)), 4),
        "missed": [line(t) for t in faults if not t["detected"]],
        "wrong_primary": [line(t) for t in faults if t["detected"] and not t["right"]],
        "healthy_runs": len(fine),
        "alarms": [line(t) for t in fine if t["faults"]],
    }


if __name__ == "__main__":
    main()
