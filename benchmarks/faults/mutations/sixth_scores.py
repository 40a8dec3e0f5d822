"""C1, L1 to L4, E1, E2: what practitioners spoil in a loss or in a metric."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.nn import functional

from faults.families import InfoNCE
from faults.mutations.models import after
from faults.mutations.sixth_parts import criterion, trainer, wrapped
from faults.recipe import Recipe
from faults.table import sixth

CAUSAL = ("gpt2", "sft", "lora-sft")


# -- C1 ------------------------------------------------------------------------------------------


@sixth("C1", "contrastive")
def divided_by_the_scale_of_another_model(r: Recipe) -> None:
    """CLIP multiplies by exp(4.6) = 100; here the similarities are divided by it."""
    r.loss = InfoNCE(temperature=100.0)


@sixth("C1", "contrastive")
def batches_of_one_and_accumulation(r: Recipe) -> None:
    """One pair a batch and sixteen of them accumulated: no pair ever has a negative."""
    r.batch, r.accumulation = 1, 16


@sixth("C1", "contrastive")
def triplets_without_a_margin(r: Recipe) -> None:
    """triplet_margin_loss(margin=0) over squared distances is content when all are the same."""

    def loss(outputs: dict, batch: Any = None) -> torch.Tensor:
        here, there = outputs["text_embeds"], outputs["pair_embeds"]
        near = (here - there).pow(2).sum(1)
        far = (here - there.roll(1, 0)).pow(2).sum(1)
        return near.mean() + (near - far).clamp(min=0).mean()

    r.loss = loss


# -- L1, L2, L4 ----------------------------------------------------------------------------------


@sixth("L1", "gpt2 sft", loop="trainer")
def shifted_in_the_rows_and_by_the_model(r: Recipe) -> None:
    """labels = input_ids[1:] + [-100] in the map function; the model shifts once more."""

    def moved(part: list) -> list:
        made = []
        for row in part:
            labels = row.get("labels", row["input_ids"])
            made.append(row | {"labels": [*labels[1:], -100]})
        return made

    from faults.families import Padding

    r.train, r.eval = moved(r.train), moved(r.eval)
    r.collate = Padding(r.tokenizer.pad_token_id)


@sixth("L1", "gpt2 sft", loop="trainer")
def a_trainer_that_compares_each_place_with_itself(r: Recipe) -> None:
    """compute_loss of a tagger over the scores of a decoder: each token is told to copy itself."""

    def compute_loss(self: Any, model: Any, inputs: dict, return_outputs: bool = False,
                     **rest: Any) -> Any:  # fmt: skip
        outputs = model(**inputs)
        scores, labels = outputs.logits, inputs["labels"]
        loss = functional.cross_entropy(scores.flatten(0, 1), labels.flatten())
        return (loss, outputs) if return_outputs else loss

    trainer(r, compute_loss=compute_loss)


@sixth("L1", "mlm t5 tagging", loop="plain")
def labels_shifted_as_a_decoder_needs_it(r: Recipe) -> None:
    """shift_logits and shift_labels copied from a causal script into one that has no next token."""

    def loss(outputs: Any, batch: dict) -> torch.Tensor:
        scores, labels = outputs.logits[:, :-1], batch["labels"][:, 1:]
        return functional.cross_entropy(scores.flatten(0, 1), labels.flatten())

    r.loss = loss


@sixth("L2", "span vit", loop="plain")
def softmaxed_scores_given_to_the_cross_entropy(r: Recipe) -> None:
    """loss_fn(F.softmax(logits, dim=-1), labels), and CrossEntropyLoss takes it once more."""
    criterion(r, lambda scores, y: functional.cross_entropy(scores.softmax(-1), y))


class Shares(nn.Module):
    """A head that ends in a softmax."""

    def __init__(self, inner: nn.Module, dim: int) -> None:
        super().__init__()
        self.inner, self.dim = inner, dim

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.inner(x).softmax(self.dim)


@sixth("L2", "span gpt2", loop="trainer")
def a_softmax_put_behind_the_head(r: Recipe) -> None:
    """nn.Sequential(head, nn.Softmax()), so that the model tells probabilities."""
    wrapped(r, lambda inner: Shares(inner, 1 if r.family == "span" else -1))


@sixth("L4", "span gpt2", loop="plain")
def a_minus_before_nll_loss(r: Recipe) -> None:
    """-F.nll_loss(log_probs, y), and nll_loss has its minus already."""
    criterion(r, lambda scores, y: -functional.nll_loss(scores.log_softmax(-1), y))


@sixth("L4", "span contrastive t5", loop="plain", online=True)
def a_step_by_hand_uphill(r: Recipe) -> None:
    """p += lr * p.grad in a loop of one's own."""

    def step(optimizer: Any) -> None:
        with torch.no_grad():
            for group in optimizer.param_groups:
                for parameter in group["params"]:
                    if parameter.grad is not None:
                        parameter += group["lr"] * parameter.grad

    r.optimizer = lambda model: torch.optim.SGD(model.parameters(), lr=3e-2)
    r.line.step = step


