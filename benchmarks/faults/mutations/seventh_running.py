"""K, E, H: checkpoints, metrics and waste around the steps of a writer."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import nn

from faults.mutations.models import after
from faults.mutations.running import _saves
from faults.recipe import Recipe
from faults.summary_family import token_accuracy
from faults.table import seventh


def scored(prediction: Any) -> tuple[np.ndarray, np.ndarray]:
    """Scores and labels of what the trainer hands to a metric."""
    scores, labels = prediction
    return (scores[0] if isinstance(scores, tuple) else scores), labels


# -- K -------------------------------------------------------------------------------------------


@seventh("K1", "summary", loop="trainer", online=True)
def writer_positions_lengthened_without_the_configuration(r: Recipe) -> None:  # own form
    """Room for longer notes; the file holds it, the configuration beside it does not."""

    def prepare(model: nn.Module) -> None:
        table = model.model.encoder.embed_positions
        longer = table.weight.data[-1:].repeat(64, 1)
        table.weight = nn.Parameter(torch.cat([table.weight.data, longer]))
        table.num_embeddings += 64

    after(r, prepare)
    _saves(r)


@seventh("K1", "summary", loop="trainer", online=True)
def writer_bias_of_the_head_is_an_attribute(r: Recipe) -> None:  # own form
    """Against pieces that are too frequent; a plain tensor, which no file holds."""

    def prepare(model: nn.Module) -> None:
        model.frequency = torch.randn(model.config.vocab_size)
        model.lm_head.register_forward_hook(lambda module, given, out: out - model.frequency)

    after(r, prepare)
    _saves(r)


@seventh("K1", "summary", loop="trainer", online=True)
def writer_untied_after_loading(r: Recipe) -> None:  # own form
    """The file holds the shared embedding once, and reloads it as if there were three."""

    def prepare(model: nn.Module) -> None:
        model.config.tie_word_embeddings = False
        model.lm_head.weight = nn.Parameter(model.lm_head.weight.detach().clone())

    after(r, prepare)
    _saves(r)


@seventh("K3", "summary")
def writer_best_model_by_the_least_overlap(r: Recipe) -> None:  # own form
    r.metrics = lambda prediction: {"rouge1": token_accuracy(prediction)["accuracy"]}
    r.args |= {
        "metric_for_best_model": "rouge1",
        "greater_is_better": False,
        "save_strategy": "steps",
        "eval_strategy": "steps",
        "eval_steps": 10,
        "save_steps": 10,
        "load_best_model_at_end": True,
    }


# -- E1 ------------------------------------------------------------------------------------------


@seventh("E1", "summary")
def writer_argmax_over_the_places(r: Recipe) -> None:
    def metrics(prediction: Any) -> dict[str, float]:
        scores, labels = scored(prediction)
        found = scores.argmax(1)[:, : labels.shape[1]]
        return {"accuracy": float((found == labels)[labels != -100].mean())}

    r.metrics = metrics


@seventh("E1", "summary")
def writer_accuracy_against_other_rows(r: Recipe) -> None:
    def metrics(prediction: Any) -> dict[str, float]:
        scores, labels = scored(prediction)
        other = labels[::-1]
        return {"accuracy": float((scores.argmax(-1) == other)[other != -100].mean())}

    r.metrics = metrics


@seventh("E1", "summary")
def writer_error_rate_called_accuracy(r: Recipe) -> None:
    def metrics(prediction: Any) -> dict[str, float]:
        scores, labels = scored(prediction)
        return {"accuracy": float((scores.argmax(-1) != labels)[labels != -100].mean())}

    r.metrics = metrics


@seventh("E1", "summary")
def writer_scores_shifted_as_in_a_causal_model(r: Recipe) -> None:  # own form
    def metrics(prediction: Any) -> dict[str, float]:
        scores, labels = scored(prediction)
        found, right = scores[:, :-1].argmax(-1), labels[:, 1:]
        return {"accuracy": float((found == right)[right != -100].mean())}

    r.metrics = metrics


@seventh("E1", "summary")
def writer_ignored_places_count_as_padding(r: Recipe) -> None:  # own form
    """-100 becomes the pad token, to be decoded; then it is compared like any other."""
    pad = r.tokenizer.pad_token_id

    def metrics(prediction: Any) -> dict[str, float]:
        scores, labels = scored(prediction)
        labels = np.where(labels == -100, pad, labels)
        return {"accuracy": float((scores.argmax(-1) == labels).mean())}

    r.metrics = metrics


@seventh("E1", "summary", loop="trainer", online=True)
def writer_ignored_places_are_decoded(r: Recipe) -> None:  # own form
    """No tokenizer knows a piece of the number -100."""

    def metrics(prediction: Any) -> dict[str, float]:
        written, right = (r.tokenizer.batch_decode(ids) for ids in prediction)
        return {"exact": float(np.mean([a == b for a, b in zip(written, right, strict=True)]))}

    r.metrics, r.eval_every, r.eval = metrics, 25, r.eval[:48]
    r.args |= {"predict_with_generate": True, "generation_max_length": 40}


@seventh("E1", "summary", loop="trainer", online=True)
def writer_special_pieces_are_compared(r: Recipe) -> None:  # own form
    """What is written begins with </s>, the reference does not: even a perfect text scores 0."""
    pad = r.tokenizer.pad_token_id

    def metrics(prediction: Any) -> dict[str, float]:
        written, right = (
            r.tokenizer.batch_decode(np.where(ids == -100, pad, ids)) for ids in prediction
        )
        return {"exact": float(np.mean([a == b for a, b in zip(written, right, strict=True)]))}

    r.metrics, r.eval_every, r.eval = metrics, 25, r.eval[:48]
    r.args |= {"predict_with_generate": True, "generation_max_length": 40}


# -- H3 ------------------------------------------------------------------------------------------


@seventh("H3", "summary", advice=True)
def writer_padded_to_the_longest_possible(r: Recipe) -> None:
    r.collate.padding, r.collate.max_length = "max_length", 96
