"""M9: a decoder that sees the future is found; what may look ahead is not asked."""

import pytest
import torch
import torch.nn.functional as F
import transformers
from torch import nn

from cookbook.doctor import causality_probes
from cookbook.doctor.checks import attempt
from cookbook.doctor.subject import Subject

CHECK = causality_probes.check_decoder_sees_no_future


def verdicts(model, dataset, **given):
    found, reason = attempt(CHECK, Subject(model, train_dataset=dataset, **given))
    assert "failed" not in reason, reason
    return [(one.fault, one.severity) for one in found]


def rows(count=6, length=12):
    torch.manual_seed(0)
    ids = torch.randint(5, 90, (count, length))
    return [{"input_ids": row, "attention_mask": torch.ones_like(row), "labels": row}
            for row in ids]  # fmt: skip


SMALL = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "vocab_size": 99,
         "intermediate_size": 32}  # fmt: skip
DECODERS = {
    "gpt2": lambda: transformers.GPT2LMHeadModel(
        transformers.GPT2Config(n_embd=32, n_layer=2, n_head=2, vocab_size=99)),
    "llama": lambda: transformers.LlamaForCausalLM(transformers.LlamaConfig(**SMALL)),
    "bert": lambda: transformers.BertLMHeadModel(transformers.BertConfig(**SMALL, is_decoder=True)),
    "mamba": lambda: transformers.MambaForCausalLM(
        transformers.MambaConfig(hidden_size=32, num_hidden_layers=1, vocab_size=99, state_size=4)),
}  # fmt: skip


@pytest.mark.parametrize("make", DECODERS.values(), ids=DECODERS)
def test_decoders_are_healthy(make):
    assert verdicts(make(), rows()) == []


def test_bert_that_was_never_told_to_be_a_decoder_is_found():
    model = transformers.BertLMHeadModel(transformers.BertConfig(**SMALL))
    found, _ = attempt(CHECK, Subject(model, train_dataset=rows()))
    assert [(one.fault, one.severity) for one in found] == [("M9", "error")]
    assert "is_decoder" in found[0].remedy


@pytest.mark.parametrize("family", ["gpt2", "llama"])
def test_a_decoder_without_its_mask_is_found(family, monkeypatch):
    model = DECODERS[family]()
    plain = F.scaled_dot_product_attention

    def leaking(q, k, v, attn_mask=None, is_causal=False, **named):
        return plain(q, k, v, **named)

    monkeypatch.setattr(F, "scaled_dot_product_attention", leaking)
    assert verdicts(model, rows()) == [("M9", "error")]


def test_t5_is_healthy_and_without_its_mask_is_found(monkeypatch):
    config = transformers.T5Config(vocab_size=99, d_model=32, d_kv=16, d_ff=32, num_layers=2,
                                   num_heads=2, decoder_start_token_id=0)  # fmt: skip
    model = transformers.T5ForConditionalGeneration(config)
    assert verdicts(model, rows()) == []

    def open_mask(inputs_embeds, **given):
        rows, length, _ = inputs_embeds.shape
        return torch.zeros(rows, 1, length, length)

    module = transformers.models.t5.modeling_t5
    monkeypatch.setattr(module, "create_causal_mask", open_mask)
    assert verdicts(model, rows()) == [("M9", "error")]


def test_models_that_may_look_ahead_are_healthy(tiny_bert):
    assert verdicts(tiny_bert(), rows()) == []
    assert verdicts(tiny_bert("BertForTokenClassification"), rows()) == []
    config = transformers.XLNetConfig(vocab_size=99, d_model=32, n_layer=1, n_head=2, d_inner=32)
    assert verdicts(transformers.XLNetLMHeadModel(config), rows()) == []


class Characters(nn.Module):
    """A plain language model over characters, as in many lessons."""

    def __init__(self, causal):
        super().__init__()
        torch.manual_seed(0)
        self.words, self.places = nn.Embedding(90, 32), nn.Embedding(16, 32)
        self.layer = nn.TransformerEncoderLayer(32, 2, 64, dropout=0.0, batch_first=True)
        self.last, self.causal = nn.Linear(32, 90), causal

    def forward(self, x):
        hidden = self.words(x) + self.places(torch.arange(x.shape[1]))
        mask = nn.Transformer.generate_square_subsequent_mask(x.shape[1]) if self.causal else None
        return self.last(self.layer(hidden, mask))


