"""Frozen features: never out of date; the head is logistic regression on them as they are."""

import copy

import numpy as np
import pytest
import torch

from cookbook.finetuning import features
from cookbook.finetuning.encoding import collator, encode_rows, mean_pool, predict
from cookbook.models.initialization import load_model, load_tokenizer


@pytest.fixture
def parts(checkpoint, labelled):
    features._cache.clear()
    tokenizer = load_tokenizer(checkpoint)
    encoder = load_model(checkpoint, "encoder").eval()
    return encoder, encode_rows(labelled["train"], tokenizer, 64), tokenizer


def test_features_are_the_mean_over_tokens_without_padding(parts):
    encoder, rows, tokenizer = parts
    found = features.cached(encoder, rows, tokenizer)
    assert found.shape == (48, 32)
    for row in (0, 13):
        with torch.no_grad():
            alone = encoder(torch.tensor([rows[row]["input_ids"]]))[0].mean(1)[0]
        np.testing.assert_allclose(found[row], alone, rtol=1e-5, atol=1e-6)


def test_changed_weights_rows_or_precision_are_read_again(parts):
    encoder, rows, tokenizer = parts
    first = features.cached(encoder, rows, tokenizer)
    assert features.cached(copy.deepcopy(encoder), copy.deepcopy(rows), tokenizer) is first
    relabelled = [{**row, "labels": 0} for row in rows]
    assert features.cached(encoder, relabelled, tokenizer) is first
    assert features.cached(encoder, rows[::-1], tokenizer) is not first
    assert features.cached(encoder, rows, tokenizer, "bf16") is not first
    with torch.no_grad():
        encoder.embeddings.LayerNorm.bias[0] += 1
    assert features.cached(encoder, rows, tokenizer) is not first


def test_the_cache_is_bounded_and_cannot_be_written(parts):
    encoder, rows, tokenizer = parts
    for row in rows[: features.KEPT + 3]:
        found = features.cached(encoder, [row], tokenizer)
    assert len(features._cache) == features.KEPT
    with pytest.raises(ValueError, match="read-only"):
        found[0] = 0


def fit(x, y, validation=None, **settings):
    settings = {"classes": 3, "learning_rate": 0.05, "seed": 0} | settings
    return features.fit_head(x, y, validation or (x, y), **settings)


def blobs(rows, scale=1.0, shift=0.0):
    rng = np.random.default_rng(0)
    y = rng.integers(0, 3, rows)
    x = rng.normal(size=(rows, 5)) + np.eye(3, 5)[y] * 2.5
    return (x * scale + shift).astype(np.float32), y


def test_head_is_as_good_as_scikit_learns():
    from sklearn.linear_model import LogisticRegression

    (x, y), (held_out, truth) = (part for part in (blobs(300), blobs(900)))
    head, _ = fit(x, y)
    ours = (head(torch.tensor(held_out)).argmax(-1).numpy() == truth).mean()
    theirs = LogisticRegression().fit(x, y).score(held_out, truth)
    assert ours == pytest.approx(theirs, abs=0.02)


def test_scale_and_offset_of_features_change_nothing():
    plain, history = fit(*blobs(120))
    moved, other = fit(*blobs(120, scale=100.0, shift=7.0))
    np.testing.assert_allclose([y for _, y in history], [y for _, y in other], atol=1e-3)
    answers = plain(torch.tensor(blobs(120)[0]))
    shifted = moved(torch.tensor(blobs(120, scale=100.0, shift=7.0)[0]))
    torch.testing.assert_close(answers, shifted, atol=1e-2, rtol=1e-3)


def test_a_constant_feature_does_no_harm():
    x, y = blobs(60)
    x[:, 4] = 3.0
    head, _ = fit(x, y)
    assert all(p.isfinite().all() for p in head.parameters())


def test_validation_decides_when_to_stop():
    x, y = blobs(60)
    final, _ = fit(x, y)
    turned = (y + 1) % 3  # the better the head gets, the worse it looks: the first look wins
    early, history = fit(x, y, (x, turned))
    assert len(history) == features.STEPS
    assert early.weight.norm() < 0.8 * final.weight.norm()


def test_probe_is_a_model_of_its_own(parts):
    encoder, rows, tokenizer = parts
    probe = features.Probe(encoder, torch.nn.Linear(32, 3)).train()
    assert probe.head.training
    assert not any(module.training for module in probe.encoder.modules())
    batch = collator(tokenizer)(rows[:5])
    out = probe(**batch)
    with torch.no_grad():
        pooled = mean_pool(
            encoder(**{k: v for k, v in batch.items() if k != "labels"})[0], batch["attention_mask"]
        )
    torch.testing.assert_close(out["logits"], probe.head(pooled))
    out["loss"].backward()
    assert probe.head.weight.grad.abs().sum() > 0
    assert all(p.grad is None and not p.requires_grad for p in encoder.parameters())
    answers = predict(probe, rows, tokenizer)
    expected = probe.head(torch.tensor(features.cached(encoder, rows, tokenizer)))
    np.testing.assert_allclose(answers, expected.detach(), rtol=1e-5, atol=1e-6)
