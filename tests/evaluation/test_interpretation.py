"""Integrated gradients equal captum's and are complete; explanations leave the model as it was."""

import numpy as np
import pytest
import torch

from cookbook.evaluation import interpretation

TEXT = "The solver computes the gradient of two tensors, and returns a copy."


@pytest.fixture
def model(tiny_bert):
    made = tiny_bert("BertForSequenceClassification", num_labels=3, attn_implementation="eager")
    with torch.no_grad():  # fresh weights answer the same to everything: make it sensitive
        for weight in made.bert.encoder.parameters():
            weight.mul_(5 if weight.dim() == 2 else 1)
        made.classifier.weight.mul_(50)
    return made


def test_complete_and_better_with_more_steps(model, tokenizer):
    rough, fine = (
        interpretation.integrated_gradients(model, tokenizer, TEXT, 1, steps=n) for n in (2, 64)
    )
    assert abs(fine.logit - fine.baseline) > 0.01
    assert abs(fine.gap) < 0.02 * abs(fine.logit - fine.baseline)
    assert abs(fine.gap) < abs(rough.gap)
    assert len(fine.tokens) == len(fine.scores)
    assert fine.scores[0] == fine.scores[-1] == 0  # the special tokens stand in the baseline, too


def test_equal_to_captum(model, tokenizer):
    from captum.attr import LayerIntegratedGradients

    encoded = tokenizer(TEXT, return_tensors="pt")
    ids, mask = encoded["input_ids"], encoded["attention_mask"]
    blank = ids.clone()
    blank[:, 1:-1] = tokenizer.pad_token_id
    theirs = LayerIntegratedGradients(
        lambda x, m: model(input_ids=x, attention_mask=m).logits, model.get_input_embeddings()
    ).attribute(
        ids, baselines=blank, target=2, n_steps=16, method="riemann_middle",
        additional_forward_args=(mask,),
    )  # fmt: skip
    ours = interpretation.integrated_gradients(model, tokenizer, TEXT, 2, steps=16, chunk=5)
    assert np.allclose(ours.scores, theirs.sum(-1)[0].detach().numpy(), rtol=1e-4, atol=1e-6)


def test_leave_one_out_by_hand(model, tokenizer):
    ours = interpretation.leave_one_out(model, tokenizer, TEXT, 0)
    ids = tokenizer(TEXT, return_tensors="pt")["input_ids"]
    with torch.no_grad():
        whole = model(ids).logits[0, 0]
        ids[0, 3] = tokenizer.pad_token_id
        assert ours.scores[3] == pytest.approx(float(whole - model(ids).logits[0, 0]), abs=1e-5)
    assert ours.scores[0] == ours.scores[-1] == 0


def test_attention_sums_to_one_and_its_absence_is_named(model, tokenizer, tiny_bert):
    assert interpretation.attention_to(model, tokenizer, TEXT).logit == pytest.approx(1, abs=1e-5)
    fast = tiny_bert("BertForSequenceClassification", attn_implementation="sdpa")
    with pytest.raises(ValueError, match="eager"):
        interpretation.attention_to(fast, tokenizer, TEXT)


def test_deleting_what_matters_moves_the_logit_more(model, tokenizer):
    scores = interpretation.leave_one_out(model, tokenizer, TEXT, 1).scores
    fall, rise = (
        interpretation.faithfulness(model, tokenizer, TEXT, 1, way * scores) for way in (1, -1)
    )
    assert fall > 0 > rise


def test_a_probe_finds_what_a_layer_holds_and_only_there():
    rng = np.random.default_rng(0)
    labels = np.arange(120) % 2
    noise, signal = rng.normal(size=(2, 120, 5))
    signal[:, 0] += 4 * labels
    states = np.stack([noise, signal])
    found = interpretation.probe_layers(states[:, :80], labels[:80], states[:, 80:], labels[80:])
    assert found[0] < 0.75 and found[1] > 0.95


def test_states_do_not_depend_on_the_batch(model, tokenizer):
    texts = [TEXT, "A copy.", "An estimator normalizes the median."]
    together = interpretation.layer_states(model, tokenizer, texts)
    alone = interpretation.layer_states(model, tokenizer, texts, batch_size=1)
    assert together.shape == (model.config.num_hidden_layers + 1, 3, model.config.hidden_size)
    assert np.allclose(together, alone, atol=1e-5)


def test_the_mode_and_the_gradients_are_as_before(model, tokenizer):
    model.train()
    interpretation.integrated_gradients(model, tokenizer, TEXT, 0, steps=2)
    interpretation.leave_one_out(model, tokenizer, TEXT, 0)
    assert model.training and all(p.grad is None for p in model.parameters())
