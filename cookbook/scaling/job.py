"""The job that every launcher starts: masked language modelling on a file of rows.

    python -m cookbook.scaling.job OPTIONS                                     one process
    torchrun --standalone --nproc-per-node 2 -m cookbook.scaling.job OPTIONS   this machine
    torchrun --nnodes 4 ... -m cookbook.scaling.job OPTIONS                    notebooks/launch

The file is written once (`write_rows`), so that the ranks need no tokenizer: with the model "small"
they do not even import transformers. The training is `distributed.train`. Chapter 11 runs it.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from cookbook.data.tokenization import Packed
from cookbook.scaling import distributed
from cookbook.scaling.small_model import SmallLM
from cookbook.scaling.world import World, joined
from cookbook.session import write_whole
from cookbook.training import schedules
from cookbook.training.objectives import MaskedLMCollator

# Options of the command line: name, default, help.
OPTIONS: dict[str, tuple[Any, str]] = {
    "rows": ("", "file of rows that write_rows has made"),
    "output": ("", "folder for checkpoints, run.json and the final weights; seen by all ranks"),
    "model": ("small", "small, docbert, a folder or a hub id"),
    "strategy": ("ddp", "ddp or fsdp"),
    "steps": (20, "updates"),
    "batch_size": (8, "rows of a micro-batch, on all ranks together"),
    "accumulation": (1, "micro-batches of a step"),
    "rate": (1e-3, "peak of AdamW's rate, warmed up over a tenth of the steps, then to 0"),
    "seed": (0, "of weights, rows, masks and dropout"),
    "precision": ("fp32", "fp32 or bf16"),
    "not_finite": ("stop", "stop or skip: what to do with a gradient that is not finite"),
    "save_every": (0, "steps between checkpoints; 0: none"),
    "workers": (0, "processes of each rank that load data"),
    "ranks": (0, "how many ranks must have come; 0: any"),
    "device": ("", "cpu; empty: a GPU for each rank where there are as many"),
}


class Vocabulary:
    """What the masking collator wants to know of a tokenizer."""

    def __init__(self, file: Mapping[str, np.ndarray]) -> None:
        self.size, self.all_special_ids = int(file["size"]), file["special"].tolist()
        self.pad_token_id, self.mask_token_id = int(file["pad"]), int(file["mask"])

    def __len__(self) -> int:
        return self.size


def write_rows(path: str | Path, rows: Packed, tokenizer: Any) -> Path:
    """Packed rows and what masking needs of their tokenizer, as one `.npz`.

    Raises ValueError for a tokenizer without a mask token.
    """
    if tokenizer.mask_token_id is None:
        raise ValueError("the tokenizer has no mask token: choose a masked language model")
    np.savez(
        path, input_ids=rows.input_ids.astype(np.int32), document_ids=rows.document_ids,
        position_ids=rows.position_ids, special=np.array(tokenizer.all_special_ids),
        size=len(tokenizer), pad=tokenizer.pad_token_id, mask=tokenizer.mask_token_id,
    )  # fmt: skip
    return Path(path)


def read_rows(path: str | Path) -> tuple[Packed, Vocabulary]:
    """What `write_rows` wrote."""
    with np.load(path, allow_pickle=False) as file:
        packed = Packed(file["input_ids"], file["document_ids"], file["position_ids"])
        return packed, Vocabulary(file)


def build(name: str, vocabulary: Vocabulary, *, seed: int = 0, **small: Any) -> torch.nn.Module:
    """The model called `name`, the same weights on every rank; `small` are settings of "small"."""
    torch.manual_seed(seed)
    if name == "small":
        return SmallLM(len(vocabulary), **small)
    from cookbook.models import load_model

    return load_model(name, "masked-lm")


def pretrain(
    prepare: Callable[[torch.nn.Module, World], Callable[[int, float], object]] | None = None,
    **given: Any,
) -> dict[str, Any]:
    """Run the job in this process, one of however many; `given` as in OPTIONS.

    Returns the losses of all steps, the steps skipped, seconds, and a fingerprint of the weights;
    rank 0 writes the same to `run.json` in `output`. `prepare(model, world)` may look at the
    wrapped model before the first step, and returns what is to be called after each.
    """
    o = argparse.Namespace(**{name: default for name, (default, _) in OPTIONS.items()} | given)
    if unknown := given.keys() - OPTIONS.keys():
        raise ValueError(f"unknown options: {', '.join(sorted(unknown))}")
    with joined(o.ranks, o.device) as world:
        rows, vocabulary = read_rows(o.rows)
        model = build(o.model, vocabulary, seed=o.seed)
        model = distributed.wrap(model, o.strategy, world, precision=o.precision)
        optimizer = torch.optim.AdamW(model.parameters(), lr=o.rate)
        clock = Clock(prepare(model, world) if prepare else None)
        done = distributed.train(
            model, optimizer, rows, world=world, batch_size=o.batch_size, steps=o.steps,
            accumulation=o.accumulation, collate=MaskedLMCollator(vocabulary, seed=o.seed),
            rate=partial(schedules.linear, warmup=max(1, o.steps // 10), total=o.steps + 1),
            seed=o.seed, precision=o.precision, not_finite=o.not_finite, workers=o.workers,
            folder=o.output if o.save_every else "", save_every=o.save_every, on_step=clock,
        )  # fmt: skip
        weights = distributed.full_weights(model)
        return _report(o, world, model, optimizer, done, weights, clock.seconds)


class Clock:
    """Seconds of each step, from the end of the one before; `then` is called after it."""

    def __init__(self, then: Callable[[int, float], object] | None = None) -> None:
        self.seconds: list[float] = []
        self.then, self.last = then, time.perf_counter()

    def __call__(self, step: int, loss: float) -> None:
        now = time.perf_counter()
        self.seconds.append(now - self.last)
        if self.then:
            self.then(step, loss)
        self.last = time.perf_counter()


def _report(o: Any, world: World, model: Any, optimizer: Any, done: Any, weights: dict,
            seconds: list[float]) -> dict[str, Any]:  # fmt: skip
    state = [v for s in optimizer.state.values() for v in s.values() if torch.is_tensor(v)]
    found = {
        "ranks": world.size, "rank": world.rank, "attempt": world.attempt,
        "losses": done.losses, "skipped": done.skipped, "seconds": seconds,
        "fingerprint": fingerprint(weights),
        "weights_bytes": distributed.held_bytes(model.parameters()),
        "optimizer_bytes": distributed.held_bytes(state),
    }  # fmt: skip
    if world.rank == 0 and o.output:
        from safetensors.torch import save_file

        Path(o.output).mkdir(parents=True, exist_ok=True)
        save_file(_untied(weights), Path(o.output) / "weights.safetensors")
        write_whole(Path(o.output) / "run.json", json.dumps(found))
    return found


def _untied(weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name: tensor.contiguous().clone() for name, tensor in weights.items()}


def fingerprint(weights: Mapping[str, torch.Tensor]) -> str:
    """SHA-256 of all bytes, by name: equal only if every bit is.

    >>> fingerprint({"w": torch.ones(2)}) == fingerprint({"w": torch.ones(2) + 1e-7})
    False
    """
    digest = hashlib.sha256()
    for name in sorted(weights):
        digest.update(name.encode() + weights[name].reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def options(arguments: Mapping[str, Any]) -> list[str]:
    """Arguments of `pretrain` as words of a command line.

    >>> options({"steps": 4, "batch_size": 8})
    ['--steps', '4', '--batch-size', '8']
    """
    return [
        w for name, value in arguments.items() for w in (f"--{name.replace('_', '-')}", str(value))
    ]


def parse(words: Sequence[str]) -> dict[str, Any]:
    """Words of a command line as arguments of `pretrain`.

    >>> parse(["--rows", "rows.npz", "--rate", "0.01"])["rate"]
    0.01
    """
    parser = argparse.ArgumentParser(prog="cookbook.scaling.job", description=__doc__)
    for name, (default, help) in OPTIONS.items():
        flag = f"--{name.replace('_', '-')}"
        parser.add_argument(flag, type=type(default), default=default, help=help,
                            required=name == "rows")  # fmt: skip
    return vars(parser.parse_args(words))


def main() -> None:
    """As a program: one line from rank 0 at the end."""
    found = pretrain(**parse(sys.argv[1:]))
    if found["rank"] == 0:
        print(f"{found['ranks']} ranks, attempt {found['attempt']}, {len(found['losses'])} steps, "
              f"loss {found['losses'][-1]:.4f}, weights {found['fingerprint'][:12]}")  # fmt: skip


if __name__ == "__main__":
    main()
