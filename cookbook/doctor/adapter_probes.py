"""Does an adapter act, and do added tokens learn (faults M6, T9)?

Run, not read: outputs with the adapter on and off, the gradient of the added rows of the embedding.
What configurations say of adapters stands in `adapter_checks`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import nn

from cookbook.doctor import gradients, kinds, preserve
from cookbook.doctor.checks import Skip
from cookbook.doctor.findings import Finding
from cookbook.doctor.subject import Subject

SET = 1e-5  # largest entry from which on a factor of LoRA counts as set


def check_adapter_acts(subject: Subject) -> Iterable[Finding]:
    """Logits with the adapter on and off, where no factor of LoRA is zero."""
    model, batch = subject.bare, subject.batch(rows=2)
    if not hasattr(model, "disable_adapter") or batch is None:
        raise Skip("does not apply")
    size = _largest_b(model)
    if size < SET:
        raise Skip("does not apply")  # a factor begins at 0: the adapter has nothing to say yet
    with torch.no_grad(), subject.mode(training=False):
        on = subject.logits(gradients.forward(subject, batch))
        with model.disable_adapter():
            off = subject.logits(gradients.forward(subject, batch))
    if on is None or off is None or on.shape != off.shape:
        raise Skip("does not apply")
    moved = float((on - off).abs().max())
    if moved <= 1e-7 * float(on.float().std()):
        yield Finding(
            "M6", "error",
            f"logits with and without the adapter differ by {moved:.1e} though its B holds values "
            f"up to {size:.2g} (bound: above 1e-7 of their spread)",
            "activate the adapter: model.set_adapter(name), or load it with "
            "PeftModel.from_pretrained",
            measured={"difference": moved, "largest_b": size},
        )  # fmt: skip


def _largest_b(model: nn.Module) -> float:
    """The largest entry of any B whose A is set, too: at the start B is zero, of an embedding A."""
    named = dict(model.named_parameters())
    largest = 0.0
    for name, b in named.items():
        if "lora_B" in name or "lora_embedding_B" in name:
            a = named.get(name.replace("lora_B", "lora_A").replace("embedding_B", "embedding_A"))
            sizes = [float(p.detach().abs().max()) for p in (a, b) if p is not None and p.numel()]
            if sizes and min(sizes) >= SET:
                largest = max(largest, sizes[-1])
    return largest


def check_added_tokens_learn(subject: Subject) -> Iterable[Finding]:
    """Added tokens that occur in the data, and the gradient of their rows in the embedding."""
    added = _added(subject)
    batches = [b for b in subject.train.batches if isinstance(b, Mapping) and "input_ids" in b]
    embedding = _embedding(subject)
    if not added or not batches or embedding is None:
        raise Skip("does not apply")
    counts = {token: _count(batches, token) for token in added}
    used = [token for token, count in counts.items() if count]
    if not used:
        raise Skip("does not apply")
    batch = max(batches, key=lambda b: sum(_count([b], token) for token in used))
    used = [token for token in used if _count([batch], token)]
    if _rows_learn(subject, batch, embedding, used):
        return
    names = ", ".join(map(repr, subject.tokenizer.convert_ids_to_tokens(used[:4])))
    yield Finding(
        "T9", "error",
        f"{len(used)} added tokens ({names}) occur {sum(counts.values())} times in the batches "
        "read, and their rows of the embedding get no gradient (bound: every one)",
        "train the new rows: trainable_token_indices or modules_to_save=['embed_tokens', "
        "'lm_head'] with LoRA, else requires_grad on the embedding",
        measured={"tokens": len(used), "occurrences": sum(counts.values())},
    )  # fmt: skip


def _added(subject: Subject) -> list[int]:
    """Ids that the reader added to the tokenizer after it was loaded, padding apart."""
    tokenizer = subject.tokenizer
    if tokenizer is None or not hasattr(tokenizer, "get_added_vocab"):
        return []
    stock = getattr(tokenizer, "init_kwargs", {}).get("added_tokens_decoder")
    known = {int(i) for i in stock} if stock else set()
    first = getattr(tokenizer, "vocab_size", 0)
    ids = [i for i in tokenizer.get_added_vocab().values() if i >= first]
    fresh = [i for i in ids if i not in known] if stock else ids
    return sorted(i for i in fresh if i != getattr(tokenizer, "pad_token_id", None))


def _embedding(subject: Subject) -> nn.Module | None:
    base = kinds.base_of(subject.bare)
    try:
        found = getattr(base, "get_input_embeddings", lambda: None)()
    except NotImplementedError:  # two towers have no embedding of their own
        return None
    return found if isinstance(found, nn.Module) else None


def _count(batches: list[Any], token: int) -> int:
    """Occurrences of a token at positions that are attended to."""
    total = 0
    for batch in batches:
        at = batch["input_ids"] == token
        mask = batch.get("attention_mask")
        if isinstance(mask, torch.Tensor) and mask.shape == at.shape:
            at = at & (mask > 0)
        total += int(at.sum())
    return total


def _rows_learn(subject: Subject, batch: Any, embedding: nn.Module, tokens: list[int]) -> bool:
    """Whether any weight that makes these rows gets a gradient for them."""
    held = getattr(subject.optimizer, "param_groups", None)
    held = getattr(preserve.unwrap(subject.optimizer), "param_groups", None) if held else None
    ids = {id(p) for group in held or [] for p in group["params"]}
    trained = {
        n: p for n, p in embedding.named_parameters()
        if p.requires_grad and (not ids or id(p) in ids)
    }  # fmt: skip
    if not trained:
        return False
    with subject.mode(training=False):
        loss = gradients.training_loss(subject, batch)[0]
        if loss is None or not loss.requires_grad:
            raise Skip("does not apply")
        grads = gradients.gradients(lambda: loss, list(trained.values()))
    chosen = {int(i) for module in embedding.modules() for i in _chosen(module)}
    for name, grad in zip(trained, grads, strict=True):
        if grad is None or ("trainable_tokens" in name and not chosen.issuperset(tokens)):
            continue
        whole = grad.dim() == 2 and len(grad) > max(tokens)
        rows = grad[tokens] if whole else grad  # a delta or a low-rank factor serves all rows
        if bool((rows != 0).any()):
            return True
    return False


def _chosen(module: nn.Module) -> list[int]:
    """The rows that PEFT's `trainable_token_indices` trains in this module."""
    held = getattr(module, "token_indices", None)
    return [i for rows in held.values() for i in rows] if isinstance(held, dict) else []


CHECKS = (check_adapter_acts, check_added_tokens_learn)
