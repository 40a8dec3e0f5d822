"""Strategies that choose which weights train: the top layers, one after another, a few kinds.

Nothing is added to the model. What is frozen keeps its bits. Used by `strategies`, chapter 07.
"""

from __future__ import annotations

import math
from typing import Any

from torch import nn

from cookbook.finetuning import jobs
from cookbook.finetuning.jobs import HEAD_RATE, Job, Trained
from cookbook.finetuning.layers import layers_of
from cookbook.maths.adapters import bias_names

OPEN_BY = 2 / 3  # of the steps: what is opened last has the rest of them to learn something


def partial(job: Job, layers: int = 0) -> Trained:
    """Train the top `layers` (default: the upper half) and the new head; the rest stays frozen.

    The lower layers hold what most tasks share (Lee, Tang and Lin 2019, arXiv:1911.03090).
    """
    model = jobs.classifier(job)
    own = list(layers_of(model))
    top = own[-(layers or math.ceil(len(own) / 2)) :]
    chosen = {id(p) for layer in top for p in layer.parameters()}
    names = {name for name, p in model.named_parameters() if id(p) in chosen}
    return jobs.train(job, train_only(model, names))


def gradual(job: Job) -> Trained:
    """Unfreeze from the top down over two thirds of the steps: head first, embeddings last.

    A new head sends large gradients into the encoder until it has learnt something; so it learns
    first (Howard and Ruder 2018, arXiv:1801.06146, section 3.3).
    """
    model = jobs.classifier(job)
    return jobs.train(job, model, callbacks=(_unfreeze(model, stages(model)),))


def bitfit(job: Job) -> Trained:
    """Train the biases and the new head (Ben Zaken et al. 2022, arXiv:2106.10199)."""
    model = jobs.classifier(job)
    return jobs.train(job, train_only(model, set(bias_names(model))), head_rate=HEAD_RATE)


def layer_norm(job: Job) -> Trained:
    """Train gain and shift of the norms, and the new head (Qi et al. 2022, arXiv:2211.08459)."""
    model = jobs.classifier(job)
    norms = [n for n, module in model.named_modules() if "norm" in type(module).__name__.lower()]
    names = {name for name, _ in model.named_parameters() if name.rpartition(".")[0] in norms}
    return jobs.train(job, train_only(model, names), head_rate=HEAD_RATE)


def train_only(model: nn.Module, names: set[str]) -> nn.Module:
    """Freeze all but the parameters of these names and the new head; returns the model."""
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name in names or jobs.is_head(model, name))
    return model


def stages(model: nn.Module) -> list[list[nn.Parameter]]:
    """What is unfrozen at each stage: the head, each layer from the top, all that is below."""
    parts = [[p for name, p in model.named_parameters() if jobs.is_head(model, name)]]
    parts += [list(layer.parameters()) for layer in reversed(layers_of(model))]
    seen = {id(p) for part in parts for p in part}
    return [*parts, [p for p in model.parameters() if id(p) not in seen]]


def _unfreeze(model: nn.Module, parts: list[list[nn.Parameter]]) -> Any:
    """A callback that freezes all but the first part, and opens the others at equal intervals."""
    import transformers

    class Unfreeze(transformers.TrainerCallback):
        opened = 0

        # The optimizer is built by now, over everything; without a gradient it leaves a weight be.
        def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            model.requires_grad_(False)

        def on_step_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            done = (state.global_step + 1) / (OPEN_BY * state.max_steps)
            due = math.ceil(min(done, 1.0) * len(parts) - 1e-9)
            for part in parts[self.opened : due]:
                for parameter in part:
                    parameter.requires_grad_(True)
            self.opened = due

    return Unfreeze()
