"""Does CLIP, trained from random weights, name characters that it has never seen?

Three seeds on `glyphs` and on `noto_emoji` (through COOKBOOK_DATA_DIR; left out without it). Held
out are whole characters with everything drawn like them; one picture of each such group is asked
for its name and each name for its picture, so that no two candidates are the same. Against chance,
and against copying the name of the nearest training picture. Steps and rate were chosen on the
validation split; the test split is read here. Intervals draw seeds and rows. A third arm trains
without knowing which pairs of a batch say the same.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from pathlib import Path
from typing import Any

os.environ["OMP_NUM_THREADS"] = "1"  # before torch is imported

import arms
import machine
import numpy as np

NAME, SEEDS, AT = "clip_glyphs", (0, 1, 2), (1, 5, 10)
# steps, batch, peak rate, channels, whether repeated pairs are known
ARMS = {
    "noto_emoji": ("noto_emoji", 300, 128, 1e-3, 3, True),
    "glyphs": ("glyphs", 400, 256, 1e-3, 1, True),
    "glyphs, repetitions unknown": ("glyphs", 400, 256, 1e-3, 1, False),
}
EMOJI = {name: f"^{name}" for name in ("Smileys", "People", "Animals", "Food", "Travel",
                                       "Activities", "Objects", "Symbols", "Flags")}  # fmt: skip


class Task:
    """A set made ready: rows, the test rows that are asked for, captions and classes."""

    def __init__(self, source: str, channels: int) -> None:
        from cookbook import data
        from cookbook.data.glyphs import KINDS
        from cookbook.models import load_tokenizer
        from cookbook.training import clip, zero_shot

        self.tokenizer = load_tokenizer("docbert")
        parts = data.load(source)
        self.train = clip.image_text_rows(parts["train"], self.tokenizer, channels=channels)
        test = clip.image_text_rows(parts["test"], self.tokenizer, channels=channels)
        asked = zero_shot.one_of_each([row["groups"] for row in test])
        self.rows = [test[i] for i in asked]
        self.captions = [parts["test"]["caption"][int(i)] for i in asked]
        self.known = list(parts["train"]["caption"])
        self.classes = KINDS if source == "glyphs" else EMOJI
        told = self.captions
        if source != "glyphs":
            told = [parts["test"]["category"][int(i)] for i in asked]
        self.labels = zero_shot.class_of(told, self.classes)
        self.pictures_in_test = len(test)
        column = parts["train"]["caption" if source == "glyphs" else "category"]
        self.known_labels = zero_shot.class_of(list(column), self.classes)

    def prompts(self) -> dict[str, list[list[str]]]:
        """Ways to describe the classes: each template, all of them, training captions."""
        from cookbook.training.zero_shot import TEMPLATES, prompts

        names = [name.lower() for name in self.classes]
        ways = {template: prompts(names, [template]) for template in TEMPLATES}
        own = [
            sorted({c for c, y in zip(self.known, self.known_labels, strict=True) if y == place})
            for place in range(len(names))
        ]
        return ways | {"average": prompts(names), "training captions": own}


def train(task: Task, arm: str, seed: int, steps: int) -> dict[str, Any]:
    """One seed of one arm: the ranks of the test rows both ways, and the classes they are given."""
    import torch

    from cookbook.training import clip, zero_shot

    _, _, batch, rate, _, groups = ARMS[arm]
    torch.set_num_threads(1)
    began, course = time.process_time(), []
    model = clip.train_clip(
        task.train, task.tokenizer, steps=steps, batch_size=batch, learning_rate=rate, seed=seed,
        groups=groups, on_step=lambda *step: course.append(step),
    )  # fmt: skip
    minutes = (time.process_time() - began) / 60
    pictures, captions = zero_shot.image_text_vectors(model, task.rows, task.tokenizer)
    ranks = {way: r.tolist() for way, r in zero_shot.retrieve(pictures, captions).items()}
    guesses = {}
    for key, texts in task.prompts().items():
        classes = zero_shot.class_vectors(model, texts, task.tokenizer)
        guesses[key] = zero_shot.classify(pictures, classes).tolist()
    return {
        "ranks": ranks, "guesses": guesses, "cpu_minutes": round(minutes, 2),
        "course": [list(step) for step in course[:: max(1, steps // 50)]] + [list(course[-1])],
    }  # fmt: skip


def judged(task: Task, seeds: list[dict[str, Any]]) -> dict[str, Any]:
    """Recall both ways, baseline, difference and classes, with intervals over seeds and rows."""
    from cookbook.evaluation import retrieval, significance
    from cookbook.training import zero_shot

    pixels = [np.stack([row["pixels"] for row in rows]) for rows in (task.train, task.rows)]
    scores = zero_shot.copied_captions(pixels[0], task.known, pixels[1], task.captions)
    copied = {"caption": retrieval.ranks(scores), "picture": retrieval.ranks(scores.T)}
    found: dict[str, Any] = {
        "training_pairs": len(task.train), "test_pictures": task.pictures_in_test,
        "candidates": len(task.rows), "chance": zero_shot.chance(len(task.rows), AT),
    }  # fmt: skip
    for way in ("caption", "picture"):
        ranks = np.array([seed["ranks"][way] for seed in seeds])
        base = np.tile(copied[way], (len(ranks), 1))
        found[f"find the {way}"] = {
            "median rank": [float(np.median(one)) for one in ranks],
            "median rank, copied": float(np.median(copied[way])),
            **{f"recall@{k}": significance.bootstrap_interval(ranks <= k) for k in AT},
            **{f"recall@{k}, copied": significance.bootstrap_interval(base[0] <= k) for k in AT},
            "recall@10, difference": significance.paired_bootstrap(ranks <= 10, base <= 10),
        }
    return found | {"classes": classified(task, seeds)}


def classified(task: Task, seeds: list[dict[str, Any]]) -> dict[str, Any]:
    """Accuracy of each template and of their average, the majority, and what is mistaken."""
    from cookbook.evaluation import significance

    told = task.labels >= 0
    truth = task.labels[told]
    if not len(truth):
        return {}
    names, matrix = list(task.classes), np.zeros((len(task.classes),) * 2, int)
    guesses = {key: np.array([s["guesses"][key] for s in seeds])[:, told]
               for key in seeds[0]["guesses"]}  # fmt: skip
    for one in guesses["average"]:
        np.add.at(matrix, (truth, one), 1)
    right = {key: significance.bootstrap_interval(g == truth) for key, g in guesses.items()}
    return {
        "rows": len(truth), "without a class": int((~told).sum()), "classes": len(names),
        "majority": float(np.bincount(truth).max() / len(truth)), "accuracy": right,
        "balanced accuracy": {key: balanced(g, truth) for key, g in guesses.items()},
        "names": names, "confusion, all seeds": matrix.tolist(),
    }  # fmt: skip


def balanced(guesses: np.ndarray, truth: np.ndarray) -> float:
    """The mean over the classes of the share found, over all seeds."""
    return float(np.mean([(guesses == y)[:, truth == y].mean() for y in np.unique(truth)]))


def run(results: Path, shorter: int) -> dict[str, Any]:
    """All arms; a seed that has been trained already is read from build/."""
    document: dict[str, Any] = {
        "what": "retrieval of held-out characters both ways, and classes by prompts",
        "arms": {arm: dict(zip(("source", "steps", "batch", "rate", "channels", "groups"), a,
                               strict=True)) for arm, a in ARMS.items()},
        "seeds": list(SEEDS), "machine": machine.describe(),
    }  # fmt: skip
    tasks: dict[str, Task] = {}
    for arm, (source, steps, *_, channels, _groups) in ARMS.items():
        if (
            source != "glyphs"
            and not (Path(os.environ.get("COOKBOOK_DATA_DIR", "")) / source).exists()
        ):
            print(f"{arm}: left out, COOKBOOK_DATA_DIR has no {source}")
            continue
        steps = max(2, steps // shorter)
        task = tasks.setdefault(source, None) or Task(source, channels)
        tasks[source] = task
        seeds = []
        for seed in SEEDS:
            kept = (
                arms.CACHE
                / NAME
                / f"{arm.replace(', ', '-').replace(' ', '-')}-{steps}-{seed}.json"
            )
            if not kept.exists():
                print(f"{arm}, seed {seed}: {steps} steps", flush=True)
                kept.parent.mkdir(parents=True, exist_ok=True)
                kept.write_text(json.dumps(train(task, arm, seed, steps)))
            seeds.append(json.loads(kept.read_text()))
        document[arm] = judged(task, seeds) | {
            "cpu_minutes_a_seed": [seed["cpu_minutes"] for seed in seeds],
            "course": seeds[0]["course"],
        }
        arms.write(NAME, document, results)
    return document


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shorter", type=int, default=1, help="a trial: so many times fewer steps")
    asked = parser.parse_args()
    trial = asked.shorter > 1
    found = run(arms.CACHE / NAME if trial else arms.RESULTS, asked.shorter)
    for arm in ARMS:
        for way in ("find the caption", "find the picture"):
            if arm in found:
                print(f"{arm:28} {way:17} recall@10 {found[arm][way]['recall@10']}")


if __name__ == "__main__":
    main()
