"""Runs of `mistakes` and of their right twins.

One plain loop, small models, quiet trainers; what shows the symptom is in `symptoms`. Whoever
watches a run (the doctor's `Watch`) is passed in as `on_step`: this file knows no doctor. Chapter
13 uses it, and nothing else does.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import warnings
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

import torch
from torch import nn

from cookbook.training import loop
from cookbook.training.groups import layer_depths
from cookbook.training.mistakes import Rows
from cookbook.training.schedules import scheduler

Curve = list[tuple[int, float]]


def nobody(loss: torch.Tensor, batch: Any = None) -> None:
    """Watches nothing: the default of `on_step`."""


def own_loss(model: nn.Module, batch: dict) -> torch.Tensor:
    """The loss that the model computes itself."""
    return model(**batch).loss


def with_loss(loss_fn: Callable) -> Callable:
    """A `loss_of` for `run`, of a loss that takes the model's outputs and the batch."""
    return lambda model, batch: loss_fn(model(**batch), batch)


def draw(
    rows: Any, collate: Callable, size: int, count: int, *, seed: int = 0, device: Any = "cpu"
) -> Iterator[dict]:
    """`count` batches of shuffled rows, epoch after epoch; the same ones for the same seed."""
    order = torch.Generator().manual_seed(seed)
    loader = torch.utils.data.DataLoader(
        rows, min(size, len(rows)), shuffle=True, drop_last=True, collate_fn=collate,
        generator=order,
    )  # fmt: skip
    for batch in itertools.islice(itertools.chain.from_iterable(itertools.repeat(loader)), count):
        yield loop.to_device(dict(batch), torch.device(device))


class Ran(NamedTuple):
    """What a run leaves: the loss of each step, and what was measured after it."""

    loss: Curve
    measured: Curve


def run(
    model: nn.Module,
    batches: Iterable[dict],
    optimizer: torch.optim.Optimizer,
    *,
    lr_scheduler: Any = None,
    loss_of: Callable = own_loss,
    on_step: Callable = nobody,
    measure: Callable[[], float] | None = None,
) -> Ran:
    """Train on all `batches`, as a plain loop does."""
    from tqdm.auto import tqdm

    ran = Ran([], [])
    model.train()
    for step, batch in enumerate(tqdm(batches, "training", leave=False), 1):
        loss = loss_of(model, batch)
        loss.backward()
        optimizer.step()
        if lr_scheduler is not None:
            lr_scheduler.step()
        optimizer.zero_grad()
        on_step(loss, batch=batch)
        ran.loss.append((step, loss.item()))
        if measure is not None:
            ran.measured.append((step, measure()))
    return ran