def pairs(shift):
    torch.manual_seed(0)
    text = torch.randint(0, 90, (6, 13))
    return [(row[:12], row[shift : 12 + shift]) for row in text]


def over_tokens(outputs, y):
    return F.cross_entropy(outputs.flatten(0, 1), y.flatten())


def shifting(outputs, y):
    return F.cross_entropy(outputs[:, :-1].flatten(0, 1), y[:, 1:].flatten())


@pytest.mark.parametrize(("shift", "loss"), [(1, over_tokens), (0, shifting)])
def test_a_plain_language_model(shift, loss):
    assert verdicts(Characters(True), pairs(shift), loss_fn=loss) == []
    assert verdicts(Characters(False), pairs(shift), loss_fn=loss) == [("M9", "error")]


def test_a_plain_tagger_or_autoencoder_may_look_ahead():
    torch.manual_seed(0)
    tags = [(torch.randint(0, 90, (12,)), torch.randint(0, 90, (12,))) for _ in range(6)]
    assert verdicts(Characters(False), tags, loss_fn=over_tokens) == []
    assert verdicts(Characters(False), pairs(0), loss_fn=over_tokens) == []


class Words(nn.Module):
    def __init__(self, both):
        super().__init__()
        torch.manual_seed(0)
        self.words = nn.Embedding(90, 16)
        self.cell = nn.LSTM(16, 16, batch_first=True, bidirectional=both)
        self.last = nn.Linear(32 if both else 16, 90)

    def forward(self, input_ids, labels=None):
        logits = self.last(self.cell(self.words(input_ids))[0])
        loss = None if labels is None else shifting(logits, labels)
        return {"loss": loss, "logits": logits}


def test_a_recurrent_model_that_reads_both_ways_is_found():
    assert verdicts(Words(False), rows()) == []
    assert verdicts(Words(True), rows()) == [("M9", "error")]


def test_one_token_ahead_is_enough():
    class Ahead(Characters):
        def forward(self, x):
            return super().forward(x) + self.last(self.words(x.roll(-1, 1)))

    assert verdicts(Ahead(True), pairs(1), loss_fn=over_tokens) == [("M9", "error")]


def test_padded_rows_soft_prompts_and_half_precision_are_healthy(tokenizer):
    import peft

    dataset = rows()
    for row in dataset[::2]:
        row["input_ids"] = row["input_ids"].clone()
        row["attention_mask"] = row["attention_mask"].clone()
        row["input_ids"][7:], row["attention_mask"][7:] = tokenizer.pad_token_id, 0
    assert verdicts(DECODERS["gpt2"](), dataset, processing_class=tokenizer) == []
    assert verdicts(DECODERS["llama"]().bfloat16(), dataset) == []
    prompt = peft.PromptTuningConfig(num_virtual_tokens=3, task_type="CAUSAL_LM")
    assert verdicts(peft.get_peft_model(DECODERS["gpt2"](), prompt), dataset) == []


class Recurrent(nn.Module):
    """Scores are (rows, classes, length), as torch's cross-entropy takes them."""

    def __init__(self, both=False):
        super().__init__()
        self.embed, self.read = nn.Embedding(99, 16), nn.LSTM(16, 16, batch_first=True,
                                                              bidirectional=both)  # fmt: skip
        self.out = nn.Linear(32 if both else 16, 99)

    def forward(self, ids):
        return self.out(self.read(self.embed(ids))[0]).transpose(1, 2)


@pytest.mark.parametrize(("both", "expected"), [(False, []), (True, [("M9", "error")])])
def test_classes_may_stand_before_the_places(both, expected):
    pairs = [(row["input_ids"][:-1], row["input_ids"][1:]) for row in rows()]
    assert verdicts(Recurrent(both), pairs, loss_fn=F.cross_entropy) == expected
