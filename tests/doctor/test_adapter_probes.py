import copy

import pytest
import torch
import transformers

from cookbook.doctor import adapter_probes, examination
from cookbook.doctor.subject import Subject

peft = pytest.importorskip("peft")
pytestmark = pytest.mark.filterwarnings("ignore")
TEXTS = ["the solver computes a median", "an array of two tensors <new>"] * 8


@pytest.fixture
def extended(tokenizer, tmp_path):
    """The tokenizer as one loads it, with a token that the reader added afterwards."""
    tokenizer.save_pretrained(tmp_path)
    loaded = transformers.AutoTokenizer.from_pretrained(tmp_path)
    loaded.add_tokens(["<new>"])
    return loaded


def gpt2(size, adapter=None):
    torch.manual_seed(0)
    base = transformers.GPT2LMHeadModel(transformers.GPT2Config(
        vocab_size=size, n_positions=64, n_embd=32, n_layer=2, n_head=2))  # fmt: skip
    if adapter is None:
        return base
    given = {"target_modules": ["c_attn"], "r": 2} | adapter
    return peft.get_peft_model(base, peft.LoraConfig(**given))


def rows(tokenizer, length=16):
    found = []
    for text in TEXTS:
        ids = tokenizer(text)["input_ids"][:length]
        row = {"input_ids": ids, "attention_mask": [1] * len(ids), "labels": ids}
        fill = {"input_ids": tokenizer.pad_token_id, "attention_mask": 0, "labels": -100}
        found.append({k: v + [fill[k]] * (length - len(ids)) for k, v in row.items()})
    return found


def found(check, model, tokenizer, data=None, **given):
    subject = Subject(model, train_dataset=data or rows(tokenizer), processing_class=tokenizer,
                      **given)  # fmt: skip
    said, why = examination.attempt(check, subject)
    assert why in ("", "does not apply"), why
    return [(f.fault, f.severity) for f in said]


def set_b(model):
    with torch.no_grad():
        for name, p in model.named_parameters():
            if "lora_B" in name:
                p.normal_(0, 0.1)
    return model


def test_an_adapter_with_values_that_changes_nothing(extended):
    check = adapter_probes.check_adapter_acts
    model = set_b(gpt2(len(extended), {}))
    assert found(check, model, extended) == []
    for module in model.modules():
        if hasattr(module, "scaling") and isinstance(module.scaling, dict):
            module.scaling["default"] = 0.0
    assert found(check, model, extended) == [("M6", "error")]


def test_a_fresh_adapter_has_nothing_to_say_yet(extended):
    assert found(adapter_probes.check_adapter_acts, gpt2(len(extended), {}), extended) == []
    assert found(adapter_probes.check_adapter_acts, gpt2(len(extended)), extended) == []


def test_the_first_factor_of_an_embedding_begins_at_zero(extended):
    """LoRA on an embedding draws B and leaves A at zero: nothing to say yet either."""
    check, model = adapter_probes.check_adapter_acts, gpt2(len(extended), {"target_modules": [
        "c_attn", "wte"]})  # fmt: skip
    named = dict(model.named_parameters())
    assert any("lora_embedding_B" in n and p.detach().any() for n, p in named.items())
    assert found(check, model, extended) == []
    with torch.no_grad():
        for name, p in named.items():
            if "lora_embedding_A" in name:
                p.normal_(0, 0.1)
    assert found(check, model, extended) == []  # set, and it acts
    for module in model.modules():
        if hasattr(module, "scaling") and isinstance(module.scaling, dict):
            module.scaling["default"] = 0.0
    assert found(check, model, extended) == [("M6", "error")]


def test_factors_that_change_places_have_nothing_to_say_either(extended):
    model = set_b(gpt2(len(extended), {}))
    with torch.no_grad():
        for name, p in model.named_parameters():
            if "lora_A" in name:
                p.zero_()
    assert found(adapter_probes.check_adapter_acts, model, extended) == []


CHECK = adapter_probes.check_added_tokens_learn


@pytest.mark.parametrize("adapter", [
    {"modules_to_save": ["wte", "lm_head"]}, {"target_modules": ["c_attn", "wte"]}, "indices",
])  # fmt: skip
def test_added_tokens_that_are_trained_beside_lora(extended, adapter):
    if adapter == "indices":
        adapter = {"trainable_token_indices": [len(extended) - 1]}
    targets = adapter.pop("target_modules", ["c_attn"])
    torch.manual_seed(0)
    base = gpt2(len(extended))
    model = peft.get_peft_model(base, peft.LoraConfig(target_modules=targets, r=2, **adapter))
    assert found(CHECK, model, extended) == []


def test_added_tokens_under_lora_whose_rows_are_frozen(extended):
    assert found(CHECK, gpt2(len(extended), {}), extended) == [("T9", "error")]
    other = {"trainable_token_indices": [7]}
    assert found(CHECK, gpt2(len(extended), other), extended) == [("T9", "error")]


def test_an_embedding_that_is_frozen_or_that_no_optimizer_holds(extended):
    model = gpt2(len(extended))
    assert found(CHECK, model, extended) == []
    rest = [p for n, p in model.named_parameters() if "wte" not in n]
    assert found(CHECK, model, extended, optimizer=torch.optim.SGD(rest)) == [("T9", "error")]
    model.transformer.wte.requires_grad_(False)
    assert found(CHECK, model, extended) == [("T9", "error")]


def test_a_frozen_embedding_without_added_tokens_is_silent(extended, tokenizer):
    model = gpt2(len(extended), {})
    assert found(CHECK, model, tokenizer) == []  # nothing was added
    plain = [row for row in rows(extended) if len(extended) - 1 not in row["input_ids"]]
    assert found(CHECK, model, extended, plain) == []  # added, and not used


def test_a_padding_token_that_was_added_need_not_learn(tokenizer, tmp_path):
    tokenizer.save_pretrained(tmp_path)
    loaded = transformers.AutoTokenizer.from_pretrained(tmp_path)
    loaded.add_special_tokens({"pad_token": "<padding>"})
    data = rows(loaded)
    for row in copy.deepcopy(data):
        assert loaded.pad_token_id in row["input_ids"]
    assert found(CHECK, gpt2(len(loaded), {}), loaded, data) == []
