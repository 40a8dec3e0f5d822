"""M1, and what a checkpoint tells of a model: which weights came from the file that it names.

Two witnesses are heard: the marks that `from_pretrained` leaves on what it loaded, and the
safetensors file itself, compared weight by weight. Without either, the weights are compared with
those of a freshly drawn twin. A model that names no checkpoint is from scratch: nothing is said.
"""

from __future__ import annotations

import copy
import json
import math
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from torch import nn

from cookbook.doctor import kinds
from cookbook.doctor.checks import Skip
from cookbook.doctor.drawn import cosine, looks_drawn
from cookbook.doctor.findings import Finding
from cookbook.doctor.subject import Subject
from cookbook.doctor.tokens import count_of

# What a new task rightly adds to a checkpoint: heads, the pooler, adapters, cross-attention.
ADDED = re.compile(
    r"pooler|classif|^score|\.score\.|qa_outputs|(^|\.)head\b|lm_head|^cls\.|\.cls\.|decoder_bias|"
    r"lora_|adapter|prompt|modules_to_save|cross_?att|encoder_attn|EncDecAttention|"
    r"projection_head|vocab_transform|vocab_projector|vocab_layer_norm|pre_classifier"
)
COMPARED = 48  # weights that are compared at most, spread over the depth
SMALL = 256  # elements under which a weight's statistics say nothing
LANGUAGE = ("masked-lm", "causal-lm", "seq2seq")


def check_backbone_is_loaded(subject: Subject) -> Iterable[Finding]:
    """M1: a checkpoint is named, and the backbone's weights are not the checkpoint's."""
    compared = False
    for model in _named(subject.model):
        name, weights = checkpoint_name(model), backbone(model)
        states = _states(model, name, weights) if weights else None
        compared |= bool(states)
        new = [key for key, state in (states or {}).items() if state != "same"]
        yield from _judged(subject, model, name, states, new) if states else ()
    if not compared:
        raise Skip("no weight of the backbone could be compared with the checkpoint")


def _named(model: Any) -> list[nn.Module]:
    """The model, if it names a checkpoint; else those inside it, such as towers' encoders."""
    if model is None or checkpoint_name(base := kinds.base_of(model)):
        return [] if model is None else [base]
    inner = [m for m in base.modules() if checkpoint_name(m) and hasattr(m, "from_pretrained")]
    nested = {id(m) for one in inner for m in one.modules() if m is not one}
    found = [m for m in inner if id(m) not in nested]
    if not found or any(map(was_loaded, found)) and not all(map(was_loaded, found)):
        raise Skip("does not apply")  # a teacher was loaded, and its student may begin anew
    return found


def _states(model: nn.Module, name: str, weights: dict[str, torch.Tensor]) -> dict | None:
    """Name → whether the weight is the checkpoint's, by the best witness there is."""
    states = origins(model, name, weights)
    if states is None and was_loaded(model):
        marked = {key: getattr(w, "_is_hf_initialized", False) for key, w in weights.items()}
        return {key: "same" if mark else "new" for key, mark in marked.items()}
    if states is None:
        return {key: "new" if fresh else "same" for key, fresh in against_twin(model, weights)}
    return dict.fromkeys(states, "other") if _of_one_seed(model, name, weights, states) else states


def _of_one_seed(model: nn.Module, name: str, weights: dict, states: dict) -> bool:
    """Whether these weights are like the file's because both were drawn with one seed: none is
    the file's number by number, and all have the deviations of a model that was just made."""
    if was_loaded(model) or len(states) < 4 or set(states.values()) != {"same"}:
        return False
    files = weight_files(name) or {}
    stored = {key: read(files, model, key) for key in states}
    if any(s is None or torch.equal(s.float(), weights[k].detach().float().cpu())
           for k, s in stored.items()):  # fmt: skip
        return False
    fresh = dict(against_twin(model, weights))
    return len(fresh) == len(states) and all(fresh.values())


