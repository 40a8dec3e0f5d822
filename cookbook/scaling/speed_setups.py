"""The rungs of the speed ladder: what a training step can be told to do, and rows to feed it.

A `Setup` says how a masked language model is trained (rows, attention, precision, batch …);
`ladder` lists setups of which each differs from an earlier one by one thing; `Material` holds the
same texts as padded and as packed rows. Nothing is timed here: `speed` does that. Chapter 10.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from cookbook.data.tokenization import Packed, pack
from cookbook.training.objectives import MaskedLMCollator
from cookbook.training.order import Keyed, order
from cookbook.training.trainer import masked_lm_loss

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True)
class Setup:
    """One way to train the same model on the same texts.

    `rows` is "padded" (a document a row, padded to the longest of its batch), "sorted" (batches of
    like length), "packed" (documents end to end) or "apart" (packed, and attention stays inside
    each document). `batch_size` rows make a forward pass, `accumulation` passes an update.
    `precision` is "fp32", "bf16" or "fp16", the latter with loss scaling.
    """

    rows: str = "padded"
    attention: str = "eager"
    precision: str = "fp32"
    masked_only: bool = False
    fused: bool = False
    batch_size: int = 8
    accumulation: int = 1
    checkpointing: bool = False
    compiled: bool = False
    workers: int = 0

    @property
    def batch(self) -> int:
        """Rows that make one update."""
        return self.batch_size * self.accumulation


def ladder(
    precision: str = "bf16", *, batch_size: int = 8, larger: int = 32, compiled: bool = False,
    workers: int = 1,
) -> dict[str, tuple[Setup, str]]:  # fmt: skip
    """Names of the rungs, each with its `Setup` and the name of the rung it differs from.

    Each rung stands on the one before, and the last four on "larger batch": what they change they
    change for themselves alone. `precision` is the half precision to try; `compiled` adds
    torch.compile, which needs a compiler; `larger` is a multiple of `batch_size`.

    >>> rungs = ladder("bf16")
    >>> list(rungs)[:4]
    ['padded', 'length-sorted', 'packed', 'document masks']
    >>> rungs["accumulation"][0].batch, rungs["larger batch"][0].batch
    (32, 32)
    """
    steps: list[tuple[str, dict[str, Any]]] = [
        ("length-sorted", {"rows": "sorted"}), ("packed", {"rows": "packed"}),
        ("document masks", {"rows": "apart"}), ("SDPA", {"attention": "sdpa"}),
        (precision, {"precision": precision}), ("masked positions", {"masked_only": True}),
        ("fused optimizer", {"fused": True}), ("larger batch", {"batch_size": larger}),
    ]  # fmt: skip
    rungs = {"padded": (Setup(batch_size=batch_size), "")}
    for name, change in steps:
        before = list(rungs)[-1]
        rungs[name] = (replace(rungs[before][0], **change), before)
    split = {"batch_size": batch_size, "accumulation": larger // batch_size}
    alone = {"accumulation": split, "checkpointing": {"checkpointing": True}}
    alone |= {"torch.compile": {"compiled": True}} if compiled else {}
    alone |= {f"{workers} worker" + "s" * (workers > 1): {"workers": workers}} if workers else {}
    top = rungs["larger batch"][0]
    return rungs | {n: (replace(top, **change), "larger batch") for n, change in alone.items()}


def changes(rungs: dict[str, tuple[Setup, str]], name: str) -> str:
    """What a rung changes of the one that it stands on, in words; of the first, its batch.

    >>> changes(ladder(), "packed"), changes(ladder(), "padded")
    ('rows=packed', 'batch_size=8')
    """
    setup, on = rungs[name]
    before = asdict(rungs[on][0]) if on else asdict(setup) | {"batch_size": None}
    return ", ".join(f"{k}={v}" for k, v in asdict(setup).items() if v != before[k])


@dataclass(frozen=True)
class Material:
    """The same texts as rows of every kind, for models that read `length` tokens at most."""

    tokenizer: Any
    length: int
    padded: list[dict[str, Any]]
    packed: Packed
    apart: Packed

    @classmethod
    def of(
        cls, texts: Sequence[str], tokenizer: PreTrainedTokenizerBase, length: int = 128
    ) -> Material:
        """Encode `texts`; padded rows are cut at `length`, packed ones go on in the next row."""
        ids = tokenizer(list(texts), return_attention_mask=False, verbose=False)["input_ids"]
        both = [
            pack(ids, length, pad_id=tokenizer.pad_token_id, cross_documents=across)
            for across in (True, False)
        ]
        return cls(tokenizer, length, [{"input_ids": row[:length]} for row in ids], *both)

    def rows(self, kind: str) -> Any:
        """The data set of a kind of rows; raises ValueError for one that does not exist."""
        kinds = {"padded": self.padded, "sorted": self.padded, "packed": self.packed,
                 "apart": self.apart}  # fmt: skip
        if kind not in kinds:
            raise ValueError(f"no rows of kind {kind!r}: choose one of {', '.join(kinds)}")
        return kinds[kind]

    def useful(self, kind: str) -> float:
        """Tokens of a row that are not padding, in the mean."""
        rows = self.rows(kind)
        count = rows.tokens if isinstance(rows, Packed) else sum(len(r["input_ids"]) for r in rows)
        return count / len(rows)

    def batches(self, setup: Setup, *, seed: int = 0, probability: float = 0.15) -> Stream:
        """Batches for `setup` without end, masked by `MaskedLMCollator`."""
        rows = self.rows(setup.rows)
        lengths = [len(row["input_ids"]) for row in rows] if setup.rows == "sorted" else len(rows)
        loader = torch.utils.data.DataLoader(
            Keyed(rows), batch_sampler=Keys(lengths, setup.batch_size, seed),
            collate_fn=MaskedLMCollator(self.tokenizer, probability=probability, seed=seed),
            num_workers=setup.workers,
        )  # fmt: skip
        return Stream(loader, self.tokenizer.pad_token_id)


class Keys:
    """`(epoch, row)` pairs by the batch, for ever; rows of like length together if lengths are
    given, shuffled as a whole if their number is.

    The rows left over at the end of an epoch (fewer than a batch) sit it out. Raises ValueError
    where the rows do not fill one batch.

    >>> keys = Keys([3, 9, 1, 8], 2)
    >>> sorted(sorted(row for _, row in batch) for batch in itertools.islice(keys, 2))
    [[0, 2], [1, 3]]
    """

    def __init__(self, lengths: Sequence[int] | int, batch_size: int, seed: int = 0) -> None:
        self.lengths, self.batch_size, self.seed = lengths, batch_size, seed
        self.rows = lengths if isinstance(lengths, int) else len(lengths)
        if self.rows < batch_size:
            raise ValueError(f"{self.rows} rows do not fill one batch of {batch_size}: give more")

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        for epoch in itertools.count():
            shuffled = order(self.rows, self.seed, epoch)
            if not isinstance(self.lengths, int):
                # Stable: rows of one length stay in the epoch's own order.
                shuffled = shuffled[np.argsort(np.asarray(self.lengths)[shuffled], kind="stable")]
            whole = self.rows // self.batch_size
            batches = shuffled[: whole * self.batch_size].reshape(whole, self.batch_size)
            for number in order(whole, self.seed, epoch):
                yield [(epoch, int(row)) for row in batches[number]]


class Stream:
    """What a loader yields, asked for by number as `loop.train` does; counts the useful tokens.

    The number is ignored: the next batch comes. `tokens` is how many tokens that are not padding
    were handed out so far.
    """

    def __init__(self, loader: Any, pad_id: int) -> None:
        self.loader, self.pad_id, self.tokens = loader, pad_id, 0
        self._batches: Iterator | None = None

    def __getitem__(self, number: int) -> dict[str, torch.Tensor]:
        if self._batches is None:
            self._batches = iter(self.loader)
        batch = next(self._batches)
        self.tokens += int((batch["input_ids"] != self.pad_id).sum())
        return batch

    def close(self) -> None:
        """Let the worker processes go."""
        self._batches = None


def checkpoint_layers(model: Any) -> None:
    """Keep no layer's inside for the backward pass: it is computed a second time.

    transformers renamed its switch in 5.23; this uses whichever there is.
    """
    enable = getattr(model, "activation_checkpointing_enable", None)
    (enable or model.gradient_checkpointing_enable)({"use_reentrant": False})


def masked_sum(model: torch.nn.Module, batch: dict) -> tuple[torch.Tensor, int]:
    """Sum of the losses at masked positions and their number: a `loss_fn` of `loop.train`."""
    loss, logits = masked_lm_loss(model, batch)
    return loss * len(logits), len(logits)


def builder(tokenizer: Any, size: str = "mini", *, length: int = 128) -> Callable[[str], Any]:
    """A function that makes a new BERT of `size`, without dropout, for a kind of attention.

    >>> class Words:
    ...     pad_token_id = 0
    ...     def __len__(self):
    ...         return 50
    >>> builder(Words(), "tiny")("eager").config.hidden_size
    32
    """
    from transformers import BertForMaskedLM

    from cookbook.models import text

    def build(attention: str) -> Any:
        torch.manual_seed(0)
        config = text.bert_config(
            len(tokenizer), size, length=length, pad_token_id=tokenizer.pad_token_id,
            hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0,
            attn_implementation=attention, use_cache=False,
        )  # fmt: skip
        return BertForMaskedLM(config)

    return build
