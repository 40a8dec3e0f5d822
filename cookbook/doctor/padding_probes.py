"""T10: does a row's answer depend on the padding beside it?

A row alone, without its padding, must score as it does in its padded batch, at its own places; of a
pair of towers the embedding of the first text must stay.
Right padding only: with padding on the left, models with absolute positions rightly move. Models
that have no mask by design, and those that see pads through convolution or pooling, are left alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch

from cookbook.doctor import causality_probes, contrastive, kinds, responses, sampling
from cookbook.doctor.checks import Skip, attempt
from cookbook.doctor.findings import Finding
from cookbook.doctor.model_checks import is_quantized
from cookbook.doctor.subject import Subject

# They look beyond the mask, or approximate attention in blocks whose place padding decides.
BY_DESIGN = {"fnet", "convbert", "funnel", "canine", "perceiver", "nystromformer", "yoso", "mra",
             "reformer", "xlnet", "big_bird", "bigbird_pegasus", "longformer", "led", "mamba",
             "mamba2", "rwkv", "jamba", "ibert", "longt5", "recurrent_gemma"}  # fmt: skip
HEARD = 0.1  # of the scores' deviation; a network of one's own may read padding a little
TRIED, ROWS = 3, 8  # padded rows; rows of the batch that holds them
OF_THE_FIRST = ("input_ids", "attention_mask", "token_type_ids", "position_ids")  # of two texts


def check_padding_is_masked(subject: Subject) -> Iterable[Finding]:
    """T10: the scores of a row alone differ from those of the row padded in its batch."""
    batch = responses.inputs(subject, ROWS)
    if not _applies(subject, batch):
        raise Skip("does not apply")
    batch, lengths, rows = _padded(subject)
    read = _reader(subject, batch)
    with responses.quiet(subject):
        limit = responses.bound(subject, batch, read(subject, batch), read)
        gap = max(_gap(subject, batch, row, lengths[row], read) for row in rows)
    if gap > limit and not _sees_the_future(subject):
        told = f"a row's scores differ by {gap:.2g} between the row alone and the row padded"
        mask = batch.get("attention_mask")
        how = _mend(subject, mask)
        measured = {"difference": gap, "bound": limit, "rows": len(rows)}
        yield Finding("T10", "error", f"{told} (bound: {limit:.2g})", how, measured)


def _padded(subject: Subject) -> tuple[Any, list[int], list[int]]:
    """Rows of the first batch in which some are padded: inputs, lengths, places of the padded."""
    for place in range(max(1, len(subject.train.batches))):
        given = (subject.train.batches or [subject.batch()])[place]
        padded = _shorter(subject, given)
        size = sampling.batch_size(given)
        if place and padded:  # to the front, for only the first rows are run
            order = torch.tensor([*padded, *(i for i in range(size) if i not in padded)])
            given = responses.each_tensor(given, size, lambda t, order=order: t[order])
        batch = responses.inputs(subject, ROWS, given)
        if rows := _shorter(subject, batch)[:TRIED]:
            return batch, valid_lengths(subject, batch), rows
    raise Skip("no row of the batch is padded on the right")


def _shorter(subject: Subject, batch: Any) -> list[int]:
    width = batch["input_ids"].shape[1]
    lengths = valid_lengths(subject, batch)
    return [row for row, length in enumerate(lengths) if 1 < length < width]


def _reader(subject: Subject, batch: Any) -> Callable[[Subject, Any], torch.Tensor]:
    """How the answer is read: the logits, or of towers without any the first text's embedding."""
    with responses.quiet(subject):
        outputs = subject.forward(batch)
    if subject.logits(outputs) is not None:
        return responses.scores
    if not contrastive.embeddings_of(outputs, sampling.batch_size(batch)):
        raise Skip("does not apply")
    return _embedding


def _embedding(subject: Subject, batch: Any) -> torch.Tensor:
    sides = contrastive.embeddings_of(subject.forward(batch), sampling.batch_size(batch))
    if not sides or not bool(sides[0].isfinite().all()):
        raise Skip("the embeddings are not finite")
    return sides[0].detach().float().cpu()


def _sees_the_future(subject: Subject) -> bool:
    """Whether it is a decoder without its mask, for which padding is but a part of the future."""
    found, _ = attempt(causality_probes.check_decoder_sees_no_future, subject)
    return bool(found)


def _mend(subject: Subject, mask: Any) -> str:
    if mask is None:
        return "pass attention_mask to the model"
    return "set attention_mask to 0 on padding, and use it in every attention"


def _applies(subject: Subject, batch: Any) -> bool:
    if not isinstance(batch, Mapping) or is_quantized(subject.model):
        return False
    if any(map(_looks_beside, subject.bare.modules())):
        return False
    ids = batch.get("input_ids")
    if not isinstance(ids, torch.Tensor) or ids.dim() != 2 or sampling.batch_size(batch) < 1:
        return False
    names, anything = kinds.accepts(subject.bare)
    kind = getattr(subject.config, "model_type", "")
    experts = any(getattr(subject.config, n, None) for n in ("num_experts", "num_local_experts"))
    handed_on = anything and "attention_mask" in batch and _attends(subject)
    ours = (
        "attention_mask" in names or handed_on or kinds.base_of(subject.model) is not subject.bare
    )
    return ours and kind not in BY_DESIGN and not experts and "pixel_values" not in batch


