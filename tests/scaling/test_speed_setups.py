"""Setups, rows and batches of the ladder."""

import itertools
from dataclasses import asdict

import pytest

from cookbook.scaling.speed_setups import Keys, Material, Setup, ladder


def test_each_rung_differs_from_the_one_it_stands_on_by_its_own_change():
    rungs = ladder("bf16", compiled=True, workers=2)
    for name, (setup, on) in rungs.items():
        if on:
            before = asdict(rungs[on][0])
            changed = {k for k, v in asdict(setup).items() if v != before[k]}
            assert len(changed) == (2 if name == "accumulation" else 1), name
    assert [on for _, on in rungs.values()][-4:] == ["larger batch"] * 4
    assert rungs["accumulation"][0].batch == rungs["larger batch"][0].batch


def first(keys, count):
    return list(itertools.islice(keys, count))


def test_every_epoch_shows_each_row_once_in_another_order():
    batches = first(Keys(6, 2), 6)
    assert [epoch for batch in batches for epoch, _ in batch] == [0] * 6 + [1] * 6
    rows = [[row for batch in part for _, row in batch] for part in (batches[:3], batches[3:])]
    assert sorted(rows[0]) == sorted(rows[1]) == list(range(6)) and rows[0] != rows[1]


def test_sorted_batches_hold_rows_of_like_length_in_mixed_order():
    lengths = [n % 10 for n in range(40)]
    batches = first(Keys(lengths, 4), 10)
    spans = [max(lengths[r] for _, r in b) - min(lengths[r] for _, r in b) for b in batches]
    assert max(spans) == 0
    assert [lengths[batch[0][1]] for batch in batches] != sorted(lengths[b[0][1]] for b in batches)


def test_too_few_rows_are_named():
    with pytest.raises(ValueError, match="3 rows do not fill one batch of 4"):
        Keys(3, 4)


@pytest.fixture(scope="module")
def material(tokenizer, sentences):
    return Material.of(sentences, tokenizer, 32)


def test_all_kinds_of_rows_hold_the_same_tokens(material, sentences):
    count = sum(len(row["input_ids"]) for row in material.padded)
    assert max(len(row["input_ids"]) for row in material.padded) < 32  # so none was cut
    assert material.packed.tokens == material.apart.tokens == count
    assert material.useful("padded") * len(sentences) == pytest.approx(count)
    assert material.useful("apart") < 32
    with pytest.raises(ValueError, match="no rows of kind"):
        material.rows("stacked")


def test_packed_rows_have_no_padding_and_rows_apart_a_mask_of_their_own(material):
    packed = material.batches(Setup(rows="packed", batch_size=2))[0]
    apart = material.batches(Setup(rows="apart", batch_size=2))[0]
    assert packed["attention_mask"].all() and packed["attention_mask"].dim() == 2
    assert apart["attention_mask"].shape == (2, 1, 32, 32)


def test_workers_give_the_batches_that_the_process_itself_gives(material):
    streams = [material.batches(Setup(batch_size=4, workers=n)) for n in (0, 1)]
    for number in range(3):
        alone, helped = (stream[number] for stream in streams)
        assert all((alone[name] == helped[name]).all() for name in alone)
    assert streams[0].tokens == streams[1].tokens > 0
    streams[1].close()
