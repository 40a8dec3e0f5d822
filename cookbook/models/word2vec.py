"""Word2Vec: one vector per word, learned from which words stand near each other.

Skip-gram with negative sampling: the pairs, the sampler and the loss. No context at use: "bank"
has one vector, of the river and of the money; that is what ELMo and BERT changed. Chapters 04 and
06 use it.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cookbook.models.outputs import Output
from cookbook.models.text import sized


class Word2Vec(nn.Module):
    """Skip-gram with negative sampling: tell a true neighbour from k words drawn at random.

        loss = -log σ(u_o · v_c) - Σ_k log σ(-u_k · v_c)

    v are the vectors of centres, u those of contexts; one softmax over the vocabulary becomes k+1
    yes-or-no questions. What v is used for is its directions. u starts at zero, so the first loss
    is exactly (k+1) ln 2. Mikolov et al., 2013, arXiv:1310.4546.

    >>> model = Word2Vec(vocab_size=9, width=4)
    >>> ids = torch.tensor([5, 6])
    >>> round(float(model(ids, ids, torch.tensor([[7, 8], [7, 8]])).loss.detach()), 4)  # 3 ln 2
    2.0794
    """

    def __init__(self, vocab_size: int, width: int):
        super().__init__()
        self.centres, self.contexts = (nn.Embedding(vocab_size, width) for _ in range(2))
        nn.init.uniform_(self.centres.weight, -0.5 / width, 0.5 / width)
        nn.init.zeros_(self.contexts.weight)

    def forward(self, centres: Tensor, contexts: Tensor, negatives: Tensor) -> Output:
        """centres (pairs,), contexts (pairs,), negatives (pairs, k) -> logits (pairs, 1 + k).

        The first column belongs to the true context.
        """
        asked = self.contexts(torch.cat((contexts[:, None], negatives), dim=1))
        logits = torch.einsum("pkw,pw->pk", asked, self.centres(centres))
        truth = F.one_hot(torch.zeros_like(contexts), logits.shape[1]).to(logits.dtype)
        loss = F.binary_cross_entropy_with_logits(logits, truth, reduction="none")
        return Output(loss.sum(1).mean(), logits)

    def neighbours(self, word: int, count: int = 5) -> list[int]:
        """The ids whose vectors point most nearly the same way, the nearest first."""
        unit = F.normalize(self.centres.weight.detach(), dim=1)
        return (unit @ unit[word]).topk(count + 1).indices[1:].tolist()


def skip_gram_pairs(ids: Tensor, window: int = 2) -> tuple[Tensor, Tensor]:
    """Every (centre, context) at most `window` apart in a text (T,); both (pairs,).

    >>> [p.tolist() for p in skip_gram_pairs(torch.tensor([5, 6, 7]), window=1)]
    [[5, 6, 6, 7], [6, 5, 7, 6]]
    """
    places = torch.arange(len(ids), device=ids.device)
    near = (places[:, None] - places).abs() <= window
    centres, contexts = (near & ~torch.eye(len(ids), dtype=torch.bool, device=ids.device)).nonzero(
        as_tuple=True
    )
    return ids[centres], ids[contexts]


def draw_negatives(
    counts: Tensor, pairs: int, k: int = 5, *, generator: torch.Generator | None = None
) -> Tensor:
    """(pairs, k) ids, drawn in proportion to `counts ** 0.75`; counts (vocabulary,).

    The power gives rare words more than their share. A true context may be drawn too, as in the
    published code.
    """
    return torch.multinomial(
        counts.double() ** 0.75, pairs * k, replacement=True, generator=generator
    ).reshape(pairs, k)


def word2vec(
    size: str = "tiny", *, vocab_size: int = 8192, length: int = 128, dropout: float = 0.0
) -> Word2Vec:
    """`Word2Vec` with the width of a size of `text.SIZES`; it has no length and no dropout.

    >>> word2vec("mini", vocab_size=50).centres
    Embedding(50, 128)
    """
    return Word2Vec(vocab_size, sized(size)[0])
