import torch

from cookbook.doctor import records
from cookbook.doctor.records import Record, Run


def test_a_long_run_keeps_its_shape_and_its_end(monkeypatch):
    monkeypatch.setattr(records, "LONGEST", 40)
    monkeypatch.setattr(records, "RECENT", 10)
    run = Run()
    for step in range(1, 1001):
        run.add(Record(step, loss=float(step)))
    steps = [r.step for r in run.records]
    assert len(steps) <= 40 and steps[0] == 1 and steps == sorted(steps)
    assert steps[-10:] == list(range(991, 1001))


def test_settle_reads_tensors_once_and_leaves_the_open_record():
    run = Run(records=[Record(1, loss=torch.tensor(2.0)), Record(2, loss=3.0), Record(3)])
    run.settle()
    assert run.records[0].loss == 2.0 and run.settled == 1
    run.records[2].loss = torch.tensor(4.0)
    run.settle()
    assert run.records[2].loss == 4.0


def test_a_line_leaves_out_what_is_missing_or_not_finite():
    run = Run(records=[Record(1, loss=1.0), Record(2), Record(3, loss=float("nan")), Record(4, 2)])
    assert run.line("loss") == [(1, 1.0), (4, 2.0)]
    assert run.values("loss", run.records[:1]) == [1.0]
