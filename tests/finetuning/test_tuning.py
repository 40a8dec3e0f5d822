"""Any head trains, the best weights stay, and each row gets its own part of the answers."""

import numpy as np
import torch

from cookbook.finetuning import tuning
from cookbook.finetuning.encoding import collator, encode_rows
from cookbook.models import load_model, load_tokenizer


def rows_of(checkpoint, labelled, split="train"):
    return encode_rows(labelled[split], load_tokenizer(checkpoint), 64)


def test_training_lowers_the_loss_and_a_run_repeats_itself(checkpoint, labelled, new, tmp_path):
    rows, pad = rows_of(checkpoint, labelled), collator(load_tokenizer(checkpoint))
    how = {"learning_rate": 5e-3, "max_steps": 30, "batch_size": 8, "output_dir": tmp_path}
    first, second = new(), new()
    curves = [tuning.tune(model, rows, pad, **how) for model in (first, second)]
    assert curves[0] == curves[1] and curves[0][-1][1] < 0.7 * curves[0][0][1]
    for one, other in zip(first.parameters(), second.parameters(), strict=True):
        assert torch.equal(one, other)


def test_the_weights_of_the_best_look_stay(checkpoint, labelled, new, tmp_path):
    rows, pad = rows_of(checkpoint, labelled), collator(load_tokenizer(checkpoint))
    seen = []

    def score(model):
        seen.append(model.classifier.weight.detach().clone())
        return -len(seen)  # the first look is the best

    model = new()
    tuning.tune(model, rows, pad, learning_rate=5e-3, max_steps=8, score=score, output_dir=tmp_path)
    assert len(seen) == tuning.LOOKS
    assert torch.equal(model.classifier.weight, seen[0]) and not torch.equal(seen[0], seen[-1])


def test_a_row_is_answered_in_a_batch_as_it_is_alone(checkpoint, labelled):
    tokenizer = load_tokenizer(checkpoint)
    rows, pad = rows_of(checkpoint, labelled, "test"), collator(tokenizer)
    model = load_model(checkpoint, "tagging", num_labels=5)
    for row in rows:
        row.pop("labels")
    together = tuning.ask(model, rows, pad)
    assert {len(row["input_ids"]) for row in rows} != {len(rows[0]["input_ids"])}
    for row, (logits,) in zip(rows, together, strict=True):
        (alone,) = tuning.ask(model, [row], pad)[0]
        assert logits.shape == (len(row["input_ids"]), 5)
        np.testing.assert_allclose(logits, alone, atol=1e-5)
