"""Two texts at once: do they belong together, and how alike are they?

Makes labelled pairs out of texts that belong together, in the way that gives nothing away and in
one that does; scores half a pair; trains a head that answers with a number. Classes of pairs are
`strategies.fine_tune`'s, which joins a `text_pair` on. Chapter 15 uses it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from cookbook.data import splits
from cookbook.finetuning.encoding import collator, encode_rows, predict
from cookbook.finetuning.tuning import ask, tune
from cookbook.models.initialization import load_model, load_tokenizer

if TYPE_CHECKING:
    from datasets import Dataset, DatasetDict

NAMES = ["other", "same"]


def matched(part: Dataset, *, seed: int = 0) -> Dataset:
    """Each pair once as it is ("same"), and once with the second text of another row ("other").

    The second texts of "other" are those of "same", dealt out anew: each occurs once with either
    label, and so does each first text. Whoever reads one half only cannot beat a coin. Columns
    text, text_pair, label; rows of "same" come first.
    """
    second = list(part["text_pair"])
    return _labelled(part["text"], second, [second[i] for i in _dealt(len(second), seed)])


def mismatched(part: Dataset, pool: Sequence[str], *, seed: int = 0) -> Dataset:
    """The careless way: the second texts of "other" are drawn from a pool of their own.

    Who knows the pool knows the label, whatever the first text says.
    """
    drawn = np.random.default_rng(seed).integers(0, len(pool), len(part))
    return _labelled(part["text"], part["text_pair"], [pool[i] for i in drawn])


def ways(
    dataset: DatasetDict, rows: int, held_out: int, *, seed: int = 0
) -> dict[str, DatasetDict]:
    """Labelled pairs by their origin: at most `rows` to train on, `held_out` in other splits.

    "as given"; or, where no label is given, made in both ways: "dealt out" is `matched`; "from one
    pool" is the careless way: in every split the second texts of "other" are drawn from twenty
    rows of the training split.
    """
    from datasets import DatasetDict

    if "label" in dataset["train"].column_names:
        return {"as given": splits.few(dataset, rows, held_out, seed=seed)}
    some = splits.few(dataset, rows // 2, held_out // 2, seed=seed)
    pool = list(some["train"]["text_pair"][:20])
    dealt = {name: matched(part, seed=seed) for name, part in some.items()}
    drawn = {name: mismatched(part, pool, seed=seed) for name, part in some.items()}
    return {"dealt out": DatasetDict(dealt), "from one pool": DatasetDict(drawn)}


def graded(dataset: DatasetDict) -> bool:
    """Whether the label is a number ("how alike?"), not a class ("do they belong together?")."""
    from datasets import ClassLabel

    return not isinstance(dataset["train"].features["label"], ClassLabel)


def score(answers: Sequence, dataset: DatasetDict) -> float:
    """Of answers to the test rows: Spearman's correlation for numbers, accuracy for classes."""
    from scipy.stats import spearmanr

    answers, truth = np.asarray(answers), np.asarray(dataset["test"]["label"])
    if not graded(dataset):
        return float((answers == truth).mean())
    constant = np.ptp(answers) == 0 or np.ptp(truth) == 0  # then there is no order to compare
    return 0.0 if constant else float(spearmanr(answers, truth)[0])


def opponents(
    dataset: DatasetDict, model: str = "", *, max_length: int = 96, precision: str = "fp32"
) -> dict[str, np.ndarray]:
    """Answers to the test rows that train no network: (rows,) each.

    "always the mean", or "most frequent"; "words in common" and, where `model` is given, "cosines",
    cut where it serves the training rows best if there are two classes, and left out if there are
    more; for classes "TF-IDF + linear" over both texts.
    """
    from cookbook.finetuning import baselines

    numbers, truth = graded(dataset), np.asarray(dataset["train"]["label"])
    if numbers:
        found = {"always the mean": np.full(len(dataset["test"]), truth.mean())}
    else:
        found = {"most frequent": baselines.majority(dataset).predictions}
        found["TF-IDF + linear"] = baselines.tfidf(dataset).predictions
    if numbers or dataset["train"].features["label"].num_classes == 2:
        alike = {"words in common": lambda part: overlap(part["text"], part["text_pair"])}
        if model:
            alike["cosines"] = lambda part: cosines(
                model, part, max_length=max_length, precision=precision
            )
        for name, measure in alike.items():
            answers = measure(dataset["test"])
            if not numbers:
                answers = (answers > threshold(measure(dataset["train"]), truth)).astype(int)
            found[name] = answers
    return found


