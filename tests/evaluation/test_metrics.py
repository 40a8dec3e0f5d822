"""Metrics by hand equal scikit-learn, work as evaluate.Metric offline, and keep their bounds."""

import pickle
import subprocess
import sys
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cookbook.evaluation import metrics


def random_cases(count):
    """Few rows over many classes, so that classes are often absent from one side or both."""
    rng = np.random.default_rng(0)
    for _ in range(count):
        classes, rows = rng.integers(1, 8), rng.integers(1, 25)
        skew = rng.dirichlet(np.full(classes, 0.5))
        yield rng.choice(classes, rows, p=skew), rng.choice(classes, rows), int(classes)


def test_equal_to_scikit_learn_on_1000_random_cases():
    import sklearn
    from sklearn import metrics as theirs

    with (
        sklearn.config_context(assume_finite=True, skip_parameter_validation=True),
        warnings.catch_warnings(),
    ):
        warnings.simplefilter("ignore")
        for case, (predicted, actual, classes) in enumerate(random_cases(1000)):
            if case % 10 == 0:
                matrix = theirs.confusion_matrix(actual, predicted)
                assert (metrics.confusion_matrix(predicted, actual) == matrix).all()
            assert metrics.accuracy(predicted, actual) == np.mean(predicted == actual)
            expected = theirs.matthews_corrcoef(actual, predicted)
            assert metrics.matthews(predicted, actual) == pytest.approx(expected, abs=1e-12)
            # one averaging per case keeps the test fast; 250 cases for each of the four
            average = ("micro", "macro", "weighted", None)[case % 4]
            labels = range(classes) if case % 3 == 0 else None
            library = theirs.precision_recall_fscore_support(
                actual, predicted, average=average, labels=labels, zero_division=0
            )
            for ours, value in zip(
                (metrics.precision, metrics.recall, metrics.f1), library, strict=False
            ):
                mine = ours(predicted, actual, average=average, labels=labels)
                assert mine == pytest.approx(value, abs=1e-12), (case, average, ours)


def test_binary_average_equals_scikit_learn():
    from sklearn.metrics import precision_recall_fscore_support

    rng = np.random.default_rng(1)
    for _ in range(30):
        predicted, actual = rng.integers(0, 2, (2, 12))
        library = precision_recall_fscore_support(actual, predicted, average="binary")
        for ours, value in zip(
            (metrics.precision, metrics.recall, metrics.f1), library, strict=False
        ):
            assert ours(predicted, actual, average="binary") == pytest.approx(value)
    with pytest.raises(ValueError, match=r"needs classes 0 and 1, found \[0, 2\]"):
        metrics.f1([0, 2], [0, 2], average="binary")


def test_hand_worked():
    predicted, actual = [0, 0, 1, 1, 2, 2], [0, 0, 0, 1, 1, 1]
    assert metrics.confusion_matrix(predicted, actual).tolist() == [[2, 1, 0], [0, 1, 2], [0, 0, 0]]
    assert metrics.precision(predicted, actual, average=None).tolist() == [1, 0.5, 0]
    assert metrics.recall(predicted, actual, average=None) == pytest.approx([2 / 3, 1 / 3, 0])
    assert metrics.f1(predicted, actual, average=None) == pytest.approx([0.8, 0.4, 0])
    assert metrics.f1(predicted, actual, average="macro") == pytest.approx(0.4)
    assert metrics.f1(predicted, actual, average="weighted") == pytest.approx(0.6)
    assert metrics.f1(predicted, actual, average="micro") == pytest.approx(0.5)


def test_large_counts_do_not_overflow():
    actual = np.repeat([0, 1], 50_000)
    predicted = actual.copy()
    predicted[::4] = 1 - predicted[::4]
    assert metrics.matthews(predicted, actual) == pytest.approx(0.5)


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=1, max_size=40))
@settings(max_examples=60, deadline=None)
def test_bounds_and_identities(pairs):
    predicted, actual = np.array(pairs).T
    for function in (metrics.precision, metrics.recall, metrics.f1):
        # one label per row: what one class gains, another loses
        micro = function(predicted, actual, average="micro")
        assert micro == pytest.approx(metrics.accuracy(predicted, actual))
        assert 0 <= function(predicted, actual) <= 1
    recalled = metrics.recall(predicted, actual, average="weighted")
    assert recalled == pytest.approx(metrics.accuracy(predicted, actual))
    mcc = metrics.matthews(predicted, actual)
    assert mcc == pytest.approx(metrics.matthews(actual, predicted))
    assert -1 - 1e-12 <= mcc <= 1 + 1e-12
    assert metrics.f1(actual, actual) == 1


@pytest.mark.parametrize(
    ("predicted", "actual"), [([], []), ([0], [0, 1]), ([[0.1, 0.9]], [[0, 1]])]
)
def test_bad_rows_are_refused(predicted, actual):
    for name in ("accuracy", "f1", "mcc"):
        with pytest.raises(ValueError, match="must be two rows of classes of the same length"):
            metrics.METRICS[name](predicted, actual)


def test_bad_names_are_refused():
    with pytest.raises(ValueError, match="average 'macros' is unknown"):
        metrics.f1([0], [0], average="macros")
    with pytest.raises(ValueError, match=r"class 2 occurs but is not among labels \[0, 1\]"):
        metrics.confusion_matrix([2], [0], labels=[0, 1])
    with pytest.raises(ValueError, match="metric 'rouge' is unknown; choose one of accuracy"):
        metrics.metric("rouge")


