"""A convolution by hand, VGG's layers by its table, images that are too small."""

import copy
import math

import pytest
import torch
from torch import nn

from cookbook.models.convolutional import Convolutional, Vgg, cnn, vgg


def test_the_formula_of_the_docstring_is_what_the_layer_computes():
    torch.manual_seed(0)
    layer, x = nn.Conv2d(2, 3, 3, padding=1).double(), torch.randn(1, 2, 5, 4).double()
    padded = nn.functional.pad(x, (1, 1, 1, 1))[0]
    by_hand = torch.stack([
        torch.stack([
            torch.stack([layer.bias[o] + (layer.weight[o] * padded[:, r : r + 3, c : c + 3]).sum()
                         for c in range(4)])
            for r in range(5)])
        for o in range(3)])  # fmt: skip
    assert torch.allclose(layer(x)[0], by_hand, rtol=0, atol=1e-10)


def test_a_shifted_image_gives_shifted_features():
    torch.manual_seed(0)
    model, image = cnn("tiny", image_size=16), torch.zeros(1, 1, 16, 16)
    image[..., 4:8, 4:8] = torch.randn(4, 4)
    moved = image.roll((4, 4), (2, 3))  # one step of the last feature map is 4 pixels
    features, of_moved = model.features(image), model.features(moved)
    assert torch.allclose(of_moved[..., 1:, 1:][..., 1:2, 1:2], features[..., 1:2, 1:2], atol=1e-6)


def test_vgg_11_has_the_papers_number_of_weights():
    """133 million: table 2, column A."""
    with torch.device("meta"):
        model = Vgg(224, 3, 1000, 64, blocks=(1, 1, 2, 2, 2))
    convolutions = sum(p.numel() for p in model.features.parameters())
    head = 512 * 7 * 7 * 512 + 512 + 512 * 512 + 512 + 512 * 1000 + 1000
    assert sum(p.numel() for p in model.head.parameters()) == head  # 4,096 in the paper, 8 w here
    papers = 512 * 7 * 7 * 4096 + 4096 + 4096 * 4096 + 4096 + 4096 * 1000 + 1000
    assert round((convolutions + papers) / 1e6) == 133


@pytest.mark.parametrize("seed", range(3))
def test_the_variance_survives_the_depth(seed):
    """He's scale keeps what differs between images; torch's own loses it, and leaves the biases."""
    torch.manual_seed(seed)
    deep = Vgg(32, 3, 10, 32, blocks=(12,)).features[:-1]
    torchs = copy.deepcopy(deep)
    for layer in torchs:
        if isinstance(layer, nn.Conv2d):
            layer.reset_parameters()
    image = torch.randn(4, 3, 32, 32)
    kept, lost = (layers(image).var(0).mean() for layers in (deep, torchs))
    assert 0.005 < kept < 5 and lost < 1e-3 * kept


@pytest.mark.parametrize("kind", [Convolutional, Vgg])
def test_an_image_that_poolings_reduce_to_nothing_is_refused(kind):
    with pytest.raises(ValueError, match="poolings leave nothing of 2 pixels"):
        kind(2, 1, 10, 4)


def test_the_first_loss_is_ln_of_the_classes():
    torch.manual_seed(0)
    loss = vgg("tiny", dropout=0.0)(torch.randn(20, 1, 8, 8), torch.arange(20) % 10).loss.item()
    assert loss == pytest.approx(math.log(10), rel=0.05)