def cosines(
    model: str, part: Dataset, *, max_length: int = 96, precision: str = "fp32"
) -> np.ndarray:
    """(rows,) float: cosine of the mean hidden states of both texts, by an encoder as it is."""
    tokenizer, encoder = load_tokenizer(model), load_model(model, "encoder")
    sides = []
    for column in ("text", "text_pair"):
        coded = tokenizer(list(part[column]), truncation=True, max_length=max_length)
        rows = [{name: coded[name][i] for name in coded} for i in range(len(part))]
        found = predict(encoder, rows, tokenizer, precision=precision, features=True)
        sides.append(found / np.linalg.norm(found, axis=1, keepdims=True))
    return (sides[0] * sides[1]).sum(1)


def half(dataset: DatasetDict) -> DatasetDict:
    """The same rows and labels with the second text alone, as column `text`."""
    return dataset.remove_columns("text").rename_column("text_pair", "text")


def overlap(texts: Sequence[str], others: Sequence[str]) -> np.ndarray:
    """(rows,) float: cosine of the TF-IDF vectors of the two texts, words as `lexical` cuts them.

    >>> overlap(["sort a list", "read"], ["list sort", "write"]).round(2).tolist()
    [1.0, 0.0]
    """
    from sklearn.feature_extraction.text import TfidfVectorizer

    from cookbook.evaluation.lexical import words

    vectors = TfidfVectorizer(analyzer=words, sublinear_tf=True).fit([*texts, *others])
    first, second = vectors.transform(texts), vectors.transform(others)
    return np.asarray(first.multiply(second).sum(1)).ravel()


def threshold(scores: np.ndarray, labels: Sequence[int]) -> float:
    """The cut above which rows are called 1 that gets most of these rows right; the first such.

    >>> threshold(np.array([0.1, 0.2, 0.8]), [0, 0, 1])
    0.5
    """
    order = np.argsort(scores)
    ranked, truth = scores[order], np.asarray(labels)[order]
    below = np.concatenate(([0], np.cumsum(truth == 0)))
    above = truth.sum() - np.concatenate(([0], np.cumsum(truth == 1)))
    edges = np.concatenate(([-np.inf], (ranked[1:] + ranked[:-1]) / 2, [np.inf]))
    between = np.concatenate(([True], ranked[1:] > ranked[:-1], [True]))  # equals cannot be parted
    return float(edges[np.where(between, below + above, -1).argmax()])


def rate(
    model: str,
    dataset: DatasetDict,
    *,
    seed: int = 0,
    max_length: int = 96,
    precision: str = "fp32",
    **training: Any,
) -> np.ndarray:
    """Fine-tune a head of one number on `label` by its squared error; its answers on the test rows.

    (rows,) float32. Labels are scaled to mean 0 and variance 1 for training, and back; of four
    looks the one with the best Spearman correlation on the validation rows is kept.
    """
    from scipy.stats import spearmanr

    tokenizer = load_tokenizer(model)
    rows = {name: encode_rows(part, tokenizer, max_length) for name, part in dataset.items()}
    mean, spread = np.mean(dataset["train"]["label"]), np.std(dataset["train"]["label"]) + 1e-9
    for part in rows.values():
        for row in part:
            row["labels"] = float((row["labels"] - mean) / spread)
    pad, head = collator(tokenizer), {"num_labels": 1, "problem_type": "regression"}
    rater = load_model(model, "classification", seed=seed, **head)

    def answers(split: str) -> np.ndarray:
        return np.array([one[0][0] for one in ask(rater, rows[split], pad, precision=precision)])

    def score(_: Any) -> float:
        return float(
            np.nan_to_num(spearmanr(answers("validation"), dataset["validation"]["label"])[0])
        )

    tune(rater, rows["train"], pad, seed=seed, precision=precision, score=score, **training)
    return answers("test") * spread + mean


def _dealt(rows: int, seed: int) -> np.ndarray:
    """A permutation that leaves nobody in place: a random circle."""
    order = np.random.default_rng(seed).permutation(rows)
    dealt = np.empty(rows, int)
    dealt[order] = np.roll(order, 1)
    return dealt


def _labelled(first: Sequence[str], same: Sequence[str], other: Sequence[str]) -> Dataset:
    from datasets import ClassLabel, Dataset, Features, Value

    features = Features(
        {"text": Value("string"), "text_pair": Value("string"), "label": ClassLabel(names=NAMES)}
    )
    rows = {
        "text": [*first, *first], "text_pair": [*same, *other],
        "label": [1] * len(same) + [0] * len(other),
    }  # fmt: skip
    return Dataset.from_dict(rows, features=features)
