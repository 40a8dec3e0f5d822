"""Calls around the forward pass: batches that are read here, prompts that are continued."""

import time
from types import SimpleNamespace

import pytest
import torch
import transformers
from torch.utils.data import DataLoader
from torch.utils.data.dataloader import _SingleProcessDataLoaderIter

from cookbook.doctor import batches, calls, hooks
from cookbook.doctor.records import Run

SMALL = {
    "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "vocab_size": 40,
    "intermediate_size": 16, "pad_token_id": 0, "eos_token_id": 2, "bos_token_id": 1,
}  # fmt: skip


class Slow(torch.utils.data.Dataset):
    def __len__(self):
        return 8

    def __getitem__(self, place):
        time.sleep(0.002)
        return torch.zeros(2)


def test_reading_is_timed_for_each_step_and_nothing_stays_behind():
    before, run = _SingleProcessDataLoaderIter._next_data, Run()
    undo = calls.follow(torch.nn.Linear(2, 2), run, hooks.Cost(), SimpleNamespace(generating=False))
    for _ in DataLoader(Slow(), batch_size=4):
        run.steps += 1
    assert (
        sorted(run.facts["reading"])[:2] == [0, 1]
        and min(run.facts["reading"][step] for step in (0, 1)) >= 0.008
    )
    for stop in undo:
        stop()
    assert _SingleProcessDataLoaderIter._next_data is before
    list(DataLoader(Slow(), batch_size=4))
    assert sum(run.facts["reading"].values()) < 1


def llama():
    torch.manual_seed(0)
    return transformers.LlamaForCausalLM(transformers.LlamaConfig(**SMALL))


def prompts(side, lengths=(6, 3)):
    ids, mask = torch.zeros(len(lengths), 6, dtype=torch.long), torch.zeros(len(lengths), 6).long()
    for row, count in enumerate(lengths):
        place = slice(0, count) if side == "right" else slice(6 - count, 6)
        ids[row, place], mask[row, place] = 7, 1
    return {"input_ids": ids, "attention_mask": mask}


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (prompts("right"), (1, 2)),
        (prompts("left"), (0, 2)),
        (prompts("right", (6, 6)), (0, 2)),
        ({"input_ids": torch.tensor([[7, 8]])}, None),
    ],
)
@pytest.mark.parametrize("adapted", [False, True])
def test_prompts_with_padding_behind_them_are_counted(given, told, adapted):
    import peft

    model, run, other = llama(), Run(), llama()
    if adapted:
        model = peft.get_peft_model(model, peft.LoraConfig(target_modules=["q_proj"],
                                                           task_type="CAUSAL_LM"))  # fmt: skip
    undo = calls.follow(model, run, hooks.Cost(), SimpleNamespace(generating=False))
    other.generate(**prompts("right"), max_new_tokens=1, do_sample=False)  # a teacher
    model.generate(**given, max_new_tokens=1, do_sample=False)
    for stop in undo:
        stop()
    model.generate(**prompts("right"), max_new_tokens=1, do_sample=False)
    assert run.facts.get("prompts") == told


def test_an_encoder_may_have_padding_behind_its_text():
    model, run = transformers.T5ForConditionalGeneration(transformers.T5Config(
        vocab_size=40, d_model=16, d_kv=8, d_ff=16, num_layers=1, num_heads=2,
        decoder_start_token_id=0)), Run()  # fmt: skip
    undo = calls.follow(model, run, hooks.Cost(), SimpleNamespace(generating=False))
    model.generate(**prompts("right"), max_new_tokens=1, do_sample=False)
    for stop in undo:
        stop()
    assert "prompts" not in run.facts


def test_passes_of_a_text_that_is_written_are_no_evaluation():
    """Samples shown after each evaluation are not rows that were scored twice (E2)."""
    model, run = llama(), Run()
    seen = batches.Seen(run, model)
    model.register_forward_hook(
        lambda module, args, kwargs, output: seen.forward(
            args, kwargs, output, training=torch.is_grad_enabled(), measure=False
        ) and None,
        with_kwargs=True,
    )  # fmt: skip
    undo = calls.follow(model, run, hooks.Cost(), seen)
    with torch.no_grad():
        model(**prompts("left"))
        model.generate(**prompts("left"), max_new_tokens=3, do_sample=False)
    for stop in undo:
        stop()
    assert seen.evaluation({}).scored == 2 and not seen.generating
