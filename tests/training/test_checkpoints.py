import copy
import errno
import os
import pickle
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from cookbook.training import checkpoints, manifests
from cookbook.training.checkpoints import CheckpointError, latest, load, prune, save, snapshot


class Tied(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.a = torch.nn.Linear(4, 4)
        self.b = torch.nn.Linear(4, 4)
        self.b.weight = self.a.weight
        self.norm = torch.nn.BatchNorm1d(4)

    def forward(self, x):
        return self.norm(self.b(self.a(x)))


def setup(lr=0.1):
    model = Tied()
    optimizer = torch.optim.AdamW(model.parameters(), lr=lr)
    return model, optimizer, torch.optim.lr_scheduler.StepLR(optimizer, 2)


def step(model, optimizer, scheduler):
    model(torch.randn(5, 4)).pow(2).sum().backward()
    optimizer.step(), scheduler.step(), optimizer.zero_grad()


def save_steps(folder, *steps):
    for number in steps:
        save(folder, number, snapshot(torch.nn.Linear(2, 2)))


def same(a, b):
    if isinstance(a, torch.Tensor):
        return torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(same, a, b))
    return a == b


def test_a_run_goes_on_as_if_it_had_not_stopped(tmp_path):
    run = setup()
    for _ in range(3):
        step(*run)
    path = save(tmp_path, 3, snapshot(run[0], optimizer=run[1], scheduler=run[2]))
    for _ in range(3):
        step(*run)
    expected = [copy.deepcopy(part.state_dict()) for part in run]

    other = setup(lr=7.0)
    assert load(path, *other) == 3
    for _ in range(3):
        step(*other)
    assert same([part.state_dict() for part in other], expected)
    assert other[0].a.weight is other[0].b.weight


def test_weights_alone_can_be_read(tmp_path):
    model, optimizer, scheduler = setup()
    path = save(tmp_path, 1, snapshot(model, optimizer=optimizer, scheduler=scheduler))
    fresh = Tied()
    assert load(path, fresh) == 1
    assert same(fresh.state_dict(), model.state_dict())


# ---- damage: found, and the one before used -------------------------------------------------


