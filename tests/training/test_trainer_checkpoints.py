from types import SimpleNamespace

import pytest
import torch

from cookbook.training import checkpoints
from cookbook.training.checkpoints import CheckpointError, seal, verify
from cookbook.training.trainer_checkpoints import VerifiedCheckpoints, clean_failure, resume_point


def written(folder, step, sealed=True):
    """What the Trainer leaves behind, in small."""
    path = folder / f"checkpoint-{step}"
    path.mkdir(parents=True)
    (path / "model.safetensors").write_bytes(b"weights")
    (path / "trainer_state.json").write_text("{}")
    if sealed:
        seal(path)
    return path


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_an_empty_folder_starts_from_the_beginning(tmp_path):
    assert resume_point(tmp_path) is None
    assert resume_point(tmp_path / "not there") is None


def test_the_newest_whole_one_is_taken_and_newer_ones_are_set_aside(tmp_path, capsys):
    for step in (2, 4, 6):
        written(tmp_path, step)
    (tmp_path / "checkpoint-6" / "model.safetensors").write_bytes(b"WEIGHTS")
    written(tmp_path, 8, sealed=False)
    assert resume_point(tmp_path) == str(tmp_path / "checkpoint-4")
    assert capsys.readouterr().out == (
        "passed over: checkpoint-8 has no manifest.json: it was never finished; checkpoint-6 has "
        "other contents than its manifest says in model.safetensors. "
        f"In {tmp_path} using checkpoint-4.\n"
    )
    assert names(tmp_path) == [
        "checkpoint-2", "checkpoint-4", "set-aside-checkpoint-6", "set-aside-checkpoint-8",
    ]  # fmt: skip
    written(tmp_path, 8, sealed=False)  # and killed there again
    assert resume_point(tmp_path) == str(tmp_path / "checkpoint-4")
    assert "set-aside-checkpoint-8-2" in names(tmp_path)


def test_one_rank_renames_and_the_others_only_look(tmp_path, monkeypatch):
    written(tmp_path, 2), written(tmp_path, 4, sealed=False)
    monkeypatch.setenv("RANK", "1")
    assert resume_point(tmp_path) == str(tmp_path / "checkpoint-2")
    assert names(tmp_path) == ["checkpoint-2", "checkpoint-4"]


@pytest.fixture(scope="module")
def parts():
    """The smallest Trainer that saves: its data set, arguments and model."""
    import transformers

    class Model(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.linear = torch.nn.Linear(2, 2)

        def forward(self, x, labels):
            return {"loss": torch.nn.functional.cross_entropy(self.linear(x), labels)}

    def trainer(folder, base=transformers.Trainer, **options):
        options = {"max_steps": 4, "save_steps": 2, "save_strategy": "steps", **options}
        args = transformers.TrainingArguments(
            str(folder), per_device_train_batch_size=2, report_to=[], disable_tqdm=True,
            use_cpu=True, logging_strategy="no", **options,
        )  # fmt: skip
        rows = [{"x": torch.ones(2), "labels": 1}] * 8
        return base(Model(), args, train_dataset=rows, callbacks=[VerifiedCheckpoints()])

    return trainer


def test_what_the_trainer_saves_is_whole_and_is_taken_up_again(tmp_path, parts):
    parts(tmp_path).train()
    assert names(tmp_path) == ["checkpoint-2", "checkpoint-4"]
    for path in tmp_path.iterdir():
        assert verify(path) is None
    again = parts(tmp_path, max_steps=6)
    again.train(resume_from_checkpoint=resume_point(tmp_path))
    assert again.state.global_step == 6
    assert resume_point(tmp_path) == str(tmp_path / "checkpoint-6")


def test_a_limit_of_one_is_refused(tmp_path, parts):
    with pytest.raises(CheckpointError, match="save_total_limit=1 leaves no whole checkpoint"):
        parts(tmp_path, save_total_limit=1).train()
    parts(tmp_path, save_total_limit=2).train()


def test_the_manifest_comes_last(tmp_path, parts):
    import transformers

    class Dies(transformers.Trainer):
        def _save_rng_state(self, output_dir):
            if self.state.global_step == 4:
                raise KeyboardInterrupt
            super()._save_rng_state(output_dir)

    with pytest.raises(KeyboardInterrupt):
        parts(tmp_path, Dies).train()
    assert "manifest.json" not in names(tmp_path / "checkpoint-4")
    assert resume_point(tmp_path) == str(tmp_path / "checkpoint-2")


def test_a_full_disk_under_the_trainer(tmp_path, parts):
    """Simulated; `test_checkpoints` has torch and safetensors on a disk that is really full."""
    import errno

    import transformers

    class Full(transformers.Trainer):
        def _save_checkpoint(self, model, trial):
            with clean_failure(self.args.output_dir, self.state.global_step):
                super()._save_checkpoint(model, trial)

        def _save_rng_state(self, output_dir):
            if self.state.global_step == 4:
                raise OSError(errno.ENOSPC, "No space left on device")
            super()._save_rng_state(output_dir)

    with pytest.raises(CheckpointError, match=r"the disk is full: checkpoint-4: \d+"):
        parts(tmp_path, Full).train()
    assert names(tmp_path) == ["checkpoint-2"]
    assert resume_point(tmp_path) == str(tmp_path / "checkpoint-2")


def test_only_the_first_process_seals(tmp_path):
    path = written(tmp_path, 3, sealed=False)
    args, callback = SimpleNamespace(output_dir=str(tmp_path)), VerifiedCheckpoints()
    callback.on_save(args, SimpleNamespace(global_step=3, is_world_process_zero=False), None)
    assert verify(path) is not None
    callback.on_save(args, SimpleNamespace(global_step=3, is_world_process_zero=True), None)
    assert verify(path) is None
    assert checkpoints.latest(tmp_path) == path
