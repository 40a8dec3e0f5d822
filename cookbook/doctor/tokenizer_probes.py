"""T6: does the tokenizer belong to the checkpoint?

The vocabulary that lies in the checkpoint's folder is compared with the one in use; where there is
none, a pretrained language model that starts at the loss of a blind guess, with a tokenizer of
another name, tells. A model from scratch may use any tokenizer; so may one whose embedding was made
anew for it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from cookbook.doctor import checkpoint_checks, kinds, responses
from cookbook.doctor.checks import Skip
from cookbook.doctor.findings import Finding
from cookbook.doctor.subject import Subject

LANGUAGE = ("masked-lm", "causal-lm", "seq2seq")
REMEDY = "load tokenizer and model from one name"


def check_tokenizer_is_the_checkpoints(subject: Subject) -> Iterable[Finding]:
    """T6: ids of the tokens in use differ from those that the checkpoint was trained with."""
    tokenizer, base = subject.tokenizer, kinds.base_of(subject.model)
    name = checkpoint_checks.checkpoint_name(base)
    if tokenizer is None or not name or not _keeps_embedding(base, name):
        raise Skip("does not apply")
    own = _vocabulary(name)
    if own:
        yield from _compared(tokenizer, own, name)
    else:
        yield from _blind_start(subject, tokenizer, name)


def _keeps_embedding(base: Any, name: str) -> bool:
    """Whether the input embedding is the checkpoint's: loaded, and no longer or shorter than it."""
    files = checkpoint_checks.weight_files(name)
    try:
        weight = getattr(base.get_input_embeddings(), "weight", None)
    except (AttributeError, NotImplementedError):  # two towers have no embedding of their own
        return False
    if files is None or weight is None:
        return getattr(weight, "_is_hf_initialized", False)
    key = next((k for k, p in base.named_parameters() if p is weight), "")
    stored = checkpoint_checks.read(files, base, key)
    if stored is None or stored.shape[1:] != weight.shape[1:]:
        return False
    rows = min(len(stored), len(weight))
    return checkpoint_checks.cosine(weight[:rows], stored[:rows]) > 0.2


def _vocabulary(name: str) -> dict[str, int]:
    """Token → id as the checkpoint's own folder has it; {} where it has none."""
    if not any(
        checkpoint_checks.find_file(Path(name), file)
        for file in ("tokenizer.json", "vocab.txt", "vocab.json", "spiece.model", "tokenizer.model")
    ):
        return {}
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(name, local_files_only=True).get_vocab()
    except Exception:  # half a tokenizer in a folder is no vocabulary
        return {}


def _compared(tokenizer: Any, own: dict[str, int], name: str) -> Iterable[Finding]:
    used = tokenizer.get_vocab()
    same = sum(own.get(token) == place for token, place in used.items())
    share = same / max(1, min(len(used), len(own)))
    if share < 0.9:
        told = (
            f"{share:.0%} of the tokenizer's tokens have the ids that {Path(name).name} was "
            f"trained with (bound: 90 %)"
        )
        yield Finding("T6", "error", told, REMEDY, {"share": share})


def _blind_start(subject: Subject, tokenizer: Any, name: str) -> Iterable[Finding]:
    other = getattr(tokenizer, "name_or_path", "") or ""
    batch = subject.batch("train", responses.ROWS)
    if subject.kind not in LANGUAGE or not other or _same(other, name) or batch is None:
        raise Skip("does not apply")
    with responses.quiet(subject):
        loss = subject.loss(batch)
    words = getattr(subject.config.get_text_config(), "vocab_size", 0)
    if loss is None or not words:
        raise Skip("does not apply")
    if float(loss) > 0.9 * math.log(words):
        told = (
            f"the loss of {Path(name).name} starts at {float(loss):.2f} (bound: 0.9 ln V = "
            f"{0.9 * math.log(words):.2f}), and the tokenizer is that of {Path(other).name}"
        )
        yield Finding("T6", "error", told, REMEDY, {"loss": float(loss), "words": words})


def _same(one: str, other: str) -> bool:
    return Path(one).name.lower() == Path(other).name.lower()


CHECKS = (check_tokenizer_is_the_checkpoints,)
