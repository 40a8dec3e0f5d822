"""Entities and their F1 are seqeval's, on a thousand random cases."""

import warnings

import numpy as np
import pytest

from cookbook.evaluation import entities

TAGS = ["O", "B-a", "I-a", "B-b", "I-b"]


def cases(count):
    rng = np.random.default_rng(0)
    for _ in range(count):
        lengths = rng.integers(1, 9, rng.integers(1, 4))
        yield tuple([rng.choice(TAGS, n).tolist() for n in lengths] for _ in range(2))


def test_equals_seqeval_on_1000_random_cases():
    from seqeval.metrics import classification_report, f1_score, precision_score, recall_score
    from seqeval.metrics.sequence_labeling import get_entities

    found_some = 0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of shares of nothing
        for number, (found, wanted) in enumerate(cases(1000)):
            ours = entities.entity_scores(found, wanted)
            theirs = [s(wanted, found) for s in (precision_score, recall_score, f1_score)]
            assert tuple(ours[:3]) == pytest.approx(tuple(map(float, theirs)), abs=1e-12)
            assert [e for s in found for e in entities.entities(s)] == [
                e for s in found for e in get_entities(s)
            ]
            found_some += 0 < ours.f1 < 1
            if number % 20 == 0 and ours.entities:
                report = classification_report(wanted, found, output_dict=True)
                for kind, scores in entities.by_kind(found, wanted).items():
                    assert scores.f1 == pytest.approx(report[kind]["f1-score"], abs=1e-12)
    assert found_some > 300


def test_half_of_a_name_earns_nothing():
    wanted = [["B-a", "I-a", "O", "B-b"]]
    assert entities.entity_scores([["B-a", "O", "O", "B-b"]], wanted).f1 == 0.5
    assert entities.entity_scores([["B-b", "I-b", "O", "B-b"]], wanted).f1 == 0.5
    assert entities.entity_scores(wanted, wanted).f1 == 1


def test_nothing_found_is_mostly_right_by_words_and_worth_nothing_by_entities():
    wanted, found = [["O"] * 9 + ["B-a"]], [["O"] * 10]
    assert entities.word_accuracy(found, wanted) == 0.9
    assert entities.entity_scores(found, wanted) == (0, 0, 0, 1)


def test_what_does_not_go_together_is_refused():
    with pytest.raises(ValueError, match="same sentences"):
        entities.entity_scores([["O"]], [["O", "O"]])
    for tag in ("X-a", "B-", "LOC"):
        with pytest.raises(ValueError, match="not of the form"):
            entities.entities([tag])
