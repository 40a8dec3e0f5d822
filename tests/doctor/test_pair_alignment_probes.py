"""D8 of rows with two halves: other halves are named; true pairs, riddles and copies are let be."""

import numpy as np
import pytest

from cookbook.doctor import pair_alignment_probes as probes
from cookbook.doctor.checks import attempt
from cookbook.doctor.subject import Subject

DRAW = np.random.default_rng


def pairs(count=240, seed=0, share=0.4):
    """Texts of two halves that share a topic: some of the words of both are the topic's own."""
    draw, found = DRAW(seed), []
    topics = draw.integers(10, 900, (24, 12))
    for _ in range(count):
        own = topics[draw.integers(0, len(topics))]
        halves = []
        for length in (draw.integers(8, 20), draw.integers(4, 9)):
            words = draw.integers(10, 900, length)
            taken = draw.random(length) < share
            words[taken] = draw.choice(own, int(taken.sum()))
            halves.append(words.tolist())
        found.append(halves)
    return found


def joined_by_a_wrong_key(found):
    order = DRAW(1).permutation(len(found))
    return [(one[0], found[i][1]) for one, i in zip(found, order, strict=True)]


def source_and_target(first, second):
    return {"input_ids": first, "attention_mask": [1] * len(first), "labels": second}


def prompt_and_answer(first, second):
    labels = [-100] * len(first) + second
    return {"input_ids": first + second, "attention_mask": [1] * len(labels), "labels": labels}


def two_texts(first, second):
    return {"text_ids": first, "pair_ids": second}


FORMS = [source_and_target, prompt_and_answer, two_texts]


def found(rows, kind="other"):
    subject = Subject(None, train_dataset=rows)
    subject.__dict__["kind"] = kind
    said, why = attempt(probes.check_halves_belong, subject)
    assert not why.startswith("failed"), why
    return [(f.fault, f.severity) for f in said], why


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("seed", range(3))
def test_halves_of_other_rows(form, seed):
    true = pairs(seed=seed)
    assert found([form(*pair) for pair in true])[0] == []
    wrong = joined_by_a_wrong_key(true)
    assert found([form(*pair) for pair in wrong])[0] == [("D8", "warn")]


def test_a_weak_tie_is_enough_to_be_quiet():
    assert found([source_and_target(*pair) for pair in pairs(600, share=0.2)])[0] == []


def sums(count=400):
    draw = DRAW(0)
    for _ in range(count):
        a, b = (int(n) for n in draw.integers(0, 97, 2))
        yield source_and_target([a, 100, b, 101], [(a + b) % 97, 1])


def test_riddles_copies_and_few_rows_are_left_alone():
    assert found(list(sums()))[1].startswith("too little natural text")
    copies = [{"input_ids": one, "labels": one} for one, _ in pairs()]
    assert found(copies)[1] == "does not apply"  # a language model over whole rows
    few = [source_and_target(*pair) for pair in joined_by_a_wrong_key(pairs(80))]
    assert found(few)[1] == "does not apply"
    same = [source_and_target(first, [5, 6]) for first, _ in pairs()]
    assert found(same)[1].startswith("too little natural text")


@pytest.mark.parametrize("kind", ["tagger", "masked-lm", "multi-label"])
def test_labels_that_are_no_text_have_probes_of_their_own(kind):
    rows = [source_and_target(*pair) for pair in joined_by_a_wrong_key(pairs())]
    assert found(rows, kind)[1] == "does not apply"


def test_a_kernel_depends_on_itself_and_not_on_the_order_of_its_rows():
    x = DRAW(0).normal(size=(50, 3))
    linear, order = x @ x.T, DRAW(1).permutation(50)
    assert probes.dependence(linear, linear) > 5
    assert abs(probes.dependence(linear, linear[np.ix_(order, order)])) < 3
