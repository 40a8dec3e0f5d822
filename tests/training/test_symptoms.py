from types import SimpleNamespace as Outputs

import peft
import pytest
import torch
from torch import nn

from cookbook.training import mistake_runs as runs
from cookbook.training import mistakes, symptoms


class Follows(nn.Module):
    """Is sure that token `t` is followed by `t + 1`, of 10 tokens."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))

    def forward(self, input_ids, attention_mask=None):
        return Outputs(logits=30.0 * nn.functional.one_hot((input_ids + 1) % 10, 10).float())


def test_accuracy_is_asked_of_text_only_and_so_many_tokens_ahead():
    ids, mask = torch.tensor([[1, 2, 3, 0, 0]]), torch.tensor([[1, 1, 1, 0, 0]])
    batch = {"input_ids": ids, "attention_mask": mask}
    loss, accuracy = symptoms.on_text(Follows(), [batch])
    assert loss < 1e-6 and accuracy == 1.0  # 2 and 3, and not the padding
    assert symptoms.on_text(Follows(), [batch], ahead=2)[1] == 0.0


def test_rows_go_on_as_the_model_says():
    rows = [{"input_ids": [1, 2, 3, 4]}, {"input_ids": [5, 6, 7]}]
    ids = symptoms.continued(Follows(), rows, given=2, most=5)
    assert ids.tolist() == [[1, 2, 3, 4, 5], [5, 6, 7, 8, 9]]
    cut, share = symptoms.until_the_end(ids, end=4)
    assert cut == [[1, 2, 3, 4], [5, 6, 7, 8, 9]] and share == 0.5


def test_an_end_among_the_given_tokens_is_none_of_the_models():
    assert symptoms.until_the_end(torch.tensor([[4]]), end=4)[1] == 1.0


def test_layers_behind_a_frozen_input_get_nothing_from_reentrant_checkpoints(tiny_bert):
    norms = {}
    for wrapper in (mistakes.checkpoint_reentrant, mistakes.checkpoint):
        model = tiny_bert("BertForSequenceClassification")
        runs.freeze_embeddings(model)
        runs.wrap_layers(model, wrapper)
        batch = {"input_ids": torch.arange(5, 15).view(2, 5), "labels": torch.tensor([0, 1])}
        norms[wrapper] = symptoms.gradient_by_layer(model, batch)
        assert all(p.grad is None for p in model.parameters())
    cut, whole = norms[mistakes.checkpoint_reentrant], norms[mistakes.checkpoint]
    assert list(whole) == ["head", "layer 2", "layer 1", "embeddings"]
    assert cut["head"] > 0 == cut["layer 1"] == cut["layer 2"]
    assert whole["layer 1"] > 0 == whole["embeddings"]


def test_the_norm_of_b_is_zero_before_the_first_step(tiny_bert):
    model = peft.get_peft_model(tiny_bert(), peft.LoraConfig(target_modules=["query"]))
    assert symptoms.adapter_norm(model) == 0.0
    weights = [p for name, p in model.named_parameters() if "lora_B" in name]
    for weight in weights:
        nn.init.constant_(weight, 2.0)
    numbers = sum(weight.numel() for weight in weights)
    assert symptoms.adapter_norm(model) == pytest.approx(2.0 * numbers**0.5, rel=1e-5)
    assert symptoms.adapter_norm(nn.Linear(2, 2)) == 0.0


def test_the_share_of_weights_that_changed(tiny_bert):
    model = tiny_bert("BertForSequenceClassification")
    before = symptoms.layer_weights(model)
    assert before and all(".layer." in name for name in before)
    assert symptoms.share_changed(model, before) == 0.0
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.add_(1.0 if ".layer.0." in name else 0.0)
    assert symptoms.share_changed(model, before) == pytest.approx(0.5)


def test_the_cosine_of_unrelated_rows(tiny_bert):
    model = runs.Pairs(tiny_bert("BertModel"))
    ids, mask = torch.tensor([[5, 6]] * 3), torch.ones(3, 2, dtype=torch.long)
    batch = {"input_ids": ids, "attention_mask": mask, "pair_ids": ids, "pair_mask": mask}
    assert symptoms.unrelated_cosine(model, batch) == pytest.approx(1.0, abs=1e-5)
    assert model.training
