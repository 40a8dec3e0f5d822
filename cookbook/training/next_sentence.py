"""Next sentence prediction: train it, ask it, and the two questions that explain its score.

The rows are `objectives.next_sentence_pairs`. `shared_words` answers without a model, `swapped`
asks whether a model noticed the order of the two parts. It does not train masked language
modelling beside it; chapter 03 shows that both losses are simply added.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from cookbook.training import loop
from cookbook.training.masked_accuracy import evaluating
from cookbook.training.objectives import next_sentence_pairs, sentences
from cookbook.training.order import Batches

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Row = Mapping[str, Any]


def pairs(
    texts: Sequence[str],
    tokenizer: PreTrainedTokenizerBase,
    *,
    length: int = 128,
    seed: int = 0,
    fewest: int = 16,
) -> list[dict[str, Any]]:
    """`objectives.next_sentence_pairs`, for texts of one sentence too.

    Where fewer than `fewest` texts have two sentences, every text is broken in its middle and the
    two halves take their place; a printed line says so. Raises ValueError for fewer than two texts
    of two words.
    """
    if sum(len(sentences(text)) >= 2 for text in texts) < fewest:
        print("hardly a text has two sentences: each is broken in its middle instead")
        texts = [_halves(text) for text in texts]
    return next_sentence_pairs(texts, tokenizer, length=length, seed=seed)


def _halves(text: str) -> str:
    """One text as two lines; between words, or between characters where there are no spaces."""
    text = " ".join(text.split())
    middle = len(text) // 2
    cut = text.rfind(" ", 0, middle + 1)
    cut = middle if cut < 1 else cut
    return f"{text[:cut].strip()}\n{text[cut:].strip()}"


def collate(rows: Sequence[Row], pad_id: int = 0) -> dict[str, torch.Tensor]:
    """A batch for `BertForNextSentencePrediction`, padded to its longest row.

    `labels` has shape (batch,), 0 where the second part follows; all else (batch, length).

    >>> pair = {"input_ids": [2, 7, 3, 8, 3], "token_type_ids": [0, 0, 0, 1, 1]}
    >>> batch = collate([{**pair, "next_sentence_label": 1}])
    >>> batch["labels"], batch["attention_mask"].sum().item()
    (tensor([1]), 5)
    """
    shape = (len(rows), max(len(row["input_ids"]) for row in rows))
    ids, segments = np.full(shape, pad_id, np.int64), np.zeros(shape, np.int64)
    mask = np.zeros(shape, np.int64)
    for place, row in enumerate(rows):
        length = len(row["input_ids"])
        ids[place, :length], segments[place, :length] = row["input_ids"], row["token_type_ids"]
        mask[place, :length] = 1
    arrays = {"input_ids": ids, "token_type_ids": segments, "attention_mask": mask}
    batch = {name: torch.from_numpy(array) for name, array in arrays.items()}
    return batch | {"labels": torch.tensor([row["next_sentence_label"] for row in rows])}


def train_pairs(
    model: torch.nn.Module,
    rows: Sequence[Row],
    *,
    steps: int,
    batch_size: int = 16,
    learning_rate: float = 5e-4,
    precision: str = "fp32",
    seed: int = 0,
    pad_id: int = 0,
) -> list[float]:
    """Train what is trainable of `model` in the plain loop; the loss of each step (nats).

    AdamW, a tenth of the steps for warm-up, then a linear decay. Raises ValueError when the rows do
    not fill one batch.
    """
    from tqdm.auto import tqdm

    from cookbook.training.schedules import scheduler

    batches = Batches(rows, batch_size, seed=seed, collate=lambda part: collate(part, pad_id))
    trainable = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trainable, learning_rate, weight_decay=0.01)
    rate = scheduler(optimizer, "linear", warmup=steps // 10, total=steps)
    with tqdm(total=steps, desc="next sentence", leave=False) as bar:
        return loop.train(
            model, batches, optimizer, rate, steps=steps, precision=precision,
            on_step=lambda step, loss: bar.update(),
        )  # fmt: skip


def says_other(
    model: torch.nn.Module, rows: Sequence[Row], *, batch_size: int = 64, pad_id: int = 0
) -> np.ndarray:
    """(rows,) int64: 1 where the model takes the second part for another document's, else 0."""
    found = [np.empty(0, np.int64)]
    for start in range(0, len(rows), batch_size):
        batch = collate(rows[start : start + batch_size], pad_id)
        batch = loop.to_device(batch, next(model.parameters()).device)
        del batch["labels"]
        with evaluating(model):
            found.append(model(**batch).logits.argmax(-1).cpu().numpy())
    return np.concatenate(found)


def labels_of(rows: Iterable[Row]) -> np.ndarray:
    """(rows,) int64: the `next_sentence_label` of each row."""
    return np.array([row["next_sentence_label"] for row in rows], np.int64)


def shared_words(rows: Iterable[Row], special: Iterable[int] = ()) -> np.ndarray:
    """(rows,) float: how much of the shorter part's vocabulary the other part has too, 0 … 1.

    The overlap coefficient (Szymkiewicz 1934, Simpson 1943) of the two sets of tokens, `special`
    ones left out. It knows nothing of order, grammar or meaning.

    >>> pair = {"input_ids": [2, 7, 9, 3, 9, 3], "token_type_ids": [0, 0, 0, 0, 1, 1]}
    >>> shared_words([pair], special=(2, 3)).tolist()
    [1.0]
    """
    special, found = set(special), []
    for row in rows:
        first, second = (set(part) - special for part in _parts(row))
        found.append(len(first & second) / max(1, min(len(first), len(second))))
    return np.array(found)


def best_threshold(scores: np.ndarray, labels: np.ndarray) -> float:
    """The score from which on to answer 0 (follows) so that most `labels` come out right.

    >>> best_threshold(np.array([0.1, 0.2, 0.6]), np.array([1, 1, 0]))
    0.6
    """
    candidates = [*np.unique(scores), np.inf]
    right = [((scores < threshold) == (labels == 1)).mean() for threshold in candidates]
    return float(candidates[int(np.argmax(right))])


def swapped(rows: Iterable[Row]) -> list[dict[str, Any]]:
    """The rows of one document (label 0) with their two parts exchanged.

    Both parts still tell of one thing, but the second now stands first: the negative example of
    sentence order prediction (Lan et al. 2020, ALBERT). The label is 1: it does not follow.

    >>> pair = {"input_ids": [2, 7, 3, 8, 9, 3], "token_type_ids": [0, 0, 0, 1, 1, 1]}
    >>> swapped([{**pair, "next_sentence_label": 0}])[0]["input_ids"]
    [2, 8, 9, 3, 7, 3]
    """
    made = []
    for row in rows:
        if row["next_sentence_label"] == 0:
            first, second = _parts(row)
            ids = [first[0], *second, *first[1:]]
            segments = [0] * (len(second) + 1) + [1] * (len(first) - 1)
            made.append({"input_ids": ids, "token_type_ids": segments, "next_sentence_label": 1})
    return made


def _parts(row: Row) -> tuple[list[int], list[int]]:
    """The tokens of the two segments, with the special tokens that belong to each."""
    cut = list(row["token_type_ids"]).index(1)
    ids = list(row["input_ids"])
    return ids[:cut], ids[cut:]
