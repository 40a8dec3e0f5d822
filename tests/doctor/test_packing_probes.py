"""T12: segments that are declared independent and read each other are found; others are not."""

from types import SimpleNamespace

import pytest
import torch
import transformers

from cookbook.doctor import packing_probes
from cookbook.doctor.checks import attempt
from cookbook.doctor.subject import Subject

CHECK = packing_probes.check_packed_rows_are_apart
SMALL = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "vocab_size": 99,
         "intermediate_size": 32}  # fmt: skip
POSITIONS = torch.cat([torch.arange(n) for n in (5, 4, 7)])
SEGMENTS = torch.repeat_interleave(torch.arange(3), torch.tensor([5, 4, 7]))
BLOCKS = SEGMENTS[:, None] == SEGMENTS[None]


def verdicts(model, dataset, **given):
    found, reason = attempt(CHECK, Subject(model, train_dataset=dataset, **given))
    assert "failed" not in reason, reason
    return [(one.fault, one.severity) for one in found]


def rows(**extra):
    torch.manual_seed(0)
    ids = torch.randint(5, 90, (4, 16))
    return [{"input_ids": row, "labels": row, **extra} for row in ids]


CAUSAL = {
    "gpt2": lambda: transformers.GPT2LMHeadModel(
        transformers.GPT2Config(n_embd=32, n_layer=2, n_head=2, vocab_size=99)),
    "llama": lambda: transformers.LlamaForCausalLM(transformers.LlamaConfig(**SMALL)),
}  # fmt: skip


@pytest.mark.parametrize("make", CAUSAL.values(), ids=CAUSAL)
def test_positions_that_begin_again(make):
    apart = rows(position_ids=POSITIONS)
    assert verdicts(make(), apart) == []  # transformers reads the positions
    ones = rows(position_ids=POSITIONS, attention_mask=torch.ones(16, dtype=torch.long))
    assert verdicts(make(), ones) == [("T12", "error")]  # and not where a mask is given


def test_a_masked_model_with_positions_alone_is_found(tiny_bert):
    ones = torch.ones(16, dtype=torch.long)
    dataset = rows(position_ids=POSITIONS, attention_mask=ones)
    assert verdicts(tiny_bert(), dataset) == [("T12", "error")]
    blocks = rows(position_ids=POSITIONS, attention_mask=BLOCKS[None])
    assert verdicts(tiny_bert(), blocks) == []


def test_an_index_that_the_model_does_not_read_is_found():
    dataset = rows(seq_idx=SEGMENTS)
    given = {"data_collator": transformers.default_data_collator}
    subject = Subject(CAUSAL["llama"](), train_dataset=dataset, **given)
    subject.train.columns = lambda row: row
    assert [one.fault for one in attempt(CHECK, subject)[0]] == ["T12"]


def test_the_flattening_collator_is_healthy():
    dataset = [{"input_ids": list(range(10, 14 + i)), "labels": list(range(10, 14 + i))}
               for i in range(6)]  # fmt: skip
    collator = transformers.DataCollatorWithFlattening()
    assert verdicts(CAUSAL["gpt2"](), dataset, data_collator=collator) == []


def test_rows_that_declare_nothing_are_healthy(tiny_bert):
    plain = rows(attention_mask=torch.ones(16, dtype=torch.long))
    assert verdicts(CAUSAL["gpt2"](), plain) == [] == verdicts(tiny_bert(), plain)
    types = (SEGMENTS > 0).long()
    assert verdicts(tiny_bert(), rows(token_type_ids=types)) == []
    whole = rows(position_ids=torch.arange(16), attention_mask=torch.ones(16, dtype=torch.long))
    assert verdicts(CAUSAL["gpt2"](), whole) == []


@pytest.mark.parametrize("pad_position", [0, 1])
def test_positions_of_padding_are_no_segments(pad_position):
    mask = torch.tensor([0] * 4 + [1] * 12)
    positions = torch.cat([torch.full((4,), pad_position), torch.arange(12)])
    left = rows(position_ids=positions, attention_mask=mask)
    assert verdicts(CAUSAL["gpt2"](), left) == []
    positions = torch.cat([torch.arange(12), torch.full((4,), pad_position)])
    right = rows(position_ids=positions, attention_mask=mask.flip(0))
    assert verdicts(CAUSAL["gpt2"](), right) == []


def test_a_plain_causal_mask_over_positions_that_begin_again_is_found():
    causal = torch.full((16, 16), torch.finfo(torch.float32).min).triu(1)[None]
    assert verdicts(CAUSAL["gpt2"](), rows(position_ids=POSITIONS, attention_mask=causal)) == [
        ("T12", "error")
    ]
    blocks = torch.where(BLOCKS, causal, torch.finfo(torch.float32).min)
    assert verdicts(CAUSAL["gpt2"](), rows(position_ids=POSITIONS, attention_mask=blocks)) == []


def test_padding_that_sees_only_itself_is_no_segment():
    seen = (torch.arange(8) < 5).expand(8, 8) | torch.eye(8, dtype=torch.bool)
    assert packing_probes._of_blocks(seen[None]).le(0).all()


def test_masks_in_blocks_and_causal_masks():
    blocks = packing_probes._of_blocks(BLOCKS[None])
    assert torch.equal(blocks[0], SEGMENTS)
    causal = torch.ones(1, 1, 6, 6).tril()
    assert packing_probes._of_blocks(causal).eq(0).all()
    added = torch.zeros(1, 1, 6, 6).masked_fill(causal == 0, torch.finfo(torch.float32).min)
    assert packing_probes._of_blocks(added).eq(0).all()


@pytest.mark.parametrize(("change", "expected"), [
    ({}, [("T12", "info")]),
    ({"position_ids": torch.cat([torch.arange(5)] * 2)}, []),  # declared: the probe above
    ({"labels": torch.tensor([1, 7, 8, 9, 2] * 2)}, []),  # no prompts: pretraining
    ({"input_ids": torch.tensor([1, 7, 8, 9, 2, 6, 7, 8, 9, 2])}, []),  # two turns of one
])  # fmt: skip
def test_conversations_behind_each_other_are_advice(change, expected):
    ids, answers = torch.tensor([1, 7, 8, 9, 2] * 2), torch.tensor([-100, -100, 8, 9, 2] * 2)
    row = {"input_ids": ids, "labels": answers, **change}
    ends = SimpleNamespace(bos_token_id=1, eos_token_id=2, pad_token_id=0,
                           convert_tokens_to_ids=None)  # fmt: skip
    subject = Subject(CAUSAL["llama"](), train_dataset=[row] * 8, processing_class=ends,
                      data_collator=transformers.default_data_collator)  # fmt: skip
    found, reason = attempt(packing_probes.check_conversations_in_a_row, subject)
    assert [(one.fault, one.severity) for one in found] == expected
    assert "failed" not in reason