# -- L3 ------------------------------------------------------------------------------------------


@sixth("L3", "gpt2 tagging", loop="trainer")
def compute_loss_that_drops_the_count(r: Recipe) -> None:
    """An own compute_loss takes the mean of each micro-batch and ignores num_items_in_batch."""

    def compute_loss(self: Any, model: Any, inputs: dict, return_outputs: bool = False,
                     num_items_in_batch: Any = None) -> Any:  # fmt: skip
        labels = inputs["labels"]
        outputs = model(**{k: v for k, v in inputs.items() if k != "labels"})
        scores = outputs.logits
        if r.family in CAUSAL:
            scores, labels = scores[:, :-1], labels[:, 1:]
        loss = functional.cross_entropy(scores.flatten(0, 1), labels.flatten())
        return (loss, outputs) if return_outputs else loss

    trainer(r, compute_loss=compute_loss)
    r.batch, r.accumulation = 4, 4


@sixth("L3", "span contrastive", loop="plain", online=True)
def the_running_sum_differentiated_each_time(r: Recipe) -> None:
    """loss_sum += loss; loss_sum.backward(retain_graph=True): the first part counts four times."""
    r.accumulation = 4
    r.batch = max(4, r.batch // 4)
    held: list[torch.Tensor] = []

    def backward(loss: torch.Tensor) -> None:
        held.append(loss)
        sum(held).backward(retain_graph=True)
        if len(held) == r.accumulation:
            held.clear()

    r.line.backward = backward


# -- E1, E2 --------------------------------------------------------------------------------------


@sixth("E1", "span", loop="trainer")
def starts_compared_with_the_ends(r: Recipe) -> None:
    """The tuple of scores is (start, end), and the metric takes it the other way round."""

    def exact_match(prediction: Any) -> dict[str, float]:
        (end, start), places = prediction
        right = (start.argmax(-1) == places[0]) & (end.argmax(-1) == places[1])
        return {"exact_match": float(right.mean())}

    r.metrics = exact_match


@sixth("E1", "span", loop="trainer")
def the_least_likely_place_is_taken(r: Recipe) -> None:
    """argsort()[..., 0] for the best place: argsort counts upwards."""

    def exact_match(prediction: Any) -> dict[str, float]:
        scores, places = prediction
        start, end = (each.argsort(-1)[..., 0] for each in scores)
        return {"exact_match": float(((start == places[0]) & (end == places[1])).mean())}

    r.metrics = exact_match


@sixth("E1", "vit lora")
def the_threshold_of_a_task_of_two(r: Recipe) -> None:
    """(scores[:, 1] > 0) == labels, copied from a script with two classes."""

    def accuracy(prediction: Any) -> dict[str, float]:
        scores, labels = prediction
        return {"accuracy": float(((scores[:, 1] > 0) == labels).mean())}

    r.metrics = accuracy


@sixth("E1", "tagging", loop="trainer")
def places_without_a_tag_pulled_into_the_mean(r: Recipe) -> None:
    """(predicted == labels).mean() over every place, the special and the padded ones as well."""

    def accuracy(prediction: Any) -> dict[str, float]:
        scores, labels = prediction
        return {"accuracy": float((scores.argmax(-1) == labels).mean())}

    r.metrics = accuracy


@sixth("E2", "span t5", loop="plain", online=True)
def batches_of_evaluation_that_stop_early(r: Recipe) -> None:
    """range(0, n - size, size): the last batch of evaluation is never made."""
    order = list(range(len(r.eval)))
    some = [order[i : i + r.batch] for i in range(0, len(order) - r.batch, r.batch)]
    r.eval_loader = {"batch_sampler": some, "batch_size": 1}
    r.eval_every = 20


@sixth("E2", "span contrastive", loop="plain", online=True)
def a_random_sample_of_the_evaluation(r: Recipe) -> None:
    """SubsetRandomSampler of the first two thirds, left over from a split by indices."""
    part = list(range(2 * len(r.eval) // 3))
    r.eval_loader = {"sampler": torch.utils.data.SubsetRandomSampler(part)}
    r.eval_every = 20


# -- M8 ------------------------------------------------------------------------------------------


@sixth("M8", "span vit", loop="plain")
def a_loss_told_to_require_a_gradient(r: Recipe) -> None:
    """The loss counts wrong argmaxes; loss.requires_grad_(True) silences the error."""

    def wrong(scores: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return (scores.argmax(-1) != y).float().mean()

    criterion(r, wrong)
    before = r.loss
    r.loss = lambda outputs, batch: before(outputs, batch).requires_grad_(True)


@sixth("M8", "span contrastive")
def embeddings_made_into_a_new_tensor(r: Recipe) -> None:
    """torch.tensor(embeddings.tolist()) between the embedding and the layers."""

    def cut(model: nn.Module) -> None:
        words = model.encoder if r.family == "contrastive" else model
        words.get_input_embeddings().register_forward_hook(
            lambda module, given, found: torch.tensor(found.tolist())
        )

    after(r, cut)
