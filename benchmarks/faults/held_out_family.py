"""The family that is held out: a DistilBERT tagger, which no check of the doctor was written with.

Words of a docstring are tagged by what they are; the first piece of a word carries its tag, the
others and the special tokens -100, as token classification does. DistilBERT's weights are those of
the bench's BERT under DistilBERT's names, as its authors began from their teacher. It holds no
fault; healthy taggers stand in `held_out_healthy`, faults in `mutations/fresh_*`.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import torch
from torch import nn

from faults import material
from faults.families import SUBJECTS, some
from faults.recipe import Recipe

NAME = "tagging"
TAGS = ("word", "sign", "name", "number")
PARTS = {
    "attention.self.query": "attention.q_lin",
    "attention.self.key": "attention.k_lin",
    "attention.self.value": "attention.v_lin",
    "attention.output.dense": "attention.out_lin",
    "attention.output.LayerNorm": "sa_layer_norm",
    "intermediate.dense": "ffn.lin1",
    "output.dense": "ffn.lin2",
    "output.LayerNorm": "output_layer_norm",
}


def checkpoint() -> str:
    """A folder with DistilBERT and its tokenizer, made from the BERT of the bench."""
    return str(material.kept("distilbert", _student))


def _student(place: Path) -> None:
    import transformers

    teacher = transformers.BertModel.from_pretrained(material.checkpoint("bert")).eval()
    given = teacher.config
    student = transformers.DistilBertModel(
        transformers.DistilBertConfig(
            vocab_size=given.vocab_size, dim=given.hidden_size, hidden_dim=given.intermediate_size,
            n_layers=given.num_hidden_layers, n_heads=given.num_attention_heads, pad_token_id=0,
            max_position_embeddings=given.max_position_embeddings, initializer_range=0.1,
        )
    ).eval()  # fmt: skip
    state = teacher.state_dict()
    found = {k: v for k, v in state.items() if k.startswith("embeddings.") and "type" not in k}
    words = "embeddings.word_embeddings.weight"
    found[words] = found[words] + state["embeddings.token_type_embeddings.weight"][0]
    for key, value in state.items():
        layer = re.match(r"encoder\.layer\.(\d+)\.(.+)\.(weight|bias)", key)
        if layer:
            found[f"transformer.layer.{layer[1]}.{PARTS[layer[2]]}.{layer[3]}"] = value
    student.load_state_dict(found, strict=False)
    ids = torch.randint(5, 2000, (2, 9), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        pair = student(ids).last_hidden_state, teacher(ids).last_hidden_state
    torch.testing.assert_close(*pair, rtol=1e-4, atol=1e-5)
    student.save_pretrained(place)
    material.tokenizer("bert").save_pretrained(place)


def tokenizer() -> Any:
    """That of the checkpoint, read anew."""
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(checkpoint())


def tagger(**settings: Any) -> nn.Module:
    """`DistilBertForTokenClassification` with a new head."""
    import transformers

    return transformers.DistilBertForTokenClassification.from_pretrained(
        checkpoint(), **({"num_labels": len(TAGS)} | settings)
    )


def tag(word: str) -> int:
    """What a word is: 0 word, 1 sign, 2 name (of code), 3 number."""
    if re.fullmatch(r"[^\w\s]", word):
        return 1
    return 3 if word[0].isdigit() else 2 if "_" in word or word[1:].lower() != word[1:] else 0


def aligned(tokens: Any, words: list[str], tags: list[int], length: int = 32) -> dict[str, Any]:
    """Pieces with the tag of each word at its first piece, -100 elsewhere."""
    encoded = tokens(words, is_split_into_words=True, truncation=True, max_length=length)
    places, labels, last = encoded.word_ids(), [], None
    for place in places:
        labels.append(-100 if place is None or place == last else tags[place])
        last = place
    return {
        "input_ids": encoded["input_ids"],
        "attention_mask": encoded["attention_mask"],
        "labels": labels,
    }


def tagged_words(split: str, seed: int, count: int) -> list[tuple[list[str], list[int]]]:
    """Words of docstrings and their tags."""
    texts = [text for text, label in material.texts()["topics"][split] if label in SUBJECTS]
    found = [re.findall(r"\w+|[^\w\s]", text)[:30] for text in some(texts, seed, count)]
    return [(words, [tag(word) for word in words]) for words in found]


def accuracy(prediction: Any) -> dict[str, float]:
    """`compute_metrics` of a tagger: over the pieces that carry a tag."""
    scores, labels = prediction
    kept = labels != -100
    return {"accuracy": float((scores.argmax(-1) == labels)[kept].mean())}


def tagging(seed: int, loop: str = "trainer") -> Recipe:
    """What is each word of a docstring: a word, a sign, a name of code, a number?"""
    import transformers

    tokens = tokenizer()
    rows = [
        [aligned(tokens, *pair) for pair in tagged_words(split, seed, count)]
        for split, count in (("train", 384), ("eval", 128))
    ]
    return Recipe(
        NAME,
        seed,
        tagger,
        *rows,
        collate=transformers.DataCollatorForTokenClassification(tokens),
        tokenizer=tokens,
        metrics=accuracy if loop == "trainer" else None,  # widths of batches differ
        loop=loop,
        lr=2e-3,
        steps=50,
        warmup=5,
    )
