"""A model that leaves Python: torch.export and ONNX, and the proof that it still says the same.

Does: a program or an ONNX file of a classifier with free batch size and length, int8 of an ONNX
file, logits of either. Does not: serve. Needs `onnx`, `onnxscript`, `onnxruntime`. Chapter 16.
"""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

if TYPE_CHECKING:
    from transformers import PreTrainedModel

NAMES = ("input_ids", "attention_mask")


class Logits(nn.Module):
    """A classifier as a function of two tensors, which is what an exporter can follow."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        """(batch, length) twice -> (batch, classes)."""
        return self.model(input_ids=input_ids, attention_mask=attention_mask).logits


def program(model: PreTrainedModel, *, longest: int = 0) -> torch.export.ExportedProgram:
    """`torch.export` of a classifier on its device, for any batch and 2 to `longest` tokens.

    `longest` defaults to what the positions allow. The model stays as it is, in evaluation mode
    while it is traced.
    """
    limit = longest or getattr(model.config, "max_position_embeddings", 512)
    batch, length = torch.export.Dim("batch", min=1), torch.export.Dim("length", min=2, max=limit)
    shapes = {name: {0: batch, 1: length} for name in NAMES}
    ids = torch.ones(3, min(8, limit), dtype=torch.long, device=model.device)
    given = dict(zip(NAMES, (ids, torch.ones_like(ids)), strict=True))
    training = model.training
    try:
        with _silent():
            return torch.export.export(
                Logits(model).eval(), (), given, dynamic_shapes=shapes, strict=False
            )
    finally:
        model.train(training)


def to_onnx(exported: torch.export.ExportedProgram, path: str | Path) -> Path:
    """Write an exported program as one ONNX file, weights inside, and return its path."""
    target = Path(path)
    with _silent():
        torch.onnx.export(exported, f=str(target), dynamo=True, external_data=False, verbose=False)
    return target


def int8_onnx(source: str | Path, target: str | Path) -> Path:
    """The same network with int8 weights, by onnxruntime's dynamic quantisation."""
    with _silent():
        from onnxruntime.quantization import quantize_dynamic

        quantize_dynamic(str(source), str(target))
    return Path(target)


def onnx_logits(path: str | Path, *, threads: int = 1) -> Callable[..., np.ndarray]:
    """A function of `input_ids` and `attention_mask` (arrays or tensors) that runs an ONNX file."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])

    def logits(input_ids: Any, attention_mask: Any, **_: Any) -> np.ndarray:
        given = (input_ids, attention_mask)
        feeds = {name: np.asarray(x, np.int64) for name, x in zip(NAMES, given, strict=True)}
        return session.run(None, feeds)[0]

    return logits


@contextlib.contextmanager
def _silent() -> Any:
    """Exporters talk; what they say of a network that passes the comparison helps nobody."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with (
            warnings.catch_warnings(),
            contextlib.redirect_stdout(io.StringIO()),
            contextlib.redirect_stderr(io.StringIO()),
        ):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
