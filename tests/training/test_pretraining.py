"""A pretraining run learns, and what it is measured by is what it says it is."""

import math

import numpy as np
import pytest
import torch

from cookbook.data.tokenization import Packed, pack
from cookbook.training.objectives import IGNORE, MaskedLMCollator
from cookbook.training.order import Keyed
from cookbook.training.pretraining import (
    EVALUATION_SEED,
    evaluate_masked_lm,
    masked_lm_rows,
    pretrain,
    unigram_baseline,
)


@pytest.fixture
def texts():
    return [f"The solver computes the {w} of two tensors, and returns a copy."
            for w in ("gradient", "median", "eigenvalue") for _ in range(12)]  # fmt: skip


@pytest.fixture
def rows(texts, tokenizer):
    return masked_lm_rows(texts, tokenizer, 24)


def quick(model, tokenizer, rows, folder, *, steps=6, **given):
    settings = dict(batch_size=4, output_dir=folder, disable_tqdm=True, learning_rate=3e-3)
    return pretrain(model, tokenizer, rows, steps=steps, **(settings | given))


def test_every_text_stands_between_its_own_marks(texts, tokenizer):
    packed = masked_lm_rows(texts[:2], tokenizer, 200)
    expected = [token for text in texts[:2] for token in tokenizer(text)["input_ids"]]
    assert packed.input_ids[0][: len(expected)].tolist() == expected
    assert packed.tokens == len(expected)
    apart = masked_lm_rows(texts[:2], tokenizer, 200, cross_documents=False)
    assert apart.document_ids.max() == 2


def test_a_long_text_is_neither_cut_nor_warned_about(tokenizer, caplog):
    import copy

    fresh = copy.deepcopy(tokenizer)
    assert len(tokenizer.tokenize("the")) == 1
    assert masked_lm_rows(["the " * 400], fresh, 16).tokens == 402
    assert fresh.model_max_length == tokenizer.model_max_length and not caplog.records


def test_the_first_loss_is_that_of_a_guess(tiny_bert, tokenizer, rows):
    loss = evaluate_masked_lm(tiny_bert(), tokenizer, rows)["loss"]
    assert loss == pytest.approx(math.log(len(tokenizer)), rel=0.05)


def test_a_run_learns(tiny_bert, tokenizer, rows, tmp_path):
    model = tiny_bert()
    before = evaluate_masked_lm(model, tokenizer, rows)
    done = quick(model, tokenizer, rows, tmp_path, steps=60)
    after = evaluate_masked_lm(model, tokenizer, rows)
    assert done.model is model
    assert after["loss"] < before["loss"] - 1
    baseline = unigram_baseline(rows, rows, tokenizer.all_special_ids)
    assert after["masked_accuracy"] > max(baseline, before["masked_accuracy"])
    curve = done.curve()
    assert curve[0][0] < curve[-1][0] and curve[-1][1] < curve[0][1]
    assert done.seconds > 0


def test_a_run_is_repeatable_whatever_the_global_state(tiny_bert, tokenizer, rows, tmp_path):
    weights = []
    for state in (1, 2):
        torch.manual_seed(state)
        model = quick(tiny_bert(), tokenizer, rows, tmp_path).model
        weights.append(torch.cat([p.flatten() for p in model.parameters()]))
    assert torch.equal(*weights)
    other = quick(tiny_bert(), tokenizer, rows, tmp_path, seed=1).model
    assert not torch.equal(weights[0], torch.cat([p.flatten() for p in other.parameters()]))


def test_held_out_rows_are_measured_four_times_and_change_nothing(
    tiny_bert, tokenizer, rows, tmp_path
):
    plain = quick(tiny_bert(), tokenizer, rows, tmp_path, steps=8)
    measured = quick(tiny_bert(), tokenizer, rows, tmp_path, steps=8, evaluation_rows=rows)
    steps = [step for step, _ in measured.curve("eval_loss")]
    assert steps == [2, 4, 6, 8]
    last = measured.curve("eval_loss")[-1][1]
    assert last == pytest.approx(evaluate_masked_lm(measured.model, tokenizer, rows)["loss"])
    for one, other in zip(plain.model.parameters(), measured.model.parameters(), strict=True):
        assert torch.equal(one, other)


def test_the_rate_warms_up_and_decays(tiny_bert, tokenizer, rows, tmp_path):
    done = quick(tiny_bert(), tokenizer, rows, tmp_path, steps=10, warmup=0.2, learning_rate=1e-3)
    rates = [rate for _, rate in done.curve("learning_rate")]
    assert rates == pytest.approx([0, 5e-4] + [1e-3 * (8 - k) / 8 for k in range(8)], abs=1e-9)
    by_number = quick(
        tiny_bert(), tokenizer, rows, tmp_path, steps=10, warmup=2, learning_rate=1e-3
    )
    assert [rate for _, rate in by_number.curve("learning_rate")] == pytest.approx(rates, abs=1e-9)


