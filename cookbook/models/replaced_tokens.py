"""ELECTRA: a small generator swaps tokens, a discriminator finds which.

The two networks are `transformers`' own; here they are coupled and their losses added up, which
the library leaves to its user. Chapters 04 and 06 use it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cookbook.models.outputs import Output
from cookbook.models.text import PAD, configured, sized

if TYPE_CHECKING:
    from transformers import ElectraForMaskedLM, ElectraForPreTraining


class ReplacedTokenDetection(nn.Module):
    """Generator and discriminator, trained together and not against each other.

        loss = MLM(generator, masked places) + λ · BCE(discriminator, every place)

    The generator guesses the masked tokens; one guess is drawn from its softmax and put into the
    text. The discriminator says for *every* token whether it was replaced: it learns from all
    places, not from 15 %, which is why it needs less computation than BERT. A guess that is right
    by chance counts as original. No gradient flows through the draw. Both share their embeddings.
    Only the discriminator is kept. λ = 50. Clark et al., 2020, arXiv:2003.10555.
    """

    def __init__(
        self, generator: ElectraForMaskedLM, discriminator: ElectraForPreTraining,
        *, weight: float = 50.0,
    ):  # fmt: skip
        super().__init__()
        self.generator, self.discriminator, self.weight = generator, discriminator, weight
        generator.electra.embeddings = discriminator.electra.embeddings
        generator.tie_weights()  # its output is the embedding matrix, now the shared one

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor | None = None, labels: Tensor | None = None
    ) -> Output:
        """Masked ids (batch, T), labels (batch, T) with -100 where nothing was masked.

        `logits` (batch, T) are the discriminator's: above 0 it calls a token replaced. `extra`
        holds `generator_loss`, `discriminator_loss`, the `corrupted` ids and which are `replaced`.
        Without labels the ids are taken as they are, and judged.
        """
        if labels is None:
            seen = self.discriminator(input_ids, attention_mask=attention_mask)
            return Output(None, seen.logits)
        guesses = self.generator(input_ids, attention_mask=attention_mask, labels=labels)
        corrupted = swap(input_ids, guesses.logits, labels)
        replaced = (labels != -100) & (corrupted != labels)
        logits = self.discriminator(corrupted, attention_mask=attention_mask).logits
        kept = torch.ones_like(replaced) if attention_mask is None else attention_mask.bool()
        found = F.binary_cross_entropy_with_logits(logits[kept], replaced[kept].to(logits.dtype))
        extra = {
            "generator_loss": guesses.loss, "discriminator_loss": found, "corrupted": corrupted,
            "replaced": replaced,
        }  # fmt: skip
        return Output(guesses.loss + self.weight * found, logits, extra)


def swap(input_ids: Tensor, logits: Tensor, labels: Tensor) -> Tensor:
    """`input_ids` (batch, T) with a draw from softmax(logits) wherever there is a label."""
    drawn = torch.distributions.Categorical(logits=logits.detach()).sample()
    return torch.where(labels != -100, drawn, input_ids)


def electra(
    size: str = "tiny", *, vocab_size: int = 8192, length: int = 128, dropout: float = 0.1,
    weight: float = 50.0, **overrides: Any,
) -> ReplacedTokenDetection:  # fmt: skip
    """ELECTRA, with a generator of half the discriminator's width (the paper: 1/4 to 1/2).

    `overrides` hold for both. See `ReplacedTokenDetection`; Clark et al., 2020, arXiv:2003.10555.
    """
    from transformers import ElectraConfig, ElectraForMaskedLM, ElectraForPreTraining

    hidden, layers, heads = sized(size)

    def config(width: int) -> ElectraConfig:
        settings = {
            "vocab_size": vocab_size, "embedding_size": hidden, "hidden_size": width,
            "num_hidden_layers": layers, "num_attention_heads": heads,
            "intermediate_size": 4 * width, "max_position_embeddings": length,
            "hidden_dropout_prob": dropout, "attention_probs_dropout_prob": dropout,
            "pad_token_id": PAD,
        }  # fmt: skip
        return configured(ElectraConfig, **(settings | overrides))

    generator = ElectraForMaskedLM(config(hidden // 2))
    return ReplacedTokenDetection(generator, ElectraForPreTraining(config(hidden)), weight=weight)
