"""Do the listed rows have wrong labels? Confident learning against human verdicts on film reviews.

The reviews of IMDb's test set that a large model had disputed, each judged by five people
(Northcutt, Athalye and Mueller 2021, arXiv:2103.14749): for some the label was right, for some the
other one, the rest found no majority. Probabilities come from models that never saw a row: one
trained on the sentences of SST-2, one by cross-validation on the disputed reviews themselves, and
those that were published with the verdicts. Reported for each: rows listed, precision and recall
against the verdict "label_error", with and without the undecided rows, and what a blind draw would
reach. Needs COOKBOOK_DATA_DIR with `imdb_label_errors` and `sst2`. A minute.

    COOKBOOK_DATA_DIR=<folder> python benchmarks/label_errors.py
"""

from __future__ import annotations

import os

os.environ["OMP_NUM_THREADS"] = "1"  # before numpy is imported

import json
from pathlib import Path
from typing import Any

import numpy as np
from machine import describe

from cookbook.data import load
from cookbook.evaluation import curves, label_errors, significance

RESULTS = Path(__file__).parent / "results" / "label_errors.json"
SENTENCES = 20_000  # of SST-2's 67,349


def reviews() -> list[dict[str, Any]]:
    """The disputed reviews: text, given label, published probabilities, verdict."""
    path = Path(os.environ["COOKBOOK_DATA_DIR"]) / "imdb_label_errors" / "train.jsonl"
    return [json.loads(line) for line in path.open(encoding="utf-8")]


def by_sentences(texts: list[str]) -> np.ndarray:
    """Probabilities of a linear model on counted words that was trained on other texts: SST-2."""
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline

    known = load("sst2")["train"].shuffle(seed=0).select(range(SENTENCES))
    words = TfidfVectorizer(sublinear_tf=True, min_df=2, ngram_range=(1, 2))
    model = make_pipeline(words, LogisticRegression(C=10.0, max_iter=1000))
    return model.fit(known["text"], known["label"]).predict_proba(texts)


def judged(probabilities: np.ndarray, labels: np.ndarray, verdicts: np.ndarray) -> dict[str, Any]:
    """How the list of suspects agrees with the verdicts."""
    listed = np.isin(np.arange(len(labels)), label_errors.suspects(probabilities, labels))
    wrong, decided = verdicts == "label_error", np.isin(verdicts, ["label_error", "correct"])
    doubt = 1 - probabilities[np.arange(len(labels)), labels]
    return {
        "listed": int(listed.sum()),
        "precision": float(wrong[listed].mean()),
        "precision_of_decided": significance.bootstrap_interval(wrong[listed & decided])._asdict(),
        "recall": significance.bootstrap_interval(listed[wrong])._asdict(),
        "average_precision_of_decided": curves.average_precision(doubt[decided], wrong[decided]),
        "roc_area_of_decided": curves.roc_area(doubt[decided], wrong[decided]),
    }


def main() -> None:
    """Judge the three kinds of probabilities and write the result."""
    rows = reviews()
    texts, verdicts = [row["text"] for row in rows], np.array([row["verdict"] for row in rows])
    labels = np.array([int(row["given"] == "Positive") for row in rows])
    kinds = {
        "trained on SST-2": by_sentences(texts),
        "cross-validated on the disputed reviews": label_errors.out_of_fold(texts, labels),
        "published with the verdicts": np.array([row["pred_prob"] for row in rows], float),
    }
    wrong, decided = verdicts == "label_error", np.isin(verdicts, ["label_error", "correct"])
    result = {
        "machine": describe(),
        "rows": len(rows),
        "verdicts": dict(zip(*np.unique(verdicts, return_counts=True), strict=True)),
        "blind_precision": float(wrong.mean()),
        "blind_precision_of_decided": float(wrong[decided].mean()),
        "judged": {name: judged(given, labels, verdicts) for name, given in kinds.items()},
    }
    RESULTS.write_text(json.dumps(result, indent=1, default=int) + "\n", encoding="utf-8")
    print(json.dumps({k: v for k, v in result.items() if k != "machine"}, indent=1, default=int))


if __name__ == "__main__":
    main()
