"""The healthy scripts that faults are put into: one function a family, each returns a `Recipe`.

Encoder classifier, masked LM, causal LM (GPT-2), instruction tuning (Llama), encoder-decoder (T5),
ViT in a handwritten loop, LoRA on two of them, and a contrastive pair of towers. They train on real
rows, small enough for a second or two of CPU. A family that no check was written with stands in
`held_out_family`. It holds no fault.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from faults import material
from faults.recipe import Recipe

SUBJECTS = (1, 5, 7)  # networkx, sympy, transformers: enough to tell apart in a minute
CLASSES = len(SUBJECTS)
COPIED = ("input_ids", "attention_mask", "token_type_ids", "labels")


def accuracy(prediction: Any) -> dict[str, float]:
    """`compute_metrics` of a classifier."""
    scores, labels = prediction
    return {"accuracy": float((scores.argmax(-1) == labels).mean())}


def some(rows: list, seed: int, count: int) -> list:
    """Another part of the rows for each seed."""
    order = torch.randperm(len(rows), generator=torch.Generator().manual_seed(seed)).tolist()
    return [rows[i] for i in order[:count]]


class Padding:
    """A collator: pads to the longest row; labels, where they are sequences, with -100."""

    def __init__(self, pad: int, side: str = "right") -> None:
        self.pad, self.side = pad, side

    def __call__(self, rows: list[Mapping[str, Any]]) -> dict[str, torch.Tensor]:
        width, batch = max(len(row["input_ids"]) for row in rows), {}
        for name in (name for name in COPIED if name in rows[0]):
            first, fill = rows[0][name], {"input_ids": self.pad, "labels": -100}.get(name, 0)
            if not isinstance(first, list):
                batch[name] = torch.tensor([row[name] for row in rows])
                continue
            wide = width if name != "labels" else max(len(row["labels"]) for row in rows)
            batch[name] = torch.tensor([self._row(row[name], wide, fill) for row in rows])
        return batch

    def _row(self, ids: list[int], width: int, fill: int) -> list[int]:
        gap = [fill] * (width - len(ids))
        return [*ids, *gap] if self.side == "right" else [*gap, *ids]


# -- encoder classifier, masked LM ---------------------------------------------------------------


def topic_rows(
    split: str, seed: int, count: int, length: int = 32, tokens: Any = None
) -> list[dict]:
    """Docstrings, encoded, with the library they come from as their label (`CLASSES` of them)."""
    tokens = tokens or material.tokenizer("bert")
    rows = [row for row in material.texts()["topics"][split] if row[1] in SUBJECTS]
    chosen = some(rows, seed, count)
    encoded = tokens([text for text, _ in chosen], truncation=True, max_length=length)
    return [
        {
            "text": text,
            "labels": SUBJECTS.index(label),
            **{name: encoded[name][i] for name in encoded},
        }
        for i, (text, label) in enumerate(chosen)
    ]


KIN = ("", "")  # set by `kin`: how a relative's classes are called in place of a family's


def load(head: str, name: str, **settings: Any) -> nn.Module:
    """A transformers model with the pretrained weights of a tiny checkpoint."""
    import transformers

    head = head.replace(*KIN)
    return getattr(transformers, head).from_pretrained(material.checkpoint(name), **settings)


def bert(seed: int, loop: str = "trainer") -> Recipe:
    """`BertForSequenceClassification`: which library is a docstring from?"""
    tokens = material.tokenizer("bert")
    return Recipe(
        "bert",
        seed,
        lambda: load("BertForSequenceClassification", "bert", num_labels=CLASSES),
        topic_rows("train", seed, 384),
        topic_rows("eval", seed, 128),
        collate=Padding(tokens.pad_token_id),
        tokenizer=tokens,
        metrics=accuracy,
        loop=loop,
        lr=3e-3,
        steps=60,
        warmup=6,
    )


class Masking:
    """Our masked-LM collator: 15 % of the ordinary tokens, 80/10/10, drawn anew each time."""

    def __init__(self, tokens: Any, probability: float = 0.15) -> None:
        self.tokens, self.pad, self.probability = tokens, Padding(tokens.pad_token_id), probability
        self.special = torch.tensor(tokens.all_special_ids)

    def __call__(self, rows: list[Mapping[str, Any]]) -> dict[str, torch.Tensor]:
        batch = self.pad([{k: row[k] for k in ("input_ids", "attention_mask")} for row in rows])
        ids = batch["input_ids"]
        chosen = (torch.rand(ids.shape) < self.probability) & ~torch.isin(ids, self.special)
        chosen[:, 1] |= ~chosen.any(1)
        batch["labels"] = torch.where(chosen, ids, -100)
        dice = torch.rand(ids.shape)
        inputs = torch.where(chosen & (dice < 0.8), self.tokens.mask_token_id, ids)
        other = torch.randint(5, len(self.tokens), ids.shape)
        batch["input_ids"] = torch.where(chosen & (dice >= 0.9), other, inputs)
        return batch


def mlm(seed: int, loop: str = "trainer") -> Recipe:
    """`BertForMaskedLM`, pretrained a little further."""
    tokens = material.tokenizer("bert")
    rows = [
        [
            {k: row[k] for k in ("text", "input_ids", "attention_mask")}
            for row in topic_rows(split, seed, n)
        ]
        for split, n in (("train", 384), ("eval", 128))
    ]
    return Recipe(
        "mlm",
        seed,
        lambda: load("BertForMaskedLM", "bert"),
        *rows,
        collate=Masking(tokens),
        tokenizer=tokens,
        loop=loop,
        lr=1e-3,
    )


# -- causal language models ----------------------------------------------------------------------


class Causal:
    """A collator: labels are the ids, the model shifts them; no loss on padding."""

    def __init__(self, pad: int, side: str = "right") -> None:
        self.pad = Padding(pad, side)

    def __call__(self, rows: list[Mapping[str, Any]]) -> dict[str, torch.Tensor]:
        batch = self.pad([{k: row[k] for k in ("input_ids", "attention_mask")} for row in rows])
        batch["labels"] = torch.where(batch["attention_mask"] == 1, batch["input_ids"], -100)
        return batch


def line_rows(split: str, seed: int, count: int, tokens: Any, length: int = 40) -> list[dict]:
    """First lines of docstrings for a causal model, each ended by EOS."""
    rows = []
    for _, text in some(material.texts()["pairs"][split], seed, count):
        ids = [*tokens(text)["input_ids"][: length - 1], tokens.eos_token_id]
        rows.append({"text": text, "input_ids": ids, "attention_mask": [1] * len(ids)})
    return rows


def gpt2(seed: int, loop: str = "trainer") -> Recipe:
    """`GPT2LMHeadModel` on first lines of docstrings."""
    tokens = material.tokenizer("gpt2")
    return Recipe(
        "gpt2",
        seed,
        lambda: load("GPT2LMHeadModel", "gpt2"),
        line_rows("train", seed, 384, tokens),
        line_rows("eval", seed, 128, tokens),
        collate=Causal(tokens.pad_token_id),
        tokenizer=tokens,
        loop=loop,
        lr=1e-3,
    )


def chat_rows(split: str, seed: int, count: int, tokens: Any, length: int = 48) -> list[dict]:
    """Prompt and answer in one row, loss on the answer and on EOS only."""
    rows = []
    for prompt, answer in some(material.texts()["pairs"][split], seed, count):
        asked = tokens(f"{prompt}:")["input_ids"]
        told = tokens(f" {answer}", add_special_tokens=False)["input_ids"]
        ids = [*asked, *told, tokens.eos_token_id]
        labels = [-100] * len(asked) + ids[len(asked) :]
        rows.append(
            {
                "prompt": f"{prompt}:",
                "completion": f" {answer}",
                "input_ids": ids[:length],
                "attention_mask": [1] * len(ids[:length]),
                "labels": labels[:length],
            }
        )
    return [row for row in rows if row["input_ids"][-1] == tokens.eos_token_id]


def sft(seed: int, loop: str = "trainer") -> Recipe:
    """`LlamaForCausalLM`, instruction tuning: the prompt is masked, the answer ends in EOS."""
    tokens = material.tokenizer("llama")
    return Recipe(
        "sft",
        seed,
        lambda: load("LlamaForCausalLM", "llama"),
        chat_rows("train", seed, 384, tokens),
        chat_rows("eval", seed, 128, tokens),
        collate=Padding(tokens.pad_token_id),
        tokenizer=tokens,
        loop=loop,
        lr=1e-3,
    )


# -- encoder-decoder -----------------------------------------------------------------------------


def name_rows(split: str, seed: int, count: int, tokens: Any, length: int = 32) -> list[dict]:
    """A docstring's first line → the function's name; both end in `</s>`."""
    rows = []
    for name, line in some(material.texts()["pairs"][split], seed, count):
        ids = tokens(line, truncation=True, max_length=length)["input_ids"]
        labels = tokens(name, truncation=True, max_length=16)["input_ids"]
        rows.append(
            {
                "source": line,
                "target": name,
                "input_ids": ids,
                "attention_mask": [1] * len(ids),
                "labels": labels,
            }
        )
    return rows


def t5(seed: int, loop: str = "trainer") -> Recipe:
    """`T5ForConditionalGeneration`: name the function from its description."""
    tokens = material.tokenizer("t5")
    return Recipe(
        "t5",
        seed,
        lambda: load("T5ForConditionalGeneration", "t5"),
        name_rows("train", seed, 384, tokens),
        name_rows("eval", seed, 128, tokens),
        collate=Padding(tokens.pad_token_id),
        tokenizer=tokens,
        loop=loop,
        lr=2e-3,
    )


# -- vision, in (x, y) pairs ---------------------------------------------------------------------


class Digits(torch.utils.data.Dataset):
    """Digits as pairs; `transform` is applied to the pixels at each reading."""

    def __init__(
        self, first: int, count: int, seed: int, transform: Callable | None = None
    ) -> None:
        x, y = material.digits()
        order = torch.randperm(1200, generator=torch.Generator().manual_seed(seed))
        places = (
            order[first : first + count] if first < 1200 else torch.arange(first, first + count)
        )
        self.x, self.y, self.transform = x[places].clone(), y[places].clone(), transform

    def __len__(self) -> int:
        return len(self.y)

    def __getitem__(self, place: int) -> tuple[torch.Tensor, torch.Tensor]:
        x = self.x[place] if self.transform is None else self.transform(self.x[place])
        return x, self.y[place]


def vit_model(labels: int = 10, **settings: Any) -> nn.Module:
    """A ViT of 32 dimensions on 8 by 8 pixels, freshly drawn."""
    import transformers

    return transformers.ViTForImageClassification(
        transformers.ViTConfig(
            image_size=8,
            patch_size=2,
            num_channels=1,
            hidden_size=32,
            num_hidden_layers=2,
            num_attention_heads=2,
            intermediate_size=64,
            num_labels=labels,
            initializer_range=0.1,
            **settings,
        )
    )


def vit(seed: int, loop: str = "plain") -> Recipe:
    """A ViT on digits, in a handwritten loop over (x, y)."""
    return Recipe(
        "vit",
        seed,
        vit_model,
        Digits(0, 640, seed),
        Digits(1200, 200, seed),
        loss=lambda outputs, y: functional.cross_entropy(outputs.logits, y),
        loop=loop,
        lr=3e-3,
        batch=32,
        metrics=accuracy,
        steps=60,
        warmup=6,
    )


# -- adapters ------------------------------------------------------------------------------------


def adapted(model: nn.Module, task: str, **settings: Any) -> nn.Module:
    """LoRA of rank 4 around a model."""
    import peft

    targets = ["query", "value"] if task == "SEQ_CLS" else ["q_proj", "v_proj"]
    given = {"task_type": task, "r": 4, "lora_alpha": 8, "target_modules": targets}
    return peft.get_peft_model(model, peft.LoraConfig(**(given | settings)))


def lora(seed: int, loop: str = "trainer") -> Recipe:
    """LoRA on the classifier of `bert`."""
    recipe = bert(seed, loop)
    recipe.family, recipe.lr = "lora", 3e-3
    recipe.prepare = lambda model: adapted(model, "SEQ_CLS")
    return recipe


def lora_sft(seed: int, loop: str = "trainer") -> Recipe:
    """LoRA on the causal model of `sft`."""
    recipe = sft(seed, loop)
    recipe.family, recipe.lr = "lora-sft", 1e-2
    recipe.prepare = lambda model: adapted(model, "CAUSAL_LM")
    return recipe


# -- contrastive ---------------------------------------------------------------------------------


class Towers(nn.Module):
    """One encoder, two texts: normalised mean-pooled embeddings of both, (batch, hidden) each."""

    def __init__(self, encoder: nn.Module) -> None:
        super().__init__()
        self.encoder, self.projection = encoder, nn.Linear(encoder.config.hidden_size, 32)

    def embed(self, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        hidden = self.encoder(input_ids=ids, attention_mask=mask).last_hidden_state
        mean = (hidden * mask[..., None]).sum(1) / mask.sum(1, keepdim=True).clamp(min=1)
        return functional.normalize(self.projection(mean), dim=-1)

    def forward(self, input_ids: Any, attention_mask: Any, pair_ids: Any, pair_mask: Any) -> Any:
        return {
            "text_embeds": self.embed(input_ids, attention_mask),
            "pair_embeds": self.embed(pair_ids, pair_mask),
        }


class InfoNCE:
    """Each text must find its own pair among those of the batch."""

    def __init__(self, temperature: float = 0.07) -> None:
        self.temperature = temperature

    def __call__(self, outputs: Any, batch: Any = None) -> torch.Tensor:
        scores = outputs["text_embeds"] @ outputs["pair_embeds"].T / self.temperature
        return functional.cross_entropy(scores, torch.arange(len(scores)))


class PairPadding:
    """A collator of two texts a row."""

    def __init__(self, pad: int) -> None:
        self.pad = Padding(pad)

    def __call__(self, rows: list[Mapping[str, Any]]) -> dict[str, torch.Tensor]:
        both = [
            self.pad(
                [{"input_ids": row[name], "attention_mask": [1] * len(row[name])} for row in rows]
            )
            for name in ("text_ids", "pair_ids")
        ]
        return {
            "input_ids": both[0]["input_ids"],
            "attention_mask": both[0]["attention_mask"],
            "pair_ids": both[1]["input_ids"],
            "pair_mask": both[1]["attention_mask"],
        }


def pair_rows(split: str, seed: int, count: int) -> list[dict]:
    """Two views of one docstring: its first line, and two thirds of its words, shuffled."""
    tokens, draw, rows = material.tokenizer("bert"), random.Random(seed), []
    for _, text in some(material.texts()["pairs"][split], seed, count):
        words = text.split()
        other = " ".join(draw.sample(words, -(-len(words) * 2 // 3)))
        rows.append(
            {
                "text_ids": tokens(text)["input_ids"][:32],
                "pair_ids": tokens(other)["input_ids"][:32],
            }
        )
    return rows


def contrastive(seed: int, loop: str = "plain") -> Recipe:
    """Two texts of a pair close, all others of the batch apart."""
    tokens = material.tokenizer("bert")
    return Recipe(
        "contrastive",
        seed,
        lambda: Towers(load("BertModel", "bert", add_pooling_layer=False)),
        pair_rows("train", seed, 384),
        pair_rows("eval", seed, 128),
        collate=PairPadding(tokens.pad_token_id),
        tokenizer=tokens,
        loss=InfoNCE(),
        loop=loop,
        lr=3e-3,
    )


FAMILIES: dict[str, Callable[..., Recipe]] = {
    "bert": bert,
    "mlm": mlm,
    "gpt2": gpt2,
    "sft": sft,
    "t5": t5,
    "vit": vit,
    "lora": lora,
    "lora-sft": lora_sft,
    "contrastive": contrastive,
}
