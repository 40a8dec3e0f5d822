import json

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cookbook.training import checkpoints, manifests
from cookbook.training.manifests import MANIFEST, seal, verify


@pytest.fixture
def whole(tmp_path):
    model = torch.nn.Linear(3, 3)
    return checkpoints.save(tmp_path, 8, checkpoints.snapshot(model))


def change(path, edit):
    data = bytearray(path.read_bytes())
    path.write_bytes(edit(data))


def flip(data, place=None, bit=3):
    data[len(data) // 2 if place is None else place] ^= 1 << bit
    return bytes(data)


def rewrite(path, **values):
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


def link(path):
    path.rename(path.parent.parent / "elsewhere")
    path.symlink_to(path.parent.parent / "elsewhere")


# What is done to a whole checkpoint, and what must be said of it.
DAMAGE = {
    "truncated": (
        lambda p: change(p / "model.safetensors", lambda data: data[:-1]),
        r"has \d+ of \d+ bytes of model.safetensors",
    ),
    "emptied": (
        lambda p: (p / "random.pt").write_bytes(b""),
        r"has 0 of \d+ bytes of random.pt",
    ),
    "one bit": (
        lambda p: change(p / "model.safetensors", flip),
        "has other contents than its manifest says in model.safetensors",
    ),
    "file missing": (lambda p: (p / "random.pt").unlink(), "lacks random.pt"),
    "file extra": (
        lambda p: (p / "pytorch_model.bin").write_bytes(b"x"),
        "has pytorch_model.bin, which its manifest does not name",
    ),
    "file extra, deeper": (
        lambda p: ((p / "sub").mkdir(), (p / "sub" / "x").write_bytes(b"")),
        "has sub/x, which its manifest does not name",
    ),
    "link": (lambda p: link(p / "random.pt"), "has a link in place of random.pt"),
    "manifest missing": (
        lambda p: (p / MANIFEST).unlink(),
        "has no manifest.json: it was never finished",
    ),
    "manifest half": (
        lambda p: change(p / MANIFEST, lambda data: data[: len(data) // 2]),
        "has a damaged manifest.json",
    ),
    "manifest empty": (lambda p: (p / MANIFEST).write_bytes(b""), "has a damaged manifest.json"),
    "manifest no text": (
        lambda p: (p / MANIFEST).write_bytes(b"\xff\xfe"),
        "has a manifest.json that cannot be read",
    ),
    "manifest a list": (lambda p: (p / MANIFEST).write_text("[]"), "has a damaged manifest.json"),
    "manifest of another step": (
        lambda p: rewrite(p / MANIFEST, step=9),
        "has the manifest of step 9",
    ),
    "manifest of the future": (
        lambda p: rewrite(p / MANIFEST, format=2),
        "has a manifest.json of format 2, not 1",
    ),
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_damage_is_found_and_named(whole, kind):
    assert verify(whole) is None
    damage, reason = DAMAGE[kind]
    damage(whole)
    import re

    assert re.fullmatch(reason, verify(whole))


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_every_flipped_bit_is_found_wherever_it_is(whole, data):
    path = data.draw(st.sampled_from(sorted(whole.iterdir())))
    original = path.read_bytes()
    place = data.draw(st.integers(0, len(original) - 1))
    bit = data.draw(st.integers(0, 7))
    try:
        change(path, lambda content: flip(content, place, bit))
        assert verify(whole) is not None
    finally:
        path.write_bytes(original)
    assert verify(whole) is None


def test_a_file_is_no_checkpoint(tmp_path):
    (tmp_path / "checkpoint-1").write_text("")
    assert verify(tmp_path / "checkpoint-1") == "has no manifest.json: it was never finished"


def test_a_copy_under_a_free_name_is_whole(whole):
    assert verify(whole.rename(whole.with_name("best"))) is None


def test_seal_covers_what_others_wrote(tmp_path):
    path = tmp_path / "checkpoint-3"
    (path / "sub").mkdir(parents=True)
    (path / "a.bin").write_bytes(b"abc")
    (path / "sub" / "b.bin").write_bytes(b"")
    seal(path)
    manifest = json.loads((path / MANIFEST).read_text())
    assert manifest["step"] == 3
    assert manifest["files"]["a.bin"] == manifests.entry(b"abc")
    assert set(manifest["files"]) == {"a.bin", "sub/b.bin"}
    assert verify(path) is None
    assert [p.name for p in tmp_path.iterdir()] == ["checkpoint-3"]


def test_seal_again_after_a_change(whole):
    (whole / "random.pt").write_bytes(b"new")
    assert verify(whole) is not None
    seal(whole)
    assert verify(whole) is None


def test_a_kill_while_sealing_leaves_it_unsealed(whole, monkeypatch):
    (whole / "random.pt").write_bytes(b"new")

    def die(path, data):
        path.write_bytes(data[:20])
        raise KeyboardInterrupt

    monkeypatch.setattr(manifests, "write", die)
    with pytest.raises(KeyboardInterrupt):
        seal(whole)
    assert verify(whole) == "has no manifest.json: it was never finished"
