"""After training, 8 bits instead of 32: torch's dynamic quantisation of the linear maps.

Does: a quantised copy for inference on a CPU. Does not: train in 8 bits, touch embeddings (most of
a small model), run on a GPU. By hand in `maths.quantization`. Used by chapter 16.
"""

from __future__ import annotations

import copy
import warnings

from torch import nn


def dynamic_int8(model: nn.Module) -> nn.Module:
    """A copy whose linear maps hold int8 weights and quantise their inputs as they come.

    The model given stays as it is. Evaluation mode, CPU only. Raises ValueError where no engine for
    it was built into torch. Source: torch.ao.quantization.quantize_dynamic.

    >>> type(dynamic_int8(nn.Sequential(nn.Linear(4, 2)))[0]).__module__.split(".")[2]
    'nn'
    """
    import torch

    engines = [name for name in torch.backends.quantized.supported_engines if name != "none"]
    if not engines:
        raise ValueError("this torch has no engine for int8 on a CPU: leave quantisation out")
    with warnings.catch_warnings():  # torch points to torchao, which measured slower here
        warnings.simplefilter("ignore")
        from torch.ao.quantization import quantize_dynamic

        own = copy.deepcopy(model).cpu().float().eval()
        return quantize_dynamic(own, {nn.Linear}, dtype=torch.qint8)
