"""Operations a second: what this machine reaches, what a token needs, what a step really did.

Rates are those of plain matrix products, because nearly all arithmetic of a transformer is in them.
Counting by formula and on shapes alone is in `arithmetic`. Used by `speed`, and so by chapter 10.
"""

from __future__ import annotations

import time
from typing import Any

import torch

from cookbook.scaling.arithmetic import flops_per_token


def matmul_rate(precision: str = "fp32", device: str = "cpu", *, seconds: float = 0.2) -> float:
    """Operations a second of one large square matrix product here: the ceiling of a training step.

    The best of several products within about `seconds` of this thread's time.

    >>> matmul_rate("fp32", seconds=0.0) > 0
    True
    """
    dtype = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[precision]
    size = 768 if device == "cpu" else 8192
    a, b = (torch.ones(size, size, dtype=dtype, device=device) for _ in range(2))
    clock = time.process_time if device == "cpu" else time.perf_counter
    best, end = float("inf"), clock() + seconds
    while clock() < end or best == float("inf"):
        began = clock()
        (a @ b).sum().item()  # waits for a GPU
        best = min(best, clock() - began)
    return 2 * size**3 / best


def nominal_flops(model: Any, length: int, probability: float = 0.15) -> float:
    """Operations that masked language modelling needs a token, whatever a step spends.

    Those of the encoder's matrices, forward and backward; of attention over `length` tokens; and
    of the head at the `probability` of positions that are asked for. No padding, no logits that
    nobody looks at, no forward pass done twice.
    """
    config = model.config
    inside = sum(p.numel() for p in model.base_model.encoder.parameters() if p.ndim == 2)
    head = config.hidden_size * (config.hidden_size + config.vocab_size)
    return probability * 6 * head + flops_per_token(
        inside, layers=config.num_hidden_layers, hidden=config.hidden_size, length=length
    )


def flop_counter() -> Any:
    """torch's counter of matrix products, taught the fused attention of the CPU that it skips."""
    from torch.utils.flop_counter import FlopCounterMode

    def forward(query: Any, key: Any, *_: Any, out_shape: Any = None, **__: Any) -> int:
        batch, heads, length, width = query
        return 4 * batch * heads * length * key[-2] * width  # two products, multiply and add

    def backward(_: Any, query: Any, key: Any, *__: Any, out_shape: Any = None, **___: Any) -> int:
        return forward(query, key) * 5 // 2  # five products, one of them the scores again

    aten = torch.ops.aten
    return FlopCounterMode(display=False, custom_mapping={
        aten._scaled_dot_product_flash_attention_for_cpu: forward,
        aten._scaled_dot_product_flash_attention_for_cpu_backward: backward,
    })  # fmt: skip
