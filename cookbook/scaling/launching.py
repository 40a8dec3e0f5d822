"""Starting ranks: from a notebook, or by `torchrun`; the program that runs is the same.

`launch` starts a fresh interpreter, in which the agent of `torchrun` forks the ranks: they need no
second to import torch, and a notebook must not fork itself. `torchrun` builds and runs the command
that one would type. Both pass on what the ranks print, and restart all of them when one has died.
Slurm and Kubernetes scripts lie in `notebooks/launch`. Chapter 11 uses it.
"""

from __future__ import annotations

import importlib
import importlib.util
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from cookbook.scaling.world import RanksError

RESULT = "@result "
# torch loads these when a rank first needs them, a second for each rank: once, before the fork.
WANTED = [
    "torch._dynamo", "torch.distributed.checkpoint.state_dict", "torch.distributed.fsdp",
    "torch.distributed.pipelining", "torch.distributed.tensor.parallel",
]  # fmt: skip


def launch(
    program: str,
    arguments: Mapping[str, Any] | None = None,
    *,
    ranks: int,
    max_restarts: int = 0,
    preload: Sequence[str] = (),
    echo: Callable[[str], object] = print,
) -> list[Any]:
    """Run `program(**arguments)` on each of `ranks` processes; what they return, by rank.

    `program` is "module:function", or "file.py:function"; arguments and results are JSON.
    `preload` names modules that all ranks will need: imported once, before they are forked. Raises
    RanksError with the reason if a rank failed more often than `max_restarts`.
    """
    command = [sys.executable, "-m", __name__, program, json.dumps(dict(arguments or {}))]
    command += [str(ranks), str(max_restarts), *preload]
    found = run(command, echo)
    if found is None:
        raise RanksError(f"{program} on {ranks} ranks came back without a result")
    return [found[str(rank)] for rank in range(ranks)]


def several(programs: Mapping[str, tuple[str, Mapping[str, Any]]]) -> dict[str, Any]:
    """A program that runs others, `{name: (program, arguments)}`, in one start of the ranks.

    >>> several({"sorted": ("json:dumps", {"obj": [1]})})
    {'sorted': '[1]'}
    """
    return {name: resolve(program)(**given) for name, (program, given) in programs.items()}


def torchrun(
    arguments: Sequence[str],
    *,
    ranks: int,
    max_restarts: int = 0,
    module: str = "cookbook.scaling.job",
) -> list[str]:
    """The command that starts the job on this machine; `run` runs it.

    >>> torchrun(["--steps", "9"], ranks=2)[1:]  # doctest: +NORMALIZE_WHITESPACE
    ['-m', 'torch.distributed.run', '--standalone', '--nproc-per-node', '2', '--max-restarts', '0',
     '-m', 'cookbook.scaling.job', '--steps', '9']
    """
    options = ["--standalone", "--nproc-per-node", str(ranks), "--max-restarts", str(max_restarts)]
    return [
        sys.executable, "-m", "torch.distributed.run", *options, "-m", module, *map(str, arguments)
    ]  # fmt: skip


def run(command: Sequence[str], echo: Callable[[str], object] = print) -> Any:
    """Run a command, pass its lines on as they come; the result that it printed, if any.

    Its standard error is kept, and read only when it fails: the launchers log there what they do.
    """
    environment = {"OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1", **os.environ}
    # Ranks are threads' peers here: one each, or they fight over the cores. A GPU's rank may have
    # more: set OMP_NUM_THREADS.
    found = None
    with tempfile.TemporaryFile("w+") as log:
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=log, text=True, env=environment
        )
        try:
            for line in process.stdout or ():
                if line.startswith(RESULT):
                    found = json.loads(line.removeprefix(RESULT))
                else:
                    echo(line.rstrip("\n"))
        finally:
            if process.poll() is None and sys.exc_info()[0]:
                process.terminate()  # an interrupt in the notebook ends the ranks too
            code = process.wait()
        if code:
            log.seek(0)
            raise RanksError(_reason(log.read(), code))
    return found


def _reason(log: str, code: int) -> str:
    """The exception that ended it, out of pages of traces: the first of the last attempt."""
    lines = [line.split("]", 1)[-1].strip() if line[:1] in "EW[" else line.strip()
             for line in log.splitlines()]  # fmt: skip
    errors = [line for line in lines if line.partition(":")[0].endswith(("Error", "Exception"))]
    ours = [line for line in errors if "RanksError" in line or "CheckpointError" in line]
    return (ours or errors or [f"the ranks ended with code {code}"])[-1]


def resolve(program: str) -> Callable:
    """ "module:function" or "file.py:function" as the function.

    >>> resolve("json:dumps")([1])
    '[1]'
    """
    place, _, name = program.rpartition(":")
    if not place.endswith(".py"):
        return getattr(importlib.import_module(place), name)
    spec = importlib.util.spec_from_file_location(Path(place).stem, place)
    if spec is None or spec.loader is None:
        raise ValueError(f"{place} is no Python file")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return getattr(module, name)


def _rank(program: Callable, arguments: dict) -> Any:
    """What a forked rank runs."""
    # Inherited from the agent, whose handler would wait for Python while gloo waits in C++.
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    return program(**arguments)


def elastic(
    program: Callable, arguments: Mapping[str, Any], *, ranks: int, max_restarts: int = 0
) -> dict[int, Any]:
    """Fork `ranks` processes from this one under the agent of `torchrun`; results by rank.

    For interpreters that were started for it: what has used threads or a GPU must not fork. Raises
    torch's ChildFailedError when a rank failed more often than `max_restarts`.
    """
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    for name in WANTED:
        importlib.import_module(name)
    config = LaunchConfig(
        min_nodes=1, max_nodes=1, nproc_per_node=ranks, max_restarts=max_restarts,
        run_id=f"launch-{os.getpid()}", rdzv_backend="c10d", rdzv_endpoint="localhost:0",
        start_method="fork", monitor_interval=0.05,
    )  # fmt: skip
    return elastic_launch(config, _rank)(program, dict(arguments))


def main(arguments: Sequence[str]) -> None:
    """In the fresh interpreter of `launch`."""
    import torch

    program, given, ranks, max_restarts, *preload = arguments
    for name in preload:
        importlib.import_module(name)
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", 1)))
    found = elastic(
        resolve(program), json.loads(given), ranks=int(ranks), max_restarts=int(max_restarts)
    )
    print(RESULT + json.dumps(found), flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
