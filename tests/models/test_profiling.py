"""One row per architecture, none skipped; the peak is what is known to be alive."""

import pytest
import torch
from torch import nn

from cookbook.models import architecture_table
from cookbook.models.outputs import Output
from cookbook.models.profiling import overfit, peak_bytes
from cookbook.models.registry import ARCHITECTURES


def test_every_architecture_has_a_row_and_none_is_skipped(capfd):
    table = architecture_table(steps=1)
    assert table["name"].tolist() == [entry.name for entry in ARCHITECTURES]
    assert list(table.columns) == [
        "name", "family", "objective", "parameters", "loss_before", "loss_after", "step_ms",
        "peak_mb", "good_for",
    ]  # fmt: skip
    assert table.notna().all().all()
    assert (table[["parameters", "step_ms", "loss_before"]] > 0).all().all()
    # weights, gradients and two moments, 4 bytes each, are alive together
    assert (table["peak_mb"] * 1e6 >= 16 * table["parameters"]).all()
    assert "Warning" not in capfd.readouterr().err


def test_one_kind_alone():
    assert set(architecture_table(steps=1, only="both")["family"]) == {"images and text"}
    with pytest.raises(ValueError, match="'poetry' chooses nothing"):
        architecture_table(only="poetry")


class Line(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x):
        return Output((self.weight * x).square().mean(), None)


def test_the_peak_by_hand():
    """10^6 floats: weight, gradient and both moments are 16 MB, and at least one more is needed."""
    model, batch = Line(10**6), {"x": torch.ones(10**6)}
    before = model.weight.detach().clone()
    peak = peak_bytes(model, batch)
    assert 20e6 <= peak <= 36e6
    assert torch.equal(model.weight, before)


def test_overfitting_returns_the_losses_of_every_step():
    model = Line(4)
    losses, seconds = overfit(model, {"x": torch.ones(4)}, steps=5, rate=0.1)
    assert len(losses) == 6 and len(seconds) == 5
    assert losses == sorted(losses, reverse=True) and losses[0] == 1.0
    assert losses[-1] == pytest.approx(model.weight.square().mean().item())
