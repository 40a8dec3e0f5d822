"""Image models from `transformers`, in small: ResNet, EfficientNet, ViT, masked autoencoder.

Configurations that work from 8 x 8 pixels on; images come as floats (batch, channels, height,
width). Networks by hand are in `convolutional`. Chapter 14 uses it.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from cookbook.maths.positions import sinusoidal
from cookbook.models.text import configured, sized

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def resnet(
    size: str = "tiny", *, image_size: int = 8, channels: int = 1, classes: int = 10,
    dropout: float = 0.0, **overrides: Any,
) -> PreTrainedModel:  # fmt: skip
    """ResNet: layers learn what to *add* to their input, `y = x + f(x)`.

    Gradients reach the first layer through the sum, undiminished, so a hundred layers can be
    trained where VGG gave up at twenty; batch normalisation in every layer. The published stem
    makes 1/4 of the image at once; for images under 64 pixels it is a single 3 x 3 convolution, as
    in the paper's own networks for CIFAR. It has no `dropout`, which must stay 0.
    He et al., 2016, arXiv:1512.03385.
    """
    from transformers import ResNetConfig, ResNetForImageClassification

    _without_dropout("resnet", dropout)
    width, layers, _ = sized(size)
    widths = [width // 2 * 2**stage for stage in range(3)]
    settings = {
        "num_channels": channels, "num_labels": classes, "embedding_size": width // 2,
        "hidden_sizes": widths, "depths": [max(1, layers // 2)] * 3, "layer_type": "basic",
    }  # fmt: skip
    config = configured(ResNetConfig, **(settings | overrides))
    model = ResNetForImageClassification(config)
    if image_size < 64:
        stem = nn.Conv2d(channels, config.embedding_size, 3, padding=1, bias=False)
        nn.init.kaiming_normal_(stem.weight, mode="fan_out", nonlinearity="relu")
        model.resnet.embedder.embedder.convolution = stem
        model.resnet.embedder.pooler = nn.Identity()
    return model


def efficientnet(
    size: str = "tiny", *, image_size: int = 8, channels: int = 1, classes: int = 10,
    dropout: float = 0.2, **overrides: Any,
) -> PreTrainedModel:  # fmt: skip
    """EfficientNet: depth, width and image size grow together, by one factor.

    Its block widens the channels, filters each one alone (depthwise), weighs them by a glance at
    the whole image (squeeze and excitation) and narrows them again: a fraction of the products of
    a full convolution. Here three of its seven stages, with halvings fit for small images.
    `dropout` is that before the classifier; blocks are not dropped. Tan and Le, 2019,
    arXiv:1905.11946.
    """
    from transformers import EfficientNetConfig, EfficientNetForImageClassification

    width, layers, _ = sized(size)
    settings = {
        "image_size": image_size, "num_channels": channels, "num_labels": classes,
        "width_coefficient": width / 128, "depth_coefficient": layers / 2,
        "kernel_sizes": [3, 3, 5], "in_channels": [32, 16, 24], "out_channels": [16, 24, 40],
        "strides": [1, 2, 1 if image_size < 32 else 2], "num_block_repeats": [1, 1, 1],
        "expand_ratios": [1, 4, 4], "hidden_dim": 10 * width, "dropout_rate": dropout,
        "drop_connect_rate": 0.0,
        # The default, 0.99, is TensorFlow's share of the old; torch takes the share of the new.
        "batch_norm_momentum": 0.1,
    }  # fmt: skip
    config = configured(EfficientNetConfig, **(settings | overrides))
    model = EfficientNetForImageClassification(config)
    for layer in model.modules():
        # transformers draws everything from N(0, 0.02²), the scales of the batch norms too: twenty
        # factors of 0.02 in a row, and nothing arrives. It is meant to load checkpoints.
        if isinstance(layer, nn.BatchNorm2d):
            nn.init.ones_(layer.weight)
        elif isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
    return model


def vit(
    size: str = "tiny", *, image_size: int = 8, channels: int = 1, classes: int = 10,
    dropout: float = 0.0, **overrides: Any,
) -> PreTrainedModel:  # fmt: skip
    """ViT: the image is cut into patches, and a BERT reads them as if they were words.

    Each patch is one linear projection; positions are learned; a [CLS] token gives the class.
    Nothing says that neighbours belong together, so it needs more images than a convolution, and
    gains more from them. The norm stands before each sublayer. `patch_size` is a quarter of the
    image: 16 patches. Dosovitskiy et al., 2021, arXiv:2010.11929.
    """
    from transformers import ViTConfig, ViTForImageClassification

    settings = patched(size, image_size, channels, dropout) | {"num_labels": classes}
    model = ViTForImageClassification(configured(ViTConfig, **(settings | overrides)))
    nn.init.normal_(model.classifier.weight, std=0.02)  # the first loss is ln(classes)
    return model


def mae(
    size: str = "tiny", *, image_size: int = 8, channels: int = 1, dropout: float = 0.0,
    **overrides: Any,
) -> PreTrainedModel:  # fmt: skip
    """Masked autoencoder: three quarters of the patches are taken away and painted again.

        loss = mean over masked patches of the mean squared error of their pixels

    BERT's idea for images. The encoder sees the visible patches only, so it runs at a quarter of
    the cost; a small decoder, thrown away later, gets them with a [MASK] vector in every gap.
    Images repeat themselves more than texts, hence 75 % and not 15 %. `noise` (batch, patches)
    fixes which are masked: the largest. He et al., 2022, arXiv:2111.06377.
    """
    from transformers import ViTMAEConfig, ViTMAEForPreTraining

    hidden, layers, heads = sized(size)
    settings = patched(size, image_size, channels, dropout) | {
        "decoder_hidden_size": hidden, "decoder_num_hidden_layers": max(1, layers // 2),
        "decoder_num_attention_heads": heads, "decoder_intermediate_size": 4 * hidden,
        "mask_ratio": 0.75, "norm_pix_loss": False,
    }  # fmt: skip
    model = ViTMAEForPreTraining(configured(ViTMAEConfig, **(settings | overrides)))
    # transformers 5.23 means to set sinusoids and leaves zeros, in the encoder because its children
    # count as initialised, in the decoder because they are overwritten: without positions all
    # patches are a bag, all gaps look alike, and the mean image is painted into each of them.
    with torch.no_grad():
        for positions in (
            model.vit.embeddings.position_embeddings,
            model.decoder.decoder_pos_embed,
        ):
            positions.copy_(_sinusoids(*positions.shape[1:]))
    return model


def _sinusoids(tokens: int, width: int) -> Tensor:
    """(tokens, width): 0 for [CLS]; for a patch half says its row, half its column."""
    side = math.isqrt(tokens - 1)
    line = sinusoidal(side, width // 2)
    rows, columns = line.repeat_interleave(side, 0), line.repeat(side, 1)
    return torch.cat((torch.zeros(1, width), torch.cat((rows, columns), dim=1)))


def patched(size: str, image_size: int, channels: int, dropout: float) -> dict[str, Any]:
    """The settings that all vision transformers share; 4 x 4 patches whatever the image's size.

    >>> patched("tiny", 32, 1, 0.0)["patch_size"]
    8
    """
    hidden, layers, heads = sized(size)
    return {
        "image_size": image_size, "num_channels": channels, "patch_size": max(1, image_size // 4),
        "hidden_size": hidden, "num_hidden_layers": layers, "num_attention_heads": heads,
        "intermediate_size": 4 * hidden, "hidden_dropout_prob": dropout,
        "attention_probs_dropout_prob": dropout,
        # Xavier's for a square matrix, as both papers have it; the default 0.02 is for wide models
        "initializer_range": hidden**-0.5,
    }  # fmt: skip


def _without_dropout(name: str, dropout: float) -> None:
    if dropout:
        raise ValueError(f"{name} has no dropout: leave it 0")
