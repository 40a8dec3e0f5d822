"""The `Trainer` used everywhere: transformers' own, with its accumulated gradient put right.

It adds four things: the loss of a window of accumulated micro-batches is the mean over all labels
of the window; rows come in an order that is a function of (seed, epoch); the loss of a masked
language model is computed at the masked positions only; after half precision the model is left in
its own. Everything else is the library's. This file imports `transformers` at the top, because its
classes derive from it. Chapters 00, 03, 07.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
import transformers
import transformers.utils.notebook
from torch import nn

from cookbook.training.objectives import IGNORE
from cookbook.training.order import EpochSampler, Keyed
from cookbook.training.trainer_checkpoints import clean_failure


class Trainer(transformers.Trainer):
    """transformers' `Trainer` whose accumulated gradient equals that of one large batch.

    transformers 5 leaves the division by the number of labels to the model; models that ignore
    `num_items_in_batch`, such as every BERT head, then return a gradient that is
    `gradient_accumulation_steps` times too large. Pass a `Keyed` training set (and
    `remove_unused_columns=False`) to get rows and masks that a resumed run repeats exactly.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if getattr(self, "_loss_shifts_labels", None) is False:
            # The library goes by the name of the class, and GPT2LMHeadModel does not say CausalLM.
            model = self.accelerator.unwrap_model(self.model)
            generates = getattr(model, "can_generate", bool)()
            self._loss_shifts_labels = generates and not model.config.is_encoder_decoder
        self.add_callback(_NameEpoch(self))
        # One line that goes when it is done, instead of a growing table or a dict a step.
        for talkative in (
            transformers.PrinterCallback,
            transformers.ProgressCallback,
            transformers.utils.notebook.NotebookProgressCallback,
        ):
            self.remove_callback(talkative)
        self.add_callback(_Bar())

    def train(self, *args: Any, **kwargs: Any) -> Any:
        """As the library's; afterwards the model answers in its own precision.

        Otherwise half precision stays wrapped around `forward`, whoever uses the model later.
        """
        done = super().train(*args, **kwargs)
        self.accelerator.unwrap_model(self.model, keep_fp32_wrapper=False)
        return done

    def _get_train_sampler(self, train_dataset: Any = None) -> Any:
        rows = self.train_dataset if train_dataset is None else train_dataset
        if not isinstance(rows, Keyed):
            return super()._get_train_sampler(train_dataset)
        seed = self.args.seed if self.args.data_seed is None else self.args.data_seed
        self.epoch_sampler = EpochSampler(len(rows), seed)
        return self.epoch_sampler

    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: torch.Tensor | int | None = None,
    ) -> Any:
        """The micro-batch's share of the loss over the whole window of accumulation."""
        own = self._labels_of(inputs)
        loss, outputs = self._mean_loss(model, inputs, own)
        if num_items_in_batch is not None and own is not None:
            # The window's count spans all ranks, whose gradients are averaged afterwards.
            loss = loss * own / num_items_in_batch * self.accelerator.num_processes
        return (loss, outputs) if return_outputs else loss

    def _save_checkpoint(self, *args: Any, **kwargs: Any) -> None:
        with clean_failure(self.args.output_dir, self.state.global_step):
            super()._save_checkpoint(*args, **kwargs)

    def _issue_warnings_after_load(self, load_result: Any) -> None:
        # A tied weight is stored once; under its second name it is not missing.
        state, missing = self.model.state_dict(), load_result.missing_keys
        filled = {tensor.data_ptr() for name, tensor in state.items() if name not in missing}
        missing = [name for name in missing if state[name].data_ptr() not in filled]
        super()._issue_warnings_after_load(load_result._replace(missing_keys=missing))

    def _mean_loss(
        self, model: nn.Module, inputs: dict[str, Any], own: int | None
    ) -> tuple[torch.Tensor, Any]:
        loss, outputs = super().compute_loss(model, inputs, return_outputs=True)
        if own == 0:  # the mean over no label is 0 / 0
            loss = outputs["logits"].sum() * 0.0
        return loss, outputs

    def _labels_of(self, inputs: dict[str, Any]) -> int | None:
        # Not `_get_num_items_in_batch`, which on several ranks adds up what all of them hold.
        labels = inputs.get("shift_labels", inputs.get("labels"))
        if labels is None:
            return None
        if "shift_labels" not in inputs and getattr(self, "_loss_shifts_labels", False):
            labels = labels[..., 1:]  # as the library counts them
        return int(labels.ne(IGNORE).sum())


