"""Bytes to keep, bytes while training, and what is forgotten, each against a count by hand."""

import dataclasses

import pytest
import torch

from cookbook.finetuning import costs, strategies
from cookbook.models.initialization import load_model, load_tokenizer
from cookbook.training.pretraining import evaluate_masked_lm, masked_lm_rows

TEXTS = ["The solver computes the gradient of two tensors, and returns a copy."] * 12


@pytest.fixture(scope="module")
def rows(tokenizer):
    return masked_lm_rows(TEXTS, tokenizer, 32)


def trained(job, name, **changes):
    return strategies.STRATEGIES[name](dataclasses.replace(job, **changes)).model


def test_a_prompt_is_kept_without_the_network_that_wrote_it(job):
    head = 32 * 32 + 32 + 32 * 3 + 3
    for name in ("prompt", "p-tuning"):
        size = costs.size_on_disk(trained(job, name, max_steps=1))
        assert 0 < size - 4 * (head + 10 * 32) < 1000  # the header of the file
    full = costs.size_on_disk(trained(job, "full", max_steps=1))
    assert full > 4 * sum(p.numel() for p in load_model(job.model, "encoder").parameters())


def test_peak_holds_weights_gradients_two_moments_and_activations(job):
    model = load_model(job.model, "classification", num_labels=3)
    weights = sum(4 * p.numel() for p in model.parameters())
    full = costs.peak_memory(strategies.STRATEGIES["full"], job)
    bitfit = costs.peak_memory(strategies.STRATEGIES["bitfit"], job)
    assert full > 4 * weights
    assert weights < bitfit < full - 2 * weights


def test_gradual_unfreezing_peaks_like_full(job):
    full, slow = (costs.peak_memory(strategies.STRATEGIES[n], job) for n in ("full", "gradual"))
    assert slow == pytest.approx(full, rel=0.1)


def test_a_probe_peaks_where_the_encoder_reads(job):
    weights = sum(4 * p.numel() for p in load_model(job.model, "encoder").parameters())
    assert weights < costs.peak_memory(strategies.STRATEGIES["linear-probe"], job) < 3 * weights


def test_an_encoder_that_did_not_move_remembers_everything(job, rows):
    tokenizer = load_tokenizer(job.model)
    known = evaluate_masked_lm(load_model(job.model, "masked-lm"), tokenizer, rows)
    for name in ("linear-probe", "full"):
        model = trained(job, name, max_steps=1)  # the first step of a warm-up has rate 0
        assert costs.remembers(job.model, model, tokenizer, rows) == known["masked_accuracy"]


@pytest.mark.parametrize("name", ["lora", "prompt", "prefix", "houlsby", "distillation"])
def test_whatever_was_added_is_read_with_it(job, rows, name):
    model = trained(job, name, max_steps=2)
    first = costs.remembers(job.model, model, job.tokenizer, rows)
    assert 0 <= first <= 1
    assert first == costs.remembers(job.model, model, job.tokenizer, rows)


def test_weights_that_were_ruined_remember_nothing(job, rows):
    model = trained(job, "full", max_steps=1)
    for parameter in model.base_model.parameters():
        torch.nn.init.zeros_(parameter)
    assert costs.remembers(job.model, model, job.tokenizer, rows) < 0.2


def test_the_head_reads_with_the_word_table_that_was_trained(job, rows, monkeypatch):
    model = trained(job, "full", learning_rate=0.1)
    reader = load_model(job.model, "masked-lm")
    reader.bert.load_state_dict(model.bert.state_dict(), strict=False)  # the head is tied to it
    expected = evaluate_masked_lm(reader, job.tokenizer, rows)
    seen, ask = [], costs.evaluate_masked_lm

    def spy(*arguments):
        seen.append(ask(*arguments))
        return seen[-1]

    monkeypatch.setattr(costs, "evaluate_masked_lm", spy)
    costs.remembers(job.model, model, job.tokenizer, rows)
    assert seen[0]["loss"] == pytest.approx(expected["loss"], abs=1e-6)
