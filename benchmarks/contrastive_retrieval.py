"""Does an encoder that was trained by contrast find docstrings better than counting words?

The question is a function's name, signature and first line (or the first line alone, which is how
people ask); the answer is the body of its docstring, among all bodies of the test split of
`docstring-pairs`, whose modules nobody was trained on. Compared: TF-IDF, BM25, `docbert` as it is,
`docbert` after supervised SimCSE on the training split (three seeds), and the mean of the scaled
scores of BM25 and the trained encoder. Recall@10 and MRR with bootstrap intervals over rows, for
the trained ones over seeds and rows; the differences to BM25 are paired. Nothing was chosen on the
test split. Seeds that are finished are kept; `--again` trains them anew. Writes
`results/contrastive_retrieval.json`; 20 minutes of CPU.

    python benchmarks/contrastive_retrieval.py
"""

from __future__ import annotations

import argparse
import os
import time
from pathlib import Path
from typing import Any

os.environ["OMP_NUM_THREADS"] = "1"  # before torch is imported

import arms
import machine
import numpy as np
import torch

NAME, SEEDS, STEPS, BATCH = "contrastive_retrieval", 3, 300, 64
LENGTHS, TEMPERATURE, RATE = (32, 64), 0.05, 5e-4
QUERIES = ("text", "summary")
# One pass over many pairs cannot be memorised: dropout would only cost time.
PLAIN = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0,
         "attn_implementation": "eager"}  # fmt: skip


def encoder(seed: int, **settings: Any) -> Any:
    """`docbert` as a sentence encoder, in its own precision, and its tokenizer."""
    from cookbook.models import load_model, load_tokenizer
    from cookbook.training import PairEncoder

    device = "cuda" if torch.cuda.is_available() else "cpu"
    model = PairEncoder(load_model("docbert", "encoder", seed=seed, **settings)).to(device)
    return model, load_tokenizer("docbert")


def train(seed: int, steps: int, precision: str) -> Any:
    """Supervised SimCSE on pairs of the training split; both directions."""
    from cookbook.data import load
    from cookbook.training import Batches, ContrastiveLoss, PairCollator
    from cookbook.training.contrastive import pair_rows
    from cookbook.training.contrastive import train as fit

    torch.manual_seed(seed)
    model, tokenizer = encoder(seed, **PLAIN)
    pairs = load("docstring-pairs")["train"].shuffle(seed=seed).select(range(steps * BATCH))
    # Half of the questions are first lines alone, so that both kinds were practised.
    texts = [row["text" if i % 2 else "summary"] for i, row in enumerate(pairs)]
    pairs = pairs.remove_columns("text").add_column("text", texts)
    batches = Batches(pair_rows(pairs, tokenizer, LENGTHS), BATCH, seed=seed,
                      collate=PairCollator(tokenizer, groups=True))  # fmt: skip
    loss = ContrastiveLoss(TEMPERATURE, symmetric=True)
    fit(model, batches, loss, steps=steps, learning_rate=RATE, precision=precision)
    return model


def cosines(model: Any, tokenizer: Any, test: Any, precision: str) -> dict[str, np.ndarray]:
    """Scores of every query with every body, by the kind of query."""
    from cookbook.training.contrastive import encode

    bodies = encode(model, test["text_pair"], tokenizer, length=96, precision=precision)
    return {
        kind: encode(model, test[kind], tokenizer, length=48, precision=precision) @ bodies.T
        for kind in QUERIES
    }


