"""Ten checkpoints that differ in one thing each, to test what foretells a good one.

A model of docbert's size along a short pretraining, two smaller sizes, one that read Wikipedia
instead of docstrings, the shipped docbert, its first two layers, and one that read nothing. All
have the same vocabulary. About ten minutes of CPU; what is made is kept under `build/benchmarks`,
and a run that was stopped goes on. `selection.py` compares them.
"""

from __future__ import annotations

import os
import shutil
import sys
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))
import arms

STEPS, ALONG, BATCH = 500, (100, 200, 350, 500), 32
SHARED = {"batch_size": BATCH, "learning_rate": 1e-3, "warmup": 40, "seed": 0}
# name: size, text, updates
RUNS = {
    "small": ("small", "docstrings", STEPS),
    "mini": ("mini", "docstrings", STEPS),
    "tiny": ("tiny", "docstrings", STEPS),
    "wikipedia": ("small", "wikitext2", 300),
}
NAMES = {
    "random": "docbert's size, random weights",
    **{f"small-{step}": f"docbert's size after {step} updates on docstrings" for step in ALONG},
    f"mini-{STEPS}": f"hidden size 128, 2 layers, {STEPS} updates on docstrings",
    f"tiny-{STEPS}": f"hidden size 32, 2 layers, {STEPS} updates on docstrings",
    "wikipedia-300": "docbert's size after 300 updates on Wikipedia",
    "docbert-half": "the first two layers of docbert",
    "docbert": "docbert, 7,500 updates on docstrings",
}


def make(folder: Path) -> dict[str, str]:
    """All candidates in `folder`, name -> folder; what is there already is not made again.

    Without a set called "wikitext2" (a folder under COOKBOOK_DATA_DIR), the one that read
    Wikipedia is left out, and it is said.
    """
    from cookbook.models.initialization import load_model, load_tokenizer, save_half

    folder.mkdir(parents=True, exist_ok=True)
    corpus = arms.corpus()
    for name, (size, text, steps) in RUNS.items():
        rows = corpus.rows if text == "docstrings" else other_rows(text, corpus.tokenizer)
        if rows is not None:
            _pretrain(folder, name, size, rows, corpus.tokenizer, steps)
    if not (folder / "random").exists():
        _store(new_model("small", corpus.tokenizer), corpus.tokenizer, folder / "random")
    if not (folder / "docbert-half").exists():
        half = load_model("docbert", num_hidden_layers=2)
        save_half(half, load_tokenizer("docbert"), folder / "docbert-half")
    made = {name: str(folder / name) for name in NAMES if (folder / name).exists()}
    return made | {"docbert": "docbert"}


def other_rows(name: str, tokenizer: Any) -> Any:
    """Packed rows of another text, None where it is not on this machine."""
    from cookbook import data
    from cookbook.training import pretraining

    if not (Path(os.environ.get("COOKBOOK_DATA_DIR", "missing")) / name).is_dir():
        print(f"no {name} under COOKBOOK_DATA_DIR: the model that read other text is left out")
        return None
    lines = [line for line in data.load(name)["train"]["text"] if len(line) > 80]
    return pretraining.masked_lm_rows(lines, tokenizer, arms.LENGTH)


def new_model(size: str, tokenizer: Any) -> Any:
    """Random weights, the same for each size."""
    import torch
    import transformers

    from cookbook.models.text import bert_config

    torch.manual_seed(0)
    off = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    config = bert_config(
        len(tokenizer), size, length=arms.LENGTH, pad_token_id=tokenizer.pad_token_id,
        attn_implementation="eager", **off,
    )  # fmt: skip
    return transformers.BertForMaskedLM(config)


def _pretrain(folder: Path, name: str, size: str, rows: Any, tokenizer: Any, steps: int) -> None:
    """Pretrain, and store the model at the steps that a candidate is named after."""
    import torch
    import transformers

    from cookbook import session
    from cookbook.training.pretraining import pretrain
    from cookbook.training.trainer_checkpoints import VerifiedCheckpoints

    wanted = [int(c.rpartition("-")[2]) for c in NAMES if c.startswith(f"{name}-")]
    if all((folder / f"{name}-{step}").exists() for step in wanted):
        return

    class Store(transformers.TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, model: Any, **_: Any) -> None:
            if state.global_step in wanted:
                _store(model, tokenizer, folder / f"{name}-{state.global_step}")

    torch.set_num_threads(1)
    work, began = folder / f"{name}.run", time.process_time()
    pretrain(
        new_model(size, tokenizer), tokenizer, rows, steps=steps, output_dir=work, resume=True,
        precision=session.fastest_precision(seconds=1.0), disable_tqdm=True,
        save_strategy="steps", save_steps=50, save_total_limit=2,
        callbacks=[VerifiedCheckpoints(), Store()], **SHARED,
    )  # fmt: skip
    shutil.rmtree(work, ignore_errors=True)
    print(f"{name}: {(time.process_time() - began) / 60:.1f} minutes of CPU", flush=True)


def _store(model: Any, tokenizer: Any, folder: Path) -> None:
    """As `docbert` is stored: half precision, dropout for fine-tuning; whole or not at all."""
    from cookbook.models.initialization import save_half
    from cookbook.training.docbert import DROPOUT

    was = model.config.hidden_dropout_prob
    scratch = folder.with_name(f".{folder.name}")
    model.config.hidden_dropout_prob = model.config.attention_probs_dropout_prob = DROPOUT
    save_half(model, tokenizer, scratch)
    model.config.hidden_dropout_prob = model.config.attention_probs_dropout_prob = was
    scratch.rename(folder)


if __name__ == "__main__":
    for made in make(arms.CACHE / "candidates"):
        print(f"{made:14} {NAMES[made]}")
