"""What a masked language model gets right, and at which positions: everywhere, asked, hidden.

It measures and fills blanks; training is `pretraining`, and the loss and perplexity of a whole
split are `pretraining.evaluate_masked_lm`. Chapter 03 uses it to tell predicting from copying.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

from cookbook.training.loop import to_device
from cookbook.training.objectives import IGNORE, MaskedLMCollator
from cookbook.training.order import Keyed

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

Batch = dict[str, torch.Tensor]
WHERE = ("everywhere", "asked", "hidden")


def masked_batches(
    rows: Sequence[dict[str, Any]],
    tokenizer: PreTrainedTokenizerBase,
    *,
    batch_size: int = 32,
    whole_word: bool = False,
    seed: int = 12345,
) -> list[Batch]:
    """All of `rows` as batches of `MaskedLMCollator`: the same questions every time."""
    collate, keyed = MaskedLMCollator(tokenizer, whole_word=whole_word, seed=seed), Keyed(rows)
    starts = range(0, len(keyed), batch_size)
    return [collate([keyed[i] for i in range(s, min(s + batch_size, len(keyed)))]) for s in starts]


def original_tokens(batch: Batch) -> torch.Tensor:
    """(batch, length): the token ids before masking.

    >>> ids, labels = torch.tensor([[2, 4, 9, 0]]), torch.tensor([[-100, 7, -100, -100]])
    >>> original_tokens({"input_ids": ids, "labels": labels}).tolist()
    [[2, 7, 9, 0]]
    """
    return torch.where(batch["labels"] == IGNORE, batch["input_ids"], batch["labels"])


def labelled_share(batch: Batch) -> float:
    """Positions that carry a label, divided by the tokens that are not padding.

    About 0.15 where 15 % are masked. More than 1 means that padding is in the loss.

    >>> labels = torch.tensor([[-100, 7, -100, -100]])
    >>> labelled_share({"labels": labels, "attention_mask": torch.tensor([[1, 1, 0, 0]])})
    0.5
    """
    return int(batch["labels"].ne(IGNORE).sum()) / int(batch["attention_mask"].sum())


@contextlib.contextmanager
def evaluating(model: nn.Module) -> Iterator[nn.Module]:
    """Within, `model` is in evaluation mode and keeps no graph; each module's mode comes back.

    >>> model = nn.Sequential(nn.Dropout(), nn.Dropout().eval())
    >>> with evaluating(model):
    ...     assert not any(module.training for module in model.modules())
    >>> [module.training for module in model.modules()]
    [True, True, False]
    """
    training = [module for module in model.modules() if module.training]
    model.eval()
    try:
        with torch.no_grad():
            yield model
    finally:
        for module in training:  # one by one: a frozen part may have been in evaluation mode
            module.training = True


def accuracies(model: nn.Module, batches: Sequence[Batch], mask_id: int) -> dict[str, float]:
    """Share of right answers `everywhere` (padding too), where `asked`, and where `hidden`.

    Asked are the 15 % that carry a label; hidden are those of them that show the mask token. Of
    the others a tenth still shows the answer, so that copying alone scores 0.1 where asked.
    """
    right, count = np.zeros(len(WHERE)), np.zeros(len(WHERE))
    device = next(model.parameters()).device
    for batch in batches:
        batch = to_device(batch, device)
        inputs = {name: value for name, value in batch.items() if name != "labels"}
        with evaluating(model):
            hits = model(**inputs).logits.argmax(-1) == original_tokens(batch)
        asked = batch["labels"] != IGNORE
        places = (torch.ones_like(asked), asked, asked & (batch["input_ids"] == mask_id))
        right += [int(hits[where].sum()) for where in places]
        count += [int(where.sum()) for where in places]
    return dict(zip(WHERE, (right / np.maximum(count, 1)).tolist(), strict=True))


def compare(
    models: Mapping[str, tuple[PreTrainedModel, PreTrainedTokenizerBase]],
    texts: Sequence[str],
    *,
    length: int = 128,
) -> list[dict[str, Any]]:
    """Masked accuracy and perplexity of each model on `texts`, each cut by its own tokenizer.

    Models that share a tokenizer are asked the same questions. Others are not comparable to the
    digit: a coarse vocabulary has easier pieces. "unknown" is the share of tokens that the
    tokenizer has no piece for; where it has hardly any, the other two are nan.
    """
    from cookbook.training.pretraining import evaluate_masked_lm, masked_lm_rows

    table = []
    for name, (model, tokenizer) in models.items():
        rows = masked_lm_rows(texts, tokenizer, length)
        unknown = float((rows.input_ids == tokenizer.unk_token_id).sum()) / max(1, rows.tokens)
        found = {"masked_accuracy": np.nan, "perplexity": np.nan}
        if unknown < 0.5:
            found = evaluate_masked_lm(model, tokenizer, rows)
        table.append({"model": name, "masked accuracy": found["masked_accuracy"],
                      "perplexity": found["perplexity"], "unknown": unknown})  # fmt: skip
    return table


def fill(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, text: str, *, answers: int = 5
) -> list[tuple[str, float]]:
    """The likeliest tokens for the first [MASK] in `text`, with their probabilities, best first.

    `[MASK]` stands for whatever the tokenizer's mask token is called. Raises ValueError for a text
    without one, or one that has it beyond the model's length.
    """
    text = text.replace("[MASK]", tokenizer.mask_token)
    encoded = tokenizer(
        text, truncation=True, max_length=model.config.max_position_embeddings, return_tensors="pt"
    )
    places = (encoded["input_ids"][0] == tokenizer.mask_token_id).nonzero()
    if len(places) == 0:
        raise ValueError(f"there is no [MASK] to fill in {text[:60]!r}: write one into the text")
    with evaluating(model):
        logits = model(**encoded.to(model.device)).logits[0, int(places[0])]
    best = logits.float().softmax(-1).topk(answers)
    words = tokenizer.convert_ids_to_tokens(best.indices.tolist())
    return list(zip(words, best.values.tolist(), strict=True))
