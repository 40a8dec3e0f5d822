"""Is what was saved what will be loaded (fault K1)?

`compare_saved` reads a checkpoint's tensors, finds the weights that are missing, different or under
a wrapped name, and loads a fresh copy to compare logits where the class can do so. It writes
nothing and leaves the model and the random state as they were. Chapter 13.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from cookbook.doctor import kinds, preserve, sampling
from cookbook.doctor.findings import Finding

PREFIXES = ("module.", "_orig_mod.", "base_model.model.")
PATTERNS = ("*.safetensors", "*.bin", "*.pt", "*.pth")
NOT_WEIGHTS = ("optimizer", "scheduler", "rng_state", "scaler", "training_args")
TOLERANCE = 1e-3  # of the logits' standard deviation


def compare_saved(model: nn.Module, folder: str | Path, batch: Any = None) -> Finding | None:
    """K1 if the checkpoint in `folder` (or the file) does not hold `model` as it is now.

    `batch`, a dict as the model takes it, is used to compare logits with those of a fresh
    `from_pretrained`; without one, tensors alone are compared. None where all is well, and where
    the folder holds nothing that can be read. Files are read with `weights_only=True`.
    """
    model = kinds.unwrapped(model)
    saved = read(Path(folder))
    if not saved:
        return None
    missing, different, wrapped = differences(model, saved)
    if missing or different or wrapped:
        return Finding("K1", "error", _told(missing, different, wrapped, len(saved)),
                       measured={"missing": len(missing), "different": len(different)})  # fmt: skip
    return _by_logits(model, Path(folder), batch)


def read(path: Path) -> dict[str, torch.Tensor]:
    """Name → tensor of all weight files of a folder, or of one file; what is unreadable is not."""
    files = [path] if path.is_file() else [f for p in PATTERNS for f in sorted(path.glob(p))]
    held: dict[str, torch.Tensor] = {}
    for file in files:
        if not file.name.startswith(NOT_WEIGHTS):
            held |= _tensors(file)
    return held


def _tensors(file: Path) -> dict[str, torch.Tensor]:
    if file.suffix == ".safetensors":
        from safetensors.torch import load_file

        return load_file(file)
    found = torch.load(file, map_location="cpu", weights_only=True)
    for inner in ("model", "state_dict", "model_state_dict"):
        if isinstance(found, Mapping) and isinstance(found.get(inner), Mapping):
            found = found[inner]
    return {k: v for k, v in dict(found).items() if isinstance(v, torch.Tensor)}


def differences(
    model: nn.Module, saved: Mapping[str, torch.Tensor]
) -> tuple[list[str], list[str], list[str]]:
    """Names of the model's tensors that are missing, that differ, that lie under a wrapper's name.

    Of a PEFT model only what is trained must be there: the base is loaded from elsewhere.
    """
    adapter = hasattr(model, "peft_config")
    state = model.state_dict(keep_vars=True)
    needed = {k: v for k, v in state.items() if not adapter or _trained(v)}
    places = {v.data_ptr() for k, v in state.items() if _find(saved, k, adapter) is not None}
    missing, different, wrapped = [], [], []
    for name, tensor in needed.items():
        key = _find(saved, name, adapter)
        if key is None:
            if tensor.numel() and tensor.data_ptr() not in places:  # a tied weight is stored once
                hidden = [p + name for p in PREFIXES[:2] if p + name in saved]
                (wrapped if hidden else missing).append(name)
        elif saved[key].shape != tensor.shape or not _equal(saved[key], tensor.detach()):
            different.append(name)
    return missing, different, wrapped


def _trained(tensor: torch.Tensor) -> bool:
    return isinstance(tensor, nn.Parameter) and tensor.requires_grad


def _find(saved: Mapping[str, Any], name: str, adapter: bool) -> str | None:
    """The key under which a tensor was saved; PEFT leaves out the adapter's name."""
    candidates = [name]
    if adapter:
        bare = name.replace(".modules_to_save.default", "").replace(".default", "")
        candidates += [bare, bare.replace(".original_module", "")]
    return next((c for c in candidates if c in saved), None)


def _equal(saved: torch.Tensor, now: torch.Tensor) -> bool:
    now = now.cpu()
    if not now.is_floating_point():
        return torch.equal(saved, now)
    coarse = torch.finfo(saved.dtype if saved.is_floating_point() else now.dtype).eps
    return torch.allclose(saved.float(), now.float(), rtol=4 * coarse, atol=1e-7, equal_nan=True)


def _told(missing: list, different: list, wrapped: list, count: int) -> str:
    parts = [
        f"{len(names)} tensors {what} ({_some(names)})"
        for names, what in ((missing, "are not in the checkpoint"),
                            (different, "differ from those in the model"),
                            (wrapped, "lie under a wrapper's prefix and will not be found"))
        if names
    ]  # fmt: skip
    return f"of {count} saved tensors: {', '.join(parts)} (bound: 0)"


def _some(names: Iterable[str]) -> str:
    names = list(names)
    return ", ".join(names[:2]) + (" …" if len(names) > 2 else "")


def _by_logits(model: nn.Module, folder: Path, batch: Any) -> Finding | None:
    """Logits of the model against those of a fresh load by its own class."""
    loads = hasattr(type(model), "from_pretrained") and not hasattr(model, "peft_config")
    if not loads or batch is None or not (folder / "config.json").is_file():
        return None
    state, device = preserve.random_state(), next(model.parameters()).device
    try:
        fresh = type(model).from_pretrained(folder).to(device)
        now, then = (_logits(m, sampling.to_device(batch, device)) for m in (model, fresh))
    finally:
        preserve.restore_random(state)
    if now is None or then is None or now.shape != then.shape:
        return None
    off = float((now - then).abs().max())
    half = next(model.parameters()).dtype in (torch.float16, torch.bfloat16)
    bound = (50 if half else 1) * TOLERANCE * float(now.std())
    if off <= bound:
        return None
    return Finding(
        "K1", "error",
        f"logits of a fresh load differ by {off:.3g} from those of the model (bound: {bound:.2g})",
        measured={"difference": off},
    )  # fmt: skip


def _logits(model: nn.Module, batch: Mapping[str, Any]) -> torch.Tensor | None:
    flags = [(m, m.training) for m in model.modules()]
    model.eval()
    try:
        with torch.no_grad():
            found = kinds.logits_of(model(**kinds.accepted(model, batch)))
    finally:
        for module, flag in flags:
            module.training = flag
    return None if found is None else found.float()
