"""Each wrong line is wrong in the way it says, and its right twin is not."""

import copy
from types import SimpleNamespace as Outputs

import peft
import pytest
import torch
from datasets import Dataset
from torch import nn

from cookbook.data.deduplication import fingerprint
from cookbook.training import mistakes
from cookbook.training.mistake_runs import nobody
from cookbook.training.schedules import scheduler


@pytest.fixture
def coder(tokenizer):
    own = copy.deepcopy(tokenizer)
    own.eos_token = own.sep_token
    return own


@pytest.fixture
def rows(coder):
    texts = ["The solver returns None.", "A sparse matrix normalizes the median of two tensors."]
    return [{"input_ids": ids, "attention_mask": [1] * len(ids)} for ids in coder(texts).input_ids]


def test_labels_lie_on_padding_or_not(rows, coder):
    wrong, right = (f(rows, coder, 64) for f in (mistakes.label_padding, mistakes.label_text))
    padding = right["attention_mask"] == 0
    assert padding.any() and (wrong["labels"][padding] == coder.pad_token_id).all()
    assert (right["labels"][padding] == mistakes.IGNORE).all()
    assert torch.equal(right["labels"][~padding], right["input_ids"][~padding])


def test_the_end_is_a_label_or_not(rows, coder):
    end = coder.eos_token_id
    right = mistakes.pad_with_padding(coder)(copy.deepcopy(rows))
    wrong = mistakes.pad_with_the_end(coder)(copy.deepcopy(rows))
    assert (wrong["labels"] == end).sum() == 0
    assert (right["labels"] == end).sum() == len(rows)


def test_shifted_labels_are_the_next_tokens(rows, coder):
    batch = mistakes.shift_before_the_model(rows, coder, 64)
    length = len(rows[0]["input_ids"])
    assert batch["labels"][0, : length - 1].tolist() == rows[0]["input_ids"][1:]
    assert (batch["labels"][0, length - 1 :] == mistakes.IGNORE).all()


def test_copies_and_modules_stay_on_one_side_or_not():
    texts = [f"text {i // 2}" for i in range(200)]
    data = Dataset.from_dict({"text": texts, "module": [f"m{i // 20}" for i in range(200)]})
    shared = {}
    for name, split in (("wrong", mistakes.split_rows), ("right", mistakes.split_groups)):
        parts = split(data, seed=0)
        keys = [{fingerprint(text) for text in parts[side]["text"]} for side in ("train", "test")]
        shared[name] = len(keys[0] & keys[1])
    assert shared["wrong"] > 0 == shared["right"]
    assert len(mistakes.split_groups(data.remove_columns("module"))["test"]) > 0


def test_shuffled_labels_are_the_same_labels_elsewhere():
    rows = [{"input_ids": [i], "labels": i % 5} for i in range(100)]
    shuffled = mistakes.shuffle_labels(rows, seed=1)
    assert [row["input_ids"] for row in shuffled] == [row["input_ids"] for row in rows]
    before, after = ([row["labels"] for row in part] for part in (rows, shuffled))
    assert sorted(before) == sorted(after) and before != after


def test_only_the_reentrant_kind_loses_the_weights_behind_a_frozen_input():
    layer, x = nn.Linear(3, 3), torch.ones(2, 3)
    kept = mistakes.checkpoint(layer.forward, x)
    with pytest.warns(UserWarning, match="None of the inputs"):
        lost = mistakes.checkpoint_reentrant(layer.forward, x)
    assert kept.requires_grad and not lost.requires_grad
    assert torch.equal(kept, lost)


def test_an_early_optimizer_holds_no_part_of_the_adapter(tiny_bert):
    config = peft.LoraConfig(target_modules=["query"], task_type="SEQ_CLS")
    held = {}
    for build in (mistakes.optimizer_then_adapter, mistakes.adapter_then_optimizer):
        model, optimizer = build(tiny_bert("BertForSequenceClassification"), config, 1e-3)
        mine = {id(p) for group in optimizer.param_groups for p in group["params"]}
        held[build.__name__] = [id(p) in mine for p in model.parameters() if p.requires_grad]
    assert not any(held["optimizer_then_adapter"]) and all(held["adapter_then_optimizer"])


def test_the_softmax_by_hand_is_right_until_it_overflows():
    labels = torch.tensor([0, 1])
    small = Outputs(logits=torch.tensor([[0.1, 0.0, -0.1], [0.2, 0.1, 0.0]]))
    large = Outputs(logits=small.logits + 1.0)  # a softmax does not care, a power does
    by_hand = mistakes.exponentials_by_hand(small, labels)
    assert torch.isclose(by_hand.float(), mistakes.log_softmax_loss(small, labels), atol=5e-3)
    assert mistakes.exponentials_by_hand(large, labels).isnan()
    assert mistakes.log_softmax_loss(large, labels).isfinite()


@pytest.mark.parametrize(
    ("loop", "zeros"), [(mistakes.schedule_by_micro_batch, 8), (mistakes.schedule_by_update, 0)]
)
@pytest.mark.filterwarnings("ignore:Detected call of `lr_scheduler.step")
def test_the_rate_of_each_update(loop, zeros):
    class Model(nn.Linear):
        def forward(self, x):
            return Outputs(loss=super().forward(x).sum())

    model = Model(1, 1)
    optimizer = torch.optim.SGD(model.parameters(), 1.0)
    decay = scheduler(optimizer, "linear", total=10)
    batches = [{"x": torch.ones(1, 1)}] * 40
    rates = loop(model, batches, optimizer, decay, accumulation=4, on_step=nobody)
    assert len(rates) == 10 and rates.count(0.0) == zeros
    if not zeros:
        assert rates == pytest.approx([1 - k / 10 for k in range(10)])


def test_half_weights_swallow_a_small_step():
    moved = {}
    for name, change in (("half", mistakes.half_weights), ("full", nn.Module.float)):
        model = change(nn.Linear(50, 50))
        nn.init.uniform_(model.weight, 0.03, 0.05)
        before = model.weight.detach().clone()
        with torch.no_grad():
            model.weight.add_(1e-5)
        moved[name] = float((model.weight != before).float().mean())
    assert moved == {"half": 0.0, "full": 1.0}


def test_a_scale_taken_for_a_temperature_leaves_a_loss_at_chance():
    sides = torch.eye(8), torch.eye(8)
    assert abs(float(mistakes.scale_as_temperature(sides, {})) - 2.0794) < 0.05  # ln 8
    assert float(mistakes.temperature(sides, {})) < 1e-6
