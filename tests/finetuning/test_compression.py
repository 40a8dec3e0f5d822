"""Bytes are those of the file, every way is timed on every batch, answers keep their order."""

import numpy as np
import torch
from torch import nn

from cookbook.finetuning import compression


def test_bytes_of_a_model_and_of_a_file(tmp_path):
    path = tmp_path / "weights.bin"
    path.write_bytes(b"x" * 123)
    assert compression.bytes_on_disk(path) == 123
    model = nn.Linear(256, 100)
    assert 4 * 25_700 < compression.bytes_on_disk(model) < 4 * 25_700 + 4096


def test_every_way_is_called_as_often_and_in_turns():
    calls = []
    ways = {name: lambda x, name=name: calls.append(name) for name in "ab"}
    found = compression.latency(ways, {"one": {"x": 0}, "two": {"x": 0}}, rounds=3)
    assert found.keys() == {"a", "b"} and found["a"].keys() == {"one", "two"}
    assert calls == ["a", "a", "b", "b"] * 4 and min(found["a"].values()) >= 0


def test_answers_keep_their_order_whatever_the_batch():
    rows = [{"input_ids": [i], "attention_mask": [1]} for i in range(7)]

    def collate(part):
        return {k: torch.tensor([row[k] for row in part]) for k in part[0]}

    def way(input_ids, attention_mask):
        return {"logits": torch.cat([input_ids, -input_ids], 1).float() * attention_mask}

    found = compression.answers(way, rows, collate, batch_size=3)
    assert found[:, 0].tolist() == list(range(7))
    as_array = compression.answers(lambda **b: way(**b)["logits"].numpy(), rows, collate)
    assert np.array_equal(as_array, found)
