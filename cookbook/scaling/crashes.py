"""What a run survives, by doing it: ranks killed, checkpoints damaged, a disk that takes no more.

Each fault in FAULTS is really caused, inside a run of two ranks under the agent of `torchrun`, and
the run's final weights are compared, bit by bit, with those of an undisturbed one. `table` does it
for all and says what was lost. The tests kill with the same code, many more times. POSIX only.
Chapter 11 prints the table.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch

from cookbook.scaling import job, launching
from cookbook.scaling.world import World
from cookbook.training import checkpoints


@dataclass(frozen=True)
class Strike:
    """What is done to a rank, at the `step`-th step after a start; once, in attempt `attempt`.

    `rank` -1 strikes all. `tensor` chooses the weight whose gradient is just being computed.
    """

    fault: str
    step: int
    rank: int = 1
    attempt: int = 0
    tensor: int = 2


@dataclass
class Outcome:
    """What became of a run: how often it was restarted, and how many steps were done again."""

    fault: str
    restarts: int = 0
    again: int = 0
    skipped: list[int] = field(default_factory=list)
    same_weights: bool = False
    error: str = ""


def die(*_: Any) -> None:
    """SIGKILL to oneself: nothing is cleaned up, nothing is flushed."""
    os.kill(os.getpid(), signal.SIGKILL)


def kill_rank(folder: Path) -> None:
    """Nothing else happens."""
    die()


def truncate_newest(folder: Path) -> None:
    """The largest file of the newest checkpoint loses its second half; then die."""
    file = _largest(folder)
    os.truncate(file, file.stat().st_size // 2)
    die()


def flip_a_bit(folder: Path) -> None:
    """One bit in the middle of the newest checkpoint's largest file is turned; then die."""
    file = _largest(folder)
    with open(file, "r+b") as handle:
        handle.seek(file.stat().st_size // 2)
        byte = handle.read(1)[0]
        handle.seek(-1, os.SEEK_CUR)
        handle.write(bytes([byte ^ 1]))
    die()


def _largest(folder: Path) -> Path:
    newest = checkpoints.candidates(folder)[0]
    return max(newest.glob("*.distcp"), key=lambda file: file.stat().st_size)


def kill_while_saving(folder: Path) -> None:
    """The next file that is to reach the disk does not."""
    os.fsync = die


def refuse_to_write(folder: Path) -> None:
    """No file may grow beyond 64 KB: the system refuses to write more, as a full disk does."""
    import resource

    resource.setrlimit(resource.RLIMIT_FSIZE, (2**16, resource.RLIM_INFINITY))


def kill_loader(folder: Path) -> None:
    """The process that loads this rank's data."""
    for child in multiprocessing.active_children():
        os.kill(child.pid or 0, signal.SIGKILL)


# In the middle of a step's backward pass, or just after the step, before its checkpoint.
WITHIN: dict[str, Callable[[Path], None]] = {
    "a rank killed": kill_rank,
    "all ranks killed": kill_rank,
    "newest checkpoint truncated": truncate_newest,
    "newest checkpoint, a bit flipped": flip_a_bit,
}
AFTER: dict[str, Callable[[Path], None]] = {
    "killed while it saves": kill_while_saving,
    "disk full": refuse_to_write,
    "loader process killed": kill_loader,
}
# With checkpoints every four steps: at which step after the start, on which rank, which options.
FAULTS: dict[str, tuple[int, int, dict[str, Any]]] = {
    "a rank killed": (7, 1, {}),
    "all ranks killed": (7, -1, {}),
    "killed while it saves": (8, 1, {}),
    "newest checkpoint truncated": (11, 0, {}),
    "newest checkpoint, a bit flipped": (11, 0, {}),
    "disk full": (8, -1, {}),
    "loader process killed": (5, 1, {"workers": 1}),
    "NaN in a batch, skip": (7, 1, {"not_finite": "skip"}),
    "NaN in a batch, stop": (7, 1, {"not_finite": "stop"}),
}

STOPS = ("disk full", "NaN in a batch, stop")  # a restart would meet them again


def suffer(strikes: Sequence[Mapping[str, Any]], **options: Any) -> dict[str, Any]:
    """`job.pretrain` on a rank that is to be struck; steps done are noted in `steps.log`."""
    return job.pretrain(
        prepare=partial(_prepare, [Strike(**s) for s in strikes], Path(options["output"])),
        **options,
    )


def _prepare(
    strikes: Sequence[Strike], folder: Path, model: torch.nn.Module, world: World
) -> Callable[[int, float], None]:
    mine = [s for s in strikes if s.attempt == world.attempt and s.rank in (-1, world.rank)]
    done = 0
    if mine and mine[0].fault in WITHIN:
        parameters = list(model.parameters())
        victim = parameters[mine[0].tensor % len(parameters)]
        victim.register_hook(
            lambda _: WITHIN[mine[0].fault](folder) if done == mine[0].step - 1 else None
        )
    elif mine and mine[0].fault.startswith("NaN"):
        model.register_forward_hook(
            lambda module, given, out: out * torch.nan if done == mine[0].step - 1 else None
        )

    def on_step(step: int, loss: float) -> None:
        nonlocal done
        done += 1
        if world.rank == 0:
            with open(folder / "steps.log", "a") as log:
                log.write(f"{world.attempt} {step}\n")
        if mine and mine[0].fault in AFTER and done == mine[0].step:
            AFTER[mine[0].fault](folder)

    return on_step


def rehearse(
    strikes: Sequence[Strike],
    reference: str = "",
    *,
    ranks: int = 2,
    max_restarts: int = 1,
    **options: Any,
) -> tuple[Outcome, str]:
    """A run with strikes, under the agent of `torchrun`; its outcome and its weights' fingerprint.

    For a fresh interpreter (see `launching.elastic`). `reference` is the fingerprint to compare
    with, `options` those of the job.
    """
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError

    folder = Path(options["output"])
    folder.mkdir(parents=True, exist_ok=True)
    outcome = Outcome(strikes[0].fault if strikes else "none")
    given = {"strikes": [asdict(s) for s in strikes], "ranks": ranks, **options}
    try:
        found = launching.elastic(suffer, given, ranks=ranks, max_restarts=max_restarts)[0]
    except ChildFailedError as error:
        outcome.error = _said(error.get_first_failure()[1].message)
        found = {"attempt": max_restarts, "skipped": [], "fingerprint": ""}
    steps = [line.split() for line in (folder / "steps.log").read_text().splitlines()]
    outcome.restarts, outcome.skipped = found["attempt"], found["skipped"]
    outcome.again = len(steps) - len({step for _, step in steps})
    outcome.same_weights = found["fingerprint"] == reference
    return outcome, found["fingerprint"]


def _said(message: Any) -> str:
    """The last words of a rank: a killed one has a line, one with an exception a dict."""
    text = message["message"] if isinstance(message, dict) else str(message)
    return text.strip().splitlines()[-1]


def table(
    rows: str | Path,
    folder: str | Path,
    faults: Sequence[str] = tuple(FAULTS),
    *,
    steps: int = 16,
    echo: Callable[[str], object] = print,
) -> list[dict[str, Any]]:
    """An undisturbed run, then one for each of `faults`; two ranks, checkpoints every four steps.

    Returns the fields of `Outcome` for each. `rows` is a file of `job.write_rows`; runs are kept in
    `folder`. Raises `world.RanksError` if the rehearsal itself fails.
    """
    given = {"rows": str(rows), "folder": str(folder), "faults": list(faults), "steps": steps}
    return launching.run([sys.executable, "-m", __name__, json.dumps(given)], echo)


def main(arguments: Mapping[str, Any]) -> None:
    """In the fresh interpreter of `table`."""
    torch.set_num_threads(1)
    folder = Path(arguments["folder"])
    options = {"rows": arguments["rows"], "steps": arguments["steps"], "save_every": 4}
    _, reference = rehearse([], output=str(folder / "undisturbed"), **options)
    outcomes = []
    for number, fault in enumerate(arguments["faults"]):
        step, rank, more = FAULTS[fault]
        given = options | more | {"output": str(folder / f"fault-{number}")}
        stops = fault in STOPS
        outcome, _ = rehearse(
            [Strike(fault, step, rank)], reference, max_restarts=0 if stops else 1, **given
        )
        if stops and outcome.error:  # somebody has made room, or has looked at the batch
            said = outcome.error
            outcome, _ = rehearse([], reference, **given)
            outcome.fault, outcome.error = fault, said
        print(f"{fault}: done", flush=True)
        outcomes.append(asdict(outcome))
    print(launching.RESULT + json.dumps(outcomes), flush=True)


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
