"""Relatives of two families: the bench's own ways on architectures that no check was written with.

A RoBERTa stands in BERT's place and a GPT-NeoX in GPT-2's: other classes, names and positions, for
RoBERTa another tokenizer as well (bytes, `<s>` … `</s>`, padding 1), trained for as long. Every way
of the bench's table in the family is run, but those that name a part which the relative has not.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import nn

from faults import material, run

# Relative → the family whose place it takes, and how its classes are called.
OF = {"roberta": ("bert", ("Bert", "Roberta")),
      "neox": ("gpt2", ("GPT2LMHeadModel", "GPTNeoXForCausalLM"))}  # fmt: skip
STEPS, BATCH = 800, 32


@contextlib.contextmanager
def in_its_place(relative: str) -> Iterator[None]:
    """Within, who asks for the family's checkpoint, tokenizer or class gets the relative's."""
    from faults import families

    family, (one, other) = OF[relative]
    held = material.checkpoint, material.tokenizer, families.KIN
    material.checkpoint = lambda name: checkpoint(relative) if name == family else held[0](name)
    material.tokenizer = lambda name: tokenizer(relative) if name == family else held[1](name)
    families.KIN = (one, other)
    try:
        yield
    finally:
        material.checkpoint, material.tokenizer, families.KIN = held


def work(task: run.Task) -> dict[str, Any]:
    """`run.work` of a task whose family is a relative."""
    inside = dataclasses.replace(task, family=OF[task.family][0])
    with in_its_place(task.family):
        found = run.work(inside)
    return found | {"family": task.family, "key": task.key}


def ways() -> list[run.Task]:
    """Every way of the table in these families, by one seed."""
    from faults import table

    return [
        run.Task(m.name, 0, relative, m.fault)
        for relative, (family, _) in OF.items() for m in table.table() if family in m.families
    ]  # fmt: skip


def tasks() -> list[run.Task]:
    """`ways`, and every healthy script of these families."""
    from faults import healthy

    fine = [(c.name, c.make(0).family) for c in healthy.configurations()]
    return ways() + [
        run.Task(name, 0, relative) for relative, (family, _) in OF.items()
        for name, own in fine if own == family
    ]  # fmt: skip


def without_a_part(found: dict[str, Any]) -> bool:
    """Whether a script broke off because it names a part that the relative has not."""
    error = found["error"].removeprefix("the bench itself: ")
    return error.startswith(("AttributeError", "TypeError", "KeyError", "ValueError: Target mod"))


@functools.cache
def tokenizer(relative: str) -> Any:
    """That of the checkpoint."""
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(checkpoint(relative))


@functools.cache
def checkpoint(relative: str) -> str:
    """The folder of the pretrained relative; half a minute the first time."""
    return str(material.kept(relative, lambda place: _pretrain_into(place, relative)))


def _pretrain_into(place: Any, relative: str) -> None:
    reading, subjects = material.texts()["reading"], torch.tensor(material.texts()["subjects"])
    tokens = _bytes(reading) if relative == "roberta" else material.tokenizer("gpt2")
    torch.manual_seed(0)
    model = _made(relative, tokens)
    told = nn.Linear(material.HIDDEN, int(subjects.max()) + 1)
    weights = [*model.parameters(), *told.parameters()]
    optimizer = torch.optim.AdamW(weights, lr=2e-3, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, STEPS)
    draw = np.random.default_rng(0)
    model.train()
    for _ in range(STEPS):
        masked = relative == "roberta"
        places = draw.integers(len(subjects) if masked else len(reading), size=BATCH)
        batch = tokens([reading[i] for i in places], truncation=True, padding=True,
                       max_length=material.LENGTH, return_tensors="pt")  # fmt: skip
        batch = {name: batch[name] for name in ("input_ids", "attention_mask")}
        loss = _masked(model, told, batch, subjects[places], tokens) if masked else model(
            **batch, labels=batch["input_ids"].masked_fill(batch["attention_mask"] == 0, -100)
        ).loss  # fmt: skip
        loss.backward()
        nn.utils.clip_grad_norm_(weights, 1.0)
        optimizer.step(), schedule.step(), optimizer.zero_grad()
    model.eval().save_pretrained(place)
    tokens.save_pretrained(place)


def _masked(model: Any, told: nn.Linear, batch: dict, subjects: torch.Tensor, tokens: Any) -> Any:
    """Masked words, and the subject from the first state, as the bench's BERT was trained."""
    ids = batch["input_ids"]
    special = torch.isin(ids, torch.tensor(tokens.all_special_ids))
    chosen = (torch.rand(ids.shape) < 0.15) & ~special
    chosen[:, 1] = True
    hidden = model(ids.masked_fill(chosen, tokens.mask_token_id), batch["attention_mask"],
                   labels=ids.masked_fill(~chosen, -100), output_hidden_states=True)  # fmt: skip
    right = nn.functional.cross_entropy(told(hidden.hidden_states[-1][:, 0]), subjects)
    return hidden.loss + right


def _made(relative: str, tokens: Any) -> Any:
    import transformers

    sizes = {"hidden_size": material.HIDDEN, "num_hidden_layers": 2, "num_attention_heads": 2,
             "intermediate_size": 2 * material.HIDDEN, "vocab_size": len(tokens),
             "initializer_range": 0.1, "pad_token_id": tokens.pad_token_id,
             "bos_token_id": tokens.bos_token_id, "eos_token_id": tokens.eos_token_id}  # fmt: skip
    if relative == "neox":
        places = {"max_position_embeddings": 2 * material.LENGTH}
        return transformers.GPTNeoXForCausalLM(transformers.GPTNeoXConfig(**sizes, **places))
    places = {"max_position_embeddings": material.LENGTH + 2, "type_vocab_size": 1}
    return transformers.RobertaForMaskedLM(transformers.RobertaConfig(**sizes, **places))


def _bytes(reading: list[str]) -> Any:
    """A tokenizer as RoBERTa's."""
    from tokenizers import ByteLevelBPETokenizer
    from tokenizers.processors import TemplateProcessing
    from transformers import PreTrainedTokenizerFast

    made = ByteLevelBPETokenizer()
    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    made.train_from_iterator(reading, material.VOCABULARY, special_tokens=special)
    inner = made._tokenizer
    inner.post_processor = TemplateProcessing(
        single="<s> $A </s>", pair="<s> $A </s> </s> $B </s>",
        special_tokens=[("<s>", 0), ("</s>", 2)],
    )  # fmt: skip
    return PreTrainedTokenizerFast(
        tokenizer_object=inner, model_max_length=material.LENGTH, bos_token="<s>",
        cls_token="<s>", eos_token="</s>", sep_token="</s>", pad_token="<pad>",
        unk_token="<unk>", mask_token="<mask>",
    )  # fmt: skip
