import pytest
import torch
from torch import nn

from cookbook.doctor import examination, logit_probes
from cookbook.doctor.subject import Subject

functional = nn.functional


class Classifier(nn.Module):
    def __init__(self, end=lambda z: z, classes=5):
        super().__init__()
        torch.manual_seed(0)
        self.inside, self.out, self.end = nn.Linear(6, 16), nn.Linear(16, classes), end

    def forward(self, x):
        return self.end(self.out(torch.tanh(self.inside(x))))


def softmax(z):
    return z.softmax(-1)


def pairs(target, count=16):
    draw = torch.Generator().manual_seed(0)
    return [(torch.randn(6, generator=draw), target(draw)) for _ in range(count)]


def a_class(draw):
    return int(torch.randint(0, 5, (), generator=draw))


def several(draw):
    return torch.randint(0, 2, (5,), generator=draw).float()


def found(model, data, loss_fn):
    subject = Subject(model, train_dataset=data, loss_fn=loss_fn)
    said, why = examination.attempt(logit_probes.check_softmax_before_loss, subject)
    assert why in ("", "does not apply")
    return said


def said_l2(said):
    return [(f.fault, f.severity) for f in said] == [("L2", "error")]


def test_a_model_that_returns_probabilities():
    said = found(Classifier(softmax), pairs(a_class), functional.cross_entropy)
    assert said_l2(said) and said[0].measured["floor"] == pytest.approx(0.9048, abs=1e-3)
    assert "rows sum to 1.000" in said[0].evidence


@pytest.mark.parametrize("loss_fn", [
    lambda out, y: functional.cross_entropy(softmax(out), y),
    lambda out, y: functional.nll_loss(softmax(out), y),
    lambda out, y: functional.cross_entropy(out.sigmoid(), y),
    lambda out, y: functional.cross_entropy(softmax(out), y, label_smoothing=0.1),
])  # fmt: skip
def test_a_loss_that_squashes_first(loss_fn):
    assert said_l2(found(Classifier(), pairs(a_class), loss_fn))


def test_a_sigmoid_before_the_loss_that_applies_one():
    model = Classifier(torch.sigmoid)
    loss_fn = functional.binary_cross_entropy_with_logits
    assert said_l2(found(model, pairs(several), loss_fn))


def test_token_level_probabilities(tiny_bert, tokenizer):
    data = [{"input_ids": torch.arange(5, 21), "labels": torch.arange(5, 21)} for _ in range(8)]

    def loss_fn(outputs, batch):
        scores = softmax(outputs.logits)
        return functional.cross_entropy(scores.transpose(1, 2), batch["labels"])

    assert said_l2(found(tiny_bert(), data, loss_fn))


class Hidden(torch.autograd.Function):
    """A cross-entropy whose graph nobody can read, as a compiled one is."""

    @staticmethod
    def forward(ctx, scores, y):
        ctx.save_for_backward(scores, y)
        return functional.cross_entropy(scores, y)

    @staticmethod
    def backward(ctx, grad):
        scores, y = ctx.saved_tensors
        hot = functional.one_hot(y, scores.shape[-1])
        return grad * (softmax(scores) - hot) / len(y), None


def test_where_the_graph_is_hidden_the_numbers_tell():
    assert said_l2(found(Classifier(softmax), pairs(a_class), Hidden.apply))
    assert found(Classifier(), pairs(a_class), Hidden.apply) == []


@pytest.mark.parametrize("end, target, loss_fn", [
    (lambda z: z, a_class, functional.cross_entropy),
    (lambda z: z.log_softmax(-1), a_class, functional.cross_entropy),
    (lambda z: z.log_softmax(-1), a_class, functional.nll_loss),
    (softmax, a_class, lambda out, y: functional.nll_loss(out.log(), y)),
    (softmax, several, functional.mse_loss),
    (torch.sigmoid, several, functional.binary_cross_entropy),
    (lambda z: z, several, functional.binary_cross_entropy_with_logits),
    (lambda z: z.mul(0.01).sigmoid().mul(10), a_class, functional.cross_entropy),
])  # fmt: skip
def test_what_is_right_or_harmless_is_silent(end, target, loss_fn):
    assert found(Classifier(end), pairs(target), loss_fn) == []


def test_attention_and_experts_have_softmaxes_of_their_own(tiny_bert, tokenizer):
    data = [tokenizer("a tensor of two") | {"labels": i % 2} for i in range(8)]
    subject = Subject(tiny_bert("BertForSequenceClassification"), train_dataset=data,
                      processing_class=tokenizer)  # fmt: skip
    check = logit_probes.check_softmax_before_loss
    assert examination.attempt(check, subject) == ([], "")


@pytest.mark.parametrize("end", [lambda z: z, lambda z: z.relu() + 2, lambda z: z.tanh()])
def test_scores_where_log_probabilities_belong(end):
    (told,) = found(Classifier(end), pairs(a_class), nn.NLLLoss())
    assert told.fault == "L2" and told.measured["greatest"] > 0


def test_log_probabilities_of_a_part_of_the_classes_are_right():
    """A softmax over all, of which the loss is asked about some."""
    assert (
        found(Classifier(lambda z: z.log_softmax(-1)[:, :5], 9), pairs(a_class), nn.NLLLoss()) == []
    )


@pytest.mark.parametrize("squash", [True, False])
def test_a_softmax_behind_a_head_that_is_split_into_two(tiny_bert, squash):
    model = tiny_bert("BertForQuestionAnswering")
    if squash:
        model.qa_outputs = nn.Sequential(model.qa_outputs, nn.Softmax(1))
    rows = [{"input_ids": torch.arange(5, 17), "attention_mask": torch.ones(12).long(),
             "start_positions": i % 9, "end_positions": i % 9 + 1} for i in range(8)]  # fmt: skip
    said = found(model, rows, None)
    assert [f.fault for f in said] == (["L2"] if squash else [])


@pytest.mark.parametrize(("classes", "loss", "expected"), [
    (1, functional.cross_entropy, ["M4"]),
    (1, functional.binary_cross_entropy_with_logits, []),
    (1, functional.mse_loss, []),
    (2, functional.cross_entropy, []),
])  # fmt: skip
def test_one_score_leaves_a_cross_entropy_nothing_to_choose(classes, loss, expected):
    data = pairs(lambda draw: torch.randint(0, 2, (classes,), generator=draw).float())
    subject = Subject(Classifier(classes=classes), train_dataset=data, loss_fn=loss)
    said, why = examination.attempt(logit_probes.check_softmax_before_loss, subject)
    assert [one.fault for one in said] == expected and "failed" not in why
