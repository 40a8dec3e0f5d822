"""E1: metrics that do not reward perfection are found; usual and odd good ones are not."""

import numpy as np
import pytest
import torch
import transformers
from scipy.stats import pearsonr
from sklearn.metrics import (
    accuracy_score,
    f1_score,
    matthews_corrcoef,
    mean_squared_error,
    precision_recall_fscore_support,
    roc_auc_score,
)
from torch import nn

from cookbook.doctor import metric_probes
from cookbook.doctor.checks import attempt
from cookbook.doctor.subject import Subject

CHECK = metric_probes.check_metric_rewards_perfection


def outcome(model, dataset, compute, **given):
    subject = Subject(model, eval_dataset=dataset, compute_metrics=compute, **given)
    found, reason = attempt(CHECK, subject)
    assert "failed" not in reason, reason
    return [(one.fault, one.severity) for one in found], reason


def verdicts(*given, **named):
    return outcome(*given, **named)[0]


def classified(labels=(1, 1, 0, 1, 2, 0) * 4):
    torch.manual_seed(0)
    return nn.Linear(4, 3), [(torch.randn(4), label) for label in labels]


def all_of_them(prediction):
    logits, labels = prediction
    guess = logits.argmax(-1)
    precision, recall, f1, _ = precision_recall_fscore_support(
        labels, guess, average="macro", zero_division=0)  # fmt: skip
    return {"accuracy": accuracy_score(labels, guess), "macro_f1": f1, "precision": precision,
            "recall": recall, "mcc": matthews_corrcoef(labels, guess), "runtime": 3.0}  # fmt: skip


GOOD = {
    "usual": all_of_them,
    "percent": lambda p: {"accuracy": 100 * (p.predictions.argmax(-1) == p.label_ids).mean()},
    "error rate": lambda p: {"error": (p.predictions.argmax(-1) != p.label_ids).mean()},
    "argmax before": lambda p: {"accuracy": accuracy_score(p.label_ids, p.predictions)},
    "first of a tuple": lambda p: {
        "accuracy": (np.argmax(p.predictions[0], -1) == p.label_ids).mean()},
    "auc": lambda p: {"auc": roc_auc_score(
        p.label_ids, torch.tensor(p.predictions).softmax(-1).numpy(), multi_class="ovr")},
    "of a class that may be missing": lambda p: {
        "f1": f1_score(p.label_ids, p.predictions.argmax(-1), labels=[0, 1, 2], average="macro",
                       zero_division=0)},
    "unknown names": lambda p: {"speed": 2.0, "share_of_zeros": 0.1},
    "top 2": lambda p: {"top2_accuracy": np.mean(
        (p.predictions.argsort(-1)[:, -2:] == p.label_ids[:, None]).any(-1))},
}  # fmt: skip
BAD = {
    "wrong axis": lambda p: {
        "accuracy": (p.predictions.argmax(0)[:, None] == p.label_ids).mean()},
    "argmin": lambda p: {"accuracy": (p.predictions.argmin(-1) == p.label_ids).mean()},
    "sorted": lambda p: {
        "accuracy": (np.sort(p.predictions.argmax(-1)) == np.sort(p.label_ids)).mean()},
    "itself": lambda p: {
        "accuracy": accuracy_score(p.predictions.argmax(-1), p.predictions.argmax(-1))},
    "error called accuracy": lambda p: {
        "accuracy": (p.predictions.argmax(-1) != p.label_ids).mean()},
    "error called accuracy, by index": lambda p: {
        "accuracy": float((p[0].argmax(-1) != p[1]).mean())},
    "shuffled": lambda p: {"f1": f1_score(p.label_ids, p.predictions.argmax(-1)[::-1],
                                          average="macro")},
    "always one": lambda p: {"accuracy": 1.0},
    "divided by the classes": lambda p: {
        "accuracy": (p.predictions.argmax(-1) == p.label_ids).sum() / p.predictions.size},
    "rounded": lambda p: {
        "accuracy": (np.round(p.predictions[:, 0]) == p.label_ids).mean()},
}  # fmt: skip


@pytest.mark.parametrize("compute", GOOD.values(), ids=GOOD)
def test_metrics_of_classes_that_reward_perfection(compute):
    assert verdicts(*classified(), compute) == []


