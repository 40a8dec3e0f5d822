"""Schedules, groups and clipping equal what transformers and torch do, at every step."""

import copy
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from cookbook.training import schedules


def rates(lr_scheduler, steps, peak):
    seen = []
    for _ in range(steps):
        seen.append(lr_scheduler.get_last_lr()[0] / peak)
        lr_scheduler.optimizer.step()
        lr_scheduler.step()
    return seen


def sgd(peak):
    return torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=peak)


CASES = [
    ("constant", {"warmup": 0}, "constant", {}),
    ("constant", {"warmup": 7}, "constant_with_warmup", {}),
    ("linear", {"warmup": 7, "total": 40}, "linear", {}),
    ("linear", {"warmup": 0, "total": 40}, "linear", {}),
    ("linear", {"warmup": 40, "total": 40}, "linear", {}),
    ("cosine", {"warmup": 7, "total": 40}, "cosine", {}),
    ("cosine", {"warmup": 7, "total": 40, "cycles": 1.5}, "cosine", {"num_cycles": 1.5}),
    ("inverse_sqrt", {"warmup": 7}, "inverse_sqrt", {}),
    ("inverse_sqrt", {"warmup": 0}, "inverse_sqrt", {}),
    ("inverse_sqrt", {"warmup": 7, "timescale": 3}, "inverse_sqrt", {"timescale": 3}),
    *[
        (
            "warmup_stable_decay",
            {"warmup": warmup, "total": 40, "decay": 11, "minimum": low, "shape": shape},
            "warmup_stable_decay",
            {"num_decay_steps": 11, "min_lr_ratio": low, "decay_type": shape},
        )
        for shape in ("cosine", "linear", "1-sqrt")
        for low in (0.0, 0.1)
        for warmup in (0, 7)
    ],
]


@pytest.mark.parametrize(("name", "ours", "library_name", "library"), CASES)
def test_equal_to_transformers_at_every_step(name, ours, library_name, library):
    from transformers import get_scheduler

    peak, steps = 3e-3, 50  # ten steps past the end, where a run must not start to learn again
    theirs = get_scheduler(
        library_name, sgd(peak), ours.get("warmup"), ours.get("total"), library or None
    )
    expected = rates(theirs, steps, peak)
    as_function = [schedules.SCHEDULES[name](step, **ours) for step in range(steps)]
    assert as_function == pytest.approx(expected, abs=1e-12)
    as_scheduler = rates(schedules.scheduler(sgd(peak), name, **ours), steps, peak)
    assert as_scheduler == pytest.approx(expected, abs=1e-12)


