"""Targets end, the loss is that of shifted targets, and what was learnt by heart is written."""

import warnings

import pytest
import torch

from cookbook.data.byte_pairs import train_byte_pairs
from cookbook.finetuning import sequence_to_sequence as s2s
from cookbook.finetuning import task_mistakes
from cookbook.finetuning.tuning import tune
from cookbook.maths.decoder_inputs import shift_right
from cookbook.models import load_tokenizer

SOURCES = ["5 kilometers", "6 May", "red", "a blue house"]
TARGETS = ["5公里", "6. Mai", "rot", "ein blaues Haus"]
TOKENIZER = train_byte_pairs([*SOURCES, *TARGETS] * 9, 300, digits=True)


@pytest.fixture(scope="module")
def small():
    return s2s.small_t5(TOKENIZER, "tiny", seed=0)


def trained(rows, steps):
    model = s2s.small_t5(TOKENIZER, "tiny", seed=0)
    tune(model, rows, s2s.collator(TOKENIZER), learning_rate=3e-2, max_steps=steps, batch_size=4)
    return model


def test_labels_are_the_target_and_its_end_even_where_it_is_cut():
    rows = s2s.encode(SOURCES, TARGETS, TOKENIZER, target_length=4)
    end = s2s.end_id(TOKENIZER)
    assert all(row["labels"][-1] == end and len(row["labels"]) <= 4 for row in rows)
    whole = s2s.encode(SOURCES, TARGETS, TOKENIZER)
    assert [TOKENIZER.decode(row["labels"][:-1]) for row in whole] == TARGETS
    assert "labels" not in s2s.encode(SOURCES, None, TOKENIZER)[0]


def test_the_loss_is_that_of_targets_moved_by_one(small, checkpoint):
    for model, tokenizer in ((small, TOKENIZER), s2s.prepare(checkpoint)):
        batch = s2s.collator(tokenizer)(s2s.encode(SOURCES, TARGETS, tokenizer))
        labels = batch["labels"]
        read = shift_right(labels, model.config.decoder_start_token_id, tokenizer.pad_token_id)
        with torch.no_grad():
            model.eval()
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", FutureWarning)  # how the loss used to be computed
                loss = model(**batch).loss
            logits = model(
                input_ids=batch["input_ids"], attention_mask=batch["attention_mask"],
                decoder_input_ids=read,
            ).logits  # fmt: skip
        ours = torch.nn.functional.cross_entropy(logits.flatten(0, 1), labels.flatten())
        torch.testing.assert_close(ours, loss, rtol=1e-5, atol=1e-6)


def test_the_loss_counts_tokens_not_batches_and_no_padding(small):
    rows = s2s.encode(SOURCES, TARGETS, TOKENIZER)
    alone = [s2s.loss_of(small, [row], TOKENIZER) for row in rows]
    weights = [len(row["labels"]) for row in rows]
    expected = sum(a * w for a, w in zip(alone, weights, strict=True)) / sum(weights)
    for batch_size in (3, 32):
        assert s2s.loss_of(small, rows, TOKENIZER, batch_size=batch_size) == pytest.approx(
            expected, rel=1e-5
        )


def test_what_was_learnt_is_written_and_without_an_end_it_does_not_stop():
    rows = s2s.encode(SOURCES, TARGETS, TOKENIZER)
    whole = trained(rows, 50)
    assert s2s.write(whole, rows, TOKENIZER) == TARGETS
    assert s2s.write(whole, rows, TOKENIZER, beams=3) == TARGETS
    endless = trained(task_mistakes.without_end(rows), 12)
    ids = s2s.write_ids(endless, rows, TOKENIZER, longest=16)
    assert all(len(one) == 16 for one in ids)
    assert all(one[-1] == s2s.end_id(TOKENIZER) for one in s2s.write_ids(whole, rows, TOKENIZER))


def test_two_copies_of_an_encoder_write_and_know_their_end(checkpoint):
    model, tokenizer = s2s.prepare(checkpoint)
    end = load_tokenizer(checkpoint).sep_token_id
    assert model.config.eos_token_id == model.generation_config.eos_token_id == end
    rows = s2s.encode(["solver number 3"], None, tokenizer)
    assert len(s2s.write_ids(model, rows, tokenizer, longest=5)[0]) <= 5


def test_a_translator_is_the_given_one_or_a_new_one_with_its_own_tokens(
    checkpoint, small, tmp_path
):
    made, tokenizer = s2s.translator(checkpoint, SOURCES * 9, vocab_size=280, size="tiny")
    assert made.config.model_type == "t5" and len(tokenizer) <= 280
    small.save_pretrained(tmp_path), TOKENIZER.save_pretrained(tmp_path)
    given, tokenizer = s2s.translator(str(tmp_path), SOURCES)
    assert torch.equal(given.shared.weight, small.shared.weight)
    assert given.missing_keys == [] and len(tokenizer) == len(TOKENIZER)


def test_a_decoder_alone_is_refused(tmp_path):
    from cookbook.models import build

    build("gpt2", vocab_size=len(TOKENIZER)).save_pretrained(tmp_path)
    TOKENIZER.save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="family decoder"):
        s2s.prepare(str(tmp_path))


def test_the_baselines_by_hand():
    assert s2s.nearest(SOURCES, TARGETS, ["7 kilometers", "blue house"]) == [
        "5公里",
        "ein blaues Haus",
    ]
    assert s2s.lead("One line\nbroken in two. Another.") == "One line broken in two."
    assert s2s.lead("no stop here\n\nNext paragraph.") == "no stop here"
