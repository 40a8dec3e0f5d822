"""Forecasts against what `fine_tune` then holds, and times on a clock that is made."""

import numpy as np
import pytest
import transformers

from cookbook.finetuning import forecasts
from cookbook.finetuning.encoding import encode_rows, predict
from cookbook.finetuning.strategies import fine_tune
from cookbook.live_memory import LiveMemory
from cookbook.models.initialization import count_parameters, load_config, load_model, load_tokenizer


@pytest.fixture
def rows(checkpoint, labelled):
    tokenizer = load_tokenizer(checkpoint)
    return {split: encode_rows(part, tokenizer, 64) for split, part in labelled.items()}


def longest(rows, size):
    return sorted(rows["train"], key=lambda row: len(row["input_ids"]))[-size:]


@pytest.mark.parametrize("strategy", ["full", "lora", "prompt"])  # others: benchmarks
def test_memory_is_what_fine_tuning_then_holds(checkpoint, labelled, rows, strategy, tmp_path):
    config, tokenizer = load_config(checkpoint), load_tokenizer(checkpoint)
    batch = forecasts.batch_for(longest(rows, 8), tokenizer, config)
    found = forecasts.memory(config, strategy, batch, classes=3)
    with LiveMemory() as memory:
        fine_tune(
            checkpoint, labelled, strategy, learning_rate=1e-3, max_steps=12, batch_size=8,
            epochs=2, output_dir=str(tmp_path),
        )  # fmt: skip
    assert found.peak == pytest.approx(memory.peak, rel=0.15)


def test_a_probe_holds_no_gradient_and_no_state(checkpoint, rows):
    config, tokenizer = load_config(checkpoint), load_tokenizer(checkpoint)
    batch = forecasts.batch_for(longest(rows, 8), tokenizer, config)
    found = forecasts.memory(config, "linear-probe", batch, classes=3)
    model, most = load_model(checkpoint, "encoder"), longest(rows, 1) * 80
    with LiveMemory(model) as memory:
        predict(model, most, tokenizer, features=True)
    assert found.gradients == found.optimizer == 0
    assert found.peak == pytest.approx(memory.peak, rel=0.15)


def test_what_is_trained_is_what_the_strategy_trains(checkpoint):
    config = load_config(checkpoint)
    trained = {
        name: count_parameters(forecasts.build(config, name, classes=3))[1]
        for name in forecasts.PREPARED
    }
    assert trained["full"] > trained["partial"] > trained["lora"] > trained["prompt"]


class Clock:
    """A clock on which a step takes as many seconds as its batch has thousands of tokens."""

    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


def test_seconds_add_up_over_the_batches_of_the_run(checkpoint, rows, monkeypatch):
    clock = Clock()

    def step(batch):
        clock.now += batch["input_ids"].numel() / 1000

    monkeypatch.setattr(forecasts.timing, "training_step", lambda *_, **__: step)
    monkeypatch.setattr(forecasts.timing, "forward_step", lambda *_, **__: step)
    config, tokenizer = load_config(checkpoint), load_tokenizer(checkpoint)
    asked = {"classes": 3, "batch_size": 8, "clock": clock}
    sizes = {
        split: np.sort([len(row["input_ids"]) for row in rows[split]])
        for split in ("train", "validation")
    }
    reading = len(sizes["validation"]) * sizes["validation"].max() / 1000
    drawn = forecasts.timing.padded_sizes(sizes["train"], 8, epochs=3, seed=0).sum() / 1000
    found = forecasts.seconds(config, "full", rows, tokenizer, epochs=3, **asked)
    assert found == pytest.approx(drawn + 4 * reading, rel=0.05)
    share = {"train": 10.0, "validation": 1.0}
    more = forecasts.seconds(config, "full", rows, tokenizer, epochs=3, shares=share, **asked)
    assert more == pytest.approx(10 * drawn + 4 * reading, rel=0.05)
    probe = forecasts.seconds(config, "linear-probe", rows, tokenizer, **asked)
    assert probe == pytest.approx(reading + len(sizes["train"]) * sizes["train"].max() / 1000)


SMALL = {"vocab_size": 100, "eos_token_id": 1, "pad_token_id": 0}
OTHERS = {
    "decoder": (
        transformers.GPT2Config(
            n_embd=16, n_layer=1, n_head=1, bos_token_id=1, **SMALL
        ),
        ["classification", "tagging", "writing", "language modelling"],
    ),
    "encoder-decoder": (
        transformers.T5Config(
            d_model=16, d_kv=8, d_ff=16, num_layers=1, num_heads=2, decoder_start_token_id=0,
            **SMALL,
        ),
        ["classification", "writing"],
    ),
    "encoder": (
        transformers.BertConfig(
            vocab_size=100, hidden_size=16, num_hidden_layers=1, num_attention_heads=1,
            intermediate_size=16,
        ),
        ["regression", "tagging", "question answering", "language modelling"],
    ),
}  # fmt: skip


@pytest.mark.parametrize("family", OTHERS)
def test_every_family_has_a_cost_for_its_tasks(family, tokenizer):
    config, tasks = OTHERS[family]
    rows = [{"input_ids": [5] * n, "attention_mask": [1] * n} for n in (3, 9)]
    for task in tasks:
        batch = forecasts.batch_for(rows, tokenizer, config, task=task)
        classes = 1 if task == "regression" else 3
        found = forecasts.memory(config, "full", batch, task=task, classes=classes)
        assert found.peak > found.weights + found.optimizer > 0


def test_an_unknown_strategy_lists_the_known(checkpoint):
    with pytest.raises(ValueError, match="full, partial, lora"):
        forecasts.build(load_config(checkpoint), "magic")
