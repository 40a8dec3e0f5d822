"""Predicted memory against what real steps hold, and the closed formula against the trace."""

import pytest
import torch
import transformers
from torch import nn

from cookbook.live_memory import LiveMemory
from cookbook.scaling.calculator import (
    activation_bytes,
    inference_memory,
    parse_bytes,
    readable,
    training_memory,
)

TINY = {"vocab_size": 300, "hidden_size": 32, "num_attention_heads": 2, "num_labels": 3}


def bert(**changes):
    shape = {"num_hidden_layers": 2, "intermediate_size": 128, "max_position_embeddings": 64}
    return transformers.BertForSequenceClassification(
        transformers.BertConfig(**TINY, **shape | changes)
    )


def partial():
    model = bert()
    model.bert.requires_grad_(False)
    model.bert.encoder.layer[-1].requires_grad_(True)
    return model


def lora():
    import peft

    config = peft.LoraConfig("SEQ_CLS", r=4, target_modules=["query", "value"])
    return peft.get_peft_model(bert(), config)


def gpt():
    shape = {"n_embd": 32, "n_layer": 2, "n_head": 2, "pad_token_id": 0}
    config = transformers.GPT2Config(vocab_size=300, num_labels=3, **shape)
    return transformers.GPT2ForSequenceClassification(config)


def t5():
    shape = {"d_model": 32, "d_kv": 16, "d_ff": 64, "num_layers": 2, "num_heads": 2}
    config = transformers.T5Config(vocab_size=300, decoder_start_token_id=0, **shape)
    return transformers.T5ForConditionalGeneration(config)


def vit():
    shape = {"num_hidden_layers": 2, "intermediate_size": 64, "image_size": 16, "patch_size": 4}
    config = transformers.ViTConfig(hidden_size=32, num_attention_heads=2, num_labels=3, **shape)
    return transformers.ViTForImageClassification(config)


def text(rows=4, length=24, labels=None):
    ids = torch.randint(1, 300, (rows, length))
    mask = torch.ones_like(ids)
    mask[0, length // 2 :] = 0
    labels = torch.zeros(rows, dtype=torch.long) if labels is None else labels
    return {"input_ids": ids, "attention_mask": mask, "labels": labels}


def images():
    return {"pixel_values": torch.randn(4, 3, 16, 16), "labels": torch.zeros(4, dtype=torch.long)}


CASES = {
    "encoder, full": (bert, text, "fp32"),
    "encoder, last layer": (partial, text, "fp32"),
    "encoder, LoRA": (lora, text, "fp32"),
    "encoder, bf16": (bert, text, "bf16"),
    "decoder": (gpt, text, "fp32"),
    "encoder-decoder": (t5, lambda: text(labels=torch.ones(4, 9, dtype=torch.long)), "fp32"),
    "vision": (vit, images, "fp32"),
}


def measured(model, batch, precision):
    """The peak of real steps, taken as the Trainer takes them."""
    updates = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], fused=True)
    model.train()
    with LiveMemory(model, batch) as memory:
        for _ in range(3):
            with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
                loss = model(**batch).loss
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            updates.step()
            updates.zero_grad()
    return memory.peak


@pytest.mark.parametrize("case", CASES)
def test_the_prediction_is_what_real_steps_hold(case):
    build, batch, precision = CASES[case]
    found = training_memory(build, batch(), precision=precision)
    assert found.peak == pytest.approx(measured(build(), batch(), precision), rel=0.01)


def test_a_linear_layer_by_hand():
    """100 x 100 weights: theirs, their gradient, two moments and a step counter."""
    found = training_memory(
        lambda: nn.Sequential(nn.Linear(100, 100, bias=False)),
        {"input": torch.ones(7, 100)},
        loss=torch.sum,
        copies=2,
    )
    assert (found.weights, found.gradients, found.copies) == (40_000, 40_000, 80_000)
    assert found.optimizer == 2 * 40_000 + 4
    assert found.activations == 7 * 100 * 4 + 4  # the input, and the sum, which needs no output


def test_sgd_without_momentum_has_no_state():
    found = training_memory(
        lambda: nn.Sequential(nn.Linear(10, 10)),
        {"input": torch.ones(2, 10)},
        loss=torch.sum,
        optimizer=lambda parameters: torch.optim.SGD(parameters, 0.1),
    )
    assert found.optimizer == 0


def test_a_frozen_body_costs_neither_gradients_nor_state_and_keeps_fewer_activations():
    whole, part = training_memory(bert, text()), training_memory(partial, text())
    assert part.weights == whole.weights
    assert part.gradients < whole.gradients and part.optimizer < whole.optimizer
    assert part.activations < whole.activations


def test_nothing_is_kept_where_nothing_is_trained():
    found = inference_memory(bert, text())
    model = bert().eval()
    with LiveMemory(model, batch := text()) as memory, torch.no_grad():
        model(**batch)
    assert found.peak == pytest.approx(memory.peak, rel=0.01)
    assert found.gradients == found.optimizer == 0


@pytest.mark.parametrize("dropout", [0.0, 0.1])
def test_the_closed_formula_is_within_a_tenth_of_the_trace(dropout):
    rates = {"hidden_dropout_prob": dropout, "attention_probs_dropout_prob": dropout}
    shape = {"hidden": 32, "heads": 2, "dropout": dropout > 0}
    built, by_hand = [], []
    for layers in (1, 3):  # the difference is that of two layers, embeddings and head aside
        made = training_memory(
            lambda n=layers: bert(num_hidden_layers=n, attn_implementation="eager", **rates),
            {"input_ids": torch.ones(8, 48, dtype=torch.long), "labels": torch.zeros(8).long()},
        )
        built.append(made.activations)
        by_hand.append(activation_bytes(8, 48, layers=layers, **shape))
    assert by_hand[1] - by_hand[0] == pytest.approx(built[1] - built[0], rel=0.1)


def test_prediction_changes_no_random_number_and_makes_no_weights():
    torch.manual_seed(3)
    before = torch.get_rng_state()
    huge = training_memory(
        lambda: nn.Sequential(nn.Linear(10**6, 10**5, bias=False)),
        {"input": torch.empty(1, 10**6)},
        loss=torch.sum,
    )
    assert huge.weights == 4 * 10**11
    assert torch.equal(before, torch.get_rng_state())


def test_sizes_in_words():
    assert parse_bytes("8GB") == 8 * 10**9 and parse_bytes("512 MiB") == 512 * 2**20
    assert readable(parse_bytes("1500 MB")) == "1.5 GB"
    for wrong in ("eight", "8 elephants", "", "-3GB", "0", "inf"):
        with pytest.raises(ValueError, match="no amount of memory"):
            parse_bytes(wrong)