@given(
    name=st.sampled_from(["linear", "cosine", "warmup_stable_decay"]),
    warmup=st.integers(0, 30),
    rest=st.integers(1, 100),
)
@settings(max_examples=60, deadline=None)
def test_rises_then_falls_between_0_and_1(name, warmup, rest):
    total = warmup + rest
    extra = {"decay": max(1, rest // 3)} if name == "warmup_stable_decay" else {}
    curve = [
        schedules.SCHEDULES[name](step, warmup=warmup, total=total, **extra)
        for step in range(total + 1)
    ]
    assert all(0 <= rate <= 1 for rate in curve)
    assert curve[: warmup + 1] == sorted(curve[: warmup + 1])
    assert curve[warmup:] == sorted(curve[warmup:], reverse=True)
    assert curve[warmup] == 1
    assert curve[-1] == pytest.approx(0, abs=1e-12)


def test_unknown_schedule_is_named():
    with pytest.raises(ValueError, match="schedule 'polynomial' is unknown; choose one of const"):
        schedules.scheduler(sgd(0.1), "polynomial")


def test_state_survives_a_checkpoint():
    first = schedules.scheduler(sgd(0.1), "cosine", warmup=3, total=20)
    expected = rates(first, 20, 0.1)
    stopped = schedules.scheduler(sgd(0.1), "cosine", warmup=3, total=20)
    rates(stopped, 8, 0.1)
    resumed = schedules.scheduler(sgd(0.1), "cosine", warmup=3, total=20)
    resumed.load_state_dict(stopped.state_dict())
    resumed.optimizer.load_state_dict(stopped.optimizer.state_dict())
    assert rates(resumed, 12, 0.1) == expected[8:]


def small(architecture):
    import transformers as hf

    sizes = {"num_hidden_layers": 2, "hidden_size": 32, "num_attention_heads": 2}
    if architecture == "bert":
        config = hf.BertConfig(vocab_size=50, intermediate_size=32, **sizes)
        return hf.BertForSequenceClassification(config)
    if architecture == "gpt2":
        return hf.GPT2LMHeadModel(hf.GPT2Config(vocab_size=50, n_layer=2, n_embd=32, n_head=2))
    if architecture == "vit":
        config = hf.ViTConfig(image_size=8, patch_size=4, intermediate_size=32, **sizes)
        return hf.ViTForImageClassification(config)
    if architecture == "clip":
        tower = {**sizes, "intermediate_size": 32}
        config = hf.CLIPConfig(
            text_config={"vocab_size": 50, **tower},
            vision_config={"image_size": 8, "patch_size": 4, **tower},
        )
        return hf.CLIPModel(config)
    t5 = {"vocab_size": 50, "d_model": 32, "d_kv": 16, "d_ff": 32, "num_layers": 2, "num_heads": 2}
    return hf.T5ForConditionalGeneration(hf.T5Config(**t5))


@pytest.mark.parametrize("architecture", ["bert", "gpt2", "vit", "t5"])
def test_decay_spares_what_the_trainer_spares(architecture):
    from transformers import Trainer

    model = small(architecture)
    theirs = set(Trainer.get_decay_parameter_names(None, model))
    ours = schedules.decays(model)
    names = {name for name, _ in model.named_parameters()}
    assert set(ours) == names
    assert {name for name, decayed in ours.items() if decayed} == theirs & names


def test_groups_cover_each_trainable_parameter_once():
    model = small("bert")
    model.bert.embeddings.requires_grad_(False)
    trainable = {id(p) for p in model.parameters() if p.requires_grad}
    for groups in (
        schedules.parameter_groups(model, 0.01),
        schedules.layer_wise_groups(model, 1e-3, 0.5, 0.01),
    ):
        listed = [id(p) for group in groups for p in group["params"]]
        assert len(listed) == len(set(listed))
        assert set(listed) == trainable
        torch.optim.AdamW(groups, lr=1e-3)  # torch itself refuses a parameter in two groups
    norm = model.bert.encoder.layer[0].output.LayerNorm.weight
    for group in schedules.parameter_groups(model, 0.01):
        spared = any(p is norm for p in group["params"])
        assert group["weight_decay"] == (0.0 if spared else 0.01)


def test_layer_wise_rates_of_bert():
    model = small("bert")
    rate = {}
    for group in schedules.layer_wise_groups(model, 1.0, 0.5):
        rate.update({id(p): group["lr"] for p in group["params"]})
    by_name = {name: rate[id(p)] for name, p in model.named_parameters()}
    assert by_name["classifier.weight"] == by_name["bert.pooler.dense.bias"] == 1.0
    assert by_name["bert.encoder.layer.1.output.dense.weight"] == 0.5
    assert by_name["bert.encoder.layer.0.output.LayerNorm.weight"] == 0.25
    assert by_name["bert.embeddings.word_embeddings.weight"] == 0.125


@pytest.mark.parametrize(
    ("architecture", "name", "depth"),
    [
        ("gpt2", "transformer.wpe.weight", 3),
        ("gpt2", "transformer.h.1.attn.c_attn.weight", 1),
        ("gpt2", "transformer.ln_f.weight", 0),
        ("t5", "shared.weight", 3),
        ("t5", "encoder.block.0.layer.1.layer_norm.weight", 2),
        ("t5", "decoder.block.1.layer.0.layer_norm.weight", 1),
        ("t5", "encoder.final_layer_norm.weight", 0),
        ("clip", "text_model.embeddings.token_embedding.weight", 3),
        ("clip", "vision_model.embeddings.patch_embedding.weight", 3),
        ("clip", "vision_model.encoder.layers.0.layer_norm1.weight", 2),
        ("clip", "visual_projection.weight", 0),
    ],
)
def test_depths_in_other_architectures(architecture, name, depth):
    assert schedules.layer_depths(small(architecture))[name] == depth


def test_a_model_without_layers_has_one_rate():
    groups = schedules.layer_wise_groups(nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2)), 0.1, 0.5)
    assert {group["lr"] for group in groups} == {0.1}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("max_norm", [1e-3, 1.0, 1e9])
@pytest.mark.parametrize("scale", [0.0, 1e-8, 1.0, 1e15])
def test_clipping_equals_torch(dtype, max_norm, scale):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 3), nn.Linear(3, 2)).to(dtype)
    for parameter in model.parameters():
        parameter.grad = torch.randn_like(parameter) * scale
    model[0].bias.grad = None
    twin = copy.deepcopy(model)
    for original, copied in zip(model.parameters(), twin.parameters(), strict=True):
        copied.grad = None if original.grad is None else original.grad.clone()
    norm = schedules.clip_gradients(model.parameters(), max_norm)
    expected = torch.nn.utils.clip_grad_norm_(twin.parameters(), max_norm)
    tolerance = {"rtol": 1e-10 if dtype == torch.float64 else 1e-5, "atol": 0}
    torch.testing.assert_close(norm, expected, **tolerance)
    for ours, theirs in zip(model.parameters(), twin.parameters(), strict=True):
        if theirs.grad is None:
            assert ours.grad is None
        else:
            torch.testing.assert_close(ours.grad, theirs.grad, **tolerance)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_clipping_not_finite_as_in_torch(bad):
    ours, theirs = (nn.Parameter(torch.zeros(2)) for _ in range(2))
    ours.grad, theirs.grad = torch.tensor([bad, 1.0]), torch.tensor([bad, 1.0])
    norm = schedules.clip_gradients(ours, 1.0)
    torch.testing.assert_close(norm, nn.utils.clip_grad_norm_(theirs, 1.0), equal_nan=True)
    torch.testing.assert_close(ours.grad, theirs.grad, equal_nan=True)


def test_clipping_without_gradients():
    assert schedules.clip_gradients([nn.Parameter(torch.zeros(2))], 1.0) == 0
