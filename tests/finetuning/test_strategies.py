"""One signature for all strategies: seeds, the choice of the rate, and what the test split sees."""

import re

import numpy as np
import pytest
import torch
from datasets import DatasetDict

from cookbook.data.errors import DataError
from cookbook.finetuning import features, jobs, strategies
from cookbook.finetuning.encoding import encode_rows, predict
from cookbook.finetuning.strategies import fine_tune
from cookbook.models.initialization import load_model, load_tokenizer

QUICK = {
    "full": {"learning_rate": 6e-3, "epochs": 4, "batch_size": 8},
    "linear-probe": {"learning_rate": 3e-2},
}
BOTH = pytest.mark.parametrize("strategy", list(QUICK))


@pytest.fixture
def run(checkpoint, labelled, tmp_path):
    def tune(strategy="full", dataset=labelled, **settings):
        settings = {**QUICK.get(strategy, {}), "output_dir": tmp_path, **settings}
        return fine_tune(checkpoint, dataset, strategy, **settings)

    return tune


def weights(model):
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def same(first, second):
    return first.keys() == second.keys() and all(torch.equal(first[k], second[k]) for k in first)


@BOTH
def test_learns_and_accounts_for_itself(run, labelled, strategy):
    result = run(strategy)
    assert result.test["accuracy"] > 0.9  # chance is 1/3
    assert result.test["accuracy"] == np.mean(
        result.predictions == np.array(labelled["test"]["label"])
    )
    assert result.labels.tolist() == labelled["test"]["label"]
    assert (result.name, result.seed) == (strategy, 0)
    assert result.learning_rate == QUICK[strategy]["learning_rate"]
    assert result.history[-1][1] < result.history[0][1]
    assert result.seconds > 0
    assert result.parameters == sum(p.numel() for p in result.model.parameters())


@BOTH
def test_same_seed_same_weights_and_another_seed_others(run, strategy):
    first, again, other = (run(strategy, seed=seed, max_steps=4) for seed in (0, 0, 1))
    assert same(weights(first.model), weights(again.model))
    assert first.history == again.history
    assert (first.predictions == again.predictions).all()
    assert not same(weights(first.model), weights(other.model))


def test_frozen_weights_do_not_move(run, checkpoint):
    result = run("linear-probe")
    pretrained = load_model(checkpoint, "encoder")
    assert same(weights(result.model.encoder), weights(pretrained))
    assert not any(p.requires_grad for p in result.model.encoder.parameters())
    assert result.trainable == 32 * 3 + 3
    assert result.parameters == result.trainable + sum(p.numel() for p in pretrained.parameters())


def test_full_moves_every_layer(run, checkpoint):
    result = run("full", max_steps=2)
    assert result.trainable == result.parameters
    start, end = weights(load_model(checkpoint, "encoder")), weights(result.model.bert)
    still = {name for name in start if name in end and torch.equal(start[name], end[name])}
    assert {name for name in still if "encoder.layer" in name or "word_emb" in name} == set()


@BOTH
def test_the_test_split_decides_nothing(run, labelled, strategy):
    turned = labelled["test"].map(lambda row: {"label": (row["label"] + 1) % 3})
    slow = {"learning_rate": [1e-9, 1e-3]} if strategy == "linear-probe" else {}
    honest = run(strategy, **slow)
    other = run(strategy, DatasetDict({**labelled, "test": turned}), **slow)
    assert same(weights(honest.model), weights(other.model))
    assert honest.validation == other.validation
    assert (honest.predictions == other.predictions).all()
    assert honest.test["accuracy"] > other.test["accuracy"]


@BOTH
def test_validation_chooses_the_rate(run, strategy):
    good = QUICK[strategy]["learning_rate"]
    result = run(strategy, learning_rate=[1e-9, good, 2e-9])
    assert result.learning_rate == good
    assert same(weights(result.model), weights(run(strategy).model))


def test_of_equal_rates_the_first(run):
    assert run("linear-probe", learning_rate=[3e-2, 4e-2]).learning_rate == 3e-2


