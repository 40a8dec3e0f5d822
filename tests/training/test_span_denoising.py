"""Exactly as many tokens are cut out as announced, the rest gives nothing of them away."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cookbook.data import train_tokenizer
from cookbook.training.order import Keyed
from cookbook.training.span_denoising import (
    SpanDenoisingCollator,
    add_sentinels,
    cut_out,
    noise_spans,
    restore,
)
from cookbook.training.stacking import IGNORE

SENTINELS = list(range(900, 964))
LENGTHS = st.integers(2, 200)
DENSITY, MEAN, SEED = st.floats(0.01, 0.99), st.floats(1, 10), st.integers(0, 999)


def spans_of(noise):
    return int((np.diff(noise.astype(int), prepend=0) == 1).sum())


@given(LENGTHS, DENSITY, MEAN, SEED)
def test_the_shares_are_exact(length, density, mean, seed):
    noise = noise_spans(length, np.random.default_rng(seed), density=density, mean_length=mean)
    wanted = min(max(round(density * length), 1), length - 1)
    assert noise.sum() == wanted
    assert spans_of(noise) == min(max(round(wanted / mean), 1), length - wanted)
    assert not noise[0] and noise[-1]


def test_of_a_hundred_tokens_fifteen_go_in_five_spans():
    noise = noise_spans(100, np.random.default_rng(0))
    assert noise.sum() == 15 and spans_of(noise) == 5


def test_every_way_of_cutting_is_equally_likely():
    """5 noise tokens of 10 in 2 spans: 4 ways for the noise times 4 for the rest."""

    def draw(s):
        return noise_spans(10, np.random.default_rng(s), density=0.5, mean_length=2.5)

    found = np.array([draw(seed) for seed in range(3200)])
    layouts, counts = np.unique(found, axis=0, return_counts=True)
    assert len(layouts) == 16
    assert np.abs(counts - 200).max() < 4 * (200 * 15 / 16) ** 0.5


@given(st.lists(st.integers(5, 800), min_size=2, max_size=120, unique=True), DENSITY, SEED)
def test_input_and_target_share_no_token_and_restore_the_text(tokens, density, seed):
    ids = np.array(tokens)
    noise = noise_spans(len(ids), np.random.default_rng(seed), density=density)
    inputs, target = cut_out(ids, noise, SENTINELS)
    assert restore(inputs.tolist(), target.tolist(), SENTINELS) == tokens
    assert set(inputs) & set(target) == set(SENTINELS[: spans_of(noise)])
    assert not set(inputs) & set(ids[noise]) and not set(target) & set(ids[~noise])
    assert len(inputs) == len(ids) - noise.sum() + spans_of(noise)
    assert len(target) == noise.sum() + spans_of(noise)


def test_the_example_of_the_paper():
    text = "Thank you for inviting me to your party last week".split()
    noise = np.array([word in ("for", "inviting", "last") for word in text])
    inputs, target = cut_out(np.arange(10), noise, [90, 91])
    words = dict(enumerate(text)) | {90: "<X>", 91: "<Y>"}
    assert " ".join(words[i] for i in inputs) == "Thank you <X> me to your party <Y> week"
    assert " ".join(words[i] for i in target) == "<X> for inviting <Y> last"


def test_too_few_sentinels_are_refused():
    with pytest.raises(ValueError, match="2 spans need as many sentinels, there are 1"):
        cut_out(np.arange(4), np.array([False, True, False, True]), [90])


def test_one_token_is_refused():
    with pytest.raises(ValueError, match="takes 2 tokens"):
        noise_spans(1, np.random.default_rng(0))


def test_a_batch_restores_its_rows_and_asks_about_no_padding():
    rows = Keyed([{"input_ids": list(range(10, 10 + n))} for n in (40, 25, 33)])
    collate = SpanDenoisingCollator(SENTINELS, end_id=2, pad_id=0, seed=3)
    batch = collate([rows[i] for i in range(3)])
    for number in range(3):
        inputs = batch["input_ids"][number][batch["attention_mask"][number].bool()].tolist()
        labels = batch["labels"][number]
        target = labels[labels != IGNORE].tolist()
        assert inputs[-1] == target[-1] == 2
        assert restore(inputs[:-1], target[:-1], SENTINELS) == rows[number]["input_ids"]
    again = collate([rows[i] for i in range(3)])
    assert (again["input_ids"] == batch["input_ids"]).all()
    other = collate([rows[(1, i)] for i in range(3)])
    assert other["input_ids"].tolist() != batch["input_ids"].tolist()


def test_sentinels_are_added_once():
    tokenizer = train_tokenizer(["the cat sat"] * 20, 60)
    before = len(tokenizer)
    ids = add_sentinels(tokenizer, 4)
    assert ids == list(range(before, before + 4)) == add_sentinels(tokenizer, 4)
    assert tokenizer("the <extra_id_1>")["input_ids"][-2] == ids[1]
    assert set(ids) < set(tokenizer.all_special_ids) and tokenizer.mask_token == "[MASK]"
