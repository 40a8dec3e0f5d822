"""How many useful tokens a second: the fast path, run_mlm's defaults, and padding to 128.

Three paths in one process and one thread, interleaved, so that whatever else slows the machine
slows all three. Each turn is a real run of a `Trainer` (`cookbook.training.pretraining.pretrain`
for the fast path, transformers' own for the others): reading rows, masking, forward, backward,
clipping, AdamW, schedule, logging. A callback reads the clocks after the first steps and after the
last, so that building the Trainer is not counted. Useful tokens are those that are not padding.

  fast    packed rows, the probe's precision, loss at masked positions, no dropout, eager attention
  plain   run_mlm.py as it is: packed rows (group_texts), fp32, dropout 0.1, every logit, sdpa
  padded  run_mlm.py --line_by_line --pad_to_max_length: the same, one document to a row

AdamW is fused in all three: from torch 2.8 on that is transformers' default. It says nothing about
what is learned (pretraining_quality.py does). With the defaults it takes five minutes.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from typing import Any

os.environ["OMP_NUM_THREADS"] = "1"  # before torch is imported

import arms
import machine

NAME = "pretraining_speed"
PATHS, BATCHES, ROUNDS, ROWS = ("fast", "plain", "padded"), (8, 32), 5, 128
# Times the useful tokens of the other path, by batch size; they hold where the probe prefers bf16.
FLOORS = {"plain": {8: 2.0, 32: 2.5}, "padded": {8: 4.0, 32: 5.0}}
# Logging as rarely as run_mlm.py does; nothing is written, because a disk is not what is measured.
SHARED = {"logging_steps": 500, "save_strategy": "no", "learning_rate": 5e-4}


def stopwatch(first: int, last: int) -> Any:
    """A callback that reads wall and CPU clock when step `first` and step `last` have ended."""
    import torch
    import transformers

    class Stopwatch(transformers.TrainerCallback):
        def __init__(self) -> None:
            self.read: dict[int, tuple[float, float]] = {}

        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            if state.global_step in (first, last):
                if torch.cuda.is_available():
                    torch.cuda.synchronize()
                self.read[state.global_step] = time.perf_counter(), time.process_time()

        def seconds(self) -> tuple[float, float]:
            began, ended = self.read[first], self.read[last]
            return ended[0] - began[0], ended[1] - began[1]

    return Stopwatch()


class Paths:
    """The three paths over one corpus, each with a model that it keeps from turn to turn."""

    def __init__(self, corpus: arms.Corpus, precision: str, folder: str) -> None:
        self.corpus, self.precision, self.folder = corpus, precision, folder
        self.models = {path: arms.model(corpus.tokenizer, 0, fast=path == "fast") for path in PATHS}
        self.datasets = {
            "plain": arms.plain_dataset(corpus.rows.input_ids, corpus.tokenizer),
            "padded": arms.plain_dataset(corpus.padded, corpus.tokenizer),
        }

    def turn(self, path: str, batch: int, steps: int, warm: int, seed: int) -> dict[str, float]:
        """Useful tokens a wall second and a CPU second of one turn of `steps` timed steps."""
        watch = stopwatch(warm, warm + steps)
        run = self._fast if path == "fast" else self._stock
        tokens = run(path, watch, batch, warm + steps, seed)
        useful = sum(tokens[warm : warm + steps]) if tokens else steps * batch * arms.LENGTH
        wall, cpu = watch.seconds()
        return {"wall": useful / wall, "cpu": useful / cpu, "useful": useful}

    def _fast(self, _: str, watch: Any, batch: int, steps: int, seed: int) -> list[int]:
        from cookbook.training.pretraining import pretrain

        pretrain(
            self.models["fast"], self.corpus.tokenizer, self.corpus.rows, steps=steps,
            batch_size=batch, precision=self.precision, seed=seed, output_dir=self.folder,
            callbacks=[watch], disable_tqdm=True, **SHARED,
        )  # fmt: skip
        return []  # every row is full

    def _stock(self, path: str, watch: Any, batch: int, steps: int, seed: int) -> list[int]:
        trainer = arms.plain_trainer(
            self.models[path], self.corpus.tokenizer, self.datasets[path], callbacks=[watch],
            output_dir=self.folder, max_steps=steps, per_device_train_batch_size=batch, seed=seed,
            **SHARED,
        )  # fmt: skip
        trainer.data_collator, tokens = counting(trainer.data_collator)
        trainer.train()
        return tokens


def counting(collate: Callable) -> tuple[Callable, list[int]]:
    """`collate`, and a list that gets the number of useful tokens of each batch it makes."""
    tokens: list[int] = []

    def counted(rows: list) -> Any:
        batch = collate(rows)
        tokens.append(int(batch["attention_mask"].sum()))
        return batch

    return counted, tokens


def measure(rounds: int, rows: int) -> dict[str, Any]:
    """`rounds` rounds of all paths at both batch sizes, `rows` timed rows to a turn."""
    import torch

    from cookbook import session

    torch.set_num_threads(1)
    load_before = machine.load_average()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    precision = session.fastest_precision(device, seconds=1.0)
    corpus = arms.corpus()
    turns: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        paths = Paths(corpus, precision, folder)
        for number in range(rounds):
            for batch in BATCHES:
                steps, warm = max(1, rows // batch), max(1, 16 // batch)
                # Another path begins each round, lest one always follows the same neighbour.
                for path in (PATHS * 2)[number % 3 : number % 3 + 3]:
                    found = paths.turn(path, batch, steps, warm, seed=number)
                    turns.append({"round": number, "batch": batch, "path": path, **found})
    return {
        "what": "useful (not padding) tokens a second; ratios are fast / other, by round",
        "precision": precision, "rounds": rounds, "rows_per_turn": rows, "length": arms.LENGTH,
        "corpus": corpus.fingerprint, "load_before": load_before,
        "padded_useful_share": float((corpus.padded != corpus.tokenizer.pad_token_id).mean()),
        "machine": machine.describe(), **summary(turns), "turns": turns,
    }  # fmt: skip


def summary(turns: list[dict[str, Any]]) -> dict[str, Any]:
    """Median tokens a second of each path, and median, least and greatest ratio over the rounds."""
    speeds: dict[str, Any] = {}
    ratios: dict[str, Any] = {}
    for batch in BATCHES:
        for clock in ("wall", "cpu"):
            series = {
                path: [t[clock] for t in turns if (t["batch"], t["path"]) == (batch, path)]
                for path in PATHS
            }
            for path, values in series.items():
                speeds[f"{path}.{batch}.{clock}"] = round(statistics.median(values))
            for other in PATHS[1:]:
                each = [a / b for a, b in zip(series["fast"], series[other], strict=True)]
                ratios[f"{other}.{batch}.{clock}"] = {
                    "median": round(statistics.median(each), 3),
                    "min": round(min(each), 3), "max": round(max(each), 3),
                }  # fmt: skip
    return {"tokens_per_second": speeds, "ratios": ratios}


def missed(found: dict[str, Any]) -> list[str]:
    """The floors that the medians of either clock miss; without bf16, or on a GPU, none apply."""
    if found["precision"] != "bf16" or found["machine"]["gpu"]:
        return []
    return [
        f"{found['ratios'][f'{other}.{batch}.{clock}']['median']} times {other} at batch {batch} "
        f"({clock} clock): the floor is {floor}"
        for other, by_batch in FLOORS.items()
        for batch, floor in by_batch.items()
        for clock in ("wall", "cpu")
        if found["ratios"][f"{other}.{batch}.{clock}"]["median"] < floor
    ]


def show(found: dict[str, Any]) -> None:
    """The table that a reader wants."""
    print(f"fast path in {found['precision']}; ratio to it: median (least to greatest)")
    print(f"{'batch':>5} {'clock':>5} {'path':>7} {'tokens/s':>9}  fast is")
    for key, speed in found["tokens_per_second"].items():
        path, batch, clock = key.split(".")
        ratio = found["ratios"].get(key)
        text = "{median:.2f} times ({min:.2f} to {max:.2f})".format(**ratio) if ratio else ""
        print(f"{batch:>5} {clock:>5} {path:>7} {speed:>9,}  {text}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--rows", type=int, default=ROWS, help="timed rows to a turn")
    asked = parser.parse_args()
    found = measure(asked.rounds, asked.rows)
    full = asked.rounds >= ROUNDS and asked.rows >= ROWS  # a trial is not a result
    arms.write(NAME, found, arms.RESULTS if full else arms.CACHE)
    show(found)
    if fell_short := missed(found):
        raise SystemExit("\n".join(fell_short))


if __name__ == "__main__":
    main()
