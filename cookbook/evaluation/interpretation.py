"""Why did it say so? Integrated gradients, leave-one-out, attention, and what each layer knows.

Does: attributions to the tokens of one text with their completeness, a check of any attribution by
deleting what it points at, layer probes. Does not: prove a reason; chapter 12 shows how attention
maps fail. Equal to `captum`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


class Attribution(NamedTuple):
    """What each token adds to a logit: `scores` sum to `logit - baseline`, up to `gap`."""

    tokens: list[str]
    scores: np.ndarray
    logit: float
    baseline: float

    @property
    def gap(self) -> float:
        """How far the sum of the scores is from what it has to explain; falls with the steps."""
        return float(self.scores.sum() - (self.logit - self.baseline))


def integrated_gradients(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, text: str, target: int, *,
    steps: int = 64, chunk: int = 16,
) -> Attribution:  # fmt: skip
    """How much each token moves the logit of class `target` away from that of an empty text.

    Along the straight way from the baseline b (every token but the special ones is padding) to the
    text's embeddings x, the gradient is averaged at the midpoints of `steps` equal parts:

        a_i = (x_i - b_i) . mean_k grad_i f(b + (k - 1/2)/steps (x - b))

    By the fundamental theorem of calculus the a_i sum to f(x) - f(b) (completeness). Evaluation
    mode, restored. Raises ValueError for a text without a token. Source: Sundararajan, Taly and Yan
    2017, arXiv:1703.01365, equations 1 to 3; `captum.attr.LayerIntegratedGradients` with
    `method="riemann_middle"`.
    """
    encoded = _encoded(model, tokenizer, text)
    words = model.get_input_embeddings()
    special = tokenizer.get_special_tokens_mask(
        encoded["input_ids"][0].tolist(), already_has_special_tokens=True
    )
    keep = torch.tensor(special, dtype=torch.bool, device=encoded["input_ids"].device)
    blank = torch.where(keep, encoded["input_ids"], tokenizer.pad_token_id)
    with _evaluating(model):
        there, empty = words(encoded["input_ids"]).detach(), words(blank).detach()
        ways = (torch.arange(steps, dtype=there.dtype, device=there.device) + 0.5) / steps
        total = torch.zeros_like(there)
        for part in ways.split(chunk):
            points = (empty + part[:, None, None] * (there - empty)).requires_grad_()
            score = _logits(model, encoded, points)[:, target].sum()
            total += torch.autograd.grad(score, points)[0].sum(0, keepdim=True)
        with torch.no_grad():
            ends = [float(_logits(model, encoded, x)[0, target]) for x in (there, empty)]
    scores = ((there - empty) * total / steps).sum(-1)[0]
    tokens = tokenizer.convert_ids_to_tokens(encoded["input_ids"][0].tolist())
    return Attribution(tokens, scores.detach().cpu().numpy(), *ends)


def leave_one_out(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, text: str, target: int
) -> Attribution:
    """How much the logit falls when one token is replaced by padding: as blunt as it is honest.

    The scores need not sum to anything. Special tokens get 0. `baseline` is `logit` less the sum.
    """
    encoded = _encoded(model, tokenizer, text)
    ids = encoded["input_ids"][0]
    special = tokenizer.get_special_tokens_mask(ids.tolist(), already_has_special_tokens=True)
    without = ids.repeat(len(ids), 1)
    spots = torch.arange(len(ids), device=ids.device)
    without[spots, spots] = tokenizer.pad_token_id
    with _evaluating(model), torch.no_grad():
        words = model.get_input_embeddings()
        whole = _logits(model, encoded, words(encoded["input_ids"]))[0, target]
        fall = whole - _logits(model, encoded, words(without))[:, target]
    scores = fall.cpu().numpy() * (1 - np.array(special))
    tokens = tokenizer.convert_ids_to_tokens(ids.tolist())
    return Attribution(tokens, scores, float(whole), float(whole) - float(scores.sum()))


def attention_to(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, text: str, layer: int = -1
) -> Attribution:
    """Attention that the first token pays to each, averaged over the heads of a layer.

    The heat maps of many a blog post, as numbers that sum to 1. Needs a model that was loaded with
    `attn_implementation="eager"`; raises ValueError where no attention comes back.
    """
    encoded = _encoded(model, tokenizer, text)
    with _evaluating(model), torch.no_grad():
        found = model(**encoded, output_attentions=True).attentions
    if not found or found[layer] is None:
        raise ValueError('no attention came back: load the model with attn_implementation="eager"')
    scores = found[layer][0].mean(0)[0].float().cpu().numpy()
    tokens = tokenizer.convert_ids_to_tokens(encoded["input_ids"][0].tolist())
    return Attribution(tokens, scores, float(scores.sum()), 0.0)


def faithfulness(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, text: str, target: int,
    scores: np.ndarray, share: float = 0.2,
) -> float:  # fmt: skip
    """How far the logit falls when the `share` of tokens with the highest scores becomes padding.

    An explanation that points at what mattered makes it fall far; compare with random scores.
    Source: DeYoung et al. 2020, arXiv:1911.03429 (comprehensiveness), on logits.
    """
    encoded = _encoded(model, tokenizer, text)
    ids = encoded["input_ids"][0]
    special = np.array(
        tokenizer.get_special_tokens_mask(ids.tolist(), already_has_special_tokens=True)
    )
    ranked = np.argsort(np.where(special == 1, -np.inf, scores))[::-1]
    cut = ranked[: max(1, round(share * int((special == 0).sum())))].copy()
    fewer = ids.clone()
    fewer[torch.from_numpy(cut).to(ids.device)] = tokenizer.pad_token_id
    with _evaluating(model), torch.no_grad():
        words = model.get_input_embeddings()
        both = [_logits(model, encoded, words(x[None]))[0, target] for x in (ids, fewer)]
    return float(both[0] - both[1])


def layer_states(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, texts: Sequence[str], *,
    batch_size: int = 32, max_length: int = 64,
) -> np.ndarray:  # fmt: skip
    """Mean of the tokens' states, embeddings and every layer: (layers + 1, texts, hidden)."""
    parts = []
    with _evaluating(model), torch.no_grad():
        for start in range(0, len(texts), batch_size):
            batch = tokenizer(
                list(texts[start : start + batch_size]), truncation=True, max_length=max_length,
                padding=True, return_tensors="pt",
            ).to(model.device)  # fmt: skip
            states = torch.stack(model(**batch, output_hidden_states=True).hidden_states)
            mask = batch["attention_mask"][None, :, :, None].to(states.dtype)
            parts.append(((states * mask).sum(2) / mask.sum(2)).float().cpu().numpy())
    return np.concatenate(parts, 1)


