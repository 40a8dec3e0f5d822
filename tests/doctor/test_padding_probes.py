"""T10: answers that depend on padding are found; masked, causal and exempt models are not."""

import pytest
import torch
import transformers
from torch import nn

from cookbook.doctor import padding_probes
from cookbook.doctor.checks import attempt
from cookbook.doctor.subject import Subject

CHECK = padding_probes.check_padding_is_masked
SMALL = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "vocab_size": 99,
         "intermediate_size": 32}  # fmt: skip


def verdicts(model, dataset, **given):
    found, reason = attempt(CHECK, Subject(model, train_dataset=dataset, **given))
    assert "failed" not in reason, reason
    return [(one.fault, one.severity) for one in found]


def rows(pad, labels="row", side="right", mask=True, length=12):
    torch.manual_seed(0)
    made = []
    for number in range(6):
        count = 12 if number == 0 else 4 + number
        ids = torch.full((length,), pad)
        place = slice(0, count) if side == "right" else slice(length - count, length)
        ids[place] = torch.randint(5, 90, (count,))
        row = {"input_ids": ids, "attention_mask": (ids != pad).long()}
        row["labels"] = torch.tensor(number % 2) if labels == "row" else ids
        made.append(row if mask else {k: v for k, v in row.items() if k != "attention_mask"})
    return made


@pytest.mark.parametrize("head", ["BertForSequenceClassification", "BertForMaskedLM"])
def test_a_mask_that_is_missing_or_full_is_found(tiny_bert, tokenizer, head):
    model, pad = tiny_bert(head), tokenizer.pad_token_id
    labels = "row" if "Sequence" in head else "tokens"
    assert verdicts(model, rows(pad, labels), processing_class=tokenizer) == []
    without = rows(pad, labels, mask=False)
    assert verdicts(model, without, processing_class=tokenizer) == [("T10", "error")]
    full = [{**row, "attention_mask": torch.ones(12).long()} for row in rows(pad, labels)]
    assert verdicts(model, full, processing_class=tokenizer) == [("T10", "error")]


def test_a_model_that_ignores_its_mask_is_found(tiny_bert):
    class Mean(nn.Module):
        def __init__(self, masked):
            super().__init__()
            torch.manual_seed(0)
            self.words, self.last, self.masked = nn.Embedding(99, 8), nn.Linear(8, 2), masked

        def forward(self, input_ids, attention_mask, labels=None):
            weight = attention_mask if self.masked else torch.ones_like(attention_mask)
            hidden = self.words(input_ids) * weight[..., None]
            return {"logits": self.last(hidden.sum(1) / weight.sum(1, keepdim=True))}

    assert verdicts(Mean(True), rows(0)) == []
    assert verdicts(Mean(False), rows(0)) == [("T10", "error")]


