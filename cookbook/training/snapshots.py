"""The state of a run as bytes that can be read back without running code, and the way back.

The model's tensors become safetensors; the rest is written by `torch.save` and read by
`torch.load(weights_only=True)`, and what that could not read back is refused at once. Random
states are stored as plain numbers and tensors: of Python, numpy, torch and CUDA, not of MPS.

It touches no files: `training.checkpoints` does. Chapter 11 shows it.
"""

import io
import json
import random
from collections.abc import Iterator

import numpy as np
import torch

from cookbook.training.errors import CheckpointError


def snapshot(model: torch.nn.Module, **parts: object) -> dict:
    """Everything that a run needs to go on as if it had not stopped.

    `parts` are what has a `state_dict()`: optimizer, scheduler, gradient scaler; None is left out.

    >>> sorted(snapshot(torch.nn.Linear(2, 2), scheduler=None))
    ['model', 'random']
    """
    states = {name: part.state_dict() for name, part in parts.items() if part is not None}
    return {"model": model.state_dict(), **states, "random": random_state()}


def random_state() -> dict:
    """The states of the global generators of Python, numpy, torch and, if in use, CUDA.

    >>> state = random_state()
    >>> first = random.random(), np.random.rand(), torch.rand(()).item()
    >>> set_random_state(state)
    >>> first == (random.random(), np.random.rand(), torch.rand(()).item())
    True
    """
    name, key, *rest = np.random.get_state()
    cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else []
    return {
        "python": random.getstate(),
        # int64, not an ndarray: reading arrays would need numpy's pickle hooks to be allowed.
        "numpy": (name, torch.from_numpy(key.astype(np.int64)), *rest),
        "torch": torch.get_rng_state(),
        "cuda": cuda,
    }


def set_random_state(state: dict) -> None:
    """Put back what `random_state` returned; CUDA's only on as many devices as it came from."""
    random.setstate(state["python"])
    name, key, *rest = state["numpy"]
    np.random.set_state((name, key.numpy().astype(np.uint32), *rest))
    torch.set_rng_state(state["torch"])
    if state["cuda"] and torch.cuda.is_available():
        torch.cuda.set_rng_state_all(state["cuda"][: torch.cuda.device_count()])


def _encode_model(state: dict) -> tuple[bytes, dict]:
    """Tensors as safetensors, and what safetensors cannot hold.

    Tied weights are one tensor under two names, which safetensors refuses: the second name is
    kept as an alias of the first, in the metadata.
    """
    from safetensors.torch import save as to_bytes

    kept, first, aliases, others = {}, {}, {}, {}
    for name, value in state.items():
        if not isinstance(value, torch.Tensor) or value.layout != torch.strided:
            others[name] = value
            continue
        # The same memory seen the same way; a tensor without elements has no address of its own.
        place = (value.data_ptr(), value.shape, value.stride(), value.dtype)
        if value.numel() and place in first:
            aliases[name] = first[place]
            continue
        first[place] = name
        whole = value.is_contiguous() and value.untyped_storage().nbytes() == value.nbytes
        kept[name] = value.detach() if whole else value.detach().clone().contiguous()
    return to_bytes(kept, metadata={"aliases": json.dumps(aliases)}), others


def decode_model(data: bytes, others: dict) -> dict:
    from safetensors.torch import load as from_bytes

    # A safetensors file begins with the length of its JSON header, little-endian in 8 bytes.
    header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
    tensors = from_bytes(data)
    for name, original in json.loads(header["__metadata__"]["aliases"]).items():
        tensors[name] = tensors[original]
    return {**tensors, **others}


def _encode_part(part: str, value: object) -> bytes:
    buffer = io.BytesIO()
    torch.save(value, buffer)
    buffer.seek(0)
    # Found out now, while the run can still be mended, and not when it is to be resumed.
    if foreign := torch.serialization.get_unsafe_globals_in_checkpoint(buffer):
        raise CheckpointError(
            f"the state of {part!r} holds {', '.join(sorted(foreign))}, which cannot be read back "
            f"without running code: keep only tensors, numbers, strings, lists and dicts in it"
        )
    return buffer.getvalue()


def encode(state: dict) -> Iterator[tuple[str, bytes]]:
    """Name and content of each file of a checkpoint, one after the other to save memory."""
    others = {}
    for part, value in state.items():
        if part == "model":
            data, others = _encode_model(value)
            yield "model.safetensors", data
        else:
            yield f"{part}.pt", _encode_part(part, value)
    if others:
        yield "model_others.pt", _encode_part("model", others)


def bytes_of(value: object) -> int:
    """About how many bytes the tensors in a nested state need on disk."""
    if isinstance(value, torch.Tensor):
        return value.nbytes
    if isinstance(value, dict):
        return sum(map(bytes_of, value.values()))
    return sum(map(bytes_of, value)) if isinstance(value, list | tuple) else 8