def test_perplexity_weighs_tokens_not_batches():
    token_losses = np.random.default_rng(0).gamma(2.0, 1.5, 1003)
    batches = np.split(token_losses, [500, 1000])  # the last batch holds 3 tokens
    means, sizes = [b.mean() for b in batches], [len(b) for b in batches]
    exact = np.exp(token_losses.mean())
    assert metrics.perplexity(means, sizes) == pytest.approx(exact)
    assert metrics.perplexity(token_losses) == pytest.approx(exact)
    assert abs(np.exp(np.mean(means)) - exact) > 0.1  # mean of means
    assert abs(np.mean(np.exp(means)) - exact) > 0.1  # mean of perplexities


def test_perplexity_worst_cases():
    assert metrics.perplexity([np.log(7), np.nan], [5, 0]) == pytest.approx(7)
    assert metrics.perplexity([1000.0]) == np.inf
    assert np.isnan(metrics.perplexity([1.0, np.nan], [5, 5]))  # a diverged run stays visible
    for losses, tokens in (([], None), ([1.0], [0]), ([1.0, 1.0], [3, -1])):
        with pytest.raises(ValueError, match="at least one token"):
            metrics.perplexity(losses, tokens)


def test_perplexity_equals_torch():
    import torch

    logits, target = torch.randn(4, 9, 30), torch.randint(0, 30, (4, 9))
    target[1:, 3:] = -100
    loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), target.flatten())
    rows = [torch.nn.functional.cross_entropy(x, y) for x, y in zip(logits, target, strict=True)]
    ours = metrics.perplexity(rows, (target != -100).sum(1))
    assert ours == pytest.approx(loss.exp().item(), rel=1e-5)


@pytest.mark.parametrize("train", [None, [2, 2, 2, 1, 0, 0]])
def test_trivial_baseline_equals_dummy_classifier(train):
    from sklearn.dummy import DummyClassifier

    labels = np.random.default_rng(0).choice(3, 4000, p=[0.6, 0.3, 0.1])
    baseline = metrics.trivial_baseline(labels, train_labels=train)
    fitted_on = labels if train is None else np.array(train)
    x, rows = np.zeros((len(fitted_on), 1)), np.zeros((len(labels), 1))
    majority = DummyClassifier(strategy="most_frequent").fit(x, fitted_on).predict(rows)
    drawn = DummyClassifier(strategy="stratified", random_state=0).fit(x, fitted_on).predict(rows)
    assert baseline["majority_class"] == majority[0]
    assert baseline["majority_accuracy"] == np.mean(majority == labels)
    assert baseline["majority_f1"] == metrics.f1(majority, labels)
    assert baseline["stratified_accuracy"] == pytest.approx(np.mean(drawn == labels), abs=0.03)
    assert baseline["stratified_f1"] == pytest.approx(metrics.f1(drawn, labels), abs=0.03)


def test_compute_metrics_takes_what_the_trainer_gives():
    from transformers import EvalPrediction

    logits = np.array([[3.0, 0, 0], [0, 1, 0], [0, 2, 0], [0, 0, 1]])
    labels = np.array([0, 1, 2, 2])
    compute = metrics.classification_metrics(3)
    scores = compute(EvalPrediction(predictions=logits, label_ids=labels))
    assert set(scores) == {"accuracy", "precision", "recall", "f1", "mcc"}
    assert scores["accuracy"] == 0.75
    assert scores["f1"] == metrics.f1([0, 1, 1, 2], labels)
    assert compute(((logits, "hidden states"), labels)) == scores
    tagged = compute((np.stack([logits, logits]), np.stack([labels, np.full(4, -100)])))
    assert tagged == scores
    with pytest.raises(ValueError, match=r"logits \(4, 3\) do not fit labels \(4,\) and 2 classes"):
        metrics.classification_metrics(2)((logits, labels))


@pytest.mark.parametrize("name", list(metrics.METRICS))
def test_as_evaluate_metric_without_a_network(name, monkeypatch):
    import socket

    import evaluate

    def refuse(*_):
        raise AssertionError("a metric asked for the network")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    module = metrics.metric(name)
    assert isinstance(module, evaluate.Metric)
    predicted, actual = [0, 1, 1, 2, 0], [0, 1, 2, 2, 1]
    expected = {name: metrics.METRICS[name](predicted, actual)}
    assert module.compute(predictions=predicted, references=actual) == expected
    module.add_batch(predictions=predicted[:2], references=actual[:2])  # and once more, in pieces
    module.add_batch(predictions=predicted[2:], references=actual[2:])
    assert module.compute() == expected


def test_metric_classes_by_name():
    import evaluate

    for title in ("Accuracy", "Precision", "Recall", "F1", "MCC", "Perplexity"):
        kind = getattr(metrics, title)
        assert issubclass(kind, evaluate.Metric)
        assert kind.__name__ == title
        assert pickle.loads(pickle.dumps(kind)) is kind
    with pytest.raises(AttributeError, match="no attribute 'Bleu'"):
        metrics.Bleu  # noqa: B018


def test_metrics_combine_and_pass_arguments():
    import evaluate

    both = evaluate.combine([metrics.metric("accuracy"), metrics.metric("mcc")])
    assert both.compute(predictions=[0, 1], references=[0, 1]) == {"accuracy": 1.0, "mcc": 1.0}
    scores = metrics.metric("f1").compute(
        predictions=[0, 0], references=[0, 0], average="macro", labels=[0, 1]
    )
    assert scores == {"f1": 0.5}


def test_import_is_light():
    code = "import sys, cookbook.evaluation.metrics as m; sys.exit('evaluate' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