@pytest.mark.parametrize("name", ["model.safetensors", "random.pt", "manifest.json"])
@pytest.mark.parametrize("damage", ["truncate", "flip", "remove"])
def test_a_damaged_newest_one_is_passed_over(tmp_path, capsys, name, damage):
    save_steps(tmp_path, 4, 8)
    file = tmp_path / "checkpoint-8" / name
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 4
    {
        "truncate": lambda: file.write_bytes(data[: len(data) // 2]),
        "flip": lambda: file.write_bytes(data),
        "remove": file.unlink,
    }[damage]()
    assert latest(tmp_path) == tmp_path / "checkpoint-4"
    said = capsys.readouterr().out
    assert said.count("\n") == 1
    assert said.startswith("passed over: checkpoint-8 ")
    assert said.endswith(f"In {tmp_path} using checkpoint-4.\n")


def test_what_is_not_whole_is_not_loaded(tmp_path):
    path = save(tmp_path, 4, snapshot(Tied()))
    (path / "extra.bin").write_bytes(b"")
    model = Tied()
    before = copy.deepcopy(model.state_dict())
    with pytest.raises(CheckpointError) as caught:
        load(path, model)
    assert str(caught.value) == (
        f"{path} has extra.bin, which its manifest does not name: use an earlier checkpoint"
    )
    assert same(model.state_dict(), before)


def test_without_a_whole_one_there_is_none(tmp_path, capsys):
    save_steps(tmp_path, 1)
    (tmp_path / "checkpoint-1" / "manifest.json").unlink()
    (tmp_path / "checkpoint-x").mkdir()
    assert latest(tmp_path) is None
    assert capsys.readouterr().out == (
        "passed over: checkpoint-1 has no manifest.json: it was never finished. "
        f"In {tmp_path} there is no whole checkpoint.\n"
    )


def test_the_newest_is_the_highest_step_not_the_latest_written(tmp_path, capsys):
    save_steps(tmp_path, 100, 9, 20)
    assert latest(tmp_path).name == "checkpoint-100"
    assert capsys.readouterr().out == ""


def test_code_is_never_run_even_from_a_folder_with_a_good_manifest(tmp_path):
    class Bomb:
        def __reduce__(self):
            return os.system, (f"touch {tmp_path}/exploded",)

    model, optimizer, _ = setup()
    path = save(tmp_path, 1, snapshot(model, optimizer=optimizer))
    (path / "optimizer.pt").write_bytes(pickle.dumps(Bomb(), protocol=2))
    manifests.seal(path)
    with pytest.raises(CheckpointError, match="would have to run code"):
        load(path, model, optimizer)
    assert not (tmp_path / "exploded").exists()


def test_a_part_that_was_not_saved(tmp_path):
    model, optimizer, _ = setup()
    path = save(tmp_path, 1, snapshot(model))
    with pytest.raises(CheckpointError, match="holds no optimizer: it was saved without one"):
        load(path, model, optimizer)


def test_another_model(tmp_path):
    path = save(tmp_path, 1, snapshot(torch.nn.Linear(2, 2)))
    with pytest.raises(CheckpointError, match="was saved by a different set-up: .*size mis") as e:
        load(path, torch.nn.Linear(2, 3))
    assert "\n" not in str(e.value)


def test_a_folder_of_the_trainer_is_left_to_the_trainer(tmp_path):
    path = tmp_path / "checkpoint-1"
    path.mkdir()
    (path / "model.safetensors").write_bytes(b"")
    manifests.seal(path)
    with pytest.raises(CheckpointError, match="was not written by save"):
        load(path, Tied())


# ---- writing: whole or not at all -----------------------------------------------------------


def test_saving_twice_at_a_step_replaces_it(tmp_path):
    first, second = torch.nn.Linear(2, 2), torch.nn.Linear(2, 2)
    save(tmp_path, 4, snapshot(first))
    path = save(tmp_path, 4, snapshot(second))
    load(path, first)
    assert same(first.state_dict(), second.state_dict())
    assert [p.name for p in tmp_path.iterdir()] == ["checkpoint-4"]


class Killed(BaseException):
    """Stands for SIGKILL: nothing is cleaned up after it, see `no_cleaning`."""


@pytest.fixture
def no_cleaning(monkeypatch):
    monkeypatch.setattr(shutil, "rmtree", lambda *args, **kwargs: None)


def test_a_kill_between_the_two_renames_loses_nothing(tmp_path, monkeypatch):
    save_steps(tmp_path, 4)
    rename, calls = Path.rename, []

    def die_at_the_second(self, target):
        calls.append(self)
        if len(calls) == 2:
            raise Killed
        return rename(self, target)

    with monkeypatch.context() as patched:
        patched.setattr(shutil, "rmtree", lambda *args, **kwargs: None)
        patched.setattr(Path, "rename", die_at_the_second)
        with pytest.raises(Killed):
            save_steps(tmp_path, 4)
    assert latest(tmp_path).name == "checkpoint-4.old"
    model = torch.nn.Linear(2, 2)
    assert load(latest(tmp_path), model) == 4
    save_steps(tmp_path, 4)
    assert [p.name for p in tmp_path.iterdir()] == ["checkpoint-4"]


@pytest.mark.parametrize("file", range(4))
def test_a_kill_at_any_file_leaves_the_earlier_one(tmp_path, monkeypatch, no_cleaning, file):
    save_steps(tmp_path, 4)
    write, names = manifests.write, []

    def die(path, data):
        names.append(path.name)
        if len(names) > file:
            path.write_bytes(data[: len(data) // 2])
            raise Killed
        write(path, data)

    model, optimizer, _ = setup()
    monkeypatch.setattr(manifests, "write", die)
    with pytest.raises(Killed):
        save(tmp_path, 8, snapshot(model, optimizer=optimizer))
    assert names == ["model.safetensors", "optimizer.pt", "random.pt", "manifest.json"][: file + 1]
    assert latest(tmp_path).name == "checkpoint-4"
    assert not (tmp_path / "checkpoint-8").exists()
    assert (tmp_path / ".scratch-8").exists()
    monkeypatch.undo()
    save_steps(tmp_path, 8)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["checkpoint-4", "checkpoint-8"]


def test_files_reach_the_disk_before_the_name_does(tmp_path, monkeypatch):
    events = []
    fsync, rename = os.fsync, Path.rename

    def log_fsync(handle):
        events.append(Path(os.readlink(f"/proc/self/fd/{handle}")).name)
        fsync(handle)

    def log_rename(self, target):
        events.append(f"rename to {target.name}")
        return rename(self, target)

    if not Path("/proc/self/fd").exists():
        pytest.skip("needs /proc to see which file was flushed")
    monkeypatch.setattr(os, "fsync", log_fsync)
    monkeypatch.setattr(Path, "rename", log_rename)
    save_steps(tmp_path, 4)
    assert events == [
        "model.safetensors", "random.pt", "manifest.json", ".scratch-4",
        "rename to checkpoint-4", tmp_path.name,
    ]  # fmt: skip


# ---- disks that refuse ----------------------------------------------------------------------


@pytest.mark.parametrize("file", range(4))
def test_a_full_disk_removes_the_half_and_keeps_the_whole(tmp_path, monkeypatch, file):
    """Simulated: the write fails with ENOSPC half-way through the given file."""
    save_steps(tmp_path, 4)
    write, names = manifests.write, []

    def full(path, data):
        names.append(path.name)
        if len(names) > file:
            path.write_bytes(data[: len(data) // 2])
            raise OSError(errno.ENOSPC, "No space left on device")
        write(path, data)

    monkeypatch.setattr(manifests, "write", full)
    model, optimizer, _ = setup()
    with pytest.raises(CheckpointError) as caught:
        save(tmp_path, 8, snapshot(model, optimizer=optimizer))
    message = str(caught.value)
    assert "\n" not in message
    assert message.startswith("the disk is full: checkpoint-8 needs about 0.0 MB, ")
    assert message.endswith(
        f" MB were free in {tmp_path}; earlier checkpoints are untouched: "
        "make room and run again to go on from there"
    )
    assert [p.name for p in tmp_path.iterdir()] == ["checkpoint-4"]
    assert checkpoints.verify(tmp_path / "checkpoint-4") is None


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 1 MB of our own, where the machine lets us mount one."""
    place = tmp_path / "disk"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(place)]
    if not shutil.which("mount") or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("a small file system cannot be mounted here (needs root on Linux)")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


def test_a_disk_that_is_really_full(small_disk):
    model = torch.nn.Linear(300, 300)  # 0.36 MB: two fit, the third does not
    save(small_disk, 1, snapshot(model))
    save(small_disk, 2, snapshot(model))
    with pytest.raises(CheckpointError, match=r"-3 needs about 0.4 MB, 0.\d MB were free"):
        save(small_disk, 3, snapshot(model))
    assert sorted(p.name for p in small_disk.iterdir()) == ["checkpoint-1", "checkpoint-2"]
    assert latest(small_disk).name == "checkpoint-2"
    prune(small_disk, 1)
    assert save(small_disk, 3, snapshot(model)) == latest(small_disk)


def test_torch_on_a_disk_that_is_really_full(small_disk):
    """torch's own writer names no cause, in any of its errors: the room that is left tells."""
    target = small_disk / "checkpoint-1"
    target.mkdir()
    with pytest.raises(CheckpointError, match="the disk is full: checkpoint-1: 1.0 MB were free"):
        with checkpoints.whole_or_nothing(target, scratch=target):
            torch.save({"w": torch.zeros(10**6)}, target / "optimizer.pt")
    assert not target.exists()


def test_safetensors_on_a_disk_that_is_really_full(small_disk):
    from safetensors.torch import save_file

    target = small_disk / "checkpoint-1"
    target.mkdir()
    with pytest.raises(CheckpointError, match="the disk is full: checkpoint-1: 1.0 MB were free"):
        with checkpoints.whole_or_nothing(target, scratch=target):
            save_file({"w": torch.zeros(10**6)}, target / "model.safetensors")


def test_a_failed_upload_is_not_taken_for_a_full_disk(tmp_path):
    with pytest.raises(OSError, match="no route") as caught:
        with checkpoints.whole_or_nothing(tmp_path / "checkpoint-1", tmp_path / "none"):
            raise OSError("no route to the hub")
    assert not isinstance(caught.value, CheckpointError)


@pytest.mark.parametrize("place", ["out", "out/checkpoint-4"])
def test_a_file_in_its_place(tmp_path, place):
    (tmp_path / place).parent.mkdir(exist_ok=True)
    (tmp_path / place).write_text("mine")
    with pytest.raises(CheckpointError) as caught:
        save_steps(tmp_path / "out", 4)
    assert str(caught.value) == f"{tmp_path / place} is a file, not a folder: move it away"
    assert (tmp_path / place).read_text() == "mine"


def test_a_file_higher_up(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(CheckpointError) as caught:
        save_steps(tmp_path / "file" / "out", 4)
    assert str(caught.value) == (
        f"cannot write checkpoint-4 in {tmp_path / 'file' / 'out'} (Not a directory): "
        "choose an output folder that can be written"
    )


@pytest.mark.skipif(sys.platform != "linux", reason="/proc refuses everybody, root included")
def test_a_folder_that_nobody_may_write():
    with pytest.raises(CheckpointError, match="cannot write checkpoint-4 in /proc/out "):
        save_steps("/proc/out", 4)


# ---- pruning --------------------------------------------------------------------------------


def names(folder):
    return sorted(p.name for p in folder.iterdir())


def test_prune_keeps_the_newest_whole_ones(tmp_path):
    save_steps(tmp_path, 2, 4, 6, 8, 10)
    (tmp_path / "checkpoint-8" / "random.pt").unlink()
    removed = prune(tmp_path, 2)
    assert [p.name for p in removed] == ["checkpoint-4", "checkpoint-2"]
    assert names(tmp_path) == ["checkpoint-10", "checkpoint-6", "checkpoint-8"]


def test_prune_never_takes_the_last_whole_one(tmp_path):
    save_steps(tmp_path, 2, 4, 6)
    for step_ in (4, 6):
        (tmp_path / f"checkpoint-{step_}" / "manifest.json").unlink()
    assert prune(tmp_path, 1) == []
    assert names(tmp_path) == ["checkpoint-2", "checkpoint-4", "checkpoint-6"]
    with pytest.raises(ValueError, match="keep must be at least 1, got 0"):
        prune(tmp_path, 0)


def test_a_kill_while_pruning_leaves_no_torn_checkpoint(tmp_path, monkeypatch):
    save_steps(tmp_path, 2, 4)

    def tear(path, **_):
        next(Path(path).iterdir()).unlink()
        raise Killed

    monkeypatch.setattr(shutil, "rmtree", tear)
    with pytest.raises(Killed):
        prune(tmp_path, 1)
    assert [p.name for p in checkpoints.candidates(tmp_path)] == ["checkpoint-4"]
