import pytest
import torch
from torch.utils.data import DataLoader, Dataset, IterableDataset, TensorDataset

from cookbook.doctor.sampling import ROWS, TOKEN_ROWS, Sample, batch_size, first_rows, to_device

WITHOUT = {"collator": None, "processing_class": None, "model": None}


def sample(dataset, **more):
    return Sample(dataset, **{"batches": 3, "batch_size": 4, **WITHOUT, **more})


def test_all_rows_of_a_small_set_and_a_fixed_draw_of_a_large_one():
    assert sample(list(range(10))).rows == list(range(10))
    large = sample(list(range(10 * ROWS)))
    assert len(large.rows) == ROWS and large.rows == sample(list(range(10 * ROWS))).rows
    assert max(large.rows) > 9 * ROWS  # not the beginning of the file


def test_batches_of_training_are_drawn_and_those_of_evaluation_are_in_order():
    pairs = TensorDataset(torch.arange(40.0)[:, None], torch.arange(40))
    drawn, ordered = sample(pairs).batches, sample(pairs, in_order=True).batches
    assert [len(b[0]) for b in drawn] == [4, 4, 4]
    assert torch.cat([b[1] for b in ordered]).tolist() == list(range(12))
    assert torch.cat([b[1] for b in drawn]).tolist() != list(range(12))


def test_shares_over_tokens_read_more_rows_and_keep_what_each_batch_was_made_of():
    rows = [{"input_ids": [i, i], "label": i} for i in range(300)]
    found = sample(rows).many
    assert sum(len(taken) for taken, _ in found) == TOKEN_ROWS
    taken, batch = found[3]
    assert batch["input_ids"][:, 0].tolist() == [row["label"] for row in taken]
    pairs = TensorDataset(torch.arange(400.0)[:, None], torch.arange(400))
    assert len(sample(pairs).many) == 3  # images and features cost more


def test_fewer_rows_than_a_batch_make_one_batch():
    assert [b.tolist() for b in sample([1, 2, 3], in_order=True).batches] == [[1, 2, 3]]
    assert sample(None).batches == [] and sample([]).batches == []


class Stream(IterableDataset):
    def __iter__(self):
        return iter(range(100))


class OneShot(IterableDataset):
    """Iterating uses it up: its iterator is itself."""

    def __init__(self):
        self.at = 0

    def __iter__(self):
        return self

    def __next__(self):
        self.at += 1
        return self.at


def test_streams_are_read_from_the_front_and_not_used_up():
    assert sample(Stream()).rows == list(range(12)) and sample(Stream()).total is None
    stream = OneShot()
    assert sample(stream).rows == list(range(1, 13))
    assert stream.at == 0


class Broken(Dataset):
    def __len__(self):
        return 5

    def __getitem__(self, index):
        raise OSError("the disk is gone")


def test_the_readers_own_failure_is_a_reason_not_an_exception():
    broken = sample(Broken())
    assert broken.rows == [] and "OSError: the disk is gone" in broken.problem

    def collator(rows):
        raise ValueError("ragged")

    bad = sample([1, 2], collator=collator)
    assert bad.batches == [] and "ValueError: ragged" in bad.problem


@pytest.mark.parametrize(("shuffle", "expected"), [(True, False), (False, True)])
def test_a_loader_stands_for_its_data_and_says_its_order(shuffle, expected):
    loader = DataLoader(list(range(10)), batch_size=2, shuffle=shuffle, collate_fn=list)
    found = sample(loader)
    assert found.dataset is loader.dataset and found.batch_size == 2
    assert found.sequential is expected and isinstance(found.batches[0], list)
    assert sample([1]).sequential is None


def test_columns_that_the_model_does_not_take_are_removed_as_trainer_does():
    class Model(torch.nn.Module):
        def forward(self, input_ids, attention_mask=None, labels=None):
            return input_ids

    rows = [{"input_ids": [1], "text": "a", "label": 0}]
    assert sample(rows, model=Model()).columns(rows[0]) == {"input_ids": [1], "label": 0}
    assert sample(rows, model=Model(), keep_columns=True).columns(rows[0]) == rows[0]


def test_a_collator_that_needs_a_removed_column_gets_it():
    class Model(torch.nn.Module):
        def forward(self, input_ids, attention_mask=None, labels=None):
            return input_ids

    def by_row(rows):
        return {"input_ids": torch.tensor([row["input_ids"] + [row["row"]] for row in rows])}

    rows = [{"input_ids": [1], "row": i} for i in range(4)]
    (batch,) = sample(rows, model=Model(), collator=by_row, in_order=True).batches
    assert batch["input_ids"].tolist() == [[1, 0], [1, 1], [1, 2], [1, 3]]


def test_a_batch_is_cut_and_moved_whole():
    batch = {"x": torch.zeros(4, 2), "position": torch.zeros(7), "name": "n"}
    cut = first_rows(batch, 2)
    assert cut["x"].shape == (2, 2) and cut["position"].shape == (7,) and cut["name"] == "n"
    assert first_rows(batch, None) is batch and batch_size(batch) == 4
    pair = first_rows([torch.zeros(4, 2), torch.zeros(4)], 3)
    assert [len(part) for part in pair] == [3, 3]
    assert to_device(batch, torch.device("meta"))["x"].device.type == "meta"
