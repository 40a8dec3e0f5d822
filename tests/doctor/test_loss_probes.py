import pytest
import torch
import transformers
from torch import nn

from cookbook.doctor import examination, loss_probes
from cookbook.doctor.loss_probes import IGNORE, offset_share, read_targets
from cookbook.doctor.subject import Subject

VOCABULARY, LENGTH = 50, 16


def rows(count=16, seed=0):
    draw = torch.Generator().manual_seed(seed)
    return [torch.randint(5, VOCABULARY, (LENGTH,), generator=draw) for _ in range(count)]


def gpt2():
    torch.manual_seed(0)
    return transformers.GPT2LMHeadModel(transformers.GPT2Config(
        vocab_size=VOCABULARY, n_positions=32, n_embd=32, n_layer=2, n_head=2
    ))  # fmt: skip


def llama():
    torch.manual_seed(0)
    return transformers.LlamaForCausalLM(transformers.LlamaConfig(
        vocab_size=VOCABULARY, hidden_size=32, intermediate_size=64, num_hidden_layers=2,
        num_attention_heads=2, num_key_value_heads=2,
    ))  # fmt: skip


def t5():
    torch.manual_seed(0)
    return transformers.T5ForConditionalGeneration(transformers.T5Config(
        vocab_size=VOCABULARY, d_model=32, d_ff=64, d_kv=16, num_layers=1, num_heads=2,
        decoder_start_token_id=0, pad_token_id=0,
    ))  # fmt: skip


class Recurrent(nn.Module):
    """A language model without a configuration, over (x, y) pairs."""

    def __init__(self, bidirectional=False):
        super().__init__()
        torch.manual_seed(0)
        self.table = nn.Embedding(VOCABULARY, 16)
        self.cell = nn.GRU(16, 16, batch_first=True, bidirectional=bidirectional)
        self.out = nn.Linear(32 if bidirectional else 16, VOCABULARY)

    def forward(self, x):
        return self.out(self.cell(self.table(x))[0])


def token_loss(outputs, y):
    return nn.functional.cross_entropy(outputs.flatten(0, 1), y.flatten(), ignore_index=IGNORE)


def found(model, data, **given):
    subject = Subject(model, train_dataset=data, **given)
    return examination.attempt(loss_probes.check_label_shift, subject)


def test_the_gradient_names_the_target_of_each_row():
    scores = torch.randn(2, 3, 7, requires_grad=True)
    wanted = torch.tensor([[1, IGNORE, 6], [0, 2, IGNORE]])
    read = read_targets(token_loss(scores, wanted), scores)
    assert torch.equal(read.target, wanted) and not read.uphill
    read = read_targets(-token_loss(scores, wanted), scores)
    assert torch.equal(read.target, wanted) and read.uphill


def test_soft_targets_and_squared_errors_have_none():
    scores = torch.randn(4, 6, requires_grad=True)
    soft = nn.functional.cross_entropy(scores, torch.randn(4, 6).softmax(-1))
    assert read_targets(soft, scores) is None
    assert read_targets((scores**2).mean(), scores) is None
    assert read_targets(scores.detach().mean(), scores) is None


def test_the_share_at_an_offset():
    tokens = torch.tensor([[5, 6, 7, 8, 9]])
    ahead = torch.tensor([[7, 8, 9, IGNORE, IGNORE]])
    assert [offset_share(tokens, ahead, k) for k in (0, 1, 2)] == [0.0, 0.0, 1.0]


@pytest.mark.parametrize("make", [gpt2, llama])
def test_labels_equal_to_the_inputs_are_right_for_a_decoder_that_shifts(make):
    data = [{"input_ids": x, "labels": x} for x in rows()]
    assert found(make(), data) == ([], "")


def test_a_prompt_without_labels_and_padding_are_right_too():
    data = []
    for i, x in enumerate(rows()):
        labels = x.clone()
        labels[: 2 + i % 3], labels[12 + i % 3 :] = IGNORE, IGNORE
        mask = torch.ones(LENGTH, dtype=torch.long)
        mask[12 + i % 3 :] = 0
        data.append({"input_ids": x * mask, "attention_mask": mask, "labels": labels})
    assert found(gpt2(), data) == ([], "")


@pytest.mark.parametrize("make", [gpt2, llama])
def test_labels_that_are_shifted_before_a_model_that_shifts(make):
    data = [{"input_ids": x, "labels": torch.cat([x[1:], torch.tensor([IGNORE])])} for x in rows()]
    (said,), _ = found(make(), data)
    assert (said.fault, said.severity) == ("L1", "error") and said.measured["offset"] == 2


def test_rows_that_are_cut_into_input_and_target_are_shifted_twice():
    data = [{"input_ids": x[:-1], "labels": x[1:]} for x in rows()]
    assert found(gpt2(), data)[0][0].measured["offset"] == 2


@pytest.mark.parametrize("offset", [-1, 0, 1, 2])
def test_a_loss_function_of_the_readers_own_on_a_decoder(offset):
    def loss_fn(outputs, batch):
        if offset < 0:
            return token_loss(outputs.logits[:, -offset:], batch["labels"][:, :offset])
        end = LENGTH - offset
        return token_loss(outputs.logits[:, :end], batch["labels"][:, offset:])

    data = [{"input_ids": x, "labels": x} for x in rows()]
    said, _ = found(gpt2(), data, loss_fn=loss_fn)
    assert [f.measured["offset"] for f in said] == ([] if offset == 1 else [offset])


class Twice(transformers.GPT2LMHeadModel):
    """A class whose forward pass shifts twice."""

    def forward(self, input_ids, labels=None, **_):
        outputs = super().forward(input_ids)
        outputs["loss"] = token_loss(outputs.logits[:, :-2], labels[:, 2:])
        return outputs


