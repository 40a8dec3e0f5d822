import pickle
import shutil
import subprocess

import pytest
import torch
from torch import nn

from cookbook.scaling import distributed, job, sharded
from cookbook.scaling.sharded import Progress
from cookbook.scaling.world import joined
from cookbook.training import manifests
from cookbook.training.errors import CheckpointError


def trained(seed=0, steps=2):
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Linear(4, 8), nn.Linear(8, 2))
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1)
    for _ in range(steps):
        model(torch.randn(3, 4)).square().sum().backward()
        optimizer.step()
        optimizer.zero_grad()
    return model, optimizer


def state(model, optimizer):
    return job.fingerprint(model.state_dict()), job.fingerprint({
        f"{number}.{name}": value
        for number, moments in optimizer.state_dict()["state"].items()
        for name, value in moments.items()
    })  # fmt: skip


def test_saved_and_loaded(tmp_path):
    with joined() as world:
        first = trained()
        path = sharded.save(tmp_path, *first, Progress(2, [0.5, float("nan")], [2]), world)
        other = trained(seed=1, steps=3)
        found = sharded.load(path, *other)
    assert state(*other) == state(*first)
    assert (found.step, found.skipped, found.losses[0]) == (2, [2], 0.5)
    assert manifests.verify(path) is None
    assert {"progress.json", ".metadata"} < {file.name for file in path.iterdir()}


def test_the_newest_two_are_kept_and_the_newest_whole_one_is_taken(tmp_path, capsys):
    with joined() as world:
        model, optimizer = trained()
        for step in (2, 4, 6):
            sharded.save(tmp_path, model, optimizer, Progress(step), world)
        assert sorted(p.name for p in tmp_path.iterdir()) == ["checkpoint-4", "checkpoint-6"]
        assert sharded.resume(tmp_path, model, optimizer, world).step == 6
        shard = next((tmp_path / "checkpoint-6").glob("*.distcp"))
        shard.write_bytes(shard.read_bytes()[:-1])
        assert sharded.resume(tmp_path, model, optimizer, world).step == 4
        assert sharded.resume(tmp_path / "empty", model, optimizer, world).step == 0
    assert "passed over: checkpoint-6 has" in capsys.readouterr().out


def test_a_damaged_one_is_not_loaded(tmp_path):
    with joined() as world:
        path = sharded.save(tmp_path, *trained(), Progress(2), world)
        (path / "progress.json").write_text("{}")
        with pytest.raises(CheckpointError, match="2 of .* bytes of progress.json: use an earlier"):
            sharded.load(path, *trained())


def test_another_model(tmp_path):
    with joined() as world:
        path = sharded.save(tmp_path, *trained(), Progress(2), world)
        with pytest.raises(CheckpointError, match="was saved by a different set-up"):
            sharded.load(path, nn.Sequential(nn.Linear(4, 9)))


class Evil:
    def __reduce__(self):
        return print, ("code was run",)


def test_code_is_never_run_even_from_a_folder_with_a_good_manifest(tmp_path, capsys):
    with joined() as world:
        path = sharded.save(tmp_path, *trained(), Progress(2), world)
        (path / ".metadata").write_bytes(pickle.dumps(Evil()))
        manifests.seal(path)
        with pytest.raises(CheckpointError, match="builtins.print has no place in a checkpoint"):
            sharded.load(path, *trained())
    assert "code was run" not in capsys.readouterr().out


def test_a_write_that_fails_leaves_the_earlier_one_and_says_so(tmp_path, monkeypatch):
    def full(handle):
        raise OSError(28, "No space left on device")

    with joined() as world:
        sharded.save(tmp_path, *trained(), Progress(2), world)
        monkeypatch.setattr("os.fsync", full)
        with pytest.raises(CheckpointError, match="the disk is full: checkpoint-4"):
            sharded.save(tmp_path, *trained(), Progress(4), world)
    assert [p.name for p in tmp_path.iterdir()] == ["checkpoint-2"]


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
    model = nn.Linear(300, 300)  # 0.36 MB: two fit, the third does not
    optimizer = torch.optim.SGD(model.parameters())
    with joined() as world:
        for step in (1, 2):
            sharded.save(small_disk, model, optimizer, Progress(step), world)
        with pytest.raises(CheckpointError, match="the disk is full: checkpoint-3"):
            sharded.save(small_disk, model, optimizer, Progress(3), world)
        assert sorted(p.name for p in small_disk.iterdir()) == ["checkpoint-1", "checkpoint-2"]
        assert sharded.resume(small_disk, model, optimizer, world).step == 2


def test_the_folder_is_a_file(tmp_path):
    (tmp_path / "run").write_text("")
    with joined() as world, pytest.raises(CheckpointError, match="checkpoint-2"):
        sharded.save(tmp_path / "run", *trained(), Progress(2), world)


@pytest.mark.ranks
@pytest.mark.parametrize("strategy", ["ddp", "fsdp"])
def test_what_two_have_written_four_can_read(two_ranks, four_ranks, strategy):
    for found in four_ranks:
        assert found[strategy] == 5
        assert found[f"{strategy} weights"] == two_ranks[0]["fsdp"]["fingerprint"]
    squares = {found[f"{way} squares"] for found in four_ranks for way in ("ddp", "fsdp")}
    assert len(squares) == 1 and squares.pop() > 0  # AdamW's second moments came along


@pytest.mark.ranks
def test_and_so_can_one(two_ranks, ranks_folder, programs):
    with joined() as world:
        model = distributed.wrap(programs[0]["model"](seed=5), "ddp", world)
        optimizer = torch.optim.AdamW(model.parameters())
        assert sharded.load(ranks_folder / "fsdp" / "checkpoint-5", model, optimizer).step == 5
        found = job.fingerprint(distributed.full_weights(model))
    assert found == two_ranks[0]["fsdp"]["fingerprint"]


@pytest.mark.ranks
def test_two_ranks_refuse_a_checkpoint_of_another_model(two_ranks):
    for found in (r["damaged"] for r in two_ranks):
        assert len(found) == 1 and "was saved by a different set-up: Size mismatch" in found[0]
