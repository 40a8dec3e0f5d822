import subprocess
import sys

import pytest
import torch
from torch import nn

from cookbook.doctor.ranks import Ranks

PROGRAM = """
import os, sys, torch
from torch import nn, distributed
from torch.nn.parallel import DistributedDataParallel
from cookbook.doctor import Watch

rank, way = int(sys.argv[1]), sys.argv[2]
distributed.init_process_group("gloo", init_method=f"file://{sys.argv[3]}", rank=rank, world_size=2)
torch.manual_seed(0)
inner = nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, 3))
model = DistributedDataParallel(inner)
called = inner if way == "X2" else model
optimizer = torch.optim.SGD(model.parameters(), 0.1)
torch.manual_seed(0 if way == "X1" else rank)
with Watch(called, optimizer) as watch:
    for _ in range(12):
        x, y = torch.randn(8, 6), torch.randint(0, 3, (8,))
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(called(x), y)
        loss.backward(), optimizer.step()
        watch.step(loss, batch=(x, y))
assert watch.monitor.cost.failure == "", watch.monitor.cost.failure
print("FAULTS", *watch.report.faults())
distributed.destroy_process_group()
"""


@pytest.mark.ranks
@pytest.mark.parametrize("way, faults", [("none", []), ("X1", ["X1"]), ("X2", ["X2"])])
def test_two_processes(way, faults, tmp_path):
    started = [
        subprocess.Popen([sys.executable, "-c", PROGRAM, str(rank), way, str(tmp_path / "meet")],
                         stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for rank in range(2)
    ]  # fmt: skip
    for process in started:
        out, problem = process.communicate(timeout=120)
        assert f"FAULTS {' '.join(faults)}".strip() in out, problem[-800:]


def test_one_process_is_not_looked_at():
    ranks, run = Ranks(nn.Linear(2, 2)), None
    ranks.look(4, run, torch.ones(2))
    assert not ranks.active
