"""What a strategy costs beside time: bytes to keep, bytes while it trains, and what it forgets.

Each is measured, none predicted (`scaling.calculator` predicts). Used by `comparison`, chapter 07.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from cookbook.finetuning import encoding
from cookbook.finetuning.jobs import Job, Trained
from cookbook.live_memory import LiveMemory
from cookbook.models.initialization import load_model
from cookbook.training.pretraining import evaluate_masked_lm

if TYPE_CHECKING:
    from cookbook.data.tokenization import Packed

STEPS = 6  # of the run whose memory is watched: enough for gradual unfreezing to open everything


def size_on_disk(model: nn.Module) -> int:
    """Bytes of a safetensors file with all that the task adds to the shared checkpoint.

    These are the weights that trained; of a prompt that a network wrote, the prompt alone.

    >>> size_on_disk(nn.Linear(10, 10)) - 4 * 110 < 200  # the header
    True
    """
    from safetensors.torch import save

    kept = {name: p.detach() for name, p in model.named_parameters() if p.requires_grad}
    if getattr(model, "active_peft_config", None) and model.active_peft_config.is_prompt_learning:
        kept = {name: p for name, p in kept.items() if not name.startswith("prompt_encoder")}
        kept["prompt"] = model.get_prompt_embedding_to_save(model.active_adapter).detach()
    return len(save({name: tensor.cpu().contiguous() for name, tensor in kept.items()}))


def peak_memory(strategy: Callable[[Job], Trained], job: Job) -> int:
    """Peak bytes of live tensors in a training step of the job's longest rows.

    Weights, gradients, optimizer state and activations; on a GPU, what its allocator gave out. A
    strategy that trains nothing inside the encoder peaks where the encoder reads a batch.
    """
    rows = sorted(job.rows["train"], key=lambda row: -len(row["input_ids"]))
    few = {"train": (rows * job.batch_size)[: job.batch_size * STEPS], "test": rows[:1],
           "validation": rows[: job.batch_size]}  # fmt: skip
    watch = _watch()
    small = dataclasses.replace(job, rows=few, max_steps=STEPS, callbacks=(watch,))
    trained = strategy(small)
    return watch.peak or _reading(trained.model, small)


def _reading(model: nn.Module, job: Job) -> int:
    with LiveMemory(model) as memory:
        encoding.predict(model, job.rows["train"], job.tokenizer, batch_size=job.batch_size)
    return memory.peak


def _watch() -> Any:
    """A callback that counts the live bytes of each step; steps that did not run leave 0."""
    import transformers

    class Watch(transformers.TrainerCallback):
        peak, memory = 0, None

        def on_step_begin(
            self,
            args: Any,
            state: Any,
            control: Any,
            model: Any = None,
            optimizer: Any = None,
            **_: Any,
        ) -> None:
            optimizer = getattr(optimizer, "optimizer", optimizer)  # accelerate's wrapper
            if torch.cuda.is_available():
                torch.cuda.reset_peak_memory_stats()
            else:
                self.memory = LiveMemory(model, optimizer).__enter__()

        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            if self.memory is not None:
                self.memory.__exit__(None, None, None)
                self.peak, self.memory = max(self.peak, self.memory.peak), None
            else:
                self.peak = max(self.peak, torch.cuda.max_memory_allocated())

    return Watch()


def remembers(name: str, model: nn.Module, tokenizer: Any, rows: Packed) -> float:
    """Masked accuracy on `rows` of a fine-tuned model's encoder, under its checkpoint's own head.

    The head is the one that pretraining left in the checkpoint `name`, its word table (where tied)
    the encoder's. What the strategy added is on: a prompt stands before the text. With `rows` from
    the pretraining corpus, the loss against the checkpoint itself is what was forgotten.
    """
    reader = load_model(name, "masked-lm").to(next(model.parameters()).device)
    setattr(reader, reader.base_model_prefix, _Hidden(model))
    output = reader.get_output_embeddings()
    if output is not None and reader.config.tie_word_embeddings:
        output.weight = _base(model).get_input_embeddings().weight
    return evaluate_masked_lm(reader, tokenizer, rows)["masked_accuracy"]


class _Hidden(nn.Module):
    """A fine-tuned model in the place of an encoder: its last hidden states, the text's alone."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, input_ids: torch.Tensor, **inputs: Any) -> Any:
        from transformers.modeling_outputs import BaseModelOutput

        names = ("attention_mask", "token_type_ids")
        inputs = {name: inputs[name] for name in names if inputs.get(name) is not None}
        if hasattr(self.model, "encoder"):  # a probe
            return BaseModelOutput(self.model.encoder(input_ids=input_ids, **inputs)[0])
        out = self.model(input_ids=input_ids, **inputs, output_hidden_states=True)
        return BaseModelOutput(out.hidden_states[-1][:, -input_ids.shape[1] :])


def _base(model: nn.Module) -> nn.Module:
    if hasattr(model, "encoder"):
        return model.encoder
    return model.get_base_model() if hasattr(model, "get_base_model") else model