def _judged(subject: Subject, model: nn.Module, name: str, states: dict, new: list):
    share, lost = len(new) / len(states), _lost(states)
    measured = {"new": len(new), "compared": len(states)}
    if mixed := _beside_known_embeddings(model, name, states):
        told = (
            f"the embeddings are those of {_short(name)}, yet all {len(new)} weight matrices "
            f"behind them are newly drawn, though they lie at hand and fit, such as {mixed} "
            "(bound: none of them)"
        )
        yield Finding("M1", "warn", told, measured=measured)
    elif share >= 0.9:
        # A language model that is built from a checkpoint's configuration may mean to start anew.
        scratch = subject.kind in (*LANGUAGE, "other") or model is not kinds.base_of(subject.model)
        scratch &= not was_loaded(model)
        told = (
            f"{len(new)} of {len(states)} weight matrices of the backbone are not those of "
            f"{_short(name)}, which the model names, but newly drawn (bound: 90 %)"
        )
        hopeless = _too_few_to_start_anew(subject, name, states) if scratch else ""
        severity = "warn" if hopeless else "info" if scratch else "error"
        yield Finding("M1", severity, told + hopeless, measured=measured)
    elif was_loaded(model) and (len(lost) >= max(2, 0.1 * len(states)) or _tables(model, lost)):
        told = (
            f"{len(lost)} of {len(states)} weight matrices of the backbone are missing in "
            f"{_short(name)}, or do not fit, and newly drawn, the first is {lost[0]} (bound: 10 %, "
            "and no table of words)"
        )
        yield Finding("M1", "warn", told, measured=measured)


def _lost(states: dict) -> list[str]:
    """What the file did not have; what did not fit, where it is more than a resized input."""
    unfit = [key for key, state in states.items() if state == "misfit"]
    many = len(unfit) >= max(4, 0.25 * len(states))
    return [k for k, state in states.items() if state == "new" or many and state == "misfit"]


def _tables(model: nn.Module, lost: list[str]) -> bool:
    """Whether tables of words are among what was lost, though one of their size was found."""
    held = [(n, m) for n, m in model.named_modules() if isinstance(m, nn.Embedding)]
    tables = {f"{name}.weight": module.weight for name, module in held}
    known = {tuple(w.shape) for n, w in tables.items() if n not in lost}
    return any(n in tables and tuple(tables[n].shape) in known for n in lost)


def _beside_known_embeddings(model: nn.Module, name: str, states: dict) -> str:
    """A matrix that was drawn where the file's fits, if all are but the embeddings, which are the
    file's own, bit for bit: they were read by names that the rest does not have; else ""."""
    tables = {n for n, m in model.named_modules() if isinstance(m, nn.Embedding)}
    known = [k for k, state in states.items() if state == "same"]
    rest = [k for k in states if k.removesuffix(".weight") not in tables]
    if was_loaded(model) or not known or len(rest) < 4 or set(known) & set(rest):
        return ""
    files, own = weight_files(name), dict(model.named_parameters())
    if files is None or any(states[k] != "other" or not looks_drawn(own[k]) for k in rest):
        return ""
    stored = [read(files, model, key) for key in known]
    equal = all(
        s is not None and torch.equal(s.float(), own[k].detach().float().cpu())
        for k, s in zip(known, stored, strict=True)
    )
    return rest[0] if equal else ""


def _too_few_to_start_anew(subject: Subject, name: str, states: dict) -> str:
    """Why this language model can hardly mean to start anew; "" where it can.

    The file lies at hand and fits in every matrix, the tokenizer was read from the same place, and
    the rows hold fewer tokens than the model has weights: enough to go on with, not to begin.
    """
    own = getattr(subject.tokenizer, "name_or_path", None)
    fits = weight_files(name) is not None and all(s == "other" for s in states.values())
    tokens, weights = count_of(subject.train), sum(p.numel() for p in subject.model.parameters())
    if not (fits and own and _short(own) == _short(name)) or not 0 < tokens < weights:
        return ""
    return (
        f"; they lie at hand and fit, and {tokens:,} tokens to train on (bound: one for each of "
        f"{weights:,} weights) are too few to start anew"
    )


def checkpoint_name(model: Any) -> str:
    """The checkpoint that a transformers model names: a folder or a hub id; else ""."""
    config = getattr(model, "config", None)
    name = getattr(config, "_name_or_path", "") or getattr(model, "name_or_path", "")
    return name if isinstance(name, str) and isinstance(model, nn.Module) else ""


def was_loaded(model: nn.Module) -> bool:
    """Whether `from_pretrained` made this model, as the marks that it leaves say."""
    if "_weight_conversions" in model.__dict__:
        return True
    return any(getattr(p, "_is_hf_initialized", False) for p in model.parameters())


