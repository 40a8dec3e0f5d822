"""Eight bits by torch's own dynamic quantisation and by torchao: bytes, milliseconds, answers.

`docbert` as a masked LM, one word masked in each of some hundred docstrings that it has not read.
The ways: fp32; `cookbook.finetuning.quantization.dynamic_int8`; torchao with int8 weights alone;
and torchao with inputs quantised as they come. For each: bytes as torch writes them, milliseconds
for one row and for 32 in turns within one process, and the share of masked words for which the
likeliest answer stays, with a bootstrap interval. torchao is installed into `build/torchao`; it is
no dependency of the cookbook. A minute.

    .venv/bin/python benchmarks/int8.py
"""

from __future__ import annotations

import copy
import os
import subprocess
import sys
from typing import Any

os.environ["OMP_NUM_THREADS"] = "1"  # before torch is imported

import arms
import machine

NAME, TEXTS, LENGTH, SIZES = "int8", 256, 64, (1, 32)
PACKAGE, FOLDER = "torchao==0.18.0", arms.ROOT / "build" / "torchao"


def install() -> None:
    """torchao, beside what the environment has."""
    if not FOLDER.exists():
        command = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--target"]
        subprocess.run([*command, str(FOLDER), PACKAGE], check=True)
    sys.path.append(str(FOLDER))


def ways(model: Any) -> dict[str, Any]:
    """Name → the model in that form."""
    from torchao import quantization

    from cookbook.finetuning.quantization import dynamic_int8

    made = {"fp32": model, "torch dynamic int8": dynamic_int8(model)}
    for name, config in (
        ("torchao int8 weights", quantization.Int8WeightOnlyConfig()),
        ("torchao dynamic int8", quantization.Int8DynamicActivationInt8WeightConfig()),
    ):
        made[name] = copy.deepcopy(model)
        quantization.quantize_(made[name], config)
    return made


def questions(tokenizer: Any) -> tuple[dict[str, Any], Any]:
    """Batches of docstrings of modules that were held out, one word masked, and where."""
    import torch

    from cookbook.data import load

    texts = load("docstrings")["test"]["text"][: 2 * TEXTS]
    encoded = tokenizer(texts, truncation=True, max_length=LENGTH, return_tensors="pt",
                        padding="max_length")  # fmt: skip
    full = encoded["attention_mask"].all(1).nonzero()[:TEXTS, 0]
    batch = {name: value[full] for name, value in encoded.items()}
    draws = torch.Generator().manual_seed(0)
    places = torch.randint(1, LENGTH - 1, (len(full),), generator=draws)
    batch["input_ids"][torch.arange(len(full)), places] = tokenizer.mask_token_id
    return batch, places


def answers(model: Any, batch: dict[str, Any], places: Any) -> Any:
    """Logits (rows, vocabulary) at the masked words."""
    import torch

    found = []
    with torch.no_grad():
        for start in range(0, len(places), 32):
            part = {name: value[start : start + 32] for name, value in batch.items()}
            logits, at = model(**part).logits, places[start : start + 32]
            found.append(logits[torch.arange(len(at)), at])
    return torch.cat(found).numpy()


def main() -> None:
    """Measure every way and write the result."""
    install()
    import torch
    import torchao

    from cookbook.evaluation import significance
    from cookbook.finetuning import compression
    from cookbook.models import load_model, load_tokenizer

    torch.set_num_threads(1)
    load = machine.load_average()
    made = ways(load_model("docbert", "masked-lm").eval())
    batch, places = questions(load_tokenizer("docbert"))
    few = {f"{n} rows": {name: value[:n] for name, value in batch.items()} for n in SIZES}
    times = compression.latency(made, few)
    plain, table = answers(made["fp32"], batch, places), {}
    for name, model in made.items():
        same = compression.agreement(answers(model, batch, places), plain)
        table[name] = {
            "bytes": compression.bytes_on_disk(model), "milliseconds": times[name],
            "same answer": significance.bootstrap_interval(same)._asdict(),
        }  # fmt: skip
        print(f"{name:22}", table[name], flush=True)
    arms.write(NAME, {
        "machine": machine.describe() | {"load_before": load}, "torchao": torchao.__version__,
        "masked_words": len(places), "tokens_a_row": LENGTH, "ways": table,
    })  # fmt: skip


if __name__ == "__main__":
    main()
