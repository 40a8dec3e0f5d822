import json
import math

import pytest

from cookbook.doctor import logs
from cookbook.doctor.logs import LogError, RunLog

HISTORY = [
    {"loss": 2.0, "grad_norm": 1.5, "learning_rate": 1e-3, "epoch": 0.5, "step": 5},
    {"eval_loss": 1.9, "eval_accuracy": 0.5, "eval_runtime": 1.0, "epoch": 0.5, "step": 5},
    {"loss": math.nan, "grad_norm": math.nan, "learning_rate": 0.0, "epoch": 1.0, "step": 10},
    {"train_runtime": 3.0, "train_loss": 1.7, "epoch": 1.0, "step": 10},
]  # fmt: skip


def state(folder, step=10, **more):
    folder.mkdir(parents=True, exist_ok=True)
    content = {"global_step": step, "max_steps": 20, "log_history": HISTORY, **more}
    (folder / "trainer_state.json").write_text(json.dumps(content))


def test_the_state_of_the_trainer(tmp_path):
    state(tmp_path, best_model_checkpoint="/somewhere/checkpoint-5")
    log = logs.read(tmp_path)
    assert log.planned == 20 and log.best == "checkpoint-5"
    assert log.line("learning_rate") == [(5, 1e-3), (10, 0.0)]
    assert math.isnan(log.line("loss")[1][1])
    assert log.line("eval_loss") == [(5, 1.9)] and log.metrics() == ["eval_accuracy"]


def test_the_newest_checkpoint_counts(tmp_path):
    state(tmp_path / "checkpoint-9", step=9, max_steps=1)
    state(tmp_path / "checkpoint-10", step=10, max_steps=2)
    assert logs.read(tmp_path).planned == 2


@pytest.mark.parametrize(
    ("header", "names"),
    [
        ("step,loss,lr,val_loss,val_acc", {"loss", "learning_rate", "eval_loss", "eval_acc"}),
        ("Iteration,train/loss,train/learning_rate,Eval/Loss,test/F1",
         {"loss", "learning_rate", "eval_loss", "eval_f1"}),
    ],
)  # fmt: skip
def test_a_table_by_whatever_names(tmp_path, header, names):
    path = tmp_path / "log.csv"
    path.write_text(f"{header}\n1,2.0,0.1,2.1,0.4\n2,1.5,,nan,\n")
    log = logs.read(path)
    assert {name for entry in log.entries for name in entry} - {"step"} == names
    assert log.line("loss") == [(1, 2.0), (2, 1.5)] and log.line("learning_rate") == [(1, 0.1)]


def test_a_table_without_steps_is_counted_by_epoch_or_line(tmp_path):
    path = tmp_path / "log.csv"
    path.write_text("loss\n2\n1\n")
    assert logs.read(path).line("loss") == [(0, 2.0), (1, 1.0)]
    path.write_text("epoch,loss\n3,2\n4,1\n")
    assert logs.read(path).line("loss") == [(3, 2.0), (4, 1.0)]


def test_event_files_of_tensorboard(tmp_path):
    from torch.utils.tensorboard import SummaryWriter

    with SummaryWriter(tmp_path / "runs") as writer:
        for step in range(3):
            writer.add_scalar("train/loss", 2.0 - step, step)
        writer.add_scalar("eval/loss", 0.5, 2)
    log = logs.read(tmp_path)
    assert log.line("loss") == [(0, 2.0), (1, 1.0), (2, 0.0)] and log.line("eval_loss") == [
        (2, 0.5)
    ]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("trainer_state.json", '{"log_history": [', "is not what the Trainer writes"),
        ("trainer_state.json", '{"log_history": []}', "holds no step"),
        ("log.csv", "a,b\n1,2\n", "has no column for a loss: found a, b"),
        ("log.csv", "", "no rows"),
        ("notes.txt", "hello", "is no log"),
    ],
)
def test_one_line_for_what_cannot_be_read(tmp_path, name, content, message):
    (tmp_path / name).write_text(content)
    with pytest.raises(LogError, match=message) as caught:
        logs.read(tmp_path / name)
    assert "\n" not in str(caught.value)


def test_an_empty_and_a_missing_folder(tmp_path):
    with pytest.raises(LogError, match="is empty: name a run"):
        logs.read(tmp_path)
    with pytest.raises(LogError, match="there is no file or folder"):
        logs.read(tmp_path / "gone")
    for name in ("a.csv", "b.csv"):
        (tmp_path / name).write_text("loss\n1\n")
    with pytest.raises(LogError, match=r"not one .csv but a.csv, b.csv"):
        logs.read(tmp_path)


def test_lines_of_what_was_not_logged_are_empty():
    assert RunLog("x", [{"step": 1.0}]).line("loss") == []
