"""M7 and M10: dropout in evaluation and rows that mix are found; what must draw or mix is not."""

import pytest
import torch
import torch.nn.functional as F
import transformers
from torch import nn

from cookbook.doctor import forward_probes
from cookbook.doctor.checks import attempt
from cookbook.doctor.subject import Subject

CERTAIN = forward_probes.check_evaluation_is_certain
APART = forward_probes.check_rows_are_apart


def verdicts(check, model, dataset, **given):
    found, reason = attempt(check, Subject(model, train_dataset=dataset, **given))
    assert "failed" not in reason, reason
    return [(one.fault, one.severity) for one in found]


def points(count=8, width=6):
    torch.manual_seed(0)
    return [(torch.randn(width), i % 2) for i in range(count)]


def tokens(count=8, length=10, labels=2):
    torch.manual_seed(0)
    ids = torch.randint(5, 90, (count, length))
    return [{"input_ids": row, "attention_mask": torch.ones_like(row), "labels": i % labels}
            for i, row in enumerate(ids)]  # fmt: skip


class Net(nn.Module):
    def __init__(self, middle):
        super().__init__()
        torch.manual_seed(1)
        self.first, self.last, self.middle = nn.Linear(6, 8), nn.Linear(8, 2), middle

    def forward(self, x):
        return self.last(self.middle(self.first(x)))


class Call(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x)


class Stubborn(Net):
    def train(self, mode=True):
        return super().train(True)


class Deaf(Net):
    def eval(self):
        return self


LIVE = {
    "functional": Net(Call(lambda h: F.dropout(h, 0.1))),
    "hidden": Net(Call(nn.Dropout(0.2).__call__)),
    "stubborn": Stubborn(nn.Dropout(0.1)),
    "deaf": Deaf(nn.Dropout(0.1)),
    "stubborn norm": Stubborn(nn.BatchNorm1d(8)),
    "stochastic depth": Net(Call(lambda h: h * h.new_empty(len(h), 1).bernoulli_(0.8))),
}


@pytest.mark.parametrize("model", LIVE.values(), ids=LIVE)
def test_dropout_that_acts_in_evaluation_is_found(model):
    assert verdicts(CERTAIN, model, points()) == [("M7", "error")]


def test_bert_with_dropout_live_in_evaluation_is_found(tiny_bert):
    model = tiny_bert("BertForSequenceClassification", hidden_dropout_prob=0.1)
    assert verdicts(CERTAIN, model, tokens()) == []
    model.dropout.forward = lambda x: F.dropout(x, 0.1, training=True)
    assert verdicts(CERTAIN, model, tokens()) == [("M7", "error")]


def test_noise_that_is_drawn_by_hand_is_a_warning():
    model = Net(Call(lambda h: h * (torch.rand_like(h) > 0.1)))
    assert verdicts(CERTAIN, model, points()) == [("M7", "warn")]


STILL = {
    "dropout": Net(nn.Dropout(0.5)),
    "norm": Net(nn.BatchNorm1d(8)),
    "training=self.training": Net(nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)),
    "p=0": Stubborn(nn.Dropout(0.0)),
}


@pytest.mark.parametrize("model", STILL.values(), ids=STILL)
def test_evaluations_that_agree_are_healthy(model):
    assert verdicts(CERTAIN, model, points()) == []


def test_a_variational_model_draws_on_purpose():
    model = Net(Call(lambda h: h + torch.randn_like(h)))
    dataset = [(x, x) for x, _ in points()]
    assert verdicts(CERTAIN, model, dataset, loss_fn=F.mse_loss) == [("M7", "info")]


def bert_with(hook, part="embeddings"):
    config = transformers.BertConfig(vocab_size=100, hidden_size=16, num_hidden_layers=1,
                                     num_attention_heads=2, intermediate_size=16)  # fmt: skip
    torch.manual_seed(0)
    model = transformers.BertForSequenceClassification(config)
    module = model.get_input_embeddings() if part == "embeddings" else model.classifier
    module.register_forward_hook(hook)
    return model


NOISE = {
    "like it": lambda h: torch.randn_like(h),
    "by its shape": lambda h: torch.randn(h.shape),
    "in place": lambda h: torch.empty_like(h).normal_(),
}


@pytest.mark.parametrize("noise", NOISE.values(), ids=NOISE)
def test_noise_on_hidden_states_in_evaluation(noise):
    always = bert_with(lambda module, given, out: out + 0.1 * noise(out))
    assert verdicts(CERTAIN, always, tokens()) == [("M7", "warn")]
    only = bert_with(lambda m, given, out: out + 0.1 * noise(out) if m.training else out)
    assert verdicts(CERTAIN, only, tokens()) == []


def test_random_weights_and_random_hashes_are_drawn_on_purpose():
    bayes = bert_with(lambda m, given, out: given[0] @ (
        m.weight + 0.1 * torch.randn_like(m.weight)).T, "head")  # fmt: skip
    assert verdicts(CERTAIN, bayes, tokens()) == [("M7", "info")]


def test_flags_are_as_before():
    model = Net(nn.Dropout(0.5))
    model.middle.eval()
    verdicts(CERTAIN, model, points())
    assert model.training and not model.middle.training


