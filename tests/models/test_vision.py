"""Sizes from 8 to 48 pixels, what the autoencoder's loss counts, and that nothing starts dead."""

import math

import pytest
import torch

from cookbook.models import samples
from cookbook.models.registry import build
from cookbook.models.vision import efficientnet, mae, resnet, vit

CLASSIFIERS = ["cnn", "vgg", "resnet", "efficientnet", "vit"]


@pytest.mark.parametrize("size, channels", [(8, 1), (16, 3), (32, 1), (32, 3), (48, 1)])
@pytest.mark.parametrize("name", CLASSIFIERS)
def test_images_from_8_to_48_pixels_grey_and_in_colour(name, size, channels):
    model = build(name, image_size=size, channels=channels, classes=7)
    output = model(
        pixel_values=torch.randn(3, channels, size, size), labels=torch.tensor([0, 6, 3])
    )
    assert output.logits.shape == (3, 7)
    assert output.loss.item() == pytest.approx(math.log(7), rel=0.35)


@pytest.mark.parametrize("size", [8, 32, 48])
@pytest.mark.parametrize("name", ["mae", "clip", "vl-bert", "flamingo"])
def test_models_of_patches_take_the_same_sizes(name, size):
    model = build(name, image_size=size, channels=1, **({} if name == "mae" else {"length": 16}))
    batch = {"mae": samples.pixels, "clip": samples.paired, "vl-bert": samples.asked,
             "flamingo": samples.described}[name](image_size=size)  # fmt: skip
    assert math.isfinite(model(**batch).loss.item())


@pytest.mark.parametrize("make", [resnet, efficientnet, vit])
def test_an_image_reaches_the_logits_before_any_training(make):
    """In EfficientNet it did not: with N(0, 0.02²) for scales of batch norms nothing passes."""
    torch.manual_seed(0)
    model = make("tiny", dropout=0.0)
    logits = model(pixel_values=torch.randn(8, 1, 8, 8)).logits
    assert logits.std(0).mean() > 0.01


def test_resnet_keeps_the_published_stem_for_large_images():
    assert resnet("tiny", image_size=64).resnet.embedder.embedder.convolution.stride == (2, 2)
    assert resnet("tiny", image_size=32).resnet.embedder.embedder.convolution.stride == (1, 1)


@pytest.fixture
def painter():
    torch.manual_seed(0)
    return mae("tiny", dropout=0.0).eval()


def test_the_loss_counts_masked_patches_only(painter):
    batch = samples.gaps()
    with torch.no_grad():
        output = painter(**batch)
        target = painter.patchify(batch["pixel_values"])
    masked = output.mask.bool()
    assert (masked.sum(1) == 12).all()  # three quarters of 16
    error = (output.logits - target).square().mean(-1)
    assert torch.allclose(output.loss, error[masked].mean())
    assert not torch.allclose(output.loss, error.mean(), rtol=1e-3)


def test_the_largest_noise_is_masked(painter):
    batch = samples.gaps()
    mask = painter(**batch).mask.bool()
    assert torch.equal(mask, batch["noise"].argsort(1).argsort(1) >= 4)


def test_the_encoder_never_sees_a_masked_patch(painter):
    batch = samples.gaps()
    with torch.no_grad():
        before = painter(**batch)
        pixels = painter.patchify(batch["pixel_values"])
        pixels[before.mask.bool()] = 9.0
        changed = painter(pixel_values=painter.unpatchify(pixels), noise=batch["noise"])
    assert torch.equal(before.logits, changed.logits) and before.loss != changed.loss


def test_gaps_know_their_place(painter):
    """transformers leaves zeros where positions should be: all gaps were alike."""
    with torch.no_grad():
        output = painter(**samples.gaps())
    gaps = output.logits[0][output.mask[0].bool()]
    assert (gaps[1:] - gaps[0]).abs().amax(1).min() > 1e-3


def test_patches_and_gaps_have_positions_that_tell_rows_from_columns(painter):
    """transformers leaves zeros in the encoder too: it would read a bag of patches."""
    for table in (painter.vit.embeddings.position_embeddings, painter.decoder.decoder_pos_embed):
        assert not table.requires_grad and not table[0, 0].any()
        positions = table[0, 1:]
        distance = torch.cdist(positions, positions)
        assert distance.add(torch.eye(16)).min() > 0.1
        # one to the right and one down are equally far, two are further
        assert torch.isclose(distance[0, 1], distance[0, 4]) and distance[0, 2] > distance[0, 1]
    moved = samples.gaps()
    with torch.no_grad():
        plain = painter(**moved, output_hidden_states=True).hidden_states[-1]
        moved["pixel_values"] = moved["pixel_values"].roll(2, 3)  # a patch to the right
        there = painter(**moved, output_hidden_states=True).hidden_states[-1]
    assert not torch.allclose(plain.mean(1), there.mean(1), atol=1e-2)


@pytest.mark.parametrize("name", ["resnet", "vq-vae"])
def test_a_dropout_that_a_model_has_not_is_refused(name):
    with pytest.raises(ValueError, match="no dropout: leave it 0"):
        build(name, dropout=0.1)
