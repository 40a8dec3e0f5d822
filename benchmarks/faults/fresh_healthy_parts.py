"""More fresh healthy runs: other parts, other data, other adapters; as `fresh_healthy`."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from faults import families
from faults.families import adapted, bert, gpt2, lora_sft, mlm, sft, vit
from faults.healthy import changed, evaluated
from faults.held_out_healthy import healthy
from faults.mutations.models import after
from faults.recipe import Recipe

# -- other parts ---------------------------------------------------------------------------------


class Normed(nn.Module):
    """Spectral norm, group norm, an embedding of positions with a bounded length, doubles."""

    def __init__(self) -> None:
        super().__init__()
        norm = nn.utils.parametrizations.spectral_norm
        self.place = nn.Embedding(64, 16, max_norm=1.0)
        self.first, self.group = norm(nn.Linear(17, 32)), nn.GroupNorm(4, 32)
        self.last = nn.Linear(32, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        pixels = x.flatten(1)[..., None]
        places = self.place(torch.arange(64)).expand(len(x), -1, -1)
        hidden = functional.gelu(self.first(torch.cat([pixels, pixels * places], -1)))
        return self.last(self.group(hidden.mean(1)))


@healthy
def spectral_and_bounded(seed: int) -> Recipe:
    return changed(vit(seed), model=Normed, loss=nn.CrossEntropyLoss(), metrics=None, lr=1e-2)


@healthy
def in_double_precision(seed: int) -> Recipe:
    r = vit(seed)
    r.collate = lambda rows: (
        torch.stack([x for x, _ in rows]).double(), torch.stack([y for _, y in rows])
    )  # fmt: skip
    after(r, lambda model: model.double())
    return r


@healthy
def layers_that_share_their_weights(seed: int) -> Recipe:
    import transformers

    config = transformers.AlbertConfig(
        vocab_size=2000, embedding_size=32, hidden_size=64, num_hidden_layers=3, num_labels=3,
        num_attention_heads=2, intermediate_size=128, max_position_embeddings=48, pad_token_id=0,
        initializer_range=0.1,
    )  # fmt: skip
    return changed(
        bert(seed), model=lambda: transformers.AlbertForSequenceClassification(config), lr=1e-3
    )


@healthy
def a_head_with_classes_to_spare(seed: int) -> Recipe:
    return changed(
        bert(seed),
        model=lambda: families.load("BertForSequenceClassification", "bert", num_labels=12),
    )


# -- other data ----------------------------------------------------------------------------------


@healthy
def whole_sets_of_two_named_evaluations(seed: int) -> Recipe:
    r = evaluated(bert(seed), 20)
    r.eval = {"first": r.eval[:64], "second": r.eval[64:]}
    return r


@healthy
def classes_drawn_by_weight(seed: int) -> Recipe:
    r = bert(seed, "plain")
    weights = [1.0 + row["labels"] for row in r.train]
    sampler = torch.utils.data.WeightedRandomSampler(weights, len(r.train))
    r.loader = {"sampler": sampler, "shuffle": None}
    return r


@healthy
def short_rows_first(seed: int) -> Recipe:
    """A curriculum by length in the order of the file: no class comes before another."""
    r = bert(seed, "plain")
    r.train = sorted(r.train, key=lambda row: len(row["input_ids"]))
    r.loader = {"shuffle": False, "generator": None}
    return r


@healthy
def windows_of_one_long_text(seed: int) -> Recipe:
    """Strides: the first half of a window is context and carries no label."""
    r = gpt2(seed)
    ids = [token for row in r.train for token in row["input_ids"]]
    r.train = [
        {"input_ids": ids[i : i + 32], "attention_mask": [1] * 32,
         "labels": [-100] * 16 + ids[i + 16 : i + 32]}
        for i in range(0, len(ids) - 32, 16)
    ]  # fmt: skip
    for row in r.eval:
        row["labels"] = list(row["input_ids"])
    return changed(r, collate=families.Padding(r.tokenizer.pad_token_id))


@healthy
def answers_in_two_turns(seed: int) -> Recipe:
    """Two prompts and two answers a row, both answers end in EOS and are learnt."""
    r = sft(seed, "plain")
    joined = []
    for one, two in zip(r.train[::2], r.train[1::2], strict=False):
        row = {k: one[k] + two[k][1:] for k in ("input_ids", "attention_mask", "labels")}
        joined.append(row)
    return changed(r, train=joined)


@healthy
def masked_by_nothing_but_the_mask(seed: int) -> Recipe:
    import transformers

    r = mlm(seed)
    r.train, r.eval = (
        [{k: row[k] for k in ("input_ids", "attention_mask")} for row in rows]
        for rows in (r.train, r.eval)
    )
    return changed(
        r, collate=transformers.DataCollatorForLanguageModeling(
            r.tokenizer, mlm_probability=0.2, mask_replace_prob=1.0, random_replace_prob=0.0
        ),
    )  # fmt: skip


# -- adapters ------------------------------------------------------------------------------------


@healthy
def adapters_that_begin_with_principal_parts(seed: int) -> Recipe:
    r = sft(seed)
    r.prepare = lambda model: adapted(model, "CAUSAL_LM", init_lora_weights="pissa")
    return changed(r, lr=3e-3)


@healthy
def a_faster_second_matrix(seed: int) -> Recipe:
    """LoRA+: B learns sixteen times faster than A."""
    r = lora_sft(seed, "plain")

    def optimizer(model: nn.Module) -> Any:
        held = [(n, p) for n, p in model.named_parameters() if p.requires_grad]
        return torch.optim.AdamW([
            {"params": [p for n, p in held if "lora_B" in n], "lr": 8e-3},
            {"params": [p for n, p in held if "lora_B" not in n], "lr": 5e-4},
        ])  # fmt: skip

    return changed(r, optimizer=optimizer)


@healthy
def one_of_two_adapters(seed: int) -> Recipe:
    r = lora_sft(seed)

    def second(model: nn.Module) -> None:
        model.add_adapter("other", copy.deepcopy(model.peft_config["default"]))
        model.set_adapter("default")

    after(r, second)
    return r


@healthy
def prefixes_at_their_own_rate(seed: int) -> Recipe:
    import peft

    r = sft(seed)
    r.prepare = lambda model: peft.get_peft_model(
        model, peft.PrefixTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=4)
    )
    return changed(r, lr=5e-2)