def test_tokens_are_those_that_were_read(tiny_bert, tokenizer, tmp_path):
    packed = pack([list(range(10, 22))] * 5, 12)  # five full rows: batches of 4 and 1
    done = quick(tiny_bert(), tokenizer, packed, tmp_path, steps=4)
    assert done.tokens == 2 * 5 * 12
    done = quick(tiny_bert(), tokenizer, packed, tmp_path, steps=2, batch_size=64)
    assert done.tokens == 2 * 5 * 12


def test_padding_is_no_token_that_was_read(tiny_bert, tokenizer, tmp_path):
    packed = pack([[10, 11, 12]] * 4, 8, cross_documents=False)
    assert len(packed) == 2 and packed.tokens == 12
    assert quick(tiny_bert(), tokenizer, packed, tmp_path, steps=3).tokens == 36


@pytest.mark.parametrize("whole_word", [False, True])
def test_both_paths_train_the_same_model(tiny_bert, tokenizer, rows, tmp_path, whole_word):
    models = [
        quick(tiny_bert(), tokenizer, rows, tmp_path, steps=3, masked_only=fast,
              whole_word=whole_word).model
        for fast in (True, False)
    ]  # fmt: skip
    for one, other in zip(*(m.parameters() for m in models), strict=True):
        assert torch.allclose(one, other, atol=2e-4)


def test_half_precision_computes_but_keeps_the_weights_whole(tiny_bert, tokenizer, rows, tmp_path):
    model = quick(tiny_bert(), tokenizer, rows, tmp_path, steps=2, precision="bf16").model
    assert {p.dtype for p in model.parameters()} == {torch.float32}
    fresh, ids = tiny_bert().eval(), torch.tensor([[2, 9, 8, 3]])
    fresh.load_state_dict(model.state_dict())
    with torch.no_grad():  # and afterwards it answers with all of them
        assert torch.equal(model.eval()(ids).logits, fresh(ids).logits)


def by_hand(model, tokenizer, rows):
    """All rows one by one, every logit computed, one division at the end."""
    collate, total, right, count = MaskedLMCollator(tokenizer, seed=EVALUATION_SEED), 0.0, 0, 0
    model.eval()
    for row in range(len(rows)):
        batch = collate([Keyed(rows)[row]])
        labels = batch.pop("labels")
        with torch.no_grad():
            logits = model(**batch).logits.double().log_softmax(-1)
        for place in (labels[0] != IGNORE).nonzero().flatten():
            answer = labels[0, place]
            total -= logits[0, place, answer].item()
            right += int(logits[0, place].argmax() == answer)
            count += 1
    return {"loss": total / count, "perplexity": math.exp(total / count),
            "masked_accuracy": right / count, "masked_tokens": count}  # fmt: skip


@pytest.mark.parametrize("cross_documents", [True, False])
def test_the_measure_is_the_mean_over_all_masked_tokens(
    tiny_bert, tokenizer, texts, tmp_path, cross_documents
):
    rows = masked_lm_rows(texts, tokenizer, 24, cross_documents=cross_documents)
    model = quick(tiny_bert(), tokenizer, rows, tmp_path, steps=20).model
    expected = by_hand(model, tokenizer, rows)
    assert 0 < expected["masked_accuracy"] < 1
    for size in (1, 5, 64):  # a mean of batch means would move with the size
        found = evaluate_masked_lm(model, tokenizer, rows, batch_size=size)
        assert found == pytest.approx(expected, rel=1e-5), size


def test_measuring_leaves_modes_weights_gradients_and_random_states(tiny_bert, tokenizer, rows):
    model = tiny_bert(hidden_dropout_prob=0.5)
    model.train()
    model.bert.embeddings.eval()  # a part that somebody froze
    modes = [module.training for module in model.modules()]
    weights = [p.detach().clone() for p in model.parameters()]
    states = torch.get_rng_state(), np.random.get_state()[1].tolist()
    first = evaluate_masked_lm(model, tokenizer, rows)
    assert [module.training for module in model.modules()] == modes
    assert torch.equal(torch.get_rng_state(), states[0])
    assert np.random.get_state()[1].tolist() == states[1]
    assert all(p.grad is None for p in model.parameters())
    assert all(torch.equal(a, b) for a, b in zip(weights, model.parameters(), strict=True))
    assert evaluate_masked_lm(model, tokenizer, rows) == first  # dropout was off


def test_nothing_to_mask_is_an_error_and_no_perfect_score(tiny_bert, tokenizer):
    model = tiny_bert().train()
    for rows in (pack([], 8), pack([[2, 3]], 8)):
        with pytest.raises(ValueError, match=f"^{len(rows)} rows hold nothing to mask"):
            evaluate_masked_lm(model, tokenizer, rows)
    assert model.training


def packed_ids(*rows):
    ids = np.array(rows)
    return Packed(ids, (ids > 0).astype(int), np.zeros_like(ids))


def test_the_baseline_answers_the_most_frequent_token_of_the_other_rows():
    train = packed_ids([2, 7, 7, 7, 3, 8, 8, 0], [2, 2, 2, 2, 3, 3, 3, 0])
    held_out = packed_ids([2, 7, 8, 8, 9, 3, 0, 0])
    assert unigram_baseline(train, held_out, special=(0, 2, 3)) == 1 / 4
    assert unigram_baseline(train, train, special=(0, 2, 3)) == 3 / 5
