"""Ranks that are killed, by the code that makes the table of chapter 11, and more often."""

import os
import random
import sys

import pytest

from cookbook.scaling import crashes, job, launching
from cookbook.scaling.crashes import FAULTS, Strike

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork and SIGKILL")


@pytest.fixture
def rows(tmp_path, programs):
    return programs[0]["write_rows"](tmp_path)


def kill_again_and_again(rows, folder, kills, seed):
    """A run of two ranks that dies `kills` times under the agent, each time in another place."""
    dice, strikes = random.Random(seed), []
    for attempt in range(kills):
        fault = dice.choice(["a rank killed", "all ranks killed", "killed while it saves"])
        step = 4 * dice.randint(1, 2) if "saves" in fault else dice.randint(1, 7)
        rank = -1 if fault.startswith("all") else dice.randint(0, 1)
        strikes.append(vars(Strike(fault, step, rank, attempt, tensor=dice.randint(0, 30))))
    given = {"rows": str(rows), "folder": str(folder), "strikes": strikes, "steps": 4 * kills + 8}
    command = [sys.executable, "-c", AGENT, launching.json.dumps(given)]
    return launching.run(command, lambda line: None)


AGENT = """
import json, sys, torch
from cookbook.scaling import crashes, launching

torch.set_num_threads(1)
given = json.loads(sys.argv[1])
strikes, folder = [crashes.Strike(**s) for s in given["strikes"]], given["folder"]
options = {"rows": given["rows"], "steps": given["steps"], "save_every": 4}
_, reference = crashes.rehearse([], output=f"{folder}/undisturbed", **options)
outcome, mark = crashes.rehearse(
    strikes, reference, max_restarts=len(strikes), output=f"{folder}/killed", **options
)
print(launching.RESULT + json.dumps(vars(outcome) | {"mark": mark}), flush=True)
"""


@pytest.mark.kills
def test_ranks_killed_ten_times_end_with_the_weights_of_an_undisturbed_run(rows, tmp_path):
    found = kill_again_and_again(rows, tmp_path, kills=10, seed=1)
    assert found["restarts"] == 10
    assert found["same_weights"] and len(found["mark"]) == 64
    assert 0 < found["again"] <= 10 * 7
    assert not list((tmp_path / "killed").glob(".scratch-*"))


@pytest.mark.soak
def test_ranks_killed_a_hundred_times(rows, tmp_path):
    found = kill_again_and_again(rows, tmp_path, kills=100, seed=2)
    assert found["restarts"] == 100 and found["same_weights"]


@pytest.mark.kills
def test_every_fault_of_the_table(rows, tmp_path):
    lines = []
    found = {r["fault"]: r for r in crashes.table(rows, tmp_path / "runs", echo=lines.append)}
    assert found.keys() == FAULTS.keys()
    skipped = found.pop("NaN in a batch, skip")
    assert (skipped["skipped"], skipped["again"], skipped["restarts"]) == ([7], 0, 0)
    stopped = found["NaN in a batch, stop"]
    assert stopped["error"].endswith("step 7: the gradient is nan; weights are those before it")
    assert "cannot write checkpoint-8" in found["disk full"]["error"]
    assert [fault for fault, r in found.items() if not r["same_weights"]] == []
    assert {fault: r["again"] for fault, r in found.items()} == {
        "a rank killed": 2,  # steps 5 and 6, the seventh was not finished
        "all ranks killed": 2,
        "killed while it saves": 4,
        "newest checkpoint truncated": 6,  # back to step 4
        "newest checkpoint, a bit flipped": 6,
        "disk full": 4,
        "loader process killed": 1,
        "NaN in a batch, stop": 2,
    }
    assert len([line for line in lines if line.startswith("passed over: checkpoint-8")]) == 2


@pytest.mark.kills
def test_under_the_command_torchrun_too(rows, tmp_path):
    """SIGKILL to a rank of a real `torchrun --max-restarts`, in its fifth step."""
    options = {"rows": rows, "steps": 8, "save_every": 2, "ranks": 2}
    lines = []
    for name, killed in (("undisturbed", "-1"), ("killed", "0")):
        (tmp_path / name).mkdir()
        command = launching.torchrun(
            [killed, *job.options({**options, "output": tmp_path / name})], ranks=2,
            max_restarts=1, module="MODULE",
        )  # fmt: skip
        where = command.index("MODULE") - 1
        command[where : where + 2] = [str(worker(tmp_path))]
        launching.run(command, lines.append)
    undisturbed, killed = lines
    assert undisturbed.startswith("2 ranks, attempt 0, 8 steps")
    assert killed == undisturbed.replace("attempt 0", "attempt 1")


def worker(folder):
    path = folder / "worker.py"
    path.write_text(WORKER)
    return path


WORKER = """
import sys
from functools import partial
from pathlib import Path
from cookbook.scaling import crashes, job

attempt, *words = sys.argv[1:]
options = job.parse(words)
strikes = [crashes.Strike("a rank killed", 5, 1, int(attempt))]
found = job.pretrain(partial(crashes._prepare, strikes, Path(options["output"])), **options)
if found["rank"] == 0:
    print(f"{found['ranks']} ranks, attempt {found['attempt']}, {len(found['losses'])} steps,",
          found["fingerprint"])
"""