def measure(seeds: int, steps: int, most: int, work: Path, again: bool) -> dict[str, Any]:
    """Ranks of the right body by every method; of trained ones a row a seed."""
    from cookbook.data import load
    from cookbook.evaluation import lexical, retrieval
    from cookbook.session import fastest_precision

    torch.set_num_threads(1)
    precision = fastest_precision("cuda" if torch.cuda.is_available() else "cpu", seconds=1.0)
    test = load("docstring-pairs")["test"]
    test = test.select(range(min(most or len(test), len(test))))
    words = {
        name: {kind: score(test[kind], test["text_pair"]) for kind in QUERIES}
        for name, score in (("TF-IDF", lexical.tfidf), ("BM25", lexical.bm25))
    }
    ranks = {
        name: {kind: retrieval.ranks(scores)[None] for kind, scores in found.items()}
        for name, found in words.items()
    }
    model, tokenizer = encoder(0)
    found = cosines(model, tokenizer, test, precision)
    ranks["untrained"] = {kind: retrieval.ranks(found[kind])[None] for kind in QUERIES}
    trained: dict[str, dict[str, list]] = {
        name: {kind: [] for kind in QUERIES} for name in ("trained", "BM25 + trained")
    }
    work.mkdir(parents=True, exist_ok=True)
    minutes = []
    for seed in range(seeds):
        place = work / f"seed-{seed}.npz"
        if again or not place.exists():
            began = time.process_time()
            model = train(seed, steps, precision)
            took = (time.process_time() - began) / 60
            scores = cosines(model, tokenizer, test, precision)
            np.savez(place, minutes=took, **scores)
            print(f"seed {seed}: {took:.1f} minutes of CPU", flush=True)
        kept = np.load(place)
        minutes.append(round(float(kept["minutes"]), 1))
        for kind in QUERIES:
            both = retrieval.blend(words["BM25"][kind], kept[kind])
            trained["trained"][kind].append(retrieval.ranks(kept[kind]))
            trained["BM25 + trained"][kind].append(retrieval.ranks(both))
    ranks |= {name: {k: np.stack(v) for k, v in found.items()} for name, found in trained.items()}
    return {"documents": len(test), "precision": precision, "cpu_minutes_of_training": minutes,
            "queries": {kind: judged(ranks, kind) for kind in QUERIES}}  # fmt: skip


def judged(ranks: dict[str, dict[str, np.ndarray]], kind: str) -> dict[str, Any]:
    """Figures with intervals for each method, and paired differences to BM25."""
    from cookbook.evaluation.significance import bootstrap_interval, paired_bootstrap

    scores = {"recall@10": lambda r: (r <= 10).astype(float), "MRR": lambda r: 1 / r}
    found: dict[str, Any] = {}
    for name, by_kind in ranks.items():
        ours, theirs = by_kind[kind], ranks["BM25"][kind]
        theirs = np.broadcast_to(theirs, ours.shape)
        found[name] = {"seeds": len(ours)}
        for figure, score in scores.items():
            found[name][figure] = rounded(bootstrap_interval(score(ours)))
            if name != "BM25":
                against = paired_bootstrap(score(ours), score(theirs))
                found[name][f"{figure} - BM25"] = rounded(against)
    return found


def rounded(numbers: Any) -> dict[str, float]:
    return {name: round(value, 4) for name, value in numbers._asdict().items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=SEEDS)
    parser.add_argument("--steps", type=int, default=STEPS, help="fewer to try it out")
    parser.add_argument("--documents", type=int, default=0, help="0: the whole test split")
    parser.add_argument("--again", action="store_true", help="train finished seeds anew")
    asked = parser.parse_args()
    from cookbook.data import embedded

    work = arms.CACHE / f"{NAME}-{embedded.fingerprint()}-{asked.steps}-{asked.documents}"
    found = {
        "what": "finding the body of a docstring among those of held-out modules",
        "steps": asked.steps, "batch_size": BATCH, "lengths": LENGTHS, "learning_rate": RATE,
        "temperature": TEMPERATURE, "corpus": embedded.fingerprint(),
        **measure(asked.seeds, asked.steps, asked.documents, work, asked.again),
        "machine": machine.describe(),
    }  # fmt: skip
    whole = (asked.seeds, asked.steps, asked.documents) == (SEEDS, STEPS, 0)
    arms.write(NAME, found, arms.RESULTS if whole else work)
    for kind, by_name in found["queries"].items():
        for name, figures in by_name.items():
            ten, mrr = figures["recall@10"], figures["MRR"]
            print(f"{kind:8} {name:15} recall@10 {ten['estimate']:.3f} [{ten['low']:.3f}, "
                  f"{ten['high']:.3f}]  MRR {mrr['estimate']:.3f}")  # fmt: skip


if __name__ == "__main__":
    main()
