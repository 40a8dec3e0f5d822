"""C1 and E1 to E3 as they are committed most often: collapse, metrics, evaluation."""

from __future__ import annotations

from typing import Any

from torch.utils.data import DistributedSampler

from faults import families
from faults.mutations.ninth_parts import encoded_again, evaluated, label, relabelled, rows_of
from faults.recipe import Recipe
from faults.table import ninth

# -- C1 ------------------------------------------------------------------------------------------


@ninth("C1", "contrastive", loop="plain", online=True)
def often_pairs_pulled_together_and_nothing_apart(r: Recipe) -> None:
    r.loss = lambda o, batch=None: 1 - (o["text_embeds"] * o["pair_embeds"]).sum(-1).mean()


@ninth("C1", "contrastive", loop="plain", online=True)
def often_temperature_multiplied_instead_of_divided_by(r: Recipe) -> None:
    r.loss = families.InfoNCE(1 / 0.07)


@ninth("C1", "contrastive", loop="plain", online=True)
def often_one_pair_a_batch_and_no_negatives(r: Recipe) -> None:
    r.batch, r.accumulation = 1, 8


# -- E1, E2, E3 ----------------------------------------------------------------------------------


def _lowest(prediction: Any) -> dict[str, float]:
    scores, labels = prediction
    return {"accuracy": float((scores.argsort(-1)[..., 0] == labels).mean())}


@ninth("E1", "recurrent bert")
def often_first_of_an_ascending_sort_taken_for_the_best(r: Recipe) -> None:
    r.metrics = _lowest


def _with_ignored(prediction: Any) -> dict[str, float]:
    scores, labels = prediction
    scores = scores[0] if isinstance(scores, tuple) else scores
    return {"accuracy": float((scores.argmax(-1) == labels).mean())}


@ninth("E1", "tagging t5 summary", loop="trainer")
def often_ignored_places_counted_as_wrong(r: Recipe) -> None:
    r.metrics = _with_ignored


def _unshifted(prediction: Any) -> dict[str, float]:
    scores, labels = prediction
    kept = labels != -100
    return {"accuracy": float((scores.argmax(-1) == labels)[kept].mean())}


@ninth("E1", "gpt2 sft", loop="trainer")
def often_token_accuracy_without_the_shift(r: Recipe) -> None:
    r.metrics = _unshifted


@ninth("E2", "recurrent bert", online=True)
def often_last_batch_dropped_at_evaluation_too(r: Recipe) -> None:
    r.eval_loader = {"batch_size": 70, "drop_last": True}
    r.args = {"dataloader_drop_last": True, "per_device_eval_batch_size": 70}
    evaluated(r, 20)


@ninth("E2", "recurrent vit contrastive", loop="plain", online=True)
def often_sampler_of_one_rank_left_at_evaluation(r: Recipe) -> None:
    r.eval_loader = {"sampler": DistributedSampler(r.eval, 4, 0, shuffle=False)}
    evaluated(r, 20)


@ninth("E3", "recurrent vit", online=True)
def often_label_map_made_for_each_split(r: Recipe) -> None:
    classes = 1 + max(map(label, rows_of(r.train)))
    r.eval = [relabelled(row, (label(row) + 1) % classes) for row in rows_of(r.eval)]
    evaluated(r)


@ninth("E3", "recurrent lora", online=True, also=("D8",))
def often_column_of_names_read_for_the_column_of_texts(r: Recipe) -> None:
    count = iter(range(10**6))
    encoded_again(r, lambda text: f"docs / part {(37 * next(count)) % 991} . txt")
    evaluated(r)
