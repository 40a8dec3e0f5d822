"""Which token is each position trained on (fault L1)?

The gradient of a cross-entropy for its logits tells the target of every position: the one entry
whose sign differs. So the effective offset between a token and the target it is trained on is read
off, whoever shifts: the collator, the model, the loss function. Whether the loss takes logits is
asked in `logit_probes`, whether training descends it in `ascent_probes`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from cookbook.doctor import gradients, kinds
from cookbook.doctor.checks import Skip
from cookbook.doctor.findings import Finding
from cookbook.doctor.subject import IGNORE, Subject

ROWS = 8
MATCH = 0.95  # share of targets that must stand at an offset
FEWEST = 12  # supervised positions below which nothing is said
BIDIRECTIONAL = ("xlnet", "xlm", "flaubert")  # generate, and yet are trained in place


@dataclass(frozen=True)
class Targets:
    """What the gradient of a cross-entropy says: `target` (…) per logit row, IGNORE where none.

    `uphill` is True where the loss rewards a lower probability of the target.
    """

    target: torch.Tensor
    uphill: bool


def read_targets(loss: torch.Tensor, logits: torch.Tensor) -> Targets | None:
    """The class that each row of `logits` (…, K) is trained on; None where targets are not hard.

    >>> z = torch.zeros(2, 3, requires_grad=True)
    >>> read_targets(nn.functional.cross_entropy(z, torch.tensor([2, 0])), z).target.tolist()
    [2, 0]
    """
    if not (loss.requires_grad and logits.requires_grad) or logits.shape[-1] < 2:
        return None
    grad = torch.autograd.grad(loss, logits, retain_graph=True, allow_unused=True)[0]
    if grad is None or not bool(grad.isfinite().all()):
        return None
    grad = grad.detach().float()
    used = grad.abs().amax(-1) > 0
    if not bool(used.any()):
        return None
    rows = grad[used]
    down, up = (rows < 0).sum(-1), (rows > 0).sum(-1)
    # Two classes have one of each: there only the value of the loss tells the direction.
    uphill = bool((up == 1).all()) and not bool((down == 1).all())
    if not (uphill or bool((down == 1).all())):
        return None
    target = torch.full(used.shape, IGNORE, device=grad.device)
    target[used] = rows.argmax(-1) if uphill else rows.argmin(-1)
    return Targets(target, uphill)


def check_label_shift(subject: Subject) -> Iterable[Finding]:
    """The offset between an input token and the target that its position is trained on."""
    batch = subject.batch(rows=ROWS)
    if batch is None or subject.kind in ("classifier", "regression", "contrastive", "multi-label"):
        raise Skip("does not apply")
    inputs: dict[str, torch.Tensor] = {}
    with subject.mode(training=False), _decoder_inputs(subject, inputs):
        loss, outputs = gradients.training_loss(subject, batch)
    logits = subject.logits(outputs)
    tokens = inputs.get("decoder", _tokens(batch))
    if loss is None or logits is None or tokens is None or logits.dim() != 3:
        raise Skip("does not apply")
    read = read_targets(loss, logits)
    if read is None or not _fit(tokens, read.target):
        raise Skip("does not apply")
    target, tokens = read.target[:, -tokens.shape[1] :].cpu(), tokens.cpu()
    tokens = _without_padding(batch, tokens)
    if subject.kind in ("masked-lm", "tagger"):
        yield from _masked(subject, batch, target, tokens)
    else:
        yield from _causal(subject, batch, target, tokens, "decoder" in inputs)


def _causal(
    subject: Subject, batch: Any, target: torch.Tensor, tokens: torch.Tensor, decoder: bool
) -> Iterable[Finding]:
    """Decoders: the target of a position must be the next token."""
    if str(getattr(subject.config, "model_type", "")) in BIDIRECTIONAL:
        raise Skip("does not apply")
    shares = {k: offset_share(tokens, target, k) for k in (-1, 0, 1, 2, 3)}
    best = max(shares, key=lambda k: shares[k])
    if shares[best] < MATCH or shares[1] >= 0.9 * shares[best]:
        return
    if not decoder and not is_causal(subject, batch):
        return  # a bidirectional model that restores its input has other targets by right
    what = f"is trained on {best} tokens ahead" if best > 0 else "repeats the token before it"
    what = "copies the token it stands on" if best == 0 else what
    remedy = {
        0: "shift once: the target of position t is token t + 1 (a model's own loss does it)",
    }.get(best, "shift once: pass labels = input_ids to a model that shifts itself")
    yield Finding(
        "L1", "error",
        f"each position {what}: {shares[best]:.0%} of the targets equal the token at offset "
        f"{best}, {shares[1]:.0%} that at offset 1 (bound: offset 1)",
        remedy,
        measured={"offset": best, "share": shares[best], "share_at_1": shares[1]},
    )  # fmt: skip


def _masked(
    subject: Subject, batch: Any, target: torch.Tensor, tokens: torch.Tensor
) -> Iterable[Finding]:
    """Masked models, taggers: the target of a position is its own label, and where [MASK] is."""
    labels = subject.labels(batch)
    if labels is not None and labels.shape == target.shape:
        labels = labels.cpu()
        shares = {k: offset_share(labels, target, k) for k in (0, -1, 1, 2)}
        best = max(shares, key=lambda k: shares[k])
        if best and shares[best] >= MATCH and shares[0] < 0.9 * shares[best]:
            yield _misplaced(best, shares[best], "the label at offset")
            return
    mask = getattr(subject.tokenizer, "mask_token_id", None)
    at = target != IGNORE
    if mask is None or int(at.sum()) < FEWEST:
        return
    shares = {k: _where(at, tokens == mask, k) for k in (-2, -1, 0, 1, 2)}
    best = max(shares, key=lambda k: shares[k])
    if best and shares[best] > 0.6 and shares[0] < 0.4:
        yield _misplaced(best, shares[best], "the mask of the token at offset")


def _misplaced(offset: int, share: float, what: str) -> Finding:
    return Finding(
        "L1", "error",
        f"{share:.0%} of the targets belong to {what} {offset} (bound: offset 0)",
        "no shift: the label of a position is that of the token on it",
        measured={"offset": offset, "share": share},
    )  # fmt: skip


def offset_share(tokens: torch.Tensor, target: torch.Tensor, offset: int) -> float:
    """Share of the targets (batch, length) that equal the token `offset` places further on.

    A negative offset looks back.

    >>> x = torch.tensor([[5, 6, 7, 8]])
    >>> offset_share(x, torch.tensor([[6, 7, 8, IGNORE]]), 1)
    1.0
    """
    ahead, behind = max(offset, 0), max(-offset, 0)
    there = target[:, behind : target.shape[1] - ahead]
    wanted = tokens[:, ahead : tokens.shape[1] - behind]
    used = (there != IGNORE) & (wanted != IGNORE)
    # A target beyond the end of the row has no token to be compared with, and is left out.
    return float((there[used] == wanted[used]).float().mean()) if bool(used.any()) else 0.0


def _where(at: torch.Tensor, masked: torch.Tensor, offset: int) -> float:
    """Share of the supervised positions whose neighbour at `offset` is masked."""
    moved = torch.roll(masked, -offset, dims=1)
    return float(moved[at].float().mean())


def is_causal(subject: Subject, batch: Any) -> bool:
    """Whether a changed token leaves the logits of earlier positions as they are."""
    key, tokens = _token_key(batch)
    mask = batch.get("attention_mask") if isinstance(batch, Mapping) else None
    seen = mask.bool().all(0) if _are_ids(mask) and mask.shape == tokens.shape else None
    place = int(seen.nonzero().max()) if seen is not None and bool(seen.any()) else -1
    changed = tokens.clone()
    changed[:, place] = (changed[:, place] + 1) % max(2, int(tokens.max()))
    other = dict(batch) | {key: changed} if key is not None else (changed, *batch[1:])
    with torch.no_grad(), subject.mode(training=False):
        before, after = (
            subject.logits(gradients.forward(subject, b))[:, :place] for b in (batch, other)
        )
    if not before.shape[1]:
        return False
    return bool((before - after).abs().max() <= 1e-4 * (before.std() + 1e-12))


def _fit(tokens: torch.Tensor, target: torch.Tensor) -> bool:
    """Whether tokens and targets can be compared: same rows, enough places, room for an offset."""
    rows = len(tokens) == len(target) and target.shape[1] >= tokens.shape[1] >= 5
    return rows and int((target != IGNORE).sum()) >= FEWEST


def _without_padding(batch: Any, tokens: torch.Tensor) -> torch.Tensor:
    """The tokens with IGNORE where the batch's own mask is 0."""
    mask = batch.get("attention_mask") if isinstance(batch, Mapping) else None
    fits = isinstance(mask, torch.Tensor) and mask.shape == tokens.shape
    same = fits and _tokens(batch) is not None and _tokens(batch).shape == tokens.shape
    return tokens.masked_fill(mask.cpu() == 0, IGNORE) if same else tokens


