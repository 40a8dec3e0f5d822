"""What a training step will hold in memory, before it runs: the one place that predicts it.

`training_memory` traces a step on tensors that have a shape and no content (torch's fake tensors):
the same operations as in earnest, no arithmetic, no gigabyte. `activation_bytes` is the closed
formula for a transformer, for paper. Time is predicted in `timing`, arithmetic in `arithmetic`,
many devices in `devices`. Chapters 06, 10 and 11 use it, and `finetuning.selection`.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import nn

from cookbook.live_memory import LiveMemory, tensor_bytes
from cookbook.training.loop import autocast

UNITS = {"B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12,
         "KIB": 2**10, "MIB": 2**20, "GIB": 2**30, "TIB": 2**40}  # fmt: skip


@dataclass(frozen=True)
class Memory:
    """Bytes of live tensors of one training step.

    `weights`, `gradients` and `optimizer` are sizes of what they say; `activations` is what the
    forward pass leaves for the backward pass. Where all is trained `peak` is below their sum: while
    the gradients come, the activations go. `copies` are further copies of the weights, kept for
    later; `peak` has them in it. Buffers of the model and the batch count as weights and as
    activations.
    """

    weights: int
    gradients: int
    optimizer: int
    activations: int
    copies: int
    peak: int

    @property
    def sum(self) -> int:
        """What it would be if everything were alive at once."""
        return self.weights + self.gradients + self.optimizer + self.activations + self.copies

    def to_dict(self) -> dict[str, int]:
        """The fields as plain numbers."""
        return asdict(self)


def training_memory(
    build: Callable[[], nn.Module],
    batch: Mapping[str, torch.Tensor],
    *,
    precision: str = "fp32",
    optimizer: Callable[[list[nn.Parameter]], torch.optim.Optimizer] | None = None,
    copies: int = 0,
    device: str = "cpu",
    loss: Callable[[Any], torch.Tensor] | None = None,
) -> Memory:
    """Memory of a training step of the model that `build()` makes, on batches shaped as `batch`.

    `build` runs on the meta device, so it must make its weights (from a configuration), not read
    them; what it leaves with `requires_grad` is trained. Of `batch` only shapes and dtypes count.
    `optimizer` takes the trained parameters (default: fused AdamW); `precision` "fp32", "bf16" or
    "fp16" is that of autocast; `copies` of the weights are held beside, as by a callback that keeps
    the best epoch. A `device` of "cuda" needs a torch with CUDA, and no GPU. `loss` is a function
    of the model's output (default: its `"loss"`). Two steps are traced, because the first has no
    optimizer state yet. Where nothing is trained use `inference_memory`.

    >>> layer = lambda: nn.Sequential(nn.Linear(100, 100, bias=False))
    >>> found = training_memory(layer, {"input": torch.ones(1, 100)}, loss=torch.sum)
    >>> found.weights, found.gradients, found.optimizer
    (40000, 40000, 80004)
    """
    with shapes_only(build, batch, device) as (model, given), LiveMemory(model, given) as memory:
        model.train()
        trained = [p for p in model.parameters() if p.requires_grad]
        updates = (optimizer or _adamw)(trained)
        for _ in range(2):
            before = memory.live
            with autocast(torch.device(device), precision):
                value = (loss or _loss)(model(**given))
            activations = memory.live - before
            value.backward()
            del value
            torch.nn.utils.clip_grad_norm_(trained, 1.0)
            updates.step()
            updates.zero_grad()
        weights, sizes = _bytes(model), _bytes(trained)
        state = _bytes(updates)
    held = copies * weights
    return Memory(weights, sizes, state, activations + _bytes(given), held, memory.peak + held)


def inference_memory(
    build: Callable[[], nn.Module], batch: Mapping[str, torch.Tensor], *,
    precision: str = "fp32", device: str = "cpu",
) -> Memory:  # fmt: skip
    """Memory of a forward pass without gradients; `activations` is the most alive beside weights.

    A linear probe on cached features needs this much and the features: rows · hidden · 4 bytes.

    >>> layer = lambda: nn.Sequential(nn.Linear(100, 100, bias=False))
    >>> inference_memory(layer, {"input": torch.ones(1, 100)}).activations  # in and out
    800
    """
    with (
        shapes_only(build, batch, device) as (model, given),
        LiveMemory(model.eval(), given) as memory,
        torch.no_grad(),
    ):
        with autocast(torch.device(device), precision):
            model(**given)
        weights = _bytes(model)
    return Memory(weights, 0, 0, memory.peak - weights, 0, memory.peak)


def activation_bytes(
    batch: int, length: int, *, layers: int, hidden: int, heads: int, feed_forward: int = 0,
    element: int = 4, dropout: bool = True, mask: int = 0, scores: bool = True,
) -> int:  # fmt: skip
    """What the layers of a post-norm transformer encoder keep for the backward pass, in bytes.

    For each layer and token, in elements of `element` bytes: h the layer's input (for Q, K, V), 3h
    for Q, K and V, h the heads' output, h and h the two norms' inputs, h the feed-forward's input,
    2f for the activation's input and output; and for each pair of tokens and head the softmax,
    with dropout also its dropped result. Dropout keeps masks for 2h and for each pair, of `mask`
    bytes an element: one on a GPU, as wide as the numbers on a CPU (the default). Fused attention
    (`scores=False`) keeps no scores. Embeddings and heads come on top. Korthikanti et al. 2022
    (arXiv:2205.05198, section 4) count the same for half precision on a GPU, with f = 4h:
    length·batch·hidden·(34 + 5·heads·length/hidden).

    >>> s, b, h, a = 512, 8, 1024, 16
    >>> ours = activation_bytes(b, s, layers=1, hidden=h, heads=a, element=2, mask=1)
    >>> round(ours / (s * b * h * (34 + 5 * a * s / h)), 2)
    1.0
    """
    f, tokens, pairs = feed_forward or 4 * hidden, batch * length, batch * heads * length**2
    kept = tokens * (8 * hidden + 2 * f) * element
    kept += pairs * element * (2 if dropout else 1) * scores
    masks = (tokens * 2 * hidden + pairs * scores) * (mask or element) * dropout
    return layers * (kept + masks)


def parse_bytes(text: str | int | float) -> int:
    """`"8GB"` (10^9) or `"8GiB"` (2^30) as bytes; a number is bytes already.

    Raises ValueError, in one line, for what is no size above zero.

    >>> parse_bytes("8GB"), parse_bytes("1.5 GiB"), parse_bytes(1024)
    (8000000000, 1610612736, 1024)
    """
    words = str(text).strip().upper()
    unit = words.lstrip("0123456789.").strip() or "B"
    number = words[: len(words) - len(words.lstrip("0123456789."))]
    try:
        found = float(number) * UNITS[unit]
    except (KeyError, ValueError):
        found = 0.0
    if not found > 0:
        raise ValueError(f"{text!r} is no amount of memory: write it as 8GB or 500MB")
    return round(found)


def readable(size: float) -> str:
    """Bytes for people, in powers of ten.

    >>> readable(216_725_804), readable(8e9)
    ('217 MB', '8.0 GB')
    """
    for unit in ("B", "KB", "MB"):
        if size < 999.5:
            return f"{size:.0f} {unit}"
        size /= 1000
    return f"{size:.1f} GB"


@contextlib.contextmanager
def shapes_only(
    build: Callable[[], nn.Module], batch: Mapping[str, torch.Tensor], device: str = "cpu"
) -> Iterator[tuple[nn.Module, dict[str, torch.Tensor]]]:
    """The model of `build()` and the batch as tensors of shape, dtype and device, without content.

    Inside, operations give such tensors and choose the kernels of `device`. `build` runs on the
    meta device, without drawing weights: the ways of drawing them look at numbers.
    """
    from torch._subclasses.fake_tensor import FakeTensorMode
    from transformers.initialization import no_init_weights

    with no_init_weights(), torch.device("meta"):
        model = build()
    for module in model.modules():  # drawing weights is also where transformers ties them
        if hasattr(module, "tie_weights"):
            module.tie_weights()
    # peft keeps some indices in plain attributes: they come in as they are, on the meta device.
    with FakeTensorMode(allow_non_fake_inputs=True):
        swapped: dict[int, torch.Tensor] = {}  # tied weights stay one
        for module in model.modules():
            for store in (module._parameters, module._buffers):
                for name, old in store.items():
                    if old is not None:
                        store[name] = swapped.setdefault(id(old), _shape(old, device))
        yield model, {name: _shape(tensor, device) for name, tensor in batch.items()}


def _shape(like: torch.Tensor, device: str) -> torch.Tensor:
    made = torch.empty(like.shape, dtype=like.dtype, device=device)
    return nn.Parameter(made, like.requires_grad) if isinstance(like, nn.Parameter) else made


def _loss(output: Any) -> torch.Tensor:
    return output["loss"]


def _adamw(parameters: list[nn.Parameter]) -> torch.optim.Optimizer:
    return torch.optim.AdamW(parameters, fused=True)


def _bytes(held: Any) -> int:
    """Gradients left out."""
    if isinstance(held, nn.Module):
        held = [*held.parameters(), *held.buffers()]
    return tensor_bytes(held)
