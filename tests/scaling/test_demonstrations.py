import pytest
import torch

from cookbook.scaling import demonstrations, launching
from cookbook.scaling.world import joined


@pytest.fixture
def rows(tmp_path, programs):
    return str(programs[0]["write_rows"](tmp_path))


def test_alone_nothing_is_cut_and_nothing_drifts(rows):
    found = demonstrations.cut(60, width=32, layers=2)
    assert max(found["tensor_logits"], found["tensor_gradients"]) < 1e-6
    assert found["tensor_share"] == 1 and found["pipeline_gradients"] < 1e-6
    drifted = demonstrations.drift(rows, broken=True, steps=3)
    assert drifted["apart"] == [0.0] * 3 and len(drifted["losses"]) == 3
    assert demonstrations.metrics([True, False, True])["padded"] == pytest.approx(2 / 3)


def test_a_step_is_measured(rows):
    found = demonstrations.measure(rows, steps=2)
    assert found["seconds"] > 0 and found["link"] is None
    assert found["held"] < found["alive"] < found["peak"]


def test_replicas_are_apart_by_the_length_of_their_difference():
    with joined() as world:
        assert demonstrations.apart(world, torch.nn.Linear(3, 3)) == 0.0


ON_TWO = """
from cookbook.scaling import demonstrations as d

def everything(rows):
    found = {f"drift {broken}": d.drift(rows, broken, steps=12, watch="cookbook.doctor:Watch")
             for broken in (True, False)}
    found["metrics"] = d.metrics([True, True, False, True, False])
    found["cut"] = d.cut(60)
    return found | {way: d.measure(rows, strategy=way, steps=2) for way in ("ddp", "fsdp")}
"""


@pytest.mark.ranks
def test_on_two_ranks(rows, tmp_path):
    (tmp_path / "programs.py").write_text(ON_TWO)
    program = f"{tmp_path / 'programs.py'}:everything"
    for rank, found in enumerate(launching.launch(program, {"rows": rows}, ranks=2)):
        broken, mended = found["drift True"], found["drift False"]
        assert broken["apart"][-1] > broken["apart"][0] > 0 == max(mended["apart"])
        assert (broken["faults"], mended["faults"]) == (["X2"], [])
        assert found["metrics"] == {
            "gathered": 0.6, "padded": pytest.approx(4 / 6), "mean of ranks": pytest.approx(2 / 3)
        }  # fmt: skip
        cut = found["cut"]
        differences = [cut[name] for name in cut if name != "tensor_share"]
        assert max(differences) < 1e-5 and cut["tensor_share"] < 0.52
        assert found["ddp"]["held"] < found["ddp"]["alive"] < found["ddp"]["peak"], rank
        # The counts of steps, one number for each weight tensor, are whole on every rank.
        assert found["fsdp"]["held"] == pytest.approx(found["ddp"]["held"] / 2, rel=0.01)
        assert found["ddp"]["link"][1][0] > 0