def _looks_beside(module: torch.nn.Module) -> bool:
    """Whether a layer mixes each token with its neighbours, padding among them, and has no mask."""
    wide = isinstance(module, torch.nn.Conv1d) and module.kernel_size[0] > 1
    return wide or (isinstance(module, torch.nn.RNNBase) and module.bidirectional)


def _attends(subject: Subject) -> bool:
    """Whether a model that takes any argument holds one that takes a mask."""
    inside = [m for m in subject.bare.modules() if hasattr(m, "config") and m is not subject.bare]
    kinds_of = {getattr(module.config, "model_type", "") for module in inside}
    takes = any("attention_mask" in kinds.accepts(module)[0] for module in inside)
    return takes and not kinds_of & BY_DESIGN


def valid_lengths(subject: Subject, batch: Mapping[str, Any]) -> list[int]:
    """Tokens before the right padding of each row; 0 where a row is padded otherwise.

    By the padding token where that is nothing else, for a mask may be missing or wrong; else by
    the mask.
    """
    ids, mask = batch["input_ids"], batch.get("attention_mask")
    pad = getattr(subject.tokenizer, "pad_token_id", None)
    eos = getattr(subject.tokenizer, "eos_token_id", None)
    if pad is not None and pad != eos:
        real = ids != pad
    elif isinstance(mask, torch.Tensor) and mask.shape == ids.shape:
        real = mask.bool()
    else:
        return [0] * len(ids)
    ends = [int(row.nonzero().max()) + 1 if row.any() else 0 for row in real]
    return [end if bool(row[:end].all()) else 0 for end, row in zip(ends, real, strict=True)]


def _gap(subject: Subject, batch: Any, row: int, length: int, read: Callable) -> float:
    """How far a row's scores move when its padding is cut off; other rows have no part in it."""
    width = batch["input_ids"].shape[1]
    alone = {key: _row(value, row) for key, value in batch.items()}
    whole = () if read is responses.scores else set(alone) - set(OF_THE_FIRST)  # the other text's
    short = {
        key: value if key in whole else _cut(key, value, length, width)
        for key, value in alone.items()
    }
    before, after = (read(subject, part)[0] for part in (alone, short))
    if read is not responses.scores:
        return responses.moved(before, after)
    if before.dim() == 2 and subject.kind != "seq2seq" and before.shape[0] >= width:
        virtual = before.shape[0] - width  # places of a soft prompt come first
        before, after = before[virtual : virtual + length], after[virtual : virtual + length]
    elif before.dim() == 1 and len(before) == width and len(after) == length:
        before = before[:length]  # one score for each token
    if before.shape != after.shape:
        raise Skip("the scores of a shorter row have another shape")
    return responses.moved(before, after)


def _row(value: Any, row: int) -> Any:
    whole = isinstance(value, torch.Tensor) and value.dim()
    return value[row : row + 1] if whole else value


def _cut(key: str, value: Any, length: int, width: int) -> Any:
    """A row's entry without its padding, square masks too; a decoder's keep their length."""
    if not isinstance(value, torch.Tensor) or key.startswith("decoder_"):
        return value
    for dim in range(1, value.dim()):
        if value.shape[dim] == width:
            value = value.narrow(dim, 0, length)
    return value


def check_words_are_read_without_padding(subject: Subject) -> Iterable[Finding]:
    """T10 of pairs: the scores of numbered words move when the padding behind them is cut off."""
    tables = [m for m in subject.bare.modules() if isinstance(m, torch.nn.Embedding)]
    padding = next((m.padding_idx for m in tables if m.padding_idx is not None), None)
    batch = subject.batch("train", ROWS)
    if padding is None or isinstance(batch, Mapping) or any(map(_looks_beside, _modules(subject))):
        raise Skip("does not apply")
    ids = responses.inputs(subject, ROWS)[responses.token_key(batch)]
    lengths = [int((row != padding).sum()) for row in ids]
    rows = [
        i for i, n in enumerate(lengths)
        if 1 < n < ids.shape[1] and bool((ids[i, :n] != padding).all())
    ][:TRIED]  # fmt: skip
    if not rows:
        raise Skip("no row of the batch is padded on the right")
    with responses.quiet(subject):
        whole = responses.scores(subject, batch)
        parts = [responses.scores(subject, [ids[i : i + 1, : lengths[i]], None]) for i in rows]
    if whole.dim() != 2 or len(whole) != len(ids):
        raise Skip("does not apply")
    gap = max(responses.moved(whole[i], part[0]) for i, part in zip(rows, parts, strict=True))
    limit = HEARD * float(whole.std())
    if gap > limit:
        yield Finding(
            "T10", "warn",
            f"a row's scores differ by {gap:.2g} between its words alone and padded to the width "
            f"of its batch (bound: {limit:.2g}, {HEARD:.0%} of their deviation)",
            "read the last word and not the last place, and leave padding out of means: "
            "pack_padded_sequence, or a mask of ids != padding_idx",
            {"difference": gap, "bound": limit},
        )  # fmt: skip


def _modules(subject: Subject) -> Iterable[torch.nn.Module]:
    return (m for m in subject.bare.modules() if not isinstance(m, torch.nn.RNNBase))


CHECKS = (check_padding_is_masked, check_words_are_read_without_padding)
