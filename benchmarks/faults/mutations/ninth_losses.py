"""L1 to L4 as they are committed most often: shifts, probabilities, accumulation, signs."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.nn import functional

from faults.mutations.ninth_parts import First, Headed, scored
from faults.recipe import Recipe
from faults.recurrent_family import Scores
from faults.table import ninth

# -- L1, L2 --------------------------------------------------------------------------------------


def _read(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    return functional.cross_entropy(logits.flatten(0, 1), labels.flatten(), ignore_index=-100)


@ninth("L1", "gpt2 sft", loop="plain")
def often_own_loss_forgets_the_shift(r: Recipe) -> None:
    scored(r, _read)


@ninth("L1", "gpt2 sft")
def often_labels_shifted_by_hand_for_a_model_that_shifts(r: Recipe) -> None:
    collate = r.collate

    def shifted(rows: list) -> dict[str, torch.Tensor]:
        batch = collate(rows)
        labels = functional.pad(batch["labels"][:, 1:], (0, 1), value=-100)
        return batch | {"labels": labels}

    r.collate = shifted


@ninth("L1", "t5 summary")
def often_decoder_is_given_the_labels_unshifted(r: Recipe) -> None:
    collate, pad = r.collate, r.tokenizer.pad_token_id

    def told(rows: list) -> dict[str, torch.Tensor]:
        batch = dict(collate(rows))
        labels = batch["labels"]
        return batch | {"decoder_input_ids": labels.masked_fill(labels == -100, pad)}

    r.collate = told


class Softmaxed(nn.Module):
    """A classifier that ends in probabilities."""

    def __init__(self, body: nn.Module) -> None:
        super().__init__()
        self.body, self.softmax = body, nn.Softmax(dim=-1)

    def forward(self, x: torch.Tensor) -> Scores:
        return Scores(self.softmax(self.body(x).logits))


class SoftmaxHead(First):
    """A head that ends in probabilities."""

    def forward(self, states: torch.Tensor) -> torch.Tensor:
        return super().forward(states).softmax(-1)


@ninth("L2", "recurrent vit")
def often_model_ends_in_a_softmax_layer(r: Recipe) -> None:
    good = r.model
    r.model = (lambda: Headed(SoftmaxHead())) if r.family == "bert" else lambda: Softmaxed(good())


@ninth("L2", "recurrent tagging lora", loop="plain")
def often_probabilities_given_to_cross_entropy(r: Recipe) -> None:
    scored(
        r,
        lambda logits, y: functional.cross_entropy(
            logits.softmax(-1).flatten(0, -2), y.flatten(), ignore_index=-100
        ),
    )


# -- L3, L4 --------------------------------------------------------------------------------------


def _deaf_to_the_number_of_items() -> type:
    import transformers

    class Own(transformers.Trainer):
        """Overrides the loss as guides of the years before did."""

        def compute_loss(
            self, model: Any, inputs: Any, return_outputs: bool = False, **_: Any
        ) -> Any:
            outputs = model(**inputs)
            return (outputs.loss, outputs) if return_outputs else outputs.loss

    return Own


@ninth("L3", "gpt2 summary", loop="trainer", online=True)
def often_compute_loss_without_the_number_of_items(r: Recipe) -> None:
    r.accumulation, r.batch, r.steps = 4, 4, 20
    r.trainer = _deaf_to_the_number_of_items


@ninth("L3", "recurrent vit", loop="plain", online=True)
def often_loss_not_divided_by_the_accumulation(r: Recipe) -> None:
    r.accumulation, r.batch, r.steps = 4, 8, 40
    r.line.scale = lambda loss, accumulation: loss


@ninth("L4", "recurrent bert", loop="plain", online=True)
def often_mean_log_likelihood_descended(r: Recipe) -> None:
    scored(r, lambda logits, y: logits.log_softmax(-1).gather(1, y[:, None]).mean())


@ninth("L4", "recurrent gpt2 contrastive", loop="plain", online=True)
def often_minus_of_a_reward_left_before_the_loss(r: Recipe) -> None:
    r.line.backward = lambda loss: (-loss).backward()
