"""Runs that are killed with SIGKILL, at any instant, and end with the weights of one that was not.

Minutes on a busy machine: marked `kills` (part of `make test`) and `soak` (a hundred kills).
"""

import os
import random
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from cookbook.training import checkpoints

HERE = Path(__file__).parent
ENVIRONMENT = {
    **os.environ,
    "OMP_NUM_THREADS": "1",
    "PYTHONPATH": str(HERE.parents[1]),
    "PYTHONUNBUFFERED": "1",
    "TRANSFORMERS_VERBOSITY": "error",
}

needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork and SIGKILL")


def start(script, *arguments):
    command = [sys.executable, str(HERE / script), *map(str, arguments)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    return subprocess.Popen(command, env=ENVIRONMENT, **pipes)


def finish(script, *arguments):
    """The last line of a worker that nobody kills."""
    out, _ = start(script, *arguments).communicate(timeout=300)
    return out.splitlines()[-1]


class Nursery:
    """`worker.py --nursery`: runs without the seconds that it takes to import torch."""

    def __enter__(self):
        self.process = start("worker.py", "--nursery")
        return self

    def __exit__(self, *_):
        self.process.stdin.close()
        self.process.wait(60)

    def run(self, *arguments, kill_at="", times=1, delay=0.0):
        """Lines of a run; it is killed `delay` s after the line `kill_at` came for the nth time.

        The caller makes it pause there or later, so that it cannot end before it is killed.
        """
        print(shlex.join(map(str, arguments)), file=self.process.stdin, flush=True)
        lines, pid = [], int(self.process.stdout.readline().split()[1])
        for line in map(str.strip, self.process.stdout):
            lines.append(line)
            if line.startswith("gone"):
                return lines
            if kill_at and lines.count(kill_at) == times and line == kill_at:
                time.sleep(delay)
                os.kill(pid, signal.SIGKILL)
        raise AssertionError(f"the nursery ended: {lines}")


def newest(folder):
    """The step to go on from; asserts that nothing half-written has the name of a checkpoint."""
    found = checkpoints.candidates(folder)
    assert [checkpoints.verify(path) for path in found] == [None] * len(found)
    return int(found[0].name.split("-")[1]) if found else 0


def kill_once(nursery, folder, steps, dice):
    """Half of the time while a file is half written, else at any instant of a step."""
    at, every, delay = newest(folder), 4, dice.random() * 0.01
    if dice.random() < 0.5:
        file = dice.choice(["model.safetensors", "optimizer.pt", "random.pt", "manifest.json"])
        times = dice.randint(1, 2) if at + 2 * every <= steps else 1
        event = pause = f"half {file}"
        expected = {at + (times - 1) * every}
    else:
        step, times = dice.randint(at + 1, min(at + 7, steps - 1)), 1
        # It goes on while the kill is on its way, but no further than through the next step.
        event, pause = f"step {step}", f"step {step + 1}"
        expected = {(step - 1) // every * every, step // every * every}
    lines = nursery.run(folder, "--steps", steps, "--pause", pause, "--times", times,
                        kill_at=event, times=times, delay=delay)  # fmt: skip
    assert lines[-1] == "gone -9", lines[-3:]
    assert newest(folder) in expected


def kill_again_and_again(folder, kills, steps, seed):
    reference = finish("worker.py", folder / "reference", "--steps", steps)
    dice = random.Random(seed)
    with Nursery() as nursery:
        for _ in range(kills):
            kill_once(nursery, folder / "killed", steps, dice)
        lines = nursery.run(folder / "killed", "--steps", steps)
    assert reference.startswith("end ")
    assert lines[-2:] == [reference, "gone 0"]
    assert not list((folder / "killed").glob(".scratch-*"))


@needs_fork
@pytest.mark.kills
def test_a_run_killed_twelve_times_ends_with_the_same_weights(tmp_path):
    kill_again_and_again(tmp_path, kills=12, steps=60, seed=1)


@needs_fork
@pytest.mark.soak
def test_a_run_killed_a_hundred_times_ends_with_the_same_weights(tmp_path):
    kill_again_and_again(tmp_path, kills=100, steps=300, seed=2)


@pytest.mark.kills
def test_a_trainer_run_killed_while_it_saves_ends_with_the_same_weights(tmp_path):
    reference, killed = tmp_path / "reference", tmp_path / "killed"
    worker = start("trainer_worker.py", reference, killed, "--pause", 8)
    lines = []
    for line in map(str.strip, worker.stdout):
        lines.append(line)
        if line == "half 8":
            worker.kill()
    assert worker.wait(60) == -signal.SIGKILL
    torn = killed / "checkpoint-8"
    assert (torn / "model.safetensors").exists()
    assert checkpoints.verify(torn) == "has no manifest.json: it was never finished"
    expected = next(line for line in lines if line.startswith("end "))

    lines = start("trainer_worker.py", killed).communicate(timeout=300)[0].splitlines()
    assert lines[0] == (
        "passed over: checkpoint-8 has no manifest.json: it was never finished. "
        f"In {killed} using checkpoint-6."
    )
    assert [line for line in lines if line.startswith("step")][0] == "step 7"
    assert lines[-1] == expected
    assert (killed / "set-aside-checkpoint-8").exists()
    assert checkpoints.latest(killed).name == "checkpoint-14"
