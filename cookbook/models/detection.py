"""Detection as the prediction of a set, in the manner of DETR, small enough for 32 x 32 pixels.

Does: a convolutional backbone, a transformer encoder over the places of its grid, and two heads
that read each place as one guess: a class or "nothing", and a box. Does not: train, nor score
(`evaluation.detection`). Not in the registry: it has no part in a table of architectures.
Chapter 14 uses it.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from cookbook.maths.boxes import to_corners
from cookbook.maths.set_prediction import set_loss
from cookbook.models.outputs import Output

STRIDE = 8  # pixels to a place of the grid, and so to a guess


class SetPredictor(nn.Module):
    """Guesses for an image, as many as its grid has places; most say "nothing".

        features = backbone(image) + places;  states = encoder(features);  one guess for each state

    Nothing forbids two guesses of one object but the loss, which gives an object to one guess
    alone: attention lets the guesses agree on who takes it, so no duplicates have to be removed
    afterwards. DETR starts its guesses from learned vectors and needs days to learn where each
    should look; here they start from the places of the grid, as the first stage of Deformable DETR
    does (Zhu et al. 2021, arXiv:2010.04159), and the box is counted from the place's own middle.
    Carion et al. 2020, arXiv:2005.12872. Raises ValueError for an image that places do not fill.

    >>> model = SetPredictor(10, width=16)
    >>> found = model(torch.zeros(2, 1, 32, 32))
    >>> tuple(found.logits.shape), tuple(found.extra["boxes"].shape)
    ((2, 16, 11), (2, 16, 4))
    """

    def __init__(
        self, classes: int, *, image_size: int = 32, channels: int = 1, width: int = 64,
        layers: int = 1, heads: int = 4,
    ) -> None:  # fmt: skip
        super().__init__()
        if image_size % STRIDE:
            raise ValueError(
                f"an image of {image_size} pixels cannot be cut into steps of {STRIDE}"
            )
        side = image_size // STRIDE
        # The last filter sees 20 pixels: a whole object, as the fully connected layer of a small
        # classifier does. Deep stacks of small filters found boxes as fast, and told classes later.
        self.backbone = nn.Sequential(
            nn.Conv2d(channels, 24, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(24, 48, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(48, 2 * width, 5, stride=2, padding=2), nn.ReLU(),
            nn.Conv2d(2 * width, width, 1),
        )  # fmt: skip
        self.places = nn.Parameter(0.02 * torch.randn(side * side, width))
        block = nn.TransformerEncoderLayer(
            width, heads, 4 * width, dropout=0.0, batch_first=True, norm_first=True
        )
        self.encoder = nn.TransformerEncoder(
            block, layers, nn.LayerNorm(width), enable_nested_tensor=False
        )
        self.name, self.box = nn.Linear(width, classes + 1), nn.Linear(width, 4)
        self.register_buffer("starts", _starts(side))

    def forward(
        self, pixel_values: Tensor, labels: Tensor | None = None, boxes: Tensor | None = None
    ) -> Output:
        """pixels (batch, channels, s, s) -> logits (batch, guesses, classes + 1).

        `labels` (batch, most), -1 for none, and `boxes` (batch, most, 4), middle and size in
        shares of the image, give the loss. `extra` holds `boxes` (batch, guesses, 4) of the same
        kind and, with labels, the `parts` of the loss.
        """
        features = self.backbone(pixel_values).flatten(2).transpose(1, 2)
        states = self.encoder(features + self.places)
        logits, guess = self.name(states), (self.box(states) + self.starts).sigmoid()
        loss = parts = None
        if labels is not None and boxes is not None:
            loss, parts = set_loss(logits, guess, labels, boxes)
        return Output(loss, logits, {"boxes": guess, "parts": parts})


def _starts(side: int) -> Tensor:
    """The middles of the places and a third of the image as size, before the sigmoid: (n, 4)."""
    middle = (torch.arange(side) + 0.5) / side
    y, x = torch.meshgrid(middle, middle, indexing="ij")
    size = torch.full((side, side), 1 / 3)
    return torch.logit(torch.stack((x, y, size, size), dim=-1).flatten(0, 1))


def detections(output: Output, side: int, *, least: float = 0.0) -> list[dict[str, Tensor]]:
    """The guesses of each image as `boxes` (n, 4) corners in pixels, `labels` and `scores` (n,).

    The label is the likeliest class but "nothing", the score its probability; guesses under `least`
    are left out. Nothing else is removed: for a curve of precision all are needed.
    """
    shares = output.logits.float().softmax(-1)[..., :-1]
    scores, labels = shares.max(-1)
    corners = to_corners(output.extra["boxes"].float()) * side
    return [
        {"boxes": box[kept], "labels": label[kept], "scores": score[kept]}
        for box, label, score in zip(corners, labels, scores, strict=True)
        for kept in [score >= least]
    ]