def test_the_first_of_the_best_epochs_is_kept(run, monkeypatch):
    scripted, states = [0.3, 0.8, 0.5, 0.8], []

    def scripted_accuracy(answers, rows):
        return scripted[len(states) - 1] if len(states) <= 4 else 0.8

    def spy(job, model, rows):
        states.append(weights(model))
        return predict(model, rows, job.tokenizer)

    monkeypatch.setattr(jobs, "accuracy", scripted_accuracy)
    monkeypatch.setattr(jobs, "logits", spy)
    result = run("full")
    assert not same(states[1], states[3])
    assert same(weights(result.model), states[1])


def test_a_callback_sees_every_step(run):
    import transformers

    class Counts(transformers.TrainerCallback):
        steps = 0

        def on_step_end(self, args, state, control, **_):
            self.steps += 1

    run("full", epochs=50, max_steps=4, callbacks=[counts := Counts()])
    assert counts.steps == 4


def test_max_steps_ends_training(run):
    assert run("full", epochs=50, max_steps=4).history[-1][0] <= 4


def test_the_encoder_reads_each_row_once_for_all_rates_and_seeds(run, monkeypatch):
    features._cache.clear()
    read = []

    def spy(encoder, rows, *arguments, **settings):
        read.append(len(rows))
        return predict(encoder, rows, *arguments, **settings)

    monkeypatch.setattr(features, "predict", spy)
    run("linear-probe", learning_rate=[1e-3, 1e-2, 3e-2])
    run("linear-probe", seed=1)
    assert sorted(read) == [21, 21, 48]
    run("linear-probe", random_weights=True)  # another encoder, other features
    assert len(read) == 6


@BOTH
def test_the_model_answers_as_the_result_says(run, checkpoint, labelled, strategy):
    result, tokenizer = run(strategy), load_tokenizer(checkpoint)
    answers = predict(result.model, encode_rows(labelled["test"], tokenizer, 128), tokenizer)
    assert answers.argmax(-1).tolist() == result.predictions.tolist()


def test_random_weights_are_drawn_anew_for_each_seed(run, checkpoint):
    first, other = (run("linear-probe", random_weights=True, seed=seed) for seed in (0, 1))
    table = "encoder.embeddings.word_embeddings.weight"
    pretrained = load_model(checkpoint, "encoder").embeddings.word_embeddings.weight
    tables = [weights(result.model)[table] for result in (first, other)]
    assert not torch.equal(tables[0], tables[1])
    assert not torch.equal(tables[0], pretrained)
    assert torch.equal(weights(run("linear-probe").model)[table], pretrained)


def test_a_strategy_is_added_by_registering_it(run, monkeypatch):
    def only_the_head(job):
        model = jobs.classifier(job)
        model.base_model.requires_grad_(False)
        return jobs.train(job, model)

    monkeypatch.setitem(strategies.STRATEGIES, "only-the-head", only_the_head)
    result = run("only-the-head", learning_rate=1e-2, max_steps=1, name="head")
    assert (result.name, result.trainable) == ("head", 32 * 3 + 3)


def test_every_strategy_has_rates_to_try():
    assert strategies.RATES.keys() == strategies.STRATEGIES.keys()


def test_unknown_strategy(run):
    with pytest.raises(ValueError, match="unknown strategy 'magic': choose one of full, partial"):
        run("magic")


def without(labelled, split):
    return DatasetDict({name: part for name, part in labelled.items() if name != split})


def unlabelled(labelled):
    rows = labelled["test"].map(lambda row: {"label": -1})
    return DatasetDict({**labelled, "test": rows})


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        (lambda d: without(d, "test"), "no rows to use as test: found train, validation; cookbook"),
        (
            lambda d: DatasetDict({**d, "validation": d["test"].select([])}),
            "no rows to use as validation: found train, validation, test; cookbook.data.load",
        ),
        (unlabelled, "the test split has rows without a label (-1): use labelled rows"),
        (lambda d: d.remove_columns("label"), "the data has no label where a classifier needs"),
    ],
)
def test_unfit_data_is_named(run, labelled, broken, message):
    with pytest.raises(DataError, match=re.escape(message)):
        run("full", broken(labelled))