@pytest.mark.parametrize("compute", BAD.values(), ids=BAD)
def test_metrics_of_classes_that_do_not(compute):
    assert verdicts(*classified(), compute) == [("E1", "error")]


def test_an_evaluation_of_one_class_is_healthy():
    assert verdicts(*classified([1] * 12), all_of_them) == []


def test_a_metric_that_knows_the_whole_evaluation_is_healthy():
    model, dataset = classified()
    truth = np.array([label for _, label in dataset])

    def compute(prediction):
        return {"accuracy": (prediction.predictions.argmax(-1) == truth).mean()}

    assert verdicts(model, dataset, compute) == []


def test_a_metric_that_raises_is_passed_over():
    found, reason = outcome(*classified(), lambda p: {"bleu": p.predictions.decode()})
    assert found == [] and "AttributeError" in reason


def texts(labels):
    torch.manual_seed(0)
    ids = torch.randint(5, 90, (8, 10))
    made = []
    for row in ids:
        target = row if labels == "causal" else torch.where(torch.arange(10) < 6, row, -100)
        target = target % 5 if labels == "tags" else target
        target = torch.where(torch.arange(10) < 6, target, -100)
        made.append({"input_ids": row, "labels": target})
    return made


def masked(shift):
    def compute(prediction):
        logits, labels = prediction
        if shift:
            logits, labels = logits[:, :-1], labels[:, 1:]
        counted = labels != -100
        return {"accuracy": (logits.argmax(-1) == labels)[counted].mean()}

    return compute


def generous(prediction):
    """What is ignored counts as right."""
    right = (prediction.predictions.argmax(-1) == prediction.label_ids) | (
        prediction.label_ids == -100
    )
    return {"accuracy": right.mean()}


def careless(prediction):
    return {"accuracy": (prediction.predictions.argmax(-1) == prediction.label_ids).mean()}


def clipping(prediction):
    labels = np.where(prediction.label_ids == -100, 0, prediction.label_ids)
    return {"accuracy": (prediction.predictions.argmax(-1) == labels).mean()}


def test_ignored_places_of_a_masked_model(tiny_bert):
    model, dataset = tiny_bert(), texts("masked")
    assert verdicts(model, dataset, masked(0)) == []
    assert verdicts(model, dataset, careless) == [("E1", "error")]
    assert verdicts(model, dataset, clipping) == [("E1", "error")]


def test_ignored_places_of_a_tagger(tiny_bert):
    model, dataset = tiny_bert("BertForTokenClassification", num_labels=5), texts("tags")
    assert verdicts(model, dataset, masked(0)) == []
    assert verdicts(model, dataset, careless) == [("E1", "error")]
    assert verdicts(model, dataset, generous) == [("E1", "error")]


def test_the_shift_of_a_causal_model():
    config = transformers.GPT2Config(n_embd=16, n_layer=1, n_head=2, vocab_size=99)
    model, dataset = transformers.GPT2LMHeadModel(config), texts("causal")
    assert verdicts(model, dataset, masked(1)) == []
    assert verdicts(model, dataset, masked(0)) == [("E1", "error")]


def numbers():
    torch.manual_seed(0)
    return nn.Linear(4, 1), [(torch.randn(4), torch.randn(1)) for _ in range(24)]


def test_metrics_of_numbers():
    model, dataset = numbers()

    def good(p):
        guess, labels = p.predictions.squeeze(-1), np.squeeze(p.label_ids)
        return {"pearson": pearsonr(guess, labels)[0], "mse": mean_squared_error(labels, guess)}

    def spread(p):  # (n, 1) against (n,): all with all
        return {"mse": ((p.predictions - np.squeeze(p.label_ids)) ** 2).mean()}

    assert verdicts(model, dataset, good) == []
    assert verdicts(model, dataset, spread) == [("E1", "error")]


