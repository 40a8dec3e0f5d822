"""peft's methods under our heads: what the checkpoint lacked trains, the rest keeps its bits."""

import peft
import pytest
import torch

from cookbook.finetuning import peft_methods
from cookbook.models.initialization import load_model

BATCH = {
    "input_ids": torch.tensor([[2, 5, 6, 3], [2, 9, 8, 3]]),
    "attention_mask": torch.ones(2, 4),
}
NAMES = ["lora", "dora", "ia3", "prompt", "p_tuning", "prefix"]


def shared_weights(model):
    """The encoder's weights by the checkpoint's names, wherever peft has moved them to."""
    state = model.state_dict()
    clean = {n.replace(".base_layer", "").split("base_model.")[-1]: p for n, p in state.items()}
    return {n.removeprefix("model."): p for n, p in clean.items()}


@pytest.mark.parametrize("strategy", NAMES)
def test_the_checkpoint_keeps_its_bits_and_all_that_is_new_moves(job, checkpoint, strategy):
    trained = getattr(peft_methods, strategy)(job)
    ours, start = shared_weights(trained.model), load_model(checkpoint, "encoder").state_dict()
    still = {name: torch.equal(ours[f"bert.{name}"], value) for name, value in start.items()
             if "pooler" not in name}  # fmt: skip
    assert len(still) > 30 and all(still.values())
    parameters = {n: p for n, p in trained.model.named_parameters() if p.requires_grad}
    assert any("pooler" in name for name in parameters)
    assert any("classifier" in name for name in parameters)
    assert any("pooler" not in n and "classifier" not in n for n in parameters)
    assert trained.logits(job.rows["test"]).shape == (21, 3)


def test_rows_as_long_as_the_model_make_room_for_a_prompt(job):
    """64 positions, and a prompt of 10: 54 are left for the text."""
    import dataclasses

    row = {"input_ids": [2, *[9] * 62, 3], "attention_mask": [1] * 64, "labels": 1}
    job = dataclasses.replace(job, max_steps=1, rows=dict.fromkeys(job.rows, [row] * 4))
    trained = peft_methods.prompt(job)
    short = {name: [*v[:53], v[-1]] for name, v in row.items() if name != "labels"}
    assert (trained.logits([row]) == trained.logits([{**short, "labels": 1}])).all()


@pytest.mark.parametrize("method", ["LoraConfig", "IA3Config"])
def test_it_starts_as_the_checkpoint(new, method):
    model = new().eval()
    before = model(**BATCH).logits
    wrapped = peft_methods.wrap(model, method).eval()
    torch.testing.assert_close(wrapped(**BATCH).logits, before)


def test_lora_adapts_every_matrix_of_every_layer_and_merges(job):
    trained = peft_methods.lora(job, rank=2)
    model = trained.model.eval()
    factors = {n: p for n, p in model.named_parameters() if "lora_" in n}
    assert len(factors) == 2 * 6 * 2 and all(p.abs().sum() > 0 for p in factors.values())
    with torch.no_grad():
        before = model(**BATCH).logits
        merged = model.merge_and_unload().eval()
        torch.testing.assert_close(merged(**BATCH).logits, before, rtol=1e-4, atol=1e-5)
    assert not [name for name, _ in merged.named_parameters() if "lora" in name]


def test_the_rate_of_a_prompt_is_not_the_rate_of_the_head(job):
    """A prompt's 0.3 would push the head's weights far off within four steps; 3e-3 cannot."""
    import dataclasses

    start = peft_methods.prompt(dataclasses.replace(job, learning_rate=1e-12)).model
    end = peft_methods.prompt(dataclasses.replace(job, learning_rate=0.3)).model
    before, after = dict(start.named_parameters()), dict(end.named_parameters())
    far = {
        n: float((after[n] - before[n]).detach().abs().max())
        for n in after
        if after[n].requires_grad
    }
    prompt = far.pop("prompt_encoder.default.embedding.weight")
    assert prompt > 0.1 and far and max(far.values()) < 0.02


@pytest.mark.parametrize("method", ["LoraConfig", "IA3Config"])
def test_what_peft_saves_holds_all_that_is_new(new, method):
    saved = peft.get_peft_model_state_dict(peft_methods.wrap(new(), method))
    assert any("pooler" in name for name in saved) and any("classifier" in name for name in saved)