class MaskedLMTrainer(Trainer):
    """`Trainer` for masked language models: the vocabulary projection at masked positions only.

    `masked_only=False` takes the plain path, which computes every logit to throw 85 % of them
    away; both give the same loss. Label smoothing, a loss function of the reader's own and next
    sentence prediction take the plain path.
    """

    def __init__(self, *args: Any, masked_only: bool = True, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.masked_only = masked_only

    def _mean_loss(
        self, model: nn.Module, inputs: dict[str, Any], own: int | None
    ) -> tuple[torch.Tensor, Any]:
        other_loss = self.label_smoother or self.compute_loss_func
        if not self.masked_only or other_loss or "next_sentence_label" in inputs:
            return super()._mean_loss(model, inputs, own)
        loss, logits = masked_lm_loss(model, inputs)
        return loss, {"loss": loss, "logits": logits}


def masked_lm_loss(
    model: nn.Module, inputs: dict[str, torch.Tensor]
) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean cross-entropy and logits (masked positions, vocabulary) of one batch.

    Equal to the model's own loss, at a seventh of the projection's cost for 15 % masking. Serves
    every masked-LM model of transformers whose head follows the encoder (BERT, RoBERTa,
    DistilBERT, ALBERT, ELECTRA …). With nothing masked the loss is 0.
    """
    inputs = dict(inputs)
    labels = inputs.pop("labels")
    at = labels != IGNORE
    with positions_only(model, at):
        logits = model(**inputs)["logits"]
    if not at.any():
        return logits.sum() * 0.0, logits
    return nn.functional.cross_entropy(logits.float(), labels[at]), logits


@contextlib.contextmanager
def positions_only(model: nn.Module, at: torch.Tensor) -> Iterator[None]:
    """Within, the head of `model` sees the hidden states where `at` (batch, length) is true."""

    def select(_: nn.Module, args: tuple) -> tuple:
        return (args[0][at], *args[1:])

    hook = head_of(model).register_forward_pre_hook(select)
    try:
        yield
    finally:
        hook.remove()


def head_of(model: nn.Module) -> nn.Module:
    """The first module with weights behind the encoder: where the projection begins."""
    inner = getattr(model, "module", model)  # DDP wraps the model
    inner = getattr(inner, "_orig_mod", inner)  # so does torch.compile
    encoder = inner.base_model
    for child in inner.children() if encoder is not inner else ():
        if child is not encoder and any(True for _ in child.parameters()):
            return child
    raise ValueError(f"{type(inner).__name__} has no head behind its encoder")


class _NameEpoch(transformers.TrainerCallback):
    """Tells the sampler its epoch: on several ranks accelerate forgets to when it resumes."""

    def __init__(self, trainer: Trainer) -> None:
        self.trainer = trainer

    def on_epoch_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        sampler = getattr(self.trainer, "epoch_sampler", None)
        if sampler is not None:
            sampler.set_epoch(int(state.epoch + 1e-6))


class _Bar(transformers.TrainerCallback):
    """A progress bar with time left and the last loss; `disable_tqdm` turns it off."""

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        from tqdm.auto import tqdm

        off = args.disable_tqdm or not state.is_world_process_zero
        self.bar = tqdm(
            total=state.max_steps, initial=state.global_step, desc="training", unit="step",
            leave=False, disable=off,
        )  # fmt: skip

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.bar.update(state.global_step - self.bar.n)

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
        if "loss" in (logs or {}) and hasattr(self, "bar"):
            self.bar.set_postfix(loss=f"{float(logs['loss']):.3f}")

    def on_train_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.bar.close()