@pytest.mark.parametrize("threshold", [0.0, 0.5, 0.3])
def test_several_labels_and_one_logit_for_two_classes(threshold):
    def compute(p):
        guess = 1 / (1 + np.exp(-p.predictions)) > threshold + 0.2
        return {"accuracy": (guess == p.label_ids).all(-1).mean(), "micro_f1": f1_score(
            p.label_ids, guess, average="micro")}  # fmt: skip

    torch.manual_seed(0)
    many = [(torch.randn(4), (torch.rand(3) < 0.5).float()) for _ in range(16)]
    assert verdicts(nn.Linear(4, 3), many, compute) == []

    def single(p):
        return {"accuracy": ((p.predictions >= 0) == np.asarray(p.label_ids).reshape(-1, 1)).mean()}

    one = [(torch.randn(4), torch.tensor([float(i % 2)])) for i in range(16)]
    assert verdicts(nn.Linear(4, 1), one, single) == []


def test_the_trainers_preprocessing_is_used():
    class Trainer:
        preprocess_logits_for_metrics = staticmethod(lambda logits, labels: logits.argmax(-1))

    model, dataset = classified()
    after = {"compute": GOOD["argmax before"], "trainer": Trainer()}
    assert verdicts(model, dataset, **after) == []


def test_without_a_metric_or_data_there_is_nothing_to_ask():
    model, dataset = classified()
    assert outcome(model, dataset, None) == ([], "does not apply")
    assert outcome(model, None, all_of_them)[0] == []


@pytest.mark.parametrize("sign, right", [(1, True), (-1, False)])
def test_a_correlation_of_classes_is_healthy_though_neighbours_correlate(sign, right):
    def compute(prediction):
        guess = prediction.predictions.argmax(-1)
        return {"pearson": sign * float(np.nan_to_num(pearsonr(guess, prediction.label_ids)[0]))}

    rows = [(torch.randn(4), label) for label in (1, 3, 0, 2, 1, 0) * 4]
    assert (verdicts(nn.Linear(4, 9), rows, compute) == []) is right


def of_transformers(hidden=False):
    torch.manual_seed(0)
    model = transformers.BertForSequenceClassification(transformers.BertConfig(
        vocab_size=50, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, num_labels=3,
        intermediate_size=16, output_hidden_states=hidden))  # fmt: skip
    rows = [{"input_ids": torch.randint(5, 50, (6,)), "labels": torch.tensor(label)}
            for label in (1, 1, 0, 1, 2, 0) * 4]  # fmt: skip
    return model, rows


def first_of(prediction):
    return {"accuracy": (prediction.predictions[0].argmax(-1) == prediction.label_ids).mean()}


def first_of_a_tuple(prediction):
    scores = prediction.predictions
    scores = scores[0] if isinstance(scores, tuple) else scores
    return {"accuracy": (scores.argmax(-1) == prediction.label_ids).mean()}


@pytest.mark.parametrize(("hidden", "compute", "expected"), [
    (False, first_of, [("E1", "error")]), (True, first_of, []),
    (False, first_of_a_tuple, []), (True, first_of_a_tuple, []), (False, all_of_them, []),
])  # fmt: skip
def test_the_first_row_is_taken_for_the_scores(hidden, compute, expected):
    assert verdicts(*of_transformers(hidden), compute) == expected


def of_spans(right):
    def compute(prediction):
        (start, end), labels = prediction.predictions, prediction.label_ids
        return {"exact_match": right(start.argmax(-1), end.argmax(-1), *labels).mean()}

    return compute


@pytest.mark.parametrize(
    ("right", "expected"),
    [
        (lambda a, z, s, e: (a == s) & (z == e), []),
        (lambda a, z, s, e: ((a == s) & (z == e)) * 100.0, []),
        (lambda a, z, s, e: (a == s) & (z == e) & (e - s < 3), []),  # some answers were cut
        (lambda a, z, s, e: (a == s + 1) & (z == e + 1), [("E1", "error")]),
        (lambda a, z, s, e: a[:1] == z[-1:], [("E1", "error")]),
        (lambda a, z, s, e: (a == e) & (z == s), [("E1", "error")]),  # the ends for the starts
    ],
)
def test_metrics_of_spans(tiny_bert, right, expected):
    draw, rows = np.random.default_rng(0), []
    for _ in range(40):
        start = int(draw.integers(1, 8))
        rows.append({"input_ids": draw.integers(5, 90, 12).tolist(), "attention_mask": [1] * 12,
                     "start_positions": start,
                     "end_positions": start + int(draw.integers(0, 4))})  # fmt: skip
    assert verdicts(tiny_bert("BertForQuestionAnswering"), rows, of_spans(right)) == expected
