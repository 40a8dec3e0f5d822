"""From logits to text: greedy, temperature, top-k, top-p, by hand and equal to `generate`.

Does: the three filters and the loop around them, for prompts of equal length. Does not: beam
search, or keep keys and values from step to step, which makes `generate` faster and its logits no
different. Used by chapter 04.
"""

from __future__ import annotations

import torch
from torch import Tensor


def temper(logits: Tensor, temperature: float) -> Tensor:
    """Logits divided by the temperature: below 1 the likely gets likelier, above 1 rarer.

    Equal to `TemperatureLogitsWarper`. Raises ValueError unless it is positive; 0 is greedy.

    >>> temper(torch.tensor([2.0, 1.0]), 0.5).tolist()
    [4.0, 2.0]
    """
    if temperature <= 0:
        raise ValueError(f"temperature is {temperature}: it divides, so it must be above 0")
    return logits / temperature


def keep_top_k(logits: Tensor, k: int) -> Tensor:
    """The k largest of each row (..., vocabulary); the others become -inf. Ties with the k-th stay.

    Equal to `TopKLogitsWarper`. Source: Fan et al. 2018, arXiv:1805.04833, section 5.4.

    >>> keep_top_k(torch.tensor([2.0, 1.0, 3.0]), 2).tolist()
    [2.0, -inf, 3.0]
    """
    if k < 1:
        raise ValueError(f"k is {k}: keep at least one token")
    least = logits.topk(min(k, logits.shape[-1])).values[..., -1:]
    return logits.masked_fill(logits < least, float("-inf"))


def keep_top_p(logits: Tensor, p: float) -> Tensor:
    """The fewest tokens of each row that are likely to `p` together; the others become -inf.

    A token goes if those that are likelier already reach p; the likeliest never does. Equal to
    `TopPLogitsWarper`. Source: Holtzman et al. 2020, arXiv:1904.09751, section 3.1.

    >>> keep_top_p(torch.tensor([0.5, 0.3, 0.2]).log(), 0.7).exp().tolist()[2]
    0.0
    """
    if not 0 < p <= 1:
        raise ValueError(f"p is {p}: it is a probability above 0")
    ordered, places = logits.sort(descending=True)
    shares = ordered.softmax(-1)
    before = shares.cumsum(-1) - shares
    dropped = torch.zeros_like(places, dtype=torch.bool).scatter(-1, places, before >= p)
    return logits.masked_fill(dropped, float("-inf"))


def next_shares(
    logits: Tensor, *, temperature: float = 1.0, top_k: int = 0, top_p: float = 1.0
) -> Tensor:
    """(…, vocabulary): the distribution that the next token is drawn from; rows add up to 1.

    Temperature first, then top-k, then top-p, as `generate` does; 0 and 1.0 leave a filter out. The
    order matters: a high temperature moves mass into the tail before top-p measures it.

    >>> next_shares(torch.tensor([2.0, 1.0, 0.0]), top_k=1).tolist()
    [1.0, 0.0, 0.0]
    """
    logits = temper(logits.float(), temperature)
    if top_k:
        logits = keep_top_k(logits, top_k)
    if top_p < 1:
        logits = keep_top_p(logits, top_p)
    return logits.softmax(-1)


@torch.no_grad()
def continue_ids(
    model: torch.nn.Module,
    ids: Tensor,
    *,
    tokens: int,
    greedy: bool = False,
    end_id: int | None = None,
    context: int = 0,
    generator: torch.Generator | None = None,
    **filters: float,
) -> Tensor:
    """`ids` (batch, prompt) continued to (batch, at most prompt + `tokens`), one token at a time.

    `filters` are those of `next_shares`. A row that has written `end_id` goes on with `end_id`; it
    stops when all have. `context` is the longest sequence that the model takes; the newest tokens
    are kept. Same tokens as `model.generate`, greedy or under the same seed.
    """
    training = model.training
    model.eval()
    done = torch.zeros(len(ids), dtype=torch.bool, device=ids.device)
    for _ in range(tokens):
        logits = model(input_ids=ids[:, -context:]).logits[:, -1]
        if greedy:
            new = logits.argmax(-1)
        else:
            new = torch.multinomial(next_shares(logits, **filters), 1, generator=generator)[:, 0]
        if end_id is not None:
            new = new.masked_fill(done, end_id)
            done |= new == end_id
        ids = torch.cat([ids, new[:, None]], 1)
        if done.all():
            break
    model.train(training)
    return ids


def distinct_share(ids: Tensor, n: int = 3) -> float:
    """Different runs of `n` tokens among all of them in the rows of `ids` (batch, length).

    Near 1 for rows that never repeat themselves or each other, 0.6 … 0.9 for ordinary text of a
    few thousand tokens. Source: Li et al. 2016, arXiv:1510.03055 ("distinct-n").

    >>> distinct_share(torch.tensor([[5, 6, 7, 5, 6, 7, 5]]), n=3)
    0.6
    """
    runs = ids.unfold(1, n, 1).reshape(-1, n)
    return len(runs.unique(dim=0)) / max(1, len(runs))
