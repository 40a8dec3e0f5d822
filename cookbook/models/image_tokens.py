"""Images from text in the manner of DALL-E: an image becomes a few codes, a decoder writes them.

First an autoencoder learns a dictionary of image parts (VQ-VAE), then a causal transformer learns
to continue a caption with the codes of its image. Two models, trained one after the other; no
diffusion, no reranking. Chapter 14 uses it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cookbook.models.generative import gpt2
from cookbook.models.outputs import Output
from cookbook.models.text import PAD, sized

if TYPE_CHECKING:
    from transformers import GPT2LMHeadModel

GRID = 4  # an image becomes 4 x 4 codes, whatever its size


class VectorQuantizer(nn.Module):
    """Replaces each vector by the nearest of a learned list, and lets gradients past.

        k = argmin_j |z - e_j|²,   q = z + stop(e_k - z)
        loss = |stop(z) - e_k|² + β |z - stop(e_k)|²

    The choice has no gradient, so the decoder's is handed to the encoder as it is (straight
    through): dq/dz = 1. The first term of the loss draws the code to its vectors, the second keeps
    the vectors near their code. Random codes would mostly never be the nearest and never learn, so
    they start as vectors of the first batch. van den Oord et al., 2017, arXiv:1711.00937; β = 0.25.
    """

    def __init__(self, codes: int, width: int, *, beta: float = 0.25):
        super().__init__()
        self.codes, self.beta = nn.Embedding(codes, width), beta
        self.register_buffer("started", torch.tensor(False))

    def forward(self, z: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """z (..., width) -> q like z, the numbers of the codes (...), the loss."""
        if not self.started:
            self._start(z.detach().flatten(0, -2))
        numbers = self.nearest(z)
        code = self.codes(numbers)
        loss = F.mse_loss(code, z.detach()) + self.beta * F.mse_loss(z, code.detach())
        return z + (code - z).detach(), numbers, loss

    def nearest(self, z: Tensor) -> Tensor:
        """(..., width) -> (...), the number of the nearest code; the first of equals."""
        e = self.codes.weight
        # |z|² is the same for all codes and is left out
        return (e.square().sum(-1) - 2 * z @ e.T).argmin(-1)

    @torch.no_grad()
    def _start(self, vectors: Tensor) -> None:
        chosen = torch.randint(len(vectors), (self.codes.num_embeddings,), device=vectors.device)
        noise = 0.01 * vectors.std() * torch.randn_like(vectors[chosen])  # no two exactly alike
        self.codes.weight.copy_(vectors[chosen] + noise)
        self.started.fill_(True)


class ImageTokenizer(nn.Module):
    """VQ-VAE: convolutions halve the image down to 4 x 4 vectors, codes, and back to pixels.

        loss = MSE(image, decoded) + the quantizer's loss

    What the codes cannot say is lost: look at reconstructions before training anything on codes.
    DALL-E's own tokenizer draws soft choices instead (Gumbel softmax). van den Oord et al., 2017.
    Raises ValueError for an image that halvings do not bring to 4 x 4.

    >>> model = ImageTokenizer(16, 1, codes=32, width=8)
    >>> tuple(model.encode(torch.zeros(2, 1, 16, 16)).shape)
    (2, 16)
    """

    def __init__(self, image_size: int, channels: int, codes: int, width: int):
        super().__init__()
        halvings = (image_size // GRID).bit_length() - 1
        if image_size != GRID << halvings or not halvings:
            raise ValueError(f"{image_size} pixels cannot be halved to {GRID}: use 8, 16, 32 or 64")
        down = [nn.Conv2d(channels, width, 3, padding=1), nn.ReLU()]
        up: list[nn.Module] = [nn.Conv2d(width, width, 3, padding=1), nn.ReLU()]
        for _ in range(halvings):
            down += [nn.Conv2d(width, width, 4, stride=2, padding=1), nn.ReLU()]
            up += [nn.ConvTranspose2d(width, width, 4, stride=2, padding=1), nn.ReLU()]
        self.encoder = nn.Sequential(*down, nn.Conv2d(width, width, 1))
        self.quantizer = VectorQuantizer(codes, width)
        self.decoder = nn.Sequential(*up, nn.Conv2d(width, channels, 3, padding=1))

    def forward(self, pixel_values: Tensor) -> Output:
        """pixels (batch, channels, s, s) -> `logits`: pixels again; `extra`: codes (batch, 16)."""
        quantized, numbers, loss = self.quantizer(self._vectors(pixel_values))
        decoded = self._paint(quantized)
        return Output(F.mse_loss(decoded, pixel_values) + loss, decoded, numbers)

    def encode(self, pixel_values: Tensor) -> Tensor:
        """(batch, channels, s, s) -> codes (batch, 16), row by row."""
        return self.quantizer(self._vectors(pixel_values))[1]

    def decode(self, numbers: Tensor) -> Tensor:
        """Codes (batch, 16) -> pixels."""
        return self._paint(self.quantizer.codes(numbers))

    def _vectors(self, pixel_values: Tensor) -> Tensor:
        return self.encoder(pixel_values).flatten(2).transpose(1, 2)

    def _paint(self, vectors: Tensor) -> Tensor:
        return self.decoder(vectors.transpose(1, 2).unflatten(2, (GRID, GRID)))


class TextToImage(nn.Module):
    """DALL-E in small: one causal transformer over the caption's tokens and the image's codes.

        P(caption, image) = Π P(token_i | tokens before) · Π P(code_j | caption, codes before)
        loss = (CE(text) + 7 CE(codes)) / 8

    Codes are words of the same vocabulary, numbered behind the text's, and the last word of all
    says that the image begins: the first code is predicted there, however much padding a caption
    has. The tokenizer of images is trained beforehand and frozen here. Ramesh et al., 2021,
    arXiv:2102.12092.
    """

    def __init__(self, tokenizer: ImageTokenizer, decoder: GPT2LMHeadModel, text_vocabulary: int):
        """Raises ValueError where the decoder's vocabulary does not hold both."""
        super().__init__()
        codes = tokenizer.quantizer.codes.num_embeddings
        if decoder.config.vocab_size != text_vocabulary + codes + 1:
            raise ValueError(
                f"the decoder knows {decoder.config.vocab_size} tokens and needs "
                f"{text_vocabulary} of text + {codes} codes + 1"
            )
        self.tokenizer, self.decoder = tokenizer.requires_grad_(False), decoder
        self.text_vocabulary = text_vocabulary

    def forward(
        self, input_ids: Tensor, pixel_values: Tensor, attention_mask: Tensor | None = None
    ) -> Output:
        """Captions (batch, T), pixels -> logits (batch, T + 17, text vocabulary + codes + 1).

        `extra` holds `text_loss` and `image_loss`, in nats a token.
        """
        with torch.no_grad():
            codes = self.tokenizer.encode(pixel_values)
        sequence, kept = self._joined(input_ids, attention_mask, codes)
        logits = self.decoder(sequence, attention_mask=kept).logits
        target = sequence.masked_fill(~kept, -100)
        losses = F.cross_entropy(logits[:, :-1].transpose(1, 2), target[:, 1:], reduction="none")
        length = input_ids.shape[1]  # where the image begins, and the first code is predicted
        text = losses[:, : length - 1].sum() / kept[:, 1:length].sum()
        image = losses[:, length:].mean()
        return Output((text + 7 * image) / 8, logits, {"text_loss": text, "image_loss": image})

    @torch.no_grad()
    def generate(
        self, input_ids: Tensor, attention_mask: Tensor | None = None, *, temperature: float = 1.0
    ) -> Tensor:
        """Captions (batch, T) -> pixels: 16 codes drawn one after the other; greedy at 0."""
        codes = input_ids.new_empty(len(input_ids), 0)
        for _ in range(GRID * GRID):
            sequence, kept = self._joined(input_ids, attention_mask, codes)
            logits = self.decoder(sequence, attention_mask=kept).logits
            scores = logits[:, -1, self.text_vocabulary : -1]  # words cannot be painted
            if temperature:
                drawn = torch.multinomial((scores / temperature).softmax(-1), 1)
            else:
                drawn = scores.argmax(-1, keepdim=True)
            codes = torch.cat((codes, drawn), dim=1)
        return self.tokenizer.decode(codes)

    def _joined(
        self, input_ids: Tensor, attention_mask: Tensor | None, codes: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Caption, the word that begins an image, codes; and which of them are not padding."""
        begin = input_ids.new_full((len(input_ids), 1), self.decoder.config.vocab_size - 1)
        kept = input_ids != PAD if attention_mask is None else attention_mask.bool()
        written = torch.cat((begin, codes + self.text_vocabulary), dim=1)
        return (
            torch.cat((input_ids, written), dim=1),
            torch.cat((kept, torch.ones_like(written, dtype=torch.bool)), dim=1),
        )


def image_tokenizer(
    size: str = "tiny", *, image_size: int = 8, channels: int = 1, codes: int = 64,
    dropout: float = 0.0,
) -> ImageTokenizer:  # fmt: skip
    """`ImageTokenizer` of a size of `text.SIZES`; it has no `dropout`, which must stay 0."""
    if dropout:
        raise ValueError("the image tokenizer has no dropout: leave it 0")
    return ImageTokenizer(image_size, channels, codes, sized(size)[0])


def text_to_image(
    size: str = "tiny", *, image_size: int = 8, channels: int = 1, vocab_size: int = 8192,
    length: int = 128, dropout: float = 0.1, codes: int = 64,
    tokenizer: ImageTokenizer | None = None, **overrides: Any,
) -> TextToImage:  # fmt: skip
    """`TextToImage` with a GPT-2 of a size of `text.SIZES`, captions of up to `length` tokens.

    Hand over a trained `tokenizer`: without one it gets a random one, whose codes mean little.
    """
    tokenizer = tokenizer or image_tokenizer(
        size, image_size=image_size, channels=channels, codes=codes
    )
    both = vocab_size + tokenizer.quantizer.codes.num_embeddings + 1
    decoder = gpt2(
        size, vocab_size=both, length=length + GRID * GRID + 1, dropout=dropout, **overrides
    )
    return TextToImage(tokenizer, decoder, vocab_size)
