"""Two convolutional networks by hand: LeNet-5's successor, and VGG.

Any image size that the pooling leaves something of. ResNet and EfficientNet come from
`transformers`, see `vision`. Chapter 14 uses it.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from cookbook.models.outputs import Output
from cookbook.models.text import sized


class Convolutional(nn.Module):
    """Convolutions and pooling, then fully connected layers: LeNet-5 with today's parts.

        y[o, r, c] = b[o] + Σ_{i, u, v} w[o, i, u, v] · x[i, r+u, c+v],  then ReLU, max over 2 x 2

    The same small filter looks at every place, so a shifted image gives shifted features, and the
    number of weights does not grow with the image. LeCun et al., 1998, "Gradient-based learning
    applied to document recognition"; ReLU instead of tanh, maximum instead of mean.
    Raises ValueError for an image that two poolings would reduce to nothing.
    """

    def __init__(
        self, image_size: int, channels: int, classes: int, width: int, *, dropout: float = 0.0
    ):
        super().__init__()
        side = _pooled(image_size, 2)
        self.features = nn.Sequential(
            nn.Conv2d(channels, width, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(width, 2 * width, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        )  # fmt: skip
        self.head = nn.Sequential(
            nn.Flatten(), nn.Linear(2 * width * side * side, 4 * width), nn.ReLU(),
            nn.Dropout(dropout), nn.Linear(4 * width, classes),
        )  # fmt: skip

    def forward(self, pixel_values: Tensor, labels: Tensor | None = None) -> Output:
        """pixels (batch, channels, height, width) -> logits (batch, classes)."""
        return _classified(self.head(self.features(pixel_values)), labels)


class Vgg(nn.Module):
    """VGG: nothing but 3 x 3 convolutions, two or three between poolings, ever wider.

    Two 3 x 3 layers see 5 x 5, three see 7 x 7, with fewer weights than one such filter and a ReLU
    more: `3 · 9 w²` instead of `49 w²`. The last layers are fully connected and hold most of the
    weights. A deep stack without shortcuts starts well only with weights scaled by their inputs
    (He et al., 2015: variance 2 / inputs). `blocks` lists the convolutions before each pooling;
    (1, 1, 2, 2, 2) with width 64 is VGG-11. Simonyan and Zisserman, 2015, arXiv:1409.1556.
    Raises ValueError for an image that so many poolings would reduce to nothing.

    >>> import torch
    >>> tuple(Vgg(8, 1, 10, 4, blocks=(1, 2))(torch.zeros(2, 1, 8, 8)).logits.shape)
    (2, 10)
    """

    def __init__(
        self, image_size: int, channels: int, classes: int, width: int,
        *, blocks: tuple[int, ...] = (1, 1, 2), dropout: float = 0.5,
    ):  # fmt: skip
        super().__init__()
        side = _pooled(image_size, len(blocks))
        layers: list[nn.Module] = []
        for depth, count in enumerate(blocks):
            for _ in range(count):
                wide = width * 2 ** min(depth, 3)
                layers += [nn.Conv2d(channels, wide, 3, padding=1), nn.ReLU()]
                channels = wide
            layers.append(nn.MaxPool2d(2))
        self.features = nn.Sequential(*layers)
        hidden = 8 * width
        self.head = nn.Sequential(
            nn.Flatten(), nn.Linear(channels * side * side, hidden), nn.ReLU(), nn.Dropout(dropout),
            nn.Linear(hidden, hidden), nn.ReLU(), nn.Dropout(dropout), nn.Linear(hidden, classes),
        )  # fmt: skip
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d | nn.Linear):
                nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
                nn.init.zeros_(layer.bias)
        nn.init.normal_(self.head[-1].weight, std=0.01)  # the first loss is ln(classes)

    def forward(self, pixel_values: Tensor, labels: Tensor | None = None) -> Output:
        """pixels (batch, channels, height, width) -> logits (batch, classes)."""
        return _classified(self.head(self.features(pixel_values)), labels)


def _pooled(image_size: int, times: int) -> int:
    if image_size >> times == 0:
        raise ValueError(f"{times} poolings leave nothing of {image_size} pixels: use fewer")
    return image_size >> times


def _classified(logits: Tensor, labels: Tensor | None) -> Output:
    return Output(None if labels is None else F.cross_entropy(logits, labels), logits)


def cnn(
    size: str = "tiny", *, image_size: int = 8, channels: int = 1, classes: int = 10,
    dropout: float = 0.0,
) -> Convolutional:  # fmt: skip
    """`Convolutional` with a quarter of the width of a size of `text.SIZES`.

    >>> cnn("tiny").features[0]
    Conv2d(1, 8, kernel_size=(3, 3), stride=(1, 1), padding=(1, 1))
    """
    return Convolutional(image_size, channels, classes, sized(size)[0] // 4, dropout=dropout)


def vgg(
    size: str = "tiny", *, image_size: int = 8, channels: int = 1, classes: int = 10,
    dropout: float = 0.5, blocks: tuple[int, ...] = (1, 1, 2),
) -> Vgg:  # fmt: skip
    """`Vgg` with a quarter of the width of a size of `text.SIZES`.

    >>> sum(isinstance(layer, nn.Conv2d) for layer in vgg("tiny").features)
    4
    """
    width = sized(size)[0] // 4
    return Vgg(image_size, channels, classes, width, blocks=blocks, dropout=dropout)
