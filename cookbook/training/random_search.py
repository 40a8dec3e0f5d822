"""Random search under a budget, kept on disk, and what of the settings mattered.

Does: draw settings, run them until trials or time are used up, go on where an interrupted search
stopped, and say how much of the score each setting explains. Does not: know what is trained, nor
stop bad trials early or model the score to draw better ones; `optuna` and `ray.tune` do.
Random beats a grid because it tries as many values of each setting as there are trials, and few
settings matter (Bergstra and Bengio 2012). Chapter 08 uses it.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

Settings = dict[str, Any]


class LogUniform(NamedTuple):
    """A number between `low` and `high`, every factor of ten as likely as every other.

    >>> LogUniform(1e-4, 1e-2).at(0.5)
    0.001
    """

    low: float
    high: float

    def at(self, share: float) -> float:
        """The value below which `share` of the draws lie, to three significant digits."""
        return float(f"{self.low * (self.high / self.low) ** share:.3g}")

    def place(self, value: float) -> float:
        """The inverse of `at`: where in 0 … 1 a value lies."""
        return math.log(value / self.low) / math.log(self.high / self.low)


class Choice(NamedTuple):
    """One of `options`, each as likely.

    >>> Choice((8, 16, 32)).at(0.5)
    16
    """

    options: tuple

    def at(self, share: float) -> Any:
        """The option in whose stretch of 0 … 1 `share` lies."""
        return self.options[min(int(share * len(self.options)), len(self.options) - 1)]

    def place(self, value: Any) -> float:
        """The middle of an option's stretch."""
        return (self.options.index(value) + 0.5) / len(self.options)


Space = Mapping[str, LogUniform | Choice]


class Trial(NamedTuple):
    """One setting and what came of it; higher scores are better, nan is a run that broke."""

    settings: Settings
    score: float
    seconds: float


def draw(space: Space, number: int, seed: int = 0) -> Settings:
    """Trial `number` of a search: a function of it and of the seed, not of the trials before.

    >>> draw({"rate": LogUniform(1e-5, 1e-2)}, 3) == draw({"rate": LogUniform(1e-5, 1e-2)}, 3)
    True
    """
    shares = np.random.default_rng([seed, number]).random(len(space))
    return {name: kind.at(share) for (name, kind), share in zip(space.items(), shares, strict=True)}


def random_search(
    score: Callable[[Settings], float],
    space: Space,
    *,
    trials: int,
    seconds: float = math.inf,
    seed: int = 0,
    file: str | Path = "",
    fingerprint: str = "",
) -> list[Trial]:
    """Score up to `trials` draws from `space`; no trial begins after `seconds` of this call.

    Each finished trial is a line of `file`, written before the next one begins. A search that is
    called again takes from there the trials of the same `fingerprint` (name data, model, versions:
    whatever changes a score) and settings, and runs the others.

    >>> found = random_search(lambda s: -abs(math.log10(s["rate"]) + 3),
    ...                       {"rate": LogUniform(1e-6, 1.0)}, trials=20)
    >>> 1e-4 < max(found, key=lambda trial: trial.score).settings["rate"] < 1e-2
    True
    """
    known, done, began = _read(file, fingerprint), [], time.perf_counter()
    drawn = [draw(space, number, seed) for number in range(trials)]
    bar = _bar(sum(_key(settings) not in known for settings in drawn))
    for settings in drawn:
        trial = known.get(_key(settings))
        if trial is None:
            if time.perf_counter() - began > seconds:
                break
            started = time.perf_counter()
            found = float(score(settings))
            trial = Trial(settings, found, time.perf_counter() - started)
            _append(file, fingerprint, trial)
            bar.set_postfix_str(f"best {max(_finite([*done, trial]), default=math.nan):.3f}")
            bar.update()
        done.append(trial)
    bar.close()
    return done


def _bar(total: int) -> Any:
    """A progress bar with the time left; none where nothing is left to run."""
    from tqdm.auto import tqdm

    return tqdm(total=total, desc="searching", leave=False, disable=total == 0)


def best(trials: Sequence[Trial]) -> Trial:
    """The trial with the highest score. Raises ValueError where no score is a number."""
    usable = [trial for trial in trials if math.isfinite(trial.score)]
    if not usable:
        raise ValueError("no trial has a score: every run broke, or the budget was too small")
    return max(usable, key=lambda trial: trial.score)


def importance(
    trials: Sequence[Trial], space: Space, *, trees: int = 200, seed: int = 0
) -> dict[str, float]:
    """Share of the score's variance that each setting explains by itself, largest first.

    A random forest learns the score; a setting's share is the variance of the forest's mean over
    all other settings (the main effects of functional ANOVA, Hutter et al. 2014). What settings do
    only together is not in it, so the shares sum to less than 1. Broken runs count as the worst
    score. From few trials it is a rough guide. Raises ValueError for fewer than 4.
    """
    from sklearn.ensemble import RandomForestRegressor

    if len(trials) < 4:
        raise ValueError(f"{len(trials)} trials say nothing about importance: run at least 4")
    x = np.array([[kind.place(t.settings[n]) for n, kind in space.items()] for t in trials])
    worst = min(_finite(trials), default=0.0)
    y = np.array([t.score if math.isfinite(t.score) else worst for t in trials])
    forest = RandomForestRegressor(trees, min_samples_leaf=2, random_state=seed).fit(x, y)
    everywhere = np.random.default_rng(seed).random((128, len(space)))
    total, shares = forest.predict(everywhere).var(), {}
    for column, name in enumerate(space):
        grid = np.repeat(everywhere[None], 16, 0)
        grid[:, :, column] = ((np.arange(16) + 0.5) / 16)[:, None]
        main = forest.predict(grid.reshape(-1, len(space))).reshape(16, -1).mean(1)
        shares[name] = float(main.var() / total) if total > 0 else 0.0
    return dict(sorted(shares.items(), key=lambda item: -item[1]))


def _finite(trials: Sequence[Trial]) -> list[float]:
    return [trial.score for trial in trials if math.isfinite(trial.score)]


def _key(settings: Settings) -> str:
    return json.dumps(settings, sort_keys=True)


def _read(file: str | Path, fingerprint: str) -> dict[str, Trial]:
    """The finished trials of a file; a last line that was cut off in the writing is passed over."""
    known = {}
    if file and Path(file).is_file():
        for line in Path(file).read_text(encoding="utf-8").splitlines():
            try:
                row = json.loads(line)
            except json.JSONDecodeError:
                continue
            if row["fingerprint"] == fingerprint:
                score = math.nan if row["score"] is None else row["score"]
                known[_key(row["settings"])] = Trial(row["settings"], score, row["seconds"])
    return known


def _append(file: str | Path, fingerprint: str, trial: Trial) -> None:
    if not file:
        return
    Path(file).parent.mkdir(parents=True, exist_ok=True)
    score = trial.score if math.isfinite(trial.score) else None
    row = {**trial._asdict(), "score": score, "fingerprint": fingerprint}
    text = Path(file).read_text(encoding="utf-8") if Path(file).is_file() else ""
    gap = "\n" if text and not text.endswith("\n") else ""  # after a line that was cut off
    with Path(file).open("a", encoding="utf-8") as lines:
        lines.write(gap + json.dumps(row) + "\n")
