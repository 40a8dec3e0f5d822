"""Which input a model can see from which output: measured by exchanging one token at a time.

It asks the model, not its configuration, so it also finds a mask that was forgotten. Chapter 06
uses it to tell encoders, decoders and encoder-decoders apart.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import nn


@torch.no_grad()
def visibility(
    model: nn.Module, inputs: Mapping[str, torch.Tensor], vary: str = "input_ids"
) -> torch.Tensor:
    """(outputs, inputs) of 0 and 1: does the output at i change when the token at j is exchanged?

    `inputs` is one row, (1, length) each; the tokens of `inputs[vary]` are exchanged for the next
    number. The output is `model(**inputs).logits`, (1, outputs, …). Changes below a millionth of
    the largest logit count as none. Dropout is off.

    >>> class Shifted(nn.Module):  # each output is the token before it
    ...     def forward(self, input_ids):
    ...         before = nn.functional.pad(input_ids[:, :-1], (1, 0)).float()
    ...         return type("Out", (), {"logits": before[..., None]})
    >>> visibility(Shifted(), {"input_ids": torch.tensor([[5, 6, 7]])}).tolist()
    [[0.0, 0.0, 0.0], [1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]
    """
    training = model.training
    model.eval()
    ids = inputs[vary]
    rows = ids.repeat(ids.shape[1], 1)
    rows += torch.eye(ids.shape[1], dtype=ids.dtype)  # row j has another token at j
    many = {name: value.repeat(len(rows), 1) for name, value in inputs.items()}
    before, after = model(**inputs).logits, model(**many | {vary: rows}).logits
    model.train(training)
    moved = (after - before).abs().flatten(2).amax(-1)
    return (moved > 1e-6 * before.abs().max()).float().T
