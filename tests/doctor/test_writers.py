"""Models that write, BART as the example: what its rows, targets, ties and modes may have wrong.

Its encoder and decoder read different rows, its layers call dropout as a function, its decoder's
input is made of the labels: each is a place where checks made with T5 and BERT had looked wrongly.
"""

import pytest
import torch
import transformers
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from torch import nn

from cookbook.doctor import (
    Watch,
    checkpoint_checks,
    collation_checks,
    content_checks,
    duplicate_checks,
    ending_checks,
    kinds,
    label_checks,
    model_checks,
    parameters,
    randomness_checks,
    target_checks,
    tokenizer_probes,
)
from cookbook.doctor.checks import attempt
from cookbook.doctor.subject import Subject

WORDS = "return the number of nodes in a graph or tensor as list when it is empty else none".split()


@pytest.fixture(scope="module")
def tokens():
    """Words as they are, with <s> and </s> around each text, padding 1."""
    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    both = [*special, *WORDS, *(word.title() for word in WORDS)]
    made = Tokenizer(models.WordLevel({w: i for i, w in enumerate(both)}, unk_token="<unk>"))
    made.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    made.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=made, bos_token="<s>", eos_token="</s>", pad_token="<pad>",
        unk_token="<unk>", mask_token="<mask>",
    )  # fmt: skip


def writer(**settings):
    torch.manual_seed(0)
    small = {"vocab_size": 48, "d_model": 16, "encoder_layers": 1, "decoder_layers": 1,
             "encoder_attention_heads": 2, "decoder_attention_heads": 2, "encoder_ffn_dim": 16,
             "decoder_ffn_dim": 16, "max_position_embeddings": 64, "pad_token_id": 1,
             "bos_token_id": 0, "eos_token_id": 2, "decoder_start_token_id": 2,
             "forced_eos_token_id": None, "dropout": 0.1}  # fmt: skip
    return transformers.BartForConditionalGeneration(transformers.BartConfig(**small | settings))


def rows(tokens, count=24):
    draw = torch.Generator().manual_seed(0)

    def some(least):
        length = least + int(torch.randint(0, 6, (), generator=draw))
        chosen = torch.randint(0, len(WORDS), (length,), generator=draw).tolist()
        return tokens(" ".join(WORDS[i] for i in chosen))["input_ids"]

    return [{"input_ids": some(6), "labels": some(3)} for _ in range(count)]


def said(check, tokens, data=None, model=None, label_pad=-100, held_out=None, **given):
    collate = transformers.DataCollatorForSeq2Seq(tokens, label_pad_token_id=label_pad)
    subject = Subject(model or writer(), train_dataset=data or rows(tokens),
                      eval_dataset=held_out, data_collator=collate, processing_class=tokens,
                      **given)  # fmt: skip
    found, reason = attempt(check, subject)
    assert "failed" not in reason, reason
    return [one.fault for one in found]


def own_loss(outputs, batch):
    return nn.functional.cross_entropy(outputs.logits.flatten(0, 1), batch["labels"].flatten())


def test_a_loss_of_ones_own_makes_it_nothing_else(tokens):
    assert kinds.kind_of(writer(), [], own_loss) == "seq2seq"
    assert said(target_checks.check_the_loss_takes_the_labels, tokens, loss_fn=own_loss) == []
    assert said(label_checks.check_padding_has_no_label, tokens, loss_fn=own_loss) == []


@pytest.mark.parametrize("pad", [0, 1])
def test_padding_with_a_label_is_t2_whatever_its_number(tokens, pad):
    assert said(label_checks.check_padding_has_no_label, tokens, label_pad=pad) == ["T2"]
    assert said(label_checks.check_padding_has_no_label, tokens) == []


def test_labels_under_another_name_are_t14(tokens):
    data = [{"input_ids": r["input_ids"], "summary": r["labels"]} for r in rows(tokens)]
    args = transformers.Seq2SeqTrainingArguments(use_cpu=True, report_to="none")
    assert said(label_checks.check_labels_arrive, tokens, data, args=args) == ["T14"]
    assert said(label_checks.check_labels_arrive, tokens, args=args) == []


def test_beginnings(tokens):
    check, usual = collation_checks.check_rows_begin_once, rows(tokens)
    assert said(check, tokens) == []
    twice = [{**r, "labels": [0, *r["labels"]]} for r in usual]
    assert said(check, tokens, twice) == ["T7"]
    assert said(check, tokens, model=writer(decoder_start_token_id=0)) == ["T7"]
    bare = [{**r, "input_ids": r["input_ids"][1:]} for r in usual]
    assert said(check, tokens, bare) == ["T7"]


def test_ends(tokens):
    model = writer()
    assert said(ending_checks.check_end_is_learnt, tokens, model=model) == []
    model.generation_config.eos_token_id = 1
    assert said(ending_checks.check_end_is_learnt, tokens, model=model) == ["T1"]
    cut = [{**r, "labels": [*r["labels"][:5], 2]} for r in rows(tokens)]
    cut[0]["labels"], cut[1]["labels"] = [0, 9, 2], [0, 8, 2]
    assert said(ending_checks.check_truncation_spares_the_target, tokens, cut) == ["T4"]
    assert said(ending_checks.check_truncation_spares_the_target, tokens) == []


