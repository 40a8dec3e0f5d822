import pytest
import torch
import transformers
from torch import nn

from cookbook.doctor import examination, gradients, learning_probes, preserve
from cookbook.doctor.subject import Subject

functional = nn.functional


def found(model, data, loss_fn=None, **given):
    subject = Subject(model, train_dataset=data, loss_fn=loss_fn, **given)
    with preserve.everything(model):
        said, why = examination.attempt(learning_probes.check_one_batch, subject)
    assert not why.startswith("failed"), why
    return said, why


def pairs(count=16, classes=3):
    draw = torch.Generator().manual_seed(0)
    return [(torch.randn(6, generator=draw), i % classes) for i in range(count)]


class Net(nn.Module):
    def __init__(self, blind=0.0):
        super().__init__()
        torch.manual_seed(0)
        self.norm, self.inside, self.out = nn.BatchNorm1d(6), nn.Linear(6, 32), nn.Linear(32, 3)
        self.drop, self.seen = nn.Dropout(0.5), 1 - blind

    def forward(self, x):
        return self.out(self.drop(torch.tanh(self.inside(self.norm(x * self.seen)))))


def test_a_model_that_does_not_see_its_input():
    (said,), _ = found(Net(blind=1.0), pairs(), functional.cross_entropy)
    assert (said.fault, said.severity) == ("R2", "warn")
    assert said.measured["left"] > 0.8 and len(said.curve.lines) == 3


def test_a_linear_model_has_no_room_to_memorise():
    said, why = found(nn.Linear(6, 3), pairs(), functional.cross_entropy)
    assert said == [] and "no room to memorise" in why


def test_gradients_that_climb_fit_nothing():
    model = Net()
    for p in model.parameters():
        p.register_hook(lambda grad: -grad)
    assert [f.fault for f in found(model, pairs(), functional.cross_entropy)[0]] == ["R2"]


def test_a_sound_model_fits_and_a_constant_in_the_loss_hides_nothing():
    assert found(Net(), pairs(), functional.cross_entropy) == ([], "")
    shifted = lambda out, y: functional.cross_entropy(out, y) + 100  # noqa: E731
    assert found(Net(), pairs(), shifted) == ([], "")
    smooth = lambda out, y: functional.cross_entropy(out, y, label_smoothing=0.1)  # noqa: E731
    assert found(Net(), pairs(), smooth) == ([], "")


def random_rows(count=8, length=48, seed=0):
    draw = torch.Generator().manual_seed(seed)
    return [torch.randint(5, 60, (length,), generator=draw) for _ in range(count)]


def gpt2():
    return transformers.GPT2LMHeadModel(transformers.GPT2Config(
        vocab_size=60, n_positions=64, n_embd=32, n_layer=2, n_head=2))  # fmt: skip


def llama():
    return transformers.LlamaForCausalLM(transformers.LlamaConfig(
        vocab_size=60, hidden_size=32, intermediate_size=64, num_hidden_layers=2,
        num_attention_heads=2, num_key_value_heads=2))  # fmt: skip


def t5():
    return transformers.T5ForConditionalGeneration(transformers.T5Config(
        vocab_size=60, d_model=32, d_ff=64, d_kv=16, num_layers=2, num_heads=2,
        decoder_start_token_id=0))  # fmt: skip


@pytest.mark.parametrize("make", [gpt2, llama, t5])
def test_small_language_models_fit_random_tokens(make):
    torch.manual_seed(0)
    data = [{"input_ids": x, "labels": x} for x in random_rows()]
    assert found(make(), data) == ([], "")


@pytest.mark.parametrize("head", [
    "BertForSequenceClassification", "BertForMaskedLM", "BertForTokenClassification",
])  # fmt: skip
def test_bert_fits(tiny_bert, head):
    def label(x, i):
        if head == "BertForMaskedLM":
            return torch.where(x % 5 == 0, x, -100)
        return x % 2 if head == "BertForTokenClassification" else i % 2

    data = [{"input_ids": x, "labels": label(x, i)} for i, x in enumerate(random_rows())]
    assert found(tiny_bert(head, hidden_dropout_prob=0.3), data) == ([], "")


def test_equal_rows_with_different_labels_are_the_datas_fault():
    data = [(torch.ones(6), i % 3) for i in range(16)]
    assert found(Net(), data, functional.cross_entropy) == ([], "does not apply")


def test_frozen_backbones_regressions_and_trained_models_are_left_alone():
    model = Net()
    model.inside.requires_grad_(False)
    model.norm.requires_grad_(False)
    model.out.weight.requires_grad_(False)
    assert found(model, pairs(), functional.cross_entropy)[1].startswith("most weights are frozen")
    numbers = [(x, x[:3]) for x, _ in pairs()]
    assert found(Net(), numbers, functional.mse_loss) == ([], "does not apply")
    sure = lambda out, y: functional.cross_entropy(out + 9 * functional.one_hot(y, 3), y)  # noqa: E731
    assert found(Net(), pairs(), sure)[0] == []


def test_the_batch_is_cut_where_it_keeps_its_labels():
    rows = random_rows(8, 60)
    subject = Subject(gpt2(), train_dataset=[{"input_ids": x, "labels": x} for x in rows])
    batch = learning_probes.small_batch(subject)
    assert batch["input_ids"].shape[1] == 32 and len(batch["labels"]) == 2
    late = [{"input_ids": x, "labels": torch.where(torch.arange(60) < 50, -100, x)} for x in rows]
    batch = learning_probes.small_batch(Subject(gpt2(), train_dataset=late))
    assert batch["input_ids"].shape[1] == 60
    padded = {"input_ids": torch.ones(2, 60).long(), "labels": torch.ones(2, 60).long(),
              "attention_mask": (torch.arange(60) >= 40).long().repeat(2, 1)}  # fmt: skip
    assert bool(learning_probes._cut(padded, 20)["attention_mask"].all())
    assert gradients.label_counts(subject, padded)[1] == 120