def probe_layers(
    states: np.ndarray, labels: Sequence[int], test_states: np.ndarray, test_labels: Sequence[int]
) -> list[float]:
    """Accuracy of a linear classifier on the states of each layer, (layers, rows, hidden).

    What is linearly readable where; not what the model uses. Standardised, C = 1. Compare with
    shuffled labels, which a wide layer can learn by heart but not carry over.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    found = []
    for train, test in zip(states, test_states, strict=True):
        model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=500))
        found.append(float(model.fit(train, labels).score(test, test_labels)))
    return found


def _encoded(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, text: str) -> dict:
    longest = min(tokenizer.model_max_length, getattr(model.config, "max_position_embeddings", 512))
    encoded = tokenizer(text, truncation=True, max_length=longest, return_tensors="pt")
    if not encoded["input_ids"].numel():
        raise ValueError("the text has no token: give another one")
    return encoded.to(model.device)


def _logits(model: PreTrainedModel, encoded: dict, embeddings: torch.Tensor) -> torch.Tensor:
    mask = encoded["attention_mask"].expand(len(embeddings), -1)
    return model(inputs_embeds=embeddings, attention_mask=mask).logits


class _evaluating:
    """Evaluation mode inside, what was before outside."""

    def __init__(self, model: torch.nn.Module) -> None:
        self.model, self.was = model, model.training

    def __enter__(self) -> None:
        self.model.eval()

    def __exit__(self, *_: object) -> None:
        self.model.train(self.was)