def test_empty_targets_are_d9(tokens):
    data = rows(tokens)
    for row in data[:4]:
        row["labels"] = [0, 2]
    assert said(content_checks.check_rows_hold_something, tokens, data) == ["D9"]
    for row in data[:4]:
        row["labels"] = [-100, -100]
    assert said(content_checks.check_rows_hold_something, tokens, data) == []  # that is T3
    assert said(content_checks.check_rows_hold_something, tokens) == []


class Drawn:
    """Rows whose words are dropped, or covered, anew at each reading."""

    def __init__(self, held, mask=None):
        self.held, self.mask = held, mask

    def __len__(self):
        return len(self.held)

    def __getitem__(self, place):
        ids, keep = self.held[place]["input_ids"], torch.rand(64).tolist()
        kept = [i if keep[n] > 0.5 else self.mask for n, i in enumerate(ids)]
        return {**self.held[place], "input_ids": [i for i in kept if i is not None]}


def test_words_dropped_from_the_evaluation_are_d6_and_denoising_is_not(tokens):
    check = randomness_checks.check_evaluation_stays_the_same
    assert said(check, tokens, held_out=Drawn(rows(tokens))) == ["D6"]
    assert said(check, tokens, held_out=Drawn(rows(tokens), tokens.mask_token_id)) == []
    assert said(check, tokens, held_out=rows(tokens)) == []


def test_copies_in_capitals_are_d1_though_only_ids_are_there(tokens):
    data = rows(tokens, 60)
    shouted = [tokens(tokens.decode(r["input_ids"], skip_special_tokens=True).title())["input_ids"]
               for r in data[:20]]  # fmt: skip
    again = [{**r, "input_ids": ids} for r, ids in zip(data[:20], shouted, strict=True)]
    check = duplicate_checks.check_evaluation_is_new
    assert said(check, tokens, data[:40], held_out=again) == ["D1"]
    assert said(check, tokens, data[:40], held_out=data[40:]) == []


def test_ties_of_all_three_embeddings(tokens):
    def copied(place):
        model = writer()
        table = model.model.shared.weight.detach().clone()
        if place == "head":
            model.lm_head = nn.Linear(16, 48, bias=False)
            model.lm_head.weight = nn.Parameter(table)
        else:
            model.model.encoder.embed_tokens = nn.Embedding.from_pretrained(table, freeze=False)
        return model

    assert said(model_checks.check_ties_hold, tokens) == []
    for place in ("head", "encoder"):
        assert said(model_checks.check_ties_hold, tokens, model=copied(place)) == ["M3"]


def test_a_new_head_of_a_writer_that_is_frozen_is_m2(tokens, tmp_path):
    kept = writer(tie_word_embeddings=False)
    state = {k: v for k, v in kept.state_dict().items() if not k.startswith("lm_head")}
    kept.save_pretrained(tmp_path, state_dict=state)
    model = transformers.BartForConditionalGeneration.from_pretrained(tmp_path)
    check = model_checks.check_new_head_is_trained
    assert said(check, tokens, model=model) == []
    model.lm_head.requires_grad_(False)
    assert said(check, tokens, model=model) == ["M2"]
    tokens.name_or_path = "another"  # a new head guesses whatever is read: that is no T6
    assert said(tokenizer_probes.check_tokenizer_is_the_checkpoints, tokens, model=model) == []


def test_an_encoder_that_was_loaded_without_its_table_is_m1(tokens, tmp_path):
    """One of many weights: but it is all that the encoder reads by."""
    writer(encoder_layers=4, decoder_layers=4).save_pretrained(tmp_path)
    load = transformers.BartForConditionalGeneration.from_pretrained
    check = checkpoint_checks.check_backbone_is_loaded
    assert said(check, tokens, model=load(tmp_path)) == []
    assert said(check, tokens, model=load(tmp_path, tie_word_embeddings=False)) == ["M1"]


def test_a_head_that_was_loaded_under_another_name_is_not_new(tmp_path):
    """GPT-NeoX's files say embed_out, and the class lm_head."""
    small = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2,
             "intermediate_size": 16, "vocab_size": 60}  # fmt: skip
    transformers.GPTNeoXForCausalLM(transformers.GPTNeoXConfig(**small)).save_pretrained(tmp_path)
    model = transformers.GPTNeoXForCausalLM.from_pretrained(tmp_path)
    model.lm_head.requires_grad_(False)
    rows = [{"input_ids": [5, 6, 7], "labels": [5, 6, 7]}] * 8
    subject = Subject(model, train_dataset=rows)
    assert subject.kind == "causal-lm"
    assert attempt(model_checks.check_new_head_is_trained, subject)[0] == []


def test_layers_that_are_frozen_may_rest():
    model = writer(decoder_layers=2)
    every = parameters.dropouts(model)
    layer = model.model.decoder.layers[0].requires_grad_(False)
    assert layer in every and layer not in parameters.dropouts(model)


@pytest.mark.parametrize(("training", "expected"), [(False, ["M7"]), (True, [])])
def test_dropout_that_is_called_as_a_function_has_a_mode_too(tokens, training, expected):
    model = writer().train(training)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    batch = transformers.DataCollatorForSeq2Seq(tokens)(rows(tokens, 4))
    with Watch(model, optimizer) as watch:
        for _ in range(6):
            loss = model(**batch).loss
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            watch.step(loss)
    assert watch.report.faults() == expected