def test_a_model_whose_forward_shifts_twice():
    model = Twice(gpt2().config)
    (said,), _ = found(model, [{"input_ids": x, "labels": x} for x in rows()])
    assert said.fault == "L1" and said.measured["offset"] == 2


@pytest.mark.parametrize("offset", [0, 1, 2])
def test_pairs_of_a_plain_model(offset):
    data = [(x[: LENGTH - 3], x[offset : offset + LENGTH - 3]) for x in rows()]
    said, _ = found(Recurrent(), data, loss_fn=token_loss)
    assert [f.measured["offset"] for f in said] == ([] if offset == 1 else [offset])


def test_a_bidirectional_model_that_restores_its_input_is_silent():
    data = [(x, x) for x in rows()]
    assert found(Recurrent(bidirectional=True), data, loss_fn=token_loss) == ([], "")


def test_tags_and_translations_are_no_shift():
    data = [(x, (x * 7 + 3) % VOCABULARY) for x in rows()]
    assert found(Recurrent(), data, loss_fn=token_loss) == ([], "")


def test_repetitive_text_is_no_shift():
    data = [(torch.full((LENGTH,), 7 + i), torch.full((LENGTH,), 7 + i)) for i in range(8)]
    assert found(Recurrent(), data, loss_fn=token_loss) == ([], "")


def test_an_encoder_decoder_that_is_fed_by_itself_is_right():
    data = [{"input_ids": x, "labels": y} for x, y in zip(rows(), rows(seed=1), strict=True)]
    assert found(t5(), data) == ([], "")
    assert found(t5(), [{"input_ids": x, "labels": x} for x in rows()]) == ([], "")


@pytest.mark.parametrize("shift", [0, 2])
def test_an_encoder_decoder_whose_inputs_do_not_lag_by_one(shift):
    data = []
    for x, y in zip(rows(), rows(seed=1), strict=True):
        fed = y if shift == 0 else torch.cat([torch.zeros(2, dtype=torch.long), y[:-2]])
        data.append({"input_ids": x, "labels": y, "decoder_input_ids": fed})
    (said,), _ = found(t5(), data)
    assert said.fault == "L1" and said.measured["offset"] == shift


def masked(tokenizer, shift=0):
    draw, data = torch.Generator().manual_seed(0), []
    for x in rows(32):
        labels, inputs = x.clone(), x.clone()
        at = torch.rand(LENGTH, generator=draw) < 0.25
        at[0] = at[-1] = False
        labels[~at], inputs[at] = IGNORE, tokenizer.mask_token_id
        data.append({"input_ids": inputs, "labels": torch.roll(labels, -shift)})
    return data


def test_a_masked_model_is_trained_where_the_masks_are(tiny_bert, tokenizer):
    model = tiny_bert()
    assert found(model, masked(tokenizer), processing_class=tokenizer) == ([], "")
    (said,), _ = found(model, masked(tokenizer, 1), processing_class=tokenizer)
    assert (said.fault, said.severity) == ("L1", "error") and said.measured["offset"] == 1


def test_a_masked_model_under_a_loss_that_shifts(tiny_bert, tokenizer):
    def loss_fn(outputs, batch):
        return token_loss(outputs.logits[:, :-1], batch["labels"][:, 1:])

    (said,), _ = found(tiny_bert(), masked(tokenizer), processing_class=tokenizer, loss_fn=loss_fn)
    assert said.fault == "L1"


def test_a_classifier_is_none_of_its_business(tiny_bert):
    data = [{"input_ids": x, "labels": 1} for x in rows()]
    model = tiny_bert("BertForSequenceClassification")
    assert found(model, data) == ([], "does not apply")


@pytest.mark.parametrize("cut", [True, False])
def test_rows_cut_into_inputs_and_targets_for_a_model_that_shifts(cut):
    """Rows of many lengths: the places behind their ends are no evidence against a shift."""
    data, pad = [], 0
    for place, row in enumerate(rows(16)):
        ids = row[: LENGTH - place % 8].tolist()
        x, y = (ids[:-1], ids[1:]) if cut else (ids, ids)
        fill = LENGTH - len(x)
        mask = [1] * len(x) + [0] * fill
        data.append(
            {"input_ids": x + [pad] * fill, "attention_mask": mask, "labels": y + [-100] * fill}
        )
    said, _ = found(gpt2(), data)
    assert [f.fault for f in said] == (["L1"] if cut else [])


@pytest.mark.parametrize(("offset", "faults"), [(1, ["L1"]), (0, []), (-1, ["L1"])])
def test_a_tagger_under_a_loss_that_shifts(tiny_bert, tokenizer, offset, faults):
    model = tiny_bert("BertForTokenClassification", num_labels=4)
    data = [dict(tokenizer("a copy of two tensors and of an array")) for _ in range(8)]
    for place, row in enumerate(data):
        row["labels"] = [(7 * i + place) % 4 if i % 3 else 0 for i in range(len(row["input_ids"]))]

    def loss(outputs, batch):
        kept, labels = outputs.logits, batch["labels"]
        if offset < 0:
            kept, labels = kept[:, -offset:], labels[:, :offset]
        else:
            kept, labels = kept[:, : kept.shape[1] - offset], labels[:, offset:]
        return nn.functional.cross_entropy(kept.flatten(0, 1), labels.flatten())

    subject = Subject(model, train_dataset=data, loss_fn=loss)
    assert subject.kind == "tagger"
    assert [f.fault for f in loss_probes.check_label_shift(subject)] == faults
