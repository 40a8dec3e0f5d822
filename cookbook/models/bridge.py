"""A language model that is shown images, in the manner of Flamingo: gated cross-attention.

The bridge between two pretrained models that stay as they are. One image in front of a text, no
interleaved series of images, no video. Chapter 14 uses it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from cookbook.models.generative import gpt2
from cookbook.models.outputs import Output
from cookbook.models.text import configured
from cookbook.models.vision import patched

if TYPE_CHECKING:
    from transformers import GPT2LMHeadModel, PreTrainedModel


class Resampler(nn.Module):
    """Any number of image features into a fixed number of vectors: learned queries look at them.

        x ← x + attention(queries x, keys and values [features; x]);   x ← x + FFN(x)

    So the language model pays the same for a stamp and for a poster. A Perceiver; Flamingo,
    section 2.1.
    """

    def __init__(self, features: int, width: int, heads: int, *, latents: int = 8, layers: int = 1):
        super().__init__()
        self.latents = nn.Parameter(torch.randn(latents, width) * width**-0.5)
        self.project = nn.Linear(features, width)
        self.layers = nn.ModuleList(_Attending(width, heads) for _ in range(layers))
        self.norm = nn.LayerNorm(width)

    def forward(self, features: Tensor) -> Tensor:
        """(batch, any, features) -> (batch, latents, width)."""
        features = self.project(features)
        x = self.latents.expand(len(features), -1, -1)
        for layer in self.layers:
            x = x + layer.attend(x, torch.cat((features, x), dim=1))
            x = x + layer.feed_forward(x)
        return self.norm(x)


class GatedCrossAttention(nn.Module):
    """Lets text look at an image, through a gate that is shut at the start.

        x ← x + tanh(α) · attention(queries x, keys and values image)
        x ← x + tanh(β) · FFN(x)

    With α = β = 0 it is the identity, to the last bit: the language model begins as what it was,
    and training opens the gates as far as it helps. Alayrac et al., 2022, arXiv:2204.14198, fig. 4.
    """

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.inner = _Attending(width, heads)
        self.alpha, self.beta = nn.Parameter(torch.zeros(())), nn.Parameter(torch.zeros(()))

    def forward(self, x: Tensor, image: Tensor) -> Tensor:
        """Text (batch, T, width), image (batch, latents, width) -> like x."""
        x = x + self.alpha.tanh() * self.inner.attend(x, image)
        return x + self.beta.tanh() * self.inner.feed_forward(x)


class _Attending(nn.Module):
    """Cross-attention and a feed-forward layer, each with a norm before it and no residual."""

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.norm, self.attention = (
            nn.LayerNorm(width), nn.MultiheadAttention(width, heads, batch_first=True),
        )  # fmt: skip
        self.feed_forward = nn.Sequential(
            nn.LayerNorm(width), nn.Linear(width, 4 * width), nn.GELU(),
            nn.Linear(4 * width, width),
        )  # fmt: skip

    def attend(self, x: Tensor, memory: Tensor) -> Tensor:
        return self.attention(self.norm(x), memory, memory, need_weights=False)[0]


class _Bridged(nn.Module):
    """A block of the language model behind a gate; without an image it is the block alone."""

    def __init__(self, gate: GatedCrossAttention, block: nn.Module):
        super().__init__()
        self.gate, self.block, self.image = gate, block, None

    def forward(self, x: Tensor, *args: Any, **kwargs: Any) -> Any:
        return self.block(x if self.image is None else self.gate(x, self.image), *args, **kwargs)


class FlamingoBridge(nn.Module):
    """A GPT-2 and an image encoder, both kept as they are; gates before every n-th block are new.

    Only the resampler and the gates are trained: a few per cent of the weights in the paper, and
    what the language model knew is not forgotten. `every` is n. `frozen=False` trains all, which
    makes sense only where there is nothing to keep. Alayrac et al., 2022, arXiv:2204.14198.
    """

    def __init__(
        self, language: GPT2LMHeadModel, vision: PreTrainedModel,
        *, latents: int = 8, every: int = 1, frozen: bool = True,
    ):  # fmt: skip
        super().__init__()
        width, heads = language.config.n_embd, language.config.n_head
        self.language = language.requires_grad_(not frozen)
        self.vision = vision.requires_grad_(not frozen)
        self.resampler = Resampler(vision.config.hidden_size, width, heads, latents=latents)
        blocks = language.transformer.h
        for place in range(0, len(blocks), every):
            blocks[place] = _Bridged(GatedCrossAttention(width, heads), blocks[place])
        self.bridged = [block for block in blocks if isinstance(block, _Bridged)]

    @property
    def gates(self) -> list[float]:
        """How far each gate is open, tanh α and tanh β in turn; all 0 at the start."""
        doors = [door for b in self.bridged for door in (b.gate.alpha, b.gate.beta)]
        return [float(door.detach().tanh()) for door in doors]

    def look(self, pixel_values: Tensor | None) -> None:
        """Show these images (batch, channels, s, s) to all that follows; None takes them away.

        So `bridge.language.generate(...)` writes about them.
        """
        image = None
        if pixel_values is not None:
            image = self.resampler(self.vision(pixel_values).last_hidden_state)
        for block in self.bridged:
            block.image = image

    def forward(
        self, input_ids: Tensor, pixel_values: Tensor | None = None,
        attention_mask: Tensor | None = None, labels: Tensor | None = None,
    ) -> Output:  # fmt: skip
        """ids (batch, T), pixels or None -> logits (batch, T, vocabulary); labels unshifted."""
        self.look(pixel_values)
        output = self.language(input_ids, attention_mask=attention_mask, labels=labels)
        self.look(None)
        return Output(output.loss, output.logits)


def flamingo(
    size: str = "tiny", *, image_size: int = 8, channels: int = 1, vocab_size: int = 8192,
    length: int = 128, dropout: float = 0.1, latents: int = 8, every: int = 1,
) -> FlamingoBridge:  # fmt: skip
    """`FlamingoBridge` between a random GPT-2 and a random ViT, which therefore all train.

    With pretrained parts call the class: it freezes them.
    """
    from transformers import ViTConfig, ViTModel

    config = configured(ViTConfig, **patched(size, image_size, channels, dropout))
    language = gpt2(size, vocab_size=vocab_size, length=length, dropout=dropout)
    vision = ViTModel(config, add_pooling_layer=False)
    return FlamingoBridge(language, vision, latents=latents, every=every, frozen=False)
