"""A classifier on the mean of a transformer's patches, in the place of its [CLS] token.

What a masked autoencoder is fine-tuned with: pretraining asks its patches for pixels and its [CLS]
for nothing, so that only the patches have learned anything. Not in the registry: it is a head, not
an architecture. Chapter 14 uses it.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from cookbook.models.outputs import Output


class PooledClassifier(nn.Module):
    """logits = W LayerNorm(mean over patches of encoder(x)) + b, the [CLS] token left out.

    `encoder` is a ViT of transformers without a head: it returns `last_hidden_state`
    (batch, 1 + patches, width). He et al. 2022, arXiv:2111.06377, whose code calls it global
    pooling and puts the norm behind the mean too.

    >>> import torch
    >>> from cookbook.models.registry import build
    >>> model = PooledClassifier(build("vit").vit, 10)
    >>> tuple(model(torch.zeros(2, 1, 8, 8)).logits.shape)
    (2, 10)
    """

    def __init__(self, encoder: nn.Module, classes: int) -> None:
        super().__init__()
        width = encoder.config.hidden_size
        self.vit, self.norm = encoder, nn.LayerNorm(width)
        self.classifier = nn.Linear(width, classes)
        nn.init.normal_(self.classifier.weight, std=0.02)  # the first loss is ln(classes)
        nn.init.zeros_(self.classifier.bias)

    def forward(self, pixel_values: Tensor, labels: Tensor | None = None) -> Output:
        """pixels (batch, channels, s, s) -> logits (batch, classes)."""
        patches = self.vit(pixel_values).last_hidden_state[:, 1:]
        logits = self.classifier(self.norm(patches.mean(1)))
        return Output(None if labels is None else F.cross_entropy(logits, labels), logits)
