"""M9: does a decoder see the future?

All tokens from some place on are changed; scores before that place must stay. Asked of decoders
only: by class and configuration, or, of a plain module, by labels that are the next tokens. Masked
models, encoders, permutation and prefix models may look ahead.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

import torch

from cookbook.doctor import responses
from cookbook.doctor.checks import Skip
from cookbook.doctor.findings import Finding
from cookbook.doctor.model_checks import is_quantized
from cookbook.doctor.subject import Subject

LOOK_AHEAD = re.compile(r"xlnet|prophetnet|^git$|paligemma|gemma3|prefix|glm$|llada|diffusion")


def check_decoder_sees_no_future(subject: Subject) -> Iterable[Finding]:
    """M9: a change of later tokens moves the scores of earlier ones."""
    if is_quantized(subject.model):
        raise Skip("does not apply")
    batch = responses.inputs(subject)
    if not _is_decoder(subject, batch):
        raise Skip("does not apply")
    key = "decoder_input_ids" if subject.kind == "seq2seq" else responses.token_key(batch)
    if isinstance(batch, Mapping) and key not in batch:
        raise Skip("does not apply")
    ids = batch[key]
    with responses.quiet(subject):
        first = responses.scores(subject, batch)
        before = _virtual(first, ids)
        limit = responses.bound(subject, batch, first)
        gap, place = max(
            (_gap(subject, batch, key, first[:, before:], start), start) for start in _starts(ids)
        )
    if gap > limit:
        told = f"changing the tokens from place {place} on moves scores before it by {gap:.2g}"
        measured = {"difference": gap, "bound": limit, "place": place}
        yield Finding("M9", "error", f"{told} (bound: {limit:.2g})", _mend(subject), measured)


def _virtual(scores: torch.Tensor, ids: torch.Tensor) -> int:
    """Places of the scores before the tokens': those of a soft prompt."""
    before = scores.shape[1] - ids.shape[1] if scores.dim() == 3 else -1
    if before < 0 or len(scores) != len(ids):
        raise Skip("does not apply")
    return before


def _starts(ids: torch.Tensor) -> list[int]:
    length = ids.shape[1]
    if length < 4:
        raise Skip("the rows are too short")
    return sorted({length // 4, length // 2, length - 2} - {0})


def _gap(subject: Subject, batch: Any, key: Any, first: torch.Tensor, start: int) -> float:
    ids = batch[key]
    later = (torch.arange(ids.shape[1]) >= start).expand_as(ids)
    changed = responses.with_value(batch, key, responses.other_tokens(subject, ids, later))
    after = responses.scores(subject, changed)[:, -ids.shape[1] :]
    counted = _attended(batch, key, ids)[:, :start]
    return responses.moved(first[:, :start][counted], after[:, :start][counted])


def _attended(batch: Any, key: Any, ids: torch.Tensor) -> torch.Tensor:
    mask = batch.get("attention_mask") if isinstance(batch, Mapping) else None
    if key == "decoder_input_ids" or mask is None or mask.shape != ids.shape:
        return torch.ones_like(ids, dtype=torch.bool)
    return mask.bool()


def _mend(subject: Subject) -> str:
    if getattr(subject.config, "is_decoder", None) is False and subject.kind == "causal-lm":
        return "set is_decoder=True in the configuration"
    return ""


def _is_decoder(subject: Subject, batch: Any) -> bool:
    names = f"{getattr(subject.config, 'model_type', '')} {type(subject.bare).__name__.lower()}"
    if any(LOOK_AHEAD.search(name) for name in names.split()):
        return False
    if subject.kind in ("causal-lm", "seq2seq"):
        return True
    if subject.kind != "other":
        return False
    return predicts_next(subject, batch)


def predicts_next(subject: Subject, batch: Any) -> bool:
    """Whether labels are the next tokens, or the loss is that of the next tokens."""
    whole = subject.batch("train", responses.ROWS)
    ids, labels = batch[responses.token_key(batch)], subject.labels(whole)
    if labels is None or labels.shape != ids.shape or labels.is_floating_point():
        return False
    labels = labels.cpu()
    counted = labels[:, :-1] >= 0
    if not counted.any():
        return False
    if float((labels[:, :-1] == ids[:, 1:])[counted].float().mean()) > 0.95:
        return True
    with responses.quiet(subject):
        outputs = subject.forward(whole)
        loss, scores = subject.loss_of(outputs, whole), responses.of_outputs(subject, outputs)
    if loss is None or scores is None or scores.shape[:2] != labels.shape:
        return False
    here, ahead = (_cross_entropy(scores.float().cpu(), labels, offset) for offset in (0, 1))
    # Before training both lie near ln V: only what is exact tells them apart.
    exact = abs(float(loss) - ahead)
    return exact < 1e-5 * ahead and abs(float(loss) - here) > 10 * exact + 1e-5 * here


def _cross_entropy(scores: torch.Tensor, labels: torch.Tensor, offset: int) -> float:
    kept, wanted = scores[:, : scores.shape[1] - offset], labels[:, offset:]
    return float(torch.nn.functional.cross_entropy(kept.transpose(1, 2), wanted, ignore_index=-100))


CHECKS = (check_decoder_sees_no_future,)
