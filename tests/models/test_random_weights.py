"""The published scales, measured; and that a wrong one is noticed."""

import pytest
import torch

from cookbook.models.random_weights import PUBLISHED, draw_truncated, weight_scales
from cookbook.models.registry import build


@pytest.mark.parametrize("name", PUBLISHED)
def test_random_weights_have_the_published_scale(name):
    model = build(name, "mini", vocab_size=500, length=64, num_hidden_layers=3)
    scales = weight_scales(model)
    assert len(scales) > 12
    assert [s for s in scales if not s.agrees] == []


def test_gpt2_writes_into_the_residual_stream_more_softly():
    model = build("gpt2", "mini", vocab_size=500, num_hidden_layers=8)
    scales = {s.parameter: s for s in weight_scales(model)}
    soft = scales["transformer.h.3.mlp.c_proj.weight"]
    assert soft.published == pytest.approx(0.02 / 4) and soft.agrees
    assert scales["transformer.h.3.mlp.c_fc.weight"].published == 0.02


def test_a_wrong_scale_is_noticed():
    model = build("bert", "mini", vocab_size=500)
    with torch.no_grad():
        model.bert.encoder.layer[1].output.dense.weight.mul_(1.1)
    wrong = [s.parameter for s in weight_scales(model) if not s.agrees]
    assert wrong == ["bert.encoder.layer.1.output.dense.weight"]


def test_truncated_draws_stay_within_two_standard_deviations_and_come_from_the_seed():
    models = [draw_truncated(build("bert", "mini", vocab_size=500), seed=s) for s in (0, 0, 1)]
    weights = [m.bert.encoder.layer[0].intermediate.dense.weight for m in models]
    assert weights[0].abs().max() <= 0.04
    assert weights[0].std().item() == pytest.approx(0.8796 * 0.02, rel=0.02)
    assert torch.equal(weights[0], weights[1]) and not torch.equal(weights[0], weights[2])
    assert models[0].get_output_embeddings().weight is models[0].get_input_embeddings().weight


def test_a_type_without_published_scales_is_named():
    with pytest.raises(ValueError, match="no published scales for 'RecurrentLM': there are bert"):
        weight_scales(build("lstm", vocab_size=50))