class Recurrent(nn.Module):
    """An LSTM over tokens; `batch_first` is what people forget."""

    def __init__(self, batch_first):
        super().__init__()
        torch.manual_seed(2)
        self.words, self.last = nn.Embedding(100, 16), nn.Linear(16, 3)
        self.cell = nn.LSTM(16, 16, batch_first=batch_first)

    def forward(self, x):
        return self.last(self.cell(self.words(x))[0].mean(1))


def word_pairs():
    torch.manual_seed(0)
    return [(torch.randint(0, 100, (10,)), i % 3) for i in range(8)]


MIXED = {
    "softmax over the batch": (Net(Call(lambda h: h.softmax(0) * 8)), points()),
    "centred over the batch": (Net(Call(lambda h: h - h.mean(0))), points()),
    "shuffled view": (Net(Call(lambda h: h.reshape(8, -1).t() if len(h) == 8 else
                               h.t().reshape(h.shape))), points()),
    "norm without running statistics": (
        Net(nn.BatchNorm1d(8, track_running_stats=False)), points()),
    "batch taken for time": (Recurrent(False), word_pairs()),
    "attention over the batch": (Net(nn.TransformerEncoderLayer(8, 2, 16)), points()),
}  # fmt: skip


@pytest.mark.parametrize(("model", "dataset"), MIXED.values(), ids=MIXED)
def test_rows_that_mix_are_found(model, dataset):
    assert verdicts(APART, model, dataset) == [("M10", "error")]


@pytest.mark.parametrize(("share", "expected"), [(1e-4, [("M10", "warn")]), (1e-9, [])])
def test_rows_that_are_heard_faintly_in_another_are_a_warning(share, expected):
    model = Net(Call(lambda h: h + share * h.mean(0)))
    assert verdicts(APART, model, points()) == expected
    assert verdicts(APART, model.to(torch.bfloat16), [(x.bfloat16(), y) for x, y in points()]) == []


def test_bert_that_mixes_rows_is_found(tiny_bert):
    model = tiny_bert("BertForSequenceClassification")
    assert verdicts(APART, model, tokens()) == []
    plain = model.bert.encoder.forward

    def mixing(hidden, *given, **named):
        out = plain(hidden, *given, **named)
        out.last_hidden_state = out[0].flatten(0, 1).reshape(-1, *hidden.shape[:1], 32).transpose(
            0, 1)  # fmt: skip
        return out

    model.bert.encoder.forward = mixing
    assert verdicts(APART, model, tokens()) == [("M10", "error")]


APART_MODELS = {
    "norm in evaluation": (Net(nn.BatchNorm1d(8)), points()),
    "recurrent": (Recurrent(True), word_pairs()),
    "similarity of all with all": (Call(lambda x: x @ x.t()), points()),
    "flattened scores": (Net(Call(lambda h: h)), points()),
    "one row": (Net(nn.Identity()), points(1)),
    "equal rows": (Net(Call(lambda h: h - h.mean(0))), points(1) * 4),
    "dropout": (Net(nn.Dropout(0.5)), points()),
}  # fmt: skip


@pytest.mark.parametrize(("model", "dataset"), APART_MODELS.values(), ids=APART_MODELS)
def test_rows_that_stay_apart_are_healthy(model, dataset):
    assert verdicts(APART, model, dataset) == []


def test_batch_statistics_of_what_is_no_prediction_are_healthy():
    model = Net(nn.BatchNorm1d(8, track_running_stats=False))
    dataset = [(x, torch.randn(2)) for x, _ in points()]
    assert verdicts(APART, model, dataset, loss_fn=F.mse_loss) == []


def test_integers_that_are_scaled_by_the_batch_are_healthy():
    model = torch.ao.quantization.quantize_dynamic(Net(nn.ReLU()), {nn.Linear})
    assert verdicts(APART, model, points()) == []


@pytest.mark.parametrize(
    "config",
    [
        transformers.GPT2Config(n_embd=16, n_layer=1, n_head=2, vocab_size=99, n_positions=16),
        transformers.MixtralConfig(
            hidden_size=16, num_hidden_layers=1, num_attention_heads=2, num_key_value_heads=2,
            intermediate_size=16, vocab_size=99, num_local_experts=2),
        transformers.LlamaConfig(
            hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16,
            vocab_size=99),
    ],
    ids=lambda config: config.model_type,
)  # fmt: skip
def test_language_models_are_healthy(config):
    model = transformers.AutoModelForCausalLM.from_config(config)
    dataset = [{**row, "labels": row["input_ids"]} for row in tokens()]
    assert verdicts(APART, model, dataset) == [] == verdicts(CERTAIN, model, dataset)


def test_images_are_healthy():
    config = transformers.ViTConfig(hidden_size=16, num_hidden_layers=1, num_attention_heads=2,
                                    intermediate_size=16, image_size=16, patch_size=4)  # fmt: skip
    torch.manual_seed(0)
    dataset = [{"pixel_values": torch.randn(3, 16, 16), "labels": i % 2} for i in range(8)]
    model = transformers.ViTForImageClassification(config)
    assert verdicts(APART, model, dataset) == [] == verdicts(CERTAIN, model, dataset)
