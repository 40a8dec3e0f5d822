"""One change at a time, from the same weights over the same rows; finished runs come back."""

import dataclasses

import numpy as np
import pytest
import torch

from cookbook.finetuning import remedies
from cookbook.finetuning.remedies import Remedy, compare, run
from cookbook.finetuning.remedy_tasks import Texts

SHORT = {"steps": 6, "rate": 5e-3, "every": 2}


@pytest.fixture(scope="module")
def texts(checkpoint, labelled):
    return Texts(checkpoint, labelled, rows=12, max_length=16)


@pytest.fixture(scope="module")
def plain(texts):
    return run(texts, Remedy(), **SHORT)


def test_a_run_repeats_itself_and_every_seed_is_another(texts, plain):
    again = run(texts, Remedy(), **SHORT)
    assert again == plain and plain.changes == {} and plain.step == 6
    assert run(texts, Remedy(), seed=1, **SHORT).curve != plain.curve
    steps = [step for step, *_ in plain.curve]
    assert steps == [2, 4, 6] == [step for step, _ in plain.line("validation")]
    assert np.shape(plain.validation) == np.shape(plain.test) == (21, 3)
    assert plain.curve[0][1] == pytest.approx(np.log(3), abs=0.3)


@pytest.mark.parametrize(
    "remedy",
    [Remedy(l1=1e-2), Remedy(l2=0.3), Remedy(decay=9.0), Remedy(dropout=0.5), Remedy(anchor=3.0),
     Remedy(smoothing=0.3), Remedy(smaller=True), Remedy(random=True), Remedy(freeze=1),
     Remedy(rows=2), Remedy(edits=("swap", "mask")), Remedy(rate=0.1)],
    ids=lambda remedy: next(iter(remedy.changes())),
)  # fmt: skip
def test_each_remedy_changes_the_run_and_nothing_it_leaves_behind(texts, plain, remedy):
    found = run(texts, remedy, **SHORT)
    assert found.curve != plain.curve and found.test != plain.test
    assert len(remedy.changes()) == 1 and found.changes == remedy.changes()
    assert len(found.curve) == 3  # the same updates, whatever the remedy


def test_an_early_stop_follows_the_plain_run_and_goes_back(texts):
    long = {"steps": 24, "rate": 2e-2, "every": 2, "patience": 2}
    whole, stopped = (run(texts, Remedy(stop=stop), **long) for stop in ("", "loss"))
    assert stopped.curve == whole.curve[: len(stopped.curve)]
    losses = dict(stopped.line("validation"))
    assert stopped.step == min(losses, key=losses.get)
    assert stopped.curve[-1][0] == 24 or stopped.curve[-1][0] - stopped.step == 4
    loss, _ = remedies.scores(stopped.validation, texts.labels("validation"))
    assert loss == pytest.approx(losses[stopped.step], rel=1e-4)


def test_whoever_looks_on_is_told_losses_and_evaluations(texts, plain):
    import contextlib

    class Looks:
        losses, evaluations = [], []
        step, evaluate = losses.append, evaluations.append

    found = run(texts, Remedy(), around=lambda *_: contextlib.nullcontext(Looks), **SHORT)
    assert found.curve == plain.curve and found.seen is Looks and len(Looks.losses) == 6
    assert [e["loss"] for e in Looks.evaluations] == [loss for _, loss in plain.line("validation")]


def test_the_first_seed_chooses_a_strength_and_finished_runs_come_back(
    texts, tmp_path, monkeypatch
):
    asked = {"plain": [Remedy()], "rate": [Remedy(rate=1e-6), Remedy(rate=3.0)]}
    how = {"seeds": [0, 1], "folder": tmp_path, **SHORT}
    courses = compare(texts, asked, **how)
    assert [(c.name, c.seed) for c in courses] == [
        ("plain", 0), ("plain", 1), ("rate", 0), ("rate", 1)
    ]  # fmt: skip
    assert [c.changes for c in courses[2:]] == [{"rate": 3.0}] * 2
    assert len(list(tmp_path.iterdir())) == 5
    monkeypatch.setattr(remedies, "run", lambda *_, **__: pytest.fail("trained again"))
    monkeypatch.setattr(remedies, "_code", lambda _: made)
    made = "other code"
    with pytest.raises(pytest.fail.Exception, match="trained again"):
        compare(texts, asked, **how)


def test_what_was_kept_is_what_was_made(texts, tmp_path, plain):
    how = {"seeds": [0], "folder": tmp_path, **SHORT}
    made, read = (compare(texts, {name: [Remedy()]}, **how)[0] for name in ("plain", "other"))
    assert dataclasses.replace(read, name="") == dataclasses.replace(made, name="") == plain
    (file,) = tmp_path.iterdir()
    file.write_text("{")
    assert compare(texts, {"": [Remedy()]}, **how)[0] == plain


def test_a_loss_of_rows_is_torchs():
    logits, labels = np.random.default_rng(0).normal(size=(9, 4)), np.arange(9) % 4
    wanted = torch.nn.functional.cross_entropy(torch.tensor(logits), torch.tensor(labels))
    loss, accuracy = remedies.scores(logits, labels)
    assert loss == pytest.approx(float(wanted), abs=1e-12)
    assert accuracy == (logits.argmax(-1) == labels).mean()


def test_a_remedy_that_the_model_has_no_place_for_is_skipped_with_its_reason(
    texts, tmp_path, monkeypatch, capsys
):
    def model(remedy, seed, make=texts.model):
        if remedy.freeze:
            raise ValueError("it has no list of layers\nmore")
        return make(remedy, seed)

    monkeypatch.setattr(texts, "model", model)
    asked = {"plain": [Remedy()], "frozen": [Remedy(freeze=1)]}
    found = compare(texts, asked, seeds=[0, 1], folder=tmp_path, **SHORT)
    assert [course.name for course in found] == ["plain", "plain"]
    assert capsys.readouterr().out == "skipped frozen: it has no list of layers\n"
