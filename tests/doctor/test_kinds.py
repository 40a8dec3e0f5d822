import pytest
import torch
import transformers
from torch import nn

from cookbook.doctor import kinds

SMALL = {"vocab_size": 40, "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2,
         "intermediate_size": 16}  # fmt: skip
T5 = transformers.T5Config(vocab_size=40, d_model=16, d_ff=16, num_layers=1, num_heads=2, d_kv=8)
GPT2 = transformers.GPT2Config(vocab_size=40, n_embd=16, n_layer=1, n_head=2)
VIT = transformers.ViTConfig(
    image_size=8, patch_size=4, num_channels=1,
    **{name: value for name, value in SMALL.items() if name != "vocab_size"},
)  # fmt: skip


def bert(head, **more):
    return getattr(transformers, head)(transformers.BertConfig(**SMALL, **more))


@pytest.mark.parametrize(
    ("model", "kind"),
    [
        (lambda: bert("BertForMaskedLM"), "masked-lm"),
        (lambda: bert("BertForPreTraining"), "masked-lm"),
        (lambda: bert("BertForSequenceClassification"), "classifier"),
        (lambda: bert("BertForSequenceClassification", num_labels=1), "regression"),
        (lambda: bert("BertForSequenceClassification", problem_type="multi_label_classification"),
         "multi-label"),
        (lambda: bert("BertForTokenClassification"), "tagger"),
        (lambda: bert("BertForQuestionAnswering"), "question-answering"),
        (lambda: bert("BertLMHeadModel", is_decoder=True), "causal-lm"),
        (lambda: transformers.GPT2LMHeadModel(GPT2), "causal-lm"),
        (lambda: transformers.T5ForConditionalGeneration(T5), "seq2seq"),
        (lambda: transformers.ViTForImageClassification(VIT), "classifier"),
        (lambda: nn.Linear(2, 2), "other"),
    ],
)  # fmt: skip
def test_the_class_and_its_configuration_tell_the_kind(model, kind):
    found = kinds.kind_of(model(), [])
    assert found == kind and found in kinds.KINDS


@pytest.mark.parametrize(
    ("labels", "kind"),
    [
        (torch.tensor([0, 1, 2]), "classifier"),
        (torch.tensor([0.3, 1.0]), "regression"),
        (torch.tensor([[0.0, 1.0], [1.0, 1.0]]), "multi-label"),
        (torch.tensor([[0.5, 1.0]]), "regression"),
        (torch.tensor([[0, 1]]), "other"),
    ],
)
def test_labels_tell_it_of_a_plain_module(labels, kind):
    batch = (torch.zeros(len(labels), 2), labels)
    assert kinds.kind_of(nn.Linear(2, 2), [batch], loss_fn=nn.functional.cross_entropy) == kind


def test_wrappers_are_looked_through():
    model = nn.Linear(2, 2)
    assert kinds.unwrapped(nn.DataParallel(model)) is model
    assert kinds.unwrapped(torch.compile(model, backend="eager")) is model
    import peft

    adapted = peft.get_peft_model(
        bert("BertForMaskedLM"), peft.LoraConfig(target_modules=["query"])
    )
    assert type(kinds.base_of(adapted)).__name__ == "BertForMaskedLM"
    assert kinds.kind_of(adapted, []) == "masked-lm"


def test_logits_and_labels_are_found_by_name():
    tensor = torch.zeros(1, 2)
    assert kinds.logits_of({"loss": tensor[0, 0], "logits": tensor}) is tensor
    assert kinds.logits_of((tensor[0, 0], tensor)) is tensor
    assert kinds.logits_of(tensor) is tensor and kinds.logits_of({"x": 1}) is None
    assert kinds.label_key({"y": 1}) == "y" and kinds.label_key({"other": 1}) is None
    assert kinds.label_key({"mine": 1, "labels": 2}, ["mine"]) == "mine"


def test_accepted_keeps_what_the_forward_pass_takes():
    class Model(nn.Module):
        def forward(self, a, b=None):
            return a

    assert kinds.accepted(Model(), {"a": 1, "c": 2}) == {"a": 1}
    assert kinds.accepted(bert("BertForMaskedLM"), {"input_ids": 1, "odd": 2}).keys() >= {
        "input_ids"
    }
