"""What a fine-tuned model has to beat: the majority class, and words counted by a linear model.

Both come back as the same `Result` as a strategy's run, so one table holds them all. Chapters 00
and 07 use them.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import numpy as np

from cookbook.evaluation.metrics import classification_metrics
from cookbook.finetuning.encoding import classes_of
from cookbook.finetuning.results import Result

if TYPE_CHECKING:
    from datasets import Dataset, DatasetDict

# The most frequent words and pairs are enough: with all 350,000 of 9,600 docstrings a fit takes six
# times as long, and the accuracy changes by less than a point.
FEATURES = 50_000


def majority(dataset: DatasetDict) -> Result:
    """Always the most frequent class of the training split; it never looks at the input."""
    classes = len(classes_of(dataset))
    answer = np.bincount(dataset["train"]["label"], minlength=classes).argmax()
    logits = {
        name: np.tile(np.eye(classes)[answer], (len(part), 1)) for name, part in dataset.items()
    }
    return _result("majority class", logits, dataset, classes, 0.0, 0)


def tfidf(dataset: DatasetDict, *, seed: int = 0, rates: tuple = (1.0, 10.0, 100.0)) -> Result:
    """TF-IDF of words and word pairs, then logistic regression; the validation split chooses C.

    Words are runs of letters and digits; where most texts have no space, as in Chinese, runs of one
    to three characters are counted instead. `rates` are the values of C, the inverse strength of
    the penalty. It is deterministic: one seed says all.
    """
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression

    began, classes = time.perf_counter(), len(classes_of(dataset))
    texts = {name: _texts(part) for name, part in dataset.items()}
    spaced = np.mean([" " in text for text in texts["train"]]) > 0.5
    counting = {"ngram_range": (1, 2)} if spaced else {"analyzer": "char", "ngram_range": (1, 3)}
    vectors = TfidfVectorizer(sublinear_tf=True, max_features=FEATURES, **counting).fit(
        texts["train"]
    )
    x = {name: vectors.transform(part) for name, part in texts.items()}
    fitted = [
        LogisticRegression(C=rate, max_iter=1000, random_state=seed).fit(
            x["train"], dataset["train"]["label"]
        )
        for rate in rates
    ]
    best = max(
        fitted, key=lambda model: model.score(x["validation"], dataset["validation"]["label"])
    )
    logits = {name: _spread(best, part, classes) for name, part in x.items()}
    seconds = time.perf_counter() - began
    return _result("TF-IDF + linear", logits, dataset, classes, seconds, best.coef_.size)


def _texts(part: Dataset) -> list[str]:
    if "text_pair" in part.column_names:
        return [f"{a} \n {b}" for a, b in zip(part["text"], part["text_pair"], strict=True)]
    return list(part["text"])


def _spread(model: object, x: object, classes: int) -> np.ndarray:
    """Probabilities over all classes: the training rows may have shown fewer."""
    out = np.zeros((x.shape[0], classes))
    out[:, model.classes_] = model.predict_proba(x)
    return out


def _result(
    name: str,
    logits: dict[str, np.ndarray],
    dataset: DatasetDict,
    classes: int,
    seconds: float,
    weights: int,
) -> Result:
    score = classification_metrics(classes)
    labels = {split: np.asarray(dataset[split]["label"]) for split in ("validation", "test")}
    validation, test = (score((logits[split], labels[split])) for split in ("validation", "test"))
    return Result(
        name, 0, 0.0, validation, test, logits["test"].argmax(-1), labels["test"], seconds, weights,
        weights,
    )  # fmt: skip
