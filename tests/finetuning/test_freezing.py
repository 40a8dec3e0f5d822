"""Who trains, who does not, and that the frozen keep their bits."""

import dataclasses

import pytest
import torch

from cookbook.finetuning import freezing, jobs
from cookbook.models.initialization import load_model

HEAD = {
    "bert.pooler.dense.weight",
    "bert.pooler.dense.bias",
    "classifier.weight",
    "classifier.bias",
}


def moved(trained, checkpoint):
    start = load_model(checkpoint, "classification", num_labels=3).state_dict()
    end = trained.model.state_dict()
    assert start.keys() == end.keys()
    return {name for name in start if not torch.equal(start[name], end[name])}


def kinds(names):
    return {name for name in names if name not in HEAD}


CASES = {
    "partial": lambda name: "layer.1." in name,
    "bitfit": lambda name: name.endswith("bias"),
    "layer_norm": lambda name: "LayerNorm" in name,
}


@pytest.mark.parametrize("strategy", CASES)
def test_what_is_chosen_moves_and_nothing_else_does_bit_for_bit(job, checkpoint, strategy):
    trained = getattr(freezing, strategy)(job)
    names = moved(trained, checkpoint)
    wanted = {n for n, _ in trained.model.named_parameters() if CASES[strategy](n)} - HEAD
    keys = {name for name in wanted if "key.bias" in name}  # softmax does not see them
    assert wanted - keys <= kinds(names) <= wanted
    assert {"classifier.weight", "bert.pooler.dense.weight"} <= names


def test_partial_takes_as_many_layers_as_asked(job, checkpoint):
    trained = freezing.partial(dataclasses.replace(job, max_steps=2), layers=2)
    names = kinds(moved(trained, checkpoint))
    assert any("layer.0." in n for n in names) and not any("embeddings" in n for n in names)


def test_stages_are_the_head_each_layer_from_the_top_and_the_rest(new):
    model = new()
    parts, name_of = freezing.stages(model), {id(p): n for n, p in model.named_parameters()}
    named = [{name_of[id(p)] for p in part} for part in parts]
    assert named[0] == HEAD
    assert all("layer.1." in name for name in named[1])
    assert all("layer.0." in name for name in named[2])
    assert all("embeddings" in name for name in named[3])
    assert sum(map(len, named)) == len(name_of)


def test_gradual_opens_stage_after_stage(job):
    import transformers

    class Open(transformers.TrainerCallback):
        seen = []

        def on_step_end(self, args, state, control, model=None, **_):
            names = [n for n, p in model.named_parameters() if p.requires_grad]
            self.seen.append((any("layer.1." in n for n in names), any("emb" in n for n in names)))

    freezing.gradual(dataclasses.replace(job, max_steps=8, callbacks=(watch := Open(),)))
    assert [top for top, _ in watch.seen] == [False] * 1 + [True] * 7
    assert [low for _, low in watch.seen] == [False] * 4 + [True] * 4


def test_gradual_leaves_alone_what_has_not_had_its_turn(job, checkpoint, monkeypatch):
    held = freezing.stages
    monkeypatch.setattr(freezing, "stages", lambda model: held(model)[:2])
    names = moved(freezing.gradual(job), checkpoint)
    assert any("layer.1." in name for name in names)
    assert not any("embeddings" in name or "layer.0." in name for name in names)


def test_a_new_head_learns_at_its_own_rate(job, new):
    model = freezing.train_only(new(), {"bert.embeddings.LayerNorm.weight"})
    fast = jobs.two_rates(dataclasses.replace(job, learning_rate=0.3), model, 1e-3)
    rates = {id(p): group["lr"] for group in fast.param_groups for p in group["params"]}
    named = {n: rates[id(p)] for n, p in model.named_parameters() if p.requires_grad}
    assert named == dict.fromkeys(HEAD, 1e-3) | {"bert.embeddings.LayerNorm.weight": 0.3}
    slow = jobs.two_rates(dataclasses.replace(job, learning_rate=1e-5), model, 1e-3)
    assert {group["lr"] for group in slow.param_groups} == {1e-5}