def backbone(model: nn.Module) -> dict[str, torch.Tensor]:
    """Name → weight, of matrices that any task on this checkpoint would share; tables, and 48."""
    prefix = getattr(model, "base_model_prefix", "")
    inside = f"{prefix}." if prefix and hasattr(model, prefix) else ""
    added = _adapters(model)
    found = {
        name: p
        for name, p in model.named_parameters()
        if p.dim() >= 2 and p.is_floating_point() and not p.is_meta and p.numel() >= SMALL
        and name.startswith(inside) and not ADDED.search(name.removeprefix(inside))
        and id(p) not in added
    }  # fmt: skip
    step = max(1, math.ceil(len(found) / COMPARED))
    tables = {f"{n}.weight" for n, m in model.named_modules() if isinstance(m, nn.Embedding)}
    return {n: p for i, (n, p) in enumerate(found.items()) if i % step == 0 or n in tables}


def _adapters(model: nn.Module) -> set[int]:
    """The ids of what PEFT's layers hold beside the layer that they wrap, by whatever name."""
    layers = [m for m in model.modules() if hasattr(m, "adapter_layer_names")]
    wrapped = {id(p) for m in layers if hasattr(m, "base_layer") for p in m.base_layer.parameters()}
    return {id(p) for m in layers for p in m.parameters()} - wrapped


def origins(model: nn.Module, name: str, weights: dict[str, torch.Tensor]) -> dict | None:
    """Name → "same" as in the file, "other" than it, "new" or, drawn because the file's did not
    fit, "misfit"; None without a file."""
    files = weight_files(name)
    if files is None:
        return None
    found = {}
    for key, weight in weights.items():
        marked = getattr(weight, "_is_hf_initialized", False)
        stored = read(files, model, key)
        if stored is None:
            # Renamed in loading, as some architectures are; or indeed not loaded.
            found[key] = "same" if marked or not looks_drawn(weight) else "new"
        elif stored.shape == weight.shape:
            found[key] = "same" if cosine(weight, stored) > 0.2 else "other"
        elif was_loaded(model) and not marked and looks_drawn(weight):
            found[key] = "misfit"  # pruned weights, or rows that were added, do not look like it
    return found


def weight_files(name: str) -> dict[str, Path] | None:
    """Stored key → the safetensors file that holds it; None where no file can be found."""
    if not name:
        return None
    folder = Path(name)
    single, index = find_file(folder, "model.safetensors"), None
    if single is None:
        index = find_file(folder, "model.safetensors.index.json")
    if single is None and index is None:
        return None
    if index is not None:
        places = json.loads(index.read_text())["weight_map"]
        return {key: index.parent / file for key, file in places.items()}
    from safetensors import safe_open

    with safe_open(single, "pt") as opened:
        return dict.fromkeys(opened.keys(), single)


def find_file(folder: Path, name: str) -> Path | None:
    """A checkpoint's file in its folder or, of a hub id, in the local cache; None without."""
    if (folder / name).is_file():
        return folder / name
    if folder.is_absolute() or folder.exists() or len(folder.parts) > 2:
        return None
    from huggingface_hub import try_to_load_from_cache  # looks on the disk only

    try:
        found = try_to_load_from_cache(str(folder), name)
    except ValueError:  # no name that the hub would allow
        return None
    return Path(found) if isinstance(found, str) else None


def stored_key(files: Iterable[str], model: nn.Module, key: str) -> str | None:
    """The key under which `from_pretrained` would look for a parameter, where the file has it."""
    prefix = getattr(model, "base_model_prefix", "") or "model"
    key = key.replace(".base_layer.", ".").removeprefix("base_model.model.")
    tries = (key, key.removeprefix(f"{prefix}."), f"{prefix}.{key}")
    return next((name for name in tries if name in files), None)


def read(files: dict[str, Path], model: nn.Module, key: str) -> torch.Tensor | None:
    """The stored tensor of a parameter, or None."""
    name = stored_key(files, model, key)
    if name is None or not files[name].is_file():
        return None
    from safetensors import safe_open

    with safe_open(files[name], "pt") as opened:
        return opened.get_tensor(name)


def against_twin(model: nn.Module, weights: dict[str, torch.Tensor]):
    """(name, whether it looks like that of a newly made model) of each weight, without a file."""
    name = checkpoint_name(model)
    if Path(name).is_absolute() and not Path(name).exists():
        return  # a folder that is gone: nothing can be said
    if sum(p.numel() for p in model.parameters()) > 2e8:
        return
    drawn = dict(type(model)(copy.deepcopy(model.config)).named_parameters())
    for key, weight in weights.items():
        twin = drawn.get(key.replace(".base_layer.", "."))
        if twin is not None and twin.shape == weight.shape:
            yield key, looks_drawn(weight, float(twin.detach().float().std()))


def _short(name: str) -> str:
    return Path(name).name or name


CHECKS = (check_backbone_is_loaded,)
