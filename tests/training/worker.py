"""A training run in its own process, to be killed: the plain loop, no transformers.

    python worker.py FOLDER [--steps N] [--pause EVENT [--times N]]
    python worker.py --nursery

The nursery reads such arguments line by line and forks a process for each: to import torch takes
seconds, to fork takes none, and a hundred kills are wanted. Nothing is trained in the nursery.

A run uses everything that a resumed run must put back: dropout, masks by (seed, epoch, row), AdamW,
a schedule, accumulation over the end of an epoch, and draws from the generators of Python and
numpy at every step. It prints its events, `step 12` or `half optimizer.pt` when that file is half
written; at the nth EVENT it waits to be killed, so that no test depends on how fast it runs. Its
last line is a fingerprint of everything.
"""

import argparse
import hashlib
import os
import random
import shlex
import signal
import sys

import numpy as np
import torch

from cookbook.training import checkpoints, manifests
from cookbook.training.loop import train
from cookbook.training.order import Batches, key_generator

VOCABULARY, LENGTH, MASK, SEED = 40, 8, 1, 7


class Model(torch.nn.Module):
    """An embedding, dropout, a hidden layer and a tied projection."""

    def __init__(self):
        super().__init__()
        self.embed = torch.nn.Embedding(VOCABULARY, 32)
        self.hidden = torch.nn.Linear(32, 32)
        self.drop = torch.nn.Dropout(0.2)
        self.project = torch.nn.Linear(32, VOCABULARY)
        self.project.weight = self.embed.weight

    def forward(self, input_ids):
        return self.project(self.drop(torch.relu(self.hidden(self.drop(self.embed(input_ids))))))


def collate(rows):
    """Mask a quarter of each row, the choice drawn from the row's own generator."""
    ids = torch.stack([row["input_ids"] for row in rows])
    chosen = [key_generator(SEED, row["epoch"], row["row"]).random(LENGTH) < 0.25 for row in rows]
    masked = torch.from_numpy(np.stack(chosen))
    return {
        "input_ids": ids.masked_fill(masked, MASK),
        "labels": ids.masked_fill(~masked, -100),
    }


class Stage:
    """Says what happens, and waits for ever at the event where the run is to be killed."""

    def __init__(self, pause, times):
        self.pause, self.times = pause, times

    def say(self, event):
        print(event, flush=True)
        self.times -= event == self.pause
        if event == self.pause and self.times == 0:
            signal.pause()

    def write(self, path, data):
        """In place of `manifests.write`: says so when it is half-way."""
        with open(path, "wb") as file:
            file.write(data[: len(data) // 2])
            file.flush()
            self.say(f"half {path.name}")
            file.write(data[len(data) // 2 :])
            file.flush()
            os.fsync(file.fileno())

    def on_step(self, step, loss):
        random.random(), np.random.rand()  # a run that uses them must find them where they were
        self.say(f"step {step}")


def fingerprint(model, **parts):
    """SHA-256 of the bytes of all tensors and of all other values, in a fixed order."""
    digest = hashlib.sha256()

    def add(value):
        if isinstance(value, torch.Tensor):
            digest.update(value.detach().contiguous().numpy().tobytes())
        elif isinstance(value, dict):
            for key in sorted(value, key=str):
                digest.update(str(key).encode())
                add(value[key])
        elif isinstance(value, list | tuple):
            for item in value:
                add(item)
        else:
            digest.update(repr(value).encode())

    add(checkpoints.snapshot(model, **parts))
    return digest.hexdigest()


def run(arguments):
    parser = argparse.ArgumentParser()
    parser.add_argument("folder")
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--pause", default="")
    parser.add_argument("--times", type=int, default=1)
    options = parser.parse_args(arguments)
    stage = Stage(options.pause, options.times)
    manifests.write = stage.write

    torch.manual_seed(SEED), random.seed(SEED), np.random.seed(SEED)
    rows = [{"input_ids": torch.randint(2, VOCABULARY, (LENGTH,))} for _ in range(50)]
    model = Model()
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.01, total_steps=options.steps)
    batches = Batches(rows, batch_size=4, seed=SEED, collate=collate)  # 12 to an epoch
    train(
        model, batches, optimizer, scheduler, steps=options.steps, accumulation=5,
        on_step=stage.on_step, checkpoint_folder=options.folder, save_every=4,
    )  # fmt: skip
    assert "transformers" not in sys.modules, "then every start would take seconds"
    print("end", fingerprint(model, optimizer=optimizer, scheduler=scheduler), flush=True)


def nursery():
    import torch._dynamo  # noqa: F401  # every optimizer imports it at its first step

    for line in sys.stdin:
        child = os.fork()
        if child == 0:
            print("pid", os.getpid(), flush=True)
            run(shlex.split(line))
            os._exit(0)
        status = os.waitpid(child, 0)[1]
        print("gone", os.waitstatus_to_exitcode(status), flush=True)


if __name__ == "__main__":
    torch.set_num_threads(1)
    nursery() if sys.argv[1:] == ["--nursery"] else run(sys.argv[1:])