def _token_key(batch: Any) -> tuple[str | None, torch.Tensor | None]:
    """Key and value of the input tokens: (None, x) for a pair, (None, None) without."""
    if isinstance(batch, Mapping):
        for key, value in batch.items():
            if key in ("input_ids", "tokens", "x", "inputs", "idx", "ids"):
                return key, value if _are_ids(value) else None
        return None, None
    return None, batch[0] if _are_ids(batch[0]) else None


def _tokens(batch: Any) -> torch.Tensor | None:
    return _token_key(batch)[1]


def _are_ids(value: Any) -> bool:
    integers = (torch.int64, torch.int32, torch.int16, torch.uint8)
    return isinstance(value, torch.Tensor) and value.dim() == 2 and value.dtype in integers


class _decoder_inputs:
    """Within, what an encoder-decoder feeds to its decoder is written into `found`."""

    def __init__(self, subject: Subject, found: dict[str, torch.Tensor]) -> None:
        self.found, self.handle = found, None
        base = kinds.base_of(subject.model)
        inside = getattr(getattr(base, "config", None), "is_encoder_decoder", False)
        decoder = getattr(base, "get_decoder", lambda: None)() if inside else None
        self.decoder = decoder if isinstance(decoder, nn.Module) else None

    def __enter__(self) -> None:
        if self.decoder is not None:
            self.handle = self.decoder.register_forward_pre_hook(self._look, with_kwargs=True)

    def __exit__(self, *_: Any) -> None:
        if self.handle is not None:
            self.handle.remove()

    def _look(self, _: nn.Module, args: tuple, kwargs: dict) -> None:
        ids = kwargs.get("input_ids", args[0] if args else None)
        if _are_ids(ids):
            self.found["decoder"] = ids


CHECKS = (check_label_shift,)
