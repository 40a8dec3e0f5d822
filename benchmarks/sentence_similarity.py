"""How much sentence similarity does SimCSE teach a small encoder of docstrings?

Spearman's rank correlation, times 100, between the cosines of two sentences and what people said
about their likeness, on the test split of STS-B. Compared: TF-IDF, `docbert` as it is, `docbert`
after unsupervised SimCSE on the sentences of STS-B's training split (its scores are not read), and
after supervised SimCSE with hard negatives on 2,954 triplets of SNLI; three seeds, a bootstrap
interval over rows (and seeds). The published figures (BERT-base: unsupervised 76.9, supervised
81.6 to 84.3; average GloVe 58) are of models twenty times the size, with a thousand times the text
and a million sentences. Needs COOKBOOK_DATA_DIR with `stsb` and `snli_triplets`. Writes
`results/sentence_similarity.json`; ten minutes of CPU.

    COOKBOOK_DATA_DIR=... python benchmarks/sentence_similarity.py
"""

from __future__ import annotations

import argparse
import os
import time
from typing import Any

os.environ["OMP_NUM_THREADS"] = "1"  # before torch is imported

import arms
import machine
import numpy as np
import torch
from scipy.stats import spearmanr

NAME, SEEDS, STEPS, BATCH, LENGTH = "sentence_similarity", 3, {"pairs": 92, "alone": 160}, 64, 32
RATES = {"pairs": 3e-4, "alone": 1e-4}


def material(kind: str) -> Any:
    """Triplets of SNLI, or the different sentences of STS-B's training split, as a Dataset."""
    from datasets import Dataset, load_dataset

    folder = os.environ["COOKBOOK_DATA_DIR"]
    if kind == "pairs":
        rows = load_dataset(f"{folder}/snli_triplets", split="train")
        names = {"anchor": "text", "positive": "text_pair", "hard_negative": "negative"}
        return rows.rename_columns(names)
    rows = load_dataset(f"{folder}/stsb", split="train")
    return Dataset.from_dict(
        {"text": list(dict.fromkeys([*rows["sentence1"], *rows["sentence2"]]))}
    )


def train(kind: str, seed: int, steps: int, precision: str) -> tuple[Any, Any]:
    """SimCSE: with pairs and hard negatives, or alone, where dropout makes the pair."""
    from cookbook.models import load_model, load_tokenizer
    from cookbook.training import Batches, ContrastiveLoss, PairCollator, PairEncoder
    from cookbook.training.contrastive import pair_rows
    from cookbook.training.contrastive import train as fit

    torch.manual_seed(seed)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model, tokenizer = load_model("docbert", "encoder", seed=seed), load_tokenizer("docbert")
    rows = pair_rows(material(kind), tokenizer, (LENGTH, LENGTH))
    batches = Batches(rows, BATCH, seed=seed, collate=PairCollator(tokenizer, groups=True))
    model = PairEncoder(model).to(device)
    fit(model, batches, ContrastiveLoss(0.05), steps=steps, learning_rate=RATES[kind],
        precision=precision)  # fmt: skip
    return model, tokenizer


def likeness(model: Any, tokenizer: Any, test: Any, precision: str) -> np.ndarray:
    """The cosine of the two sentences of each row."""
    from cookbook.training.contrastive import encode

    left, right = (
        encode(model, test[side], tokenizer, length=LENGTH * 2, precision=precision)
        for side in ("sentence1", "sentence2")
    )
    return (left * right).sum(1)


def by_words(test: Any) -> np.ndarray:
    """Cosines of TF-IDF vectors: the opponent without a network."""
    from cookbook.evaluation import lexical

    texts = [*test["sentence1"], *test["sentence2"]]
    return np.diag(lexical.tfidf(test["sentence1"], texts)[:, len(test) :])


def correlation(found: np.ndarray, said: np.ndarray) -> float:
    return 100 * float(spearmanr(found, said).statistic)


def measure(seeds: int, steps: dict[str, int]) -> dict[str, Any]:
    from datasets import load_dataset

    from cookbook.evaluation.significance import bootstrap_interval, paired_bootstrap
    from cookbook.models import load_model, load_tokenizer
    from cookbook.session import fastest_precision
    from cookbook.training import PairEncoder

    torch.set_num_threads(1)
    precision = fastest_precision("cuda" if torch.cuda.is_available() else "cpu", seconds=1.0)
    test = load_dataset(f"{os.environ['COOKBOOK_DATA_DIR']}/stsb", split="test")
    said = np.array(test["score"])
    before = PairEncoder(load_model("docbert", "encoder")), load_tokenizer("docbert")
    found = {
        "TF-IDF": by_words(test)[None],
        "before": likeness(*before, test, precision)[None],
    }
    for name, kind in (("unsupervised SimCSE", "alone"), ("supervised SimCSE", "pairs")):
        began = time.process_time()
        found[name] = np.stack([
            likeness(*train(kind, seed, steps[kind], precision), test, precision)
            for seed in range(seeds)
        ])  # fmt: skip
        print(f"{name}: {(time.process_time() - began) / 60:.1f} minutes of CPU", flush=True)
    figures = {}
    for name, scores in found.items():
        one = {"metric": correlation, "resamples": 1000}
        figures[name] = {
            "seeds": len(scores),
            "each": [round(correlation(row, said), 2) for row in scores],
            "spearman": rounded(bootstrap_interval(scores, said, **one)),
        }
        if name != "before":
            base = np.broadcast_to(found["before"], scores.shape)
            figures[name]["gain"] = rounded(paired_bootstrap(scores, base, said, **one))
    return {"precision": precision, "rows": len(test), "figures": figures}


def rounded(numbers: Any) -> dict[str, float]:
    return {name: round(value, 4) for name, value in numbers._asdict().items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=SEEDS)
    parser.add_argument("--steps", type=int, default=0, help="fewer to try it out")
    asked = parser.parse_args()
    if not os.environ.get("COOKBOOK_DATA_DIR"):
        raise SystemExit("set COOKBOOK_DATA_DIR to a folder that holds stsb and snli_triplets")
    steps = {kind: asked.steps or most for kind, most in STEPS.items()}
    found = {
        "what": "Spearman's correlation with human similarity on STS-B test, times 100",
        "steps": steps, "batch_size": BATCH, "learning_rates": RATES, "temperature": 0.05,
        **measure(asked.seeds, steps), "machine": machine.describe(),
    }  # fmt: skip
    whole = asked.seeds == SEEDS and not asked.steps
    arms.write(NAME, found, arms.RESULTS if whole else arms.CACHE)
    for name, figures in found["figures"].items():
        score = figures["spearman"]
        print(f"{name:20} {score['estimate']:.1f} [{score['low']:.1f}, {score['high']:.1f}]")


if __name__ == "__main__":
    main()
