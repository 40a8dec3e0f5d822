"""What a trained classifier sees in each patch, said in the words of the text: object tags.

The visual side of a joint encoder, in the place of raw pixels: VL-BERT and its kin take features
of a trained detector too. A module for `JointEncoder.look`; it does not train the classifier.
Chapter 14 uses it.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn


class ObjectTags(nn.Module):
    """Pixels of patches to vectors: pixels projected, plus the embedding of what is seen in them.

        shown = W x + b + ink(x) * sum over classes k of  p(k | x) * embedding of the word of k

    `classifier` reads a patch as an image of its own and stays as it is; `words` is the embedding
    table of the text, shared, and `ids` are the words of the classes. So a patch that shows a 7
    begins near the word "7", and attention has something to match. A patch without ink (all pixels
    equal) has no tag: a classifier that knows no "nothing" would name one. Li et al. 2020
    (Oscar), arXiv:2004.06165.

    >>> from cookbook.models.convolutional import cnn
    >>> tags = ObjectTags(cnn(), nn.Embedding(30, 16), range(6, 16))
    >>> tuple(tags(torch.zeros(2, 9, 64)).shape)
    (2, 9, 16)
    """

    def __init__(
        self, classifier: nn.Module, words: nn.Embedding, ids: Sequence[int], *,
        patch_size: int = 8, channels: int = 1,
    ) -> None:  # fmt: skip
        super().__init__()
        self.shape = (channels, patch_size, patch_size)
        self.classifier, self.words = classifier.requires_grad_(False), words
        self.pixels = nn.Linear(channels * patch_size**2, words.embedding_dim)
        nn.init.normal_(self.pixels.weight, std=0.02)
        nn.init.zeros_(self.pixels.bias)
        self.register_buffer("ids", torch.tensor(list(ids)))

    def forward(self, pixels: Tensor) -> Tensor:
        """(batch, patches, pixels of a patch) -> (batch, patches, width)."""
        return self.pixels(pixels) + self.seen(pixels) @ self.words(self.ids)

    @torch.no_grad()
    def seen(self, pixels: Tensor) -> Tensor:
        """What the classifier makes of each patch: (batch, patches, classes), 0 without ink."""
        self.classifier.eval()  # its statistics are those it was trained with
        images = pixels.flatten(0, 1).unflatten(1, self.shape)
        shares = self.classifier(images).logits.softmax(-1).unflatten(0, pixels.shape[:2])
        ink = pixels.amax(-1) > pixels.amin(-1)
        return shares * ink[..., None]