def train_gpt(
    rows: Rows, collate: Callable, tokenizer: Any, *, steps: int, size: str = "mini",
    length: int = 32, rate: float = 2e-3, seed: int = 0, device: str = "cpu",
) -> tuple[Any, Curve]:  # fmt: skip
    """A `small_gpt` trained on `rows`, and its curve: the same start and order for one seed."""
    model = small_gpt(tokenizer, size=size, length=length, seed=seed).to(device)
    optimizer = torch.optim.AdamW(model.parameters(), rate)
    decay = scheduler(optimizer, "linear", warmup=steps // 10, total=steps)
    batches = draw(rows, collate, 32, steps, seed=seed, device=device)
    return model, run(model, batches, optimizer, lr_scheduler=decay).loss


def gpt_tokenizer(texts: Iterable[str], vocab_size: int = 1000) -> Any:
    """A tokenizer of `first_line`s, whose last token ends a text."""
    from cookbook.data.tokenization import train_tokenizer

    tokenizer = train_tokenizer([first_line(text) for text in texts], vocab_size)
    tokenizer.bos_token, tokenizer.eos_token = tokenizer.cls_token, tokenizer.sep_token
    return tokenizer


def small_gpt(tokenizer: Any, *, size: str = "mini", length: int = 32, seed: int = 0) -> Any:
    """A GPT-2 with random weights and without dropout, for `tokenizer`."""
    from transformers import GPT2Config, GPT2LMHeadModel

    from cookbook.models.text import SIZES

    width, layers, heads = SIZES[size]
    torch.manual_seed(seed)
    config = GPT2Config(
        vocab_size=len(tokenizer), n_positions=length, n_embd=width, n_layer=layers, n_head=heads,
        resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0, bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id,
    )  # fmt: skip
    model = GPT2LMHeadModel(config)
    model.loss_type = "ForCausalLM"  # the library looks for this in the class's name, in vain
    return model


def first_lines(texts: Iterable[str], tokenizer: Any, length: int) -> Rows:
    """`first_line`s of at most `length` tokens as ids, between the tokenizer's two end tokens."""
    lines = [line for line in map(first_line, texts) if len(line) > 10]
    coded = tokenizer(lines, verbose=False)["input_ids"]
    return [{"input_ids": ids, "attention_mask": [1] * len(ids)} for ids in coded
            if len(ids) <= length]  # fmt: skip


def first_line(text: str) -> str:
    """The first line of a text, without the spaces around it.

    >>> first_line(" Sum of squares. \\n\\nMore.")
    'Sum of squares.'
    """
    return text.strip().partition("\n")[0].strip()


def freeze_embeddings(model: nn.Module) -> None:
    """Stop what lies below the first layer from training."""
    depths = layer_depths(model)
    for name, parameter in model.named_parameters():
        if depths[name] == max(depths.values()):
            parameter.requires_grad_(False)


def wrap_layers(model: nn.Module, wrapper: Callable) -> nn.Module:
    """Each layer's forward goes through `wrapper(forward, …)` from now on; no cache is kept."""
    if hasattr(model, "config"):
        model.config.use_cache = False  # a layer that is computed twice would fill it twice
    for layer in _layers(model)[1]:
        layer.forward = functools.partial(wrapper, layer.forward)
    return model


def layer_matrices(model: nn.Module) -> list[str]:
    """The names of the linear maps in the layers: what LoRA adapts, whatever they are called."""
    name, layers = _layers(model)
    return [
        f"{name}.{inner}" for inner, module in layers.named_modules()
        if type(module).__name__ in ("Linear", "Conv1D")
    ]  # fmt: skip


def _layers(model: nn.Module) -> tuple[str, nn.ModuleList]:
    """The outermost list of layers, and its name."""
    lists = {n: m for n, m in model.named_modules() if isinstance(m, nn.ModuleList)}
    name = min(lists, key=len)
    return name, lists[name]


class Pairs(nn.Module):
    """Two texts of a row through one encoder: unit vectors (rows, hidden) of either."""

    def __init__(self, encoder: nn.Module) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(
        self, input_ids: torch.Tensor, attention_mask: torch.Tensor,
        pair_ids: torch.Tensor, pair_mask: torch.Tensor,
    ) -> tuple[torch.Tensor, torch.Tensor]:  # fmt: skip
        """Ids and masks are (rows, length), of the two texts."""
        return self._side(input_ids, attention_mask), self._side(pair_ids, pair_mask)

    def _side(self, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        hidden = self.encoder(input_ids=ids, attention_mask=mask)[0]
        weights = mask.unsqueeze(-1).to(hidden.dtype)
        return nn.functional.normalize((hidden * weights).sum(1), dim=-1)


def pair_rows(dataset: Any, tokenizer: Any, lengths: tuple[int, int] = (24, 32)) -> Rows:
    """Rows with `text` and `text_pair` as ids, cut at `lengths`."""
    sides = [
        tokenizer(list(dataset[column]), truncation=True, max_length=length)["input_ids"]
        for column, length in zip(("text", "text_pair"), lengths, strict=True)
    ]
    return [{"input_ids": a, "pair_ids": b} for a, b in zip(*sides, strict=True)]


def collate_pairs(rows: Rows, tokenizer: Any) -> dict[str, torch.Tensor]:
    """A batch of `pair_rows`, each side padded to its own longest."""
    left, right = (
        tokenizer.pad([{"input_ids": row[name]} for row in rows], return_tensors="pt")
        for name in ("input_ids", "pair_ids")
    )
    return {**left, "pair_ids": right["input_ids"], "pair_mask": right["attention_mask"]}


def their_trainer(
    model: Any,
    rows: Rows,
    collate: Callable,
    *,
    steps: int,
    rate: float = 1e-4,
    size: int = 8,
    accumulation: int = 1,
    warmup: int = 0,
    log_every: int = 1,
    seed: int = 0,
    kind: Any = None,
    output_dir: str = "build/mistakes",
    **more: Any,
) -> Any:
    """transformers' `Trainer`, or another `kind`, with its defaults, but silent."""
    import transformers

    args = transformers.TrainingArguments(
        output_dir=str(output_dir), max_steps=steps, learning_rate=rate, seed=seed,
        warmup_steps=warmup, per_device_train_batch_size=size,
        gradient_accumulation_steps=accumulation, logging_steps=log_every, disable_tqdm=True,
        report_to="none", save_strategy="no",
        use_cpu=not torch.cuda.is_available(), dataloader_pin_memory=False,
        remove_unused_columns=False,
    )  # fmt: skip
    trainer = (kind or transformers.Trainer)(
        model, args, train_dataset=rows, data_collator=collate, **more
    )
    trainer.remove_callback(transformers.PrinterCallback)
    return trainer


def logged(trainer: Any, name: str = "loss") -> Curve:
    """What the `Trainer` wrote down under `name`: (step, value)."""
    return [(entry["step"], entry[name]) for entry in trainer.state.log_history if name in entry]


def recording(loss_fn: Callable, into: list[float]) -> Callable:
    """`loss_fn`, which also appends each loss as it is."""

    def loss(*args: Any, **kwargs: Any) -> torch.Tensor:
        found = loss_fn(*args, **kwargs)
        into.append(found.item())
        return found

    return loss


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Within, torch's remarks are not shown: a mistake that is made on purpose needs none."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