@pytest.mark.parametrize("end", [0, -1])
def test_a_head_that_hands_everything_on_is_asked(tiny_bert, tokenizer, end):
    class Head(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.body = tiny_bert("BertModel")
            self.last = torch.nn.Linear(self.body.config.hidden_size, 2)

        def forward(self, **given):
            given.pop("labels", None)
            return {"logits": self.last(self.body(**given).last_hidden_state[:, end])}

    said = verdicts(Head(), rows(tokenizer.pad_token_id), processing_class=tokenizer)
    assert said == ([] if end == 0 else [("T10", "error")])


HEALTHY = {
    "gpt2": lambda: transformers.GPT2LMHeadModel(
        transformers.GPT2Config(n_embd=32, n_layer=2, n_head=2, vocab_size=99)),
    "llama": lambda: transformers.LlamaForCausalLM(transformers.LlamaConfig(**SMALL)),
    "roberta": lambda: transformers.RobertaForMaskedLM(
        transformers.RobertaConfig(**SMALL, pad_token_id=1, max_position_embeddings=40)),
    "distilbert": lambda: transformers.DistilBertForMaskedLM(
        transformers.DistilBertConfig(dim=32, n_layers=2, n_heads=2, vocab_size=99,
                                      hidden_dim=32)),
    "electra": lambda: transformers.ElectraForMaskedLM(
        transformers.ElectraConfig(**SMALL, embedding_size=32)),
    "deberta": lambda: transformers.DebertaV2ForMaskedLM(
        transformers.DebertaV2Config(**SMALL, relative_attention=True,
                                     pos_att_type=["p2c", "c2p"])),
    "xlnet": lambda: transformers.XLNetLMHeadModel(
        transformers.XLNetConfig(vocab_size=99, d_model=32, n_layer=1, n_head=2, d_inner=32)),
    "t5": lambda: transformers.T5ForConditionalGeneration(
        transformers.T5Config(vocab_size=99, d_model=32, d_kv=16, d_ff=32, num_layers=2,
                              num_heads=2, decoder_start_token_id=0)),
    "bart": lambda: transformers.BartForConditionalGeneration(
        transformers.BartConfig(vocab_size=99, d_model=32, encoder_layers=1, decoder_layers=1,
                                encoder_attention_heads=2, decoder_attention_heads=2,
                                encoder_ffn_dim=32, decoder_ffn_dim=32,
                                max_position_embeddings=40)),
    "fnet": lambda: transformers.FNetForMaskedLM(transformers.FNetConfig(
        hidden_size=32, num_hidden_layers=1, intermediate_size=32, vocab_size=99)),
    "mamba": lambda: transformers.MambaForCausalLM(transformers.MambaConfig(
        hidden_size=32, num_hidden_layers=1, vocab_size=99, state_size=4)),
}  # fmt: skip


@pytest.mark.parametrize("make", HEALTHY.values(), ids=HEALTHY)
def test_families_are_healthy(make):
    assert verdicts(make(), rows(1, "tokens")) == []


def test_rows_that_mix_and_decoders_that_look_ahead_have_other_names(tokenizer):
    pad = tokenizer.pad_token_id
    model = HEALTHY["gpt2"]()
    first = model.transformer.h[0]
    plain = first.forward
    first.forward = lambda hidden, *a, **k: plain(hidden + hidden.mean(0, keepdim=True), *a, **k)
    assert verdicts(model, rows(pad, "tokens")) == []
    first.forward = lambda hidden, *a, **k: plain(hidden + hidden.mean(1, keepdim=True), *a, **k)
    assert verdicts(model, rows(pad, "tokens")) == []


def test_square_masks_are_cut_with_their_row():
    dataset = rows(1, "tokens")
    for row in dataset:
        row["attention_mask"] = row["attention_mask"].bool().expand(1, 12, 12).tril()
    dataset[0]["attention_mask"] = torch.ones(1, 12, 12).bool().tril()
    assert verdicts(HEALTHY["llama"](), dataset) == []


def test_a_causal_model_needs_no_mask_on_its_right(tokenizer):
    dataset = rows(tokenizer.pad_token_id, "tokens", mask=False)
    assert verdicts(HEALTHY["gpt2"](), dataset, processing_class=tokenizer) == []


def test_padding_on_the_left_is_not_asked():
    assert verdicts(HEALTHY["gpt2"](), rows(1, "tokens", side="left")) == []


def test_a_batch_without_padding_says_so(tiny_bert):
    subject = Subject(tiny_bert(), train_dataset=rows(0, "tokens")[:1])
    assert attempt(CHECK, subject) == ([], "no row of the batch is padded on the right")


def test_adapters_and_soft_prompts_are_healthy(tiny_bert):
    import peft

    for config in (
        peft.LoraConfig(target_modules=["query"], task_type="SEQ_CLS"),
        peft.PromptTuningConfig(num_virtual_tokens=3, task_type="SEQ_CLS"),
        peft.PrefixTuningConfig(num_virtual_tokens=3, task_type="SEQ_CLS"),
    ):
        model = peft.get_peft_model(tiny_bert("BertForSequenceClassification"), config)
        assert verdicts(model, rows(0)) == []


def test_padding_is_looked_for_beyond_the_first_batch(tiny_bert, tokenizer):
    dataset = rows(tokenizer.pad_token_id)
    full = [{**dataset[0], "labels": torch.tensor(i % 2)} for i in range(12)]
    model, given = tiny_bert("BertForSequenceClassification"), {"processing_class": tokenizer}
    assert verdicts(model, full + dataset[1:] * 2, **given) == []
    inner = model.bert.forward
    model.bert.forward = lambda input_ids, attention_mask=None, **how: inner(input_ids)
    assert verdicts(model, full + dataset[1:] * 2, **given) == [("T10", "error")]


class Towers(nn.Module):
    """Two texts, one encoder; the mask may be forgotten in it, or in the mean over its states."""

    def __init__(self, encoder, forgets=""):
        super().__init__()
        self.encoder, self.forgets = encoder, forgets

    def embed(self, ids, mask):
        given = {} if self.forgets == "attention" else {"attention_mask": mask}
        hidden = self.encoder(input_ids=ids, **given).last_hidden_state
        mask = torch.ones_like(mask) if self.forgets == "mean" else mask
        return hidden[:, 0] if self.forgets == "first" else (
            hidden * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)  # fmt: skip

    def forward(self, input_ids, attention_mask, pair_ids, pair_mask):
        sides = self.embed(input_ids, attention_mask), self.embed(pair_ids, pair_mask)
        return {"text_embeds": sides[0], "pair_embeds": sides[1]}


@pytest.mark.parametrize("forgets", ["", "first", "attention", "mean"])
def test_towers_are_asked_for_their_embeddings(tiny_bert, tokenizer, forgets):
    dataset = [
        {"input_ids": one["input_ids"], "attention_mask": one["attention_mask"],
         "pair_ids": other["input_ids"], "pair_mask": other["attention_mask"]}
        for one, other in zip(rows(tokenizer.pad_token_id), rows(tokenizer.pad_token_id)[::-1],
                              strict=True)
    ]  # fmt: skip
    said = verdicts(Towers(tiny_bert("BertModel"), forgets), dataset, processing_class=tokenizer)
    assert said == ([("T10", "error")] if forgets in ("attention", "mean") else [])


@pytest.mark.parametrize("layer", ["windows", "both ways"])
def test_layers_that_look_at_their_neighbours_see_padding_by_design(layer):
    class Reader(nn.Module):
        def __init__(self):
            super().__init__()
            torch.manual_seed(0)
            self.words, self.last = nn.Embedding(99, 8), nn.Linear(8, 2)
            self.look = nn.Conv1d(8, 8, 3, padding=1) if layer == "windows" else nn.LSTM(
                8, 4, batch_first=True, bidirectional=True)  # fmt: skip

        def forward(self, input_ids, attention_mask, labels=None):
            x = self.words(input_ids)
            x = self.look(x.mT).mT if layer == "windows" else self.look(x)[0]
            return {"logits": self.last(x.masked_fill(attention_mask[..., None] == 0, -9).amax(1))}

    assert verdicts(Reader(), rows(1)) == []


class Words(nn.Module):
    """A network of one's own that reads numbered words; `pool` makes one state of many."""

    def __init__(self, pool, padding=0):
        super().__init__()
        torch.manual_seed(0)
        self.table = nn.Embedding(40, 8, padding_idx=padding)
        self.read, self.out, self.pool = nn.GRU(8, 8, batch_first=True), nn.Linear(8, 3), pool

    def forward(self, ids):
        return self.out(self.pool(self.read(self.table(ids))[0], ids))


def of_words(states, ids):
    seen = (ids != 0)[..., None]
    return (states * seen).sum(1) / seen.sum(1)


@pytest.mark.parametrize(("pool", "padding", "expected"), [
    (lambda states, ids: states[:, -1], 0, [("T10", "warn")]),
    (lambda states, ids: states.mean(1), 0, [("T10", "warn")]),
    (of_words, 0, []),
    (lambda states, ids: states[:, -1], None, []),  # nothing says what padding is
])  # fmt: skip
def test_words_that_a_script_pads_itself(pool, padding, expected):
    draw, rows = torch.Generator().manual_seed(0), []
    for length in (3, 5, 8, 8, 4, 7):
        words = torch.randint(1, 40, (length,), generator=draw)
        rows.append((nn.functional.pad(words, (0, 8 - length)), 0))
    subject = Subject(Words(pool, padding), train_dataset=rows, loss_fn=nn.CrossEntropyLoss())
    found, reason = attempt(padding_probes.check_words_are_read_without_padding, subject)
    assert [(one.fault, one.severity) for one in found] == expected and "failed" not in reason
