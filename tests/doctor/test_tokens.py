import torch

from cookbook.doctor import tokens
from cookbook.doctor.subject import Subject


def test_what_a_collator_added_is_known_from_the_raw_rows():
    raw = [{"input_ids": [5, 6]}, {"input_ids": [7, 8, 9]}]
    right, left = torch.tensor([[5, 6, 0], [7, 8, 9]]), torch.tensor([[0, 5, 6], [7, 8, 9]])
    assert tokens.added(raw, right).tolist() == [[False, False, True], [False] * 3]
    assert tokens.added(raw, left).tolist() == [[True, False, False], [False] * 3]


def test_masked_ids_still_count_as_the_row_and_packed_ones_do_not():
    raw = [{"input_ids": [5, 6, 7, 8, 9]}]
    assert tokens.added(raw, torch.tensor([[5, 6, 99, 8, 9, 0]]))[0].tolist() == [False] * 5 + [
        True
    ]
    assert not tokens.added(raw, torch.tensor([[1, 2, 3, 4, 5, 6]])).any()
    assert not tokens.added(raw, torch.tensor([[5, 6], [7, 8]])).any()
    assert not tokens.added([{"text": "a"}], torch.tensor([[5, 6]])).any()


def test_a_shared_padding_id_counts_from_its_second():
    ids = torch.tensor([[2, 2, 5, 2], [5, 2, 2, 2], [5, 6, 7, 8]])
    assert tokens.ends(ids, 2, shared=True).tolist() == [
        [True, False, False, False], [False, False, True, True], [False] * 4
    ]  # fmt: skip
    assert tokens.ends(ids, None).any().item() is False


def test_batches_without_a_mask_fall_back_on_padding(tokenizer):
    pad = tokenizer.pad_token_id
    rows = [{"input_ids": [5, 6, pad], "labels": [5, 6, -100]}]
    (found,) = tokens.batches_of(Subject(None, train_dataset=rows, processing_class=tokenizer,
                                         data_collator=tensors))  # fmt: skip
    assert found.mask is None and found.attended.tolist() == [[True, True, False]]
    assert found.aligned


def tensors(rows):
    return {key: torch.tensor([row[key] for row in rows]) for key in rows[0]}


def test_pairs_and_features_hold_no_tokens():
    pairs = [(torch.zeros(3), 1)] * 4
    assert tokens.batches_of(Subject(torch.nn.Linear(3, 2), train_dataset=pairs)) == []


def test_all_ids_that_end_a_text(tokenizer):
    model = torch.nn.Linear(1, 1)
    model.config = type("Config", (), {"eos_token_id": [7, 9]})()
    assert tokens.end_ids(Subject(model)) == {7, 9}
    assert tokens.isin(torch.tensor([1, 7]), {7, 9}).tolist() == [False, True]
    assert not tokens.isin(torch.tensor([1, 7]), set()).any()


def test_tokens_of_all_rows_are_counted_in_both_texts_of_a_pair():
    rows = [{"text_ids": [1] * 4, "pair_ids": [2] * 6, "token_type_ids": [0] * 4, "labels": 1}] * 8
    assert tokens.count_of(Subject(None, train_dataset=rows).train) == 80
    assert tokens.count_of(Subject(None, train_dataset=[{"input_ids": [3] * 5}] * 4).train) == 20
    assert tokens.count_of(Subject(None, train_dataset=[{"text": "five"}] * 4).train) == 0
    assert tokens.count_of(Subject(None).train) == 0
