"""Two towers for pictures and their captions, as in CLIP, small enough to be trained on a laptop.

Does: a convolutional image tower, a one-layer text tower, and the model that holds both with the
learned scale. Does not: the loss, the batches and the training (`training.clip`), nor OpenAI's own
architecture, whose image tower needs a hundred times the pictures. Chapter 05 uses it.
Source: Radford et al. 2021, arXiv:2103.00020.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from cookbook.maths.contrastive import mean_pool, unit
from cookbook.models.text import bert_config

if TYPE_CHECKING:
    from transformers import PreTrainedModel

LARGEST_SCALE = 100.0  # CLIP clips here: a temperature below 0.01 made its training unstable
FIRST_SCALE = 1 / 0.07  # section 2.5
GRID = 4  # the image tower keeps a grid of 4 x 4 places: up and down are not averaged away


class TwoTowers(nn.Module):
    """Pictures and captions as unit vectors of one space, and the scale of their cosines.

    `image` maps pixels (n, channels, side, side) to (n, d), `text` ids and mask to (n, d).

    >>> model = TwoTowers(ImageTower(16), TextTower(16, vocab_size=50, hidden_size=32))
    >>> ids = torch.ones(3, 5, dtype=torch.long)
    >>> pictures, captions, scale = model(torch.zeros(3, 1, 32, 32), ids, ids)
    >>> tuple(pictures.shape), tuple(captions.shape), round(scale.item(), 2)
    ((3, 16), (3, 16), 14.29)
    """

    # Adam moves any number by about its rate a step. Counted in tenths, the logarithm of the scale
    # gets from 14 to 100 in the few hundred steps that a laptop has time for.
    PACE = 10.0

    def __init__(self, image: nn.Module, text: nn.Module) -> None:
        super().__init__()
        self.image, self.text = image, text
        self.paced_scale = nn.Parameter(torch.tensor(math.log(FIRST_SCALE) / self.PACE))

    def forward(
        self,
        pixel_values: Tensor,
        input_ids: Tensor,
        attention_mask: Tensor,
        groups: Tensor | None = None,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Unit vectors (n, d) of pictures and of captions, and the scale; `groups` goes unused."""
        pictures = unit(self.image(pixel_values).float())
        return pictures, unit(self.text(input_ids, attention_mask).float()), self.scale

    @property
    def scale(self) -> Tensor:
        """What the cosines are multiplied with: 1 / temperature."""
        return (self.PACE * self.paced_scale).exp()

    @torch.no_grad()
    def clip_scale(self) -> None:
        """Called after each step: at most 100. Clamping in `scale` would cut its gradient there."""
        self.paced_scale.clamp_(max=math.log(LARGEST_SCALE) / self.PACE)


class ImageTower(nn.Module):
    """Three convolutions that halve the side, two of them residual; (n, channels, s, s) -> (n, d).

    Group and not batch normalisation: the vector of a picture does not depend on its neighbours in
    the batch, which a contrastive loss would use as a shortcut (He et al. 2020, arXiv:1911.05722).
    """

    def __init__(self, d: int = 128, *, channels: int = 1, width: int = 24) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(channels, width, 3, stride=2, padding=1),
            nn.ReLU(),
            Residual(width, 2 * width),
            Residual(2 * width, 4 * width),
            nn.AdaptiveAvgPool2d(GRID),
            nn.Flatten(),
        )
        self.out = nn.Linear(4 * width * GRID**2, d)

    def forward(self, pixel_values: Tensor) -> Tensor:
        return self.out(self.features(pixel_values))


class Residual(nn.Module):
    """Two convolutions beside a shortcut, at half the side: (n, i, s, s) -> (n, o, s/2, s/2).

    Source: He et al. 2016, arXiv:1512.03385, with group normalisation (arXiv:1803.08494).
    """

    def __init__(self, inside: int, outside: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(inside, outside, 3, stride=2, padding=1)
        self.second = nn.Conv2d(outside, outside, 3, padding=1)
        self.norms = nn.ModuleList([nn.GroupNorm(8, outside), nn.GroupNorm(8, outside)])
        self.shortcut = nn.Conv2d(inside, outside, 1, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        inner = torch.relu(self.norms[0](self.first(x)))
        return torch.relu(self.shortcut(x) + self.norms[1](self.second(inner)))


class TextTower(nn.Module):
    """A BERT of one layer, the mean over its tokens, and a projection: (n, length) -> (n, d).

    `encoder` puts another in its place, such as docbert. CLIP reads a causal transformer at its
    last token; names of five words need neither.
    """

    def __init__(
        self,
        d: int = 128,
        *,
        vocab_size: int = 8192,
        length: int = 32,
        hidden_size: int = 128,
        layers: int = 1,
        encoder: PreTrainedModel | None = None,
    ) -> None:
        super().__init__()
        self.encoder = encoder or _bert(vocab_size, length, hidden_size, layers)
        self.out = nn.Linear(self.encoder.config.hidden_size, d)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        hidden = self.encoder(input_ids=input_ids, attention_mask=attention_mask)[0]
        return self.out(mean_pool(hidden, attention_mask))


def _bert(vocab_size: int, length: int, hidden_size: int, layers: int) -> PreTrainedModel:
    from transformers import BertModel

    config = bert_config(
        vocab_size, "mini", length=length, hidden_size=hidden_size, num_hidden_layers=layers,
        intermediate_size=2 * hidden_size, hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
    )  # fmt: skip
    return BertModel(config, add_pooling_layer=False)
