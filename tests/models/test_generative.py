"""Who sees what: decoders never the future, encoders all, XLNet what its permutation allows."""

import pytest
import torch

from cookbook.models import samples
from cookbook.models.generative import bert_to_bert, llama
from cookbook.models.registry import architecture, build

SMALL = {"vocab_size": 60, "length": 24, "dropout": 0.0}
DECODERS = ["rnn", "lstm", "gpt2", "llama"]
WRITERS = ["bart", "t5", "bert-to-bert"]


def text(rows=2, length=10, seed=0):
    return torch.randint(5, 50, (rows, length), generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("name", DECODERS)
def test_a_later_token_never_moves_an_earlier_logit(name):
    model, ids = build(name, **SMALL).eval(), text()
    changed = ids.clone()
    changed[:, 6] = 55
    with torch.no_grad():
        before, after = model(input_ids=ids).logits, model(input_ids=changed).logits
    assert torch.equal(before[:, :6], after[:, :6])
    assert (before[:, 6:] != after[:, 6:]).any(-1).all()


@pytest.mark.parametrize("name", ["bert", "roberta", "distilbert", "albert"])
def test_an_encoder_sees_both_sides(name):
    model, ids = build(name, **SMALL).eval(), text()
    changed = ids.clone()
    changed[:, 6] = 55
    with torch.no_grad():
        moved = (model(input_ids=ids).logits - model(input_ids=changed).logits).abs().amax(-1)
    assert (moved > 0).all()


@pytest.mark.parametrize("name", WRITERS)
def test_the_target_is_written_from_the_left_and_the_source_read_as_a_whole(name):
    model, source, target = build(name, **SMALL).eval(), text(), text(length=8, seed=1)

    def logits(source, target):
        with torch.no_grad():
            return model(input_ids=source, decoder_input_ids=target).logits

    before, late, last = logits(source, target), target.clone(), source.clone()
    late[:, 5], last[:, -1] = 55, 55
    assert torch.equal(before[:, :5], logits(source, late)[:, :5])
    assert (before != logits(last, target)).any(-1).all()


def test_xlnet_predicts_from_what_the_permutation_allows_and_not_from_itself():
    model, batch = build("xlnet", dropout=0.0, vocab_size=512).eval(), samples.permuted()
    del batch["labels"]
    asked = batch["target_mapping"].argmax(-1)  # (rows, targets), in the order of prediction
    with torch.no_grad():
        before = model(**batch).logits
        for place in range(asked.shape[1]):
            changed = batch["input_ids"].scatter(1, asked[:, place : place + 1], 300)
            moved = (model(**batch | {"input_ids": changed}).logits != before).any(-1)
            assert not moved[:, : place + 1].any() and moved[:, place + 1 :].all()


def test_the_output_is_the_embedding_matrix():
    for name in ("gpt2", "xlnet", "bart", "t5", "bert", "roberta", "distilbert"):
        model = build(name, **SMALL)
        assert model.get_output_embeddings().weight is model.get_input_embeddings().weight, name


def test_llama_has_rotary_positions_fewer_keys_and_no_bias():
    model = llama(**SMALL)
    attention = model.model.layers[0].self_attn
    assert attention.k_proj.weight.shape[0] * 2 == attention.q_proj.weight.shape[0]
    names = [name for name, _ in model.named_parameters()]
    assert not any("bias" in name or "position" in name for name in names)


def test_both_berts_may_be_poured_in_and_only_the_cross_attention_is_new(tiny_bert, tokenizer):
    bert = tiny_bert()
    model = bert_to_bert("tiny", vocab_size=len(tokenizer), length=64)
    report = model.decoder.load_state_dict(bert.state_dict(), strict=False)
    assert report.missing_keys and all("crossattention" in key for key in report.missing_keys)
    assert report.unexpected_keys == []


@pytest.mark.parametrize("name", [*WRITERS, "gpt2", "llama"])
def test_what_was_learned_by_heart_is_written(name):
    """The special ids are in place: generation starts and stops where training did."""
    from cookbook.models.profiling import overfit, trainable

    entry = architecture(name)
    model, batch = trainable(entry), entry.batch()
    overfit(model, batch, steps=45, rate=1e-2)
    labels = batch["labels"]
    asked = dict(batch) if name in WRITERS else {"input_ids": labels[:, :4]}
    asked.pop("labels", None)
    settings = {"max_length": labels.shape[1] + (name in WRITERS), "do_sample": False}
    written = model.eval().generate(**asked, **settings)
    truth = labels if name not in WRITERS else torch.nn.functional.pad(labels, (1, 0))
    length = min(truth.shape[1], written.shape[1])
    from_here = 1 if name in WRITERS else 4
    truth, written = truth[:, from_here:length], written[:, from_here:length]
    kept = truth != -100
    assert (written == truth)[kept].float().mean() > 0.8
