"""Feature maps and rollout: caught as they are, and multiplied by hand."""

import numpy as np
import pytest
import torch
from torch import nn

from cookbook.evaluation.image_interpretation import (
    attention_rollout,
    feature_maps,
    patch_map,
    tinted,
    to_8_bits,
)


def random_attention(layers=3, batch=2, heads=4, n=5):
    scores = torch.randn(layers, batch, heads, n, n, generator=torch.Generator().manual_seed(0))
    return list(scores.double().softmax(-1))


def test_feature_maps_are_the_layers_output_and_leave_the_model_as_it_was():
    torch.manual_seed(0)
    first, model = nn.Conv2d(1, 3, 3, padding=1), None
    model = nn.Sequential(first, nn.Dropout(0.5), nn.Flatten()).train()
    model[2].eval()
    pixels = torch.randn(2, 1, 6, 6)
    assert torch.equal(feature_maps(model, first, pixels), first(pixels))
    assert torch.equal(feature_maps(model, model[1], pixels), first(pixels))  # dropout was off
    assert [module.training for module in model] == [True, True, False]
    assert not first._forward_hooks
    with pytest.raises(ValueError, match="do not pass this Conv2d"):
        feature_maps(model, nn.Conv2d(1, 1, 1), pixels)


def test_rollout_follows_every_path():
    layers = random_attention(layers=2, batch=1, n=3)
    mixed = [(a[0].mean(0) + torch.eye(3)) / 2 for a in layers]
    expected = torch.zeros(3, 3, dtype=torch.float64)
    for end in range(3):
        for between in range(3):
            for start in range(3):
                expected[end, start] += mixed[1][end, between] * mixed[0][between, start]
    torch.testing.assert_close(attention_rollout(layers)[0], expected, rtol=0, atol=1e-10)


def test_rollout_shares_out_one_whole():
    found = attention_rollout(random_attention())
    torch.testing.assert_close(found.sum(-1), torch.ones(2, 5, dtype=torch.float64))
    assert (found > 0).all()
    own = torch.eye(5).expand(2, 4, 5, 5)
    assert torch.equal(attention_rollout([own, own])[0], torch.eye(5))  # looks at itself alone
    with pytest.raises(ValueError, match="eager"):
        attention_rollout([])


def test_shades():
    assert to_8_bits(np.array([[2.0, 4.0]])).tolist() == [[0, 255]]
    assert to_8_bits(np.full(3, 7.0)).tolist() == [0, 0, 0]
    shares = patch_map(np.array([0.4, 0.2, 0.0, 0.2]), 8)
    assert shares.shape == (8, 8) and shares[3, 3] == 255 and shares[4, 4] == 127
    picture = np.full((2, 2), 80, np.uint8)
    assert (tinted(picture, np.zeros((2, 2), np.uint8)) == 80).all()
