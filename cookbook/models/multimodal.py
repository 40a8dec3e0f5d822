"""Images and text understood together: CLIP's two towers, and one encoder for both, as VL-BERT.

CLIP from `transformers`; the joint encoder by hand around a BERT. CLIP with convolutions, fit for
training from nothing, is in `two_towers`; models that write images or write about them are in
`image_tokens` and `bridge`. Chapters 05 and 14 use it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cookbook.models.outputs import Output
from cookbook.models.text import PAD, SPECIAL, configured, sized
from cookbook.models.vision import patched

if TYPE_CHECKING:
    from transformers import BertForMaskedLM, PreTrainedModel


def clip(
    size: str = "tiny", *, image_size: int = 8, channels: int = 1, vocab_size: int = 8192,
    length: int = 128, dropout: float = 0.0, **overrides: Any,
) -> PreTrainedModel:  # fmt: skip
    """CLIP: an image tower and a text tower; matching pairs end up close, all others apart.

        loss = (CE(s·I·Tᵀ, diagonal) + CE(s·T·Iᵀ, diagonal)) / 2,   I and T of length 1

    In a batch of n, each caption has to find its image among n, and each image its caption: no
    labels, and classes can be named afterwards in words (zero-shot). The scale s = 1/temperature is
    learned. The towers meet only in a product, so both sides can be computed beforehand and
    searched. Text is read causally, at its end token. `model(..., return_loss=True)` gives the
    loss. Radford et al., 2021, arXiv:2103.00020.
    """
    from transformers import CLIPConfig, CLIPModel

    hidden, layers, heads = sized(size)
    text = SPECIAL | {
        "vocab_size": vocab_size, "max_position_embeddings": length, "hidden_size": hidden,
        "num_hidden_layers": layers, "num_attention_heads": heads,
        "intermediate_size": 4 * hidden, "attention_dropout": dropout, "projection_dim": hidden,
    }  # fmt: skip
    image = patched(size, image_size, channels, dropout) | {"attention_dropout": dropout}
    for name in ("hidden_dropout_prob", "attention_probs_dropout_prob", "initializer_range"):
        del image[name]  # CLIP has a dropout of its attention only, and starts by a rule of its own
    settings = {"text_config": text, "vision_config": image | {"projection_dim": hidden}}
    settings |= {"projection_dim": hidden}
    return CLIPModel(configured(CLIPConfig, **(settings | overrides)))


class JointEncoder(nn.Module):
    """Words and image patches in one sequence, in the manner of VL-BERT.

        [CLS] a picture of [MASK] [SEP] patch_1 … patch_n        one encoder, every pair attends
        loss = CE(masked words) + MSE(pixels of masked patches)

    A masked word is guessed from words and image, a masked patch from patches and words: so they
    must be brought into relation in every layer, not only at the end as in CLIP. That makes it good
    at questions about an image, and slow at search: each pair has to be computed together. Segment
    0 is text, 1 image; patches share one text position, since their own place is in a table of
    their own. Su et al., 2020, arXiv:1908.08530, who take regions from a detector and guess their
    class; here they are a grid of patches and their pixels are guessed.
    """

    def __init__(self, bert: BertForMaskedLM, image_size: int, patch_size: int, channels: int):
        super().__init__()
        self.bert, self.patch_size = bert, patch_size
        width, patches = bert.config.hidden_size, (image_size // patch_size) ** 2
        self.look = nn.Linear(channels * patch_size**2, width)
        self.places, self.hidden = nn.Embedding(patches, width), nn.Parameter(torch.zeros(width))
        self.paint = nn.Linear(width, channels * patch_size**2)
        nn.init.normal_(self.places.weight, std=bert.config.initializer_range)

    def forward(
        self, input_ids: Tensor, pixel_values: Tensor, attention_mask: Tensor | None = None,
        labels: Tensor | None = None, hidden_patches: Tensor | None = None,
    ) -> Output:  # fmt: skip
        """ids (batch, T), pixels (batch, channels, s, s) -> logits of words (batch, T, vocabulary).

        `labels` (batch, T) with -100 where no word was masked; `hidden_patches` (batch, patches),
        bool, which are hidden and painted. `extra` holds `states` (batch, T + patches, width), of
        which the first is that of [CLS], and `painted` (batch, patches, pixels of a patch).
        """
        pixels = self.cut(pixel_values)
        shown = self.look(pixels)
        if hidden_patches is not None:
            shown = torch.where(hidden_patches[..., None], self.hidden, shown)
        states = self._encode(input_ids, shown + self.places.weight, attention_mask)
        logits = self.bert.cls(states[:, : input_ids.shape[1]])
        painted = self.paint(states[:, input_ids.shape[1] :])
        loss = None
        if labels is not None:
            loss = F.cross_entropy(logits.flatten(0, 1), labels.flatten(), ignore_index=-100)
        if hidden_patches is not None:
            error = F.mse_loss(painted[hidden_patches], pixels[hidden_patches])
            loss = error if loss is None else loss + error
        return Output(loss, logits, {"states": states, "painted": painted})

    def cut(self, pixel_values: Tensor) -> Tensor:
        """(batch, channels, s, s) -> (batch, patches, channels * patch_size²), row by row."""
        return F.unfold(pixel_values, self.patch_size, stride=self.patch_size).transpose(1, 2)

    def _encode(self, input_ids: Tensor, shown: Tensor, attention_mask: Tensor | None) -> Tensor:
        words = self.bert.get_input_embeddings()(input_ids)
        (batch, length), patches = input_ids.shape, shown.shape[1]
        kept = torch.ones_like(input_ids) if attention_mask is None else attention_mask
        places = torch.arange(length, device=input_ids.device)
        return self.bert.bert(
            inputs_embeds=torch.cat((words, shown), dim=1),
            attention_mask=torch.cat((kept, kept.new_ones(batch, patches)), dim=1),
            token_type_ids=torch.cat(
                (kept.new_zeros(batch, length), kept.new_ones(batch, patches)), 1
            ),
            position_ids=torch.cat((places, places.new_zeros(patches))).expand(batch, -1),
        ).last_hidden_state


def vl_bert(
    size: str = "tiny", *, image_size: int = 8, channels: int = 1, vocab_size: int = 8192,
    length: int = 128, dropout: float = 0.1, patch_size: int = 0, **overrides: Any,
) -> JointEncoder:  # fmt: skip
    """`JointEncoder` around a BERT of a size of `text.SIZES`; 4 x 4 patches unless told otherwise.

    Raises ValueError for an image that the patches do not fill.
    """
    from transformers import BertConfig, BertForMaskedLM

    patch = patch_size or max(1, image_size // 4)
    if image_size % patch:
        raise ValueError(f"patches of {patch} pixels do not fill an image of {image_size}")
    hidden, layers, heads = sized(size)
    settings = {
        "vocab_size": vocab_size, "max_position_embeddings": length, "hidden_size": hidden,
        "num_hidden_layers": layers, "num_attention_heads": heads,
        "intermediate_size": 4 * hidden, "hidden_dropout_prob": dropout,
        "attention_probs_dropout_prob": dropout, "pad_token_id": PAD,
    }  # fmt: skip
    bert = BertForMaskedLM(configured(BertConfig, **(settings | overrides)))
    return JointEncoder(bert, image_size, patch, channels)
