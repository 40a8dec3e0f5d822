import pytest
import torch
import transformers
from torch import nn

from cookbook.doctor import accumulation_probes, examination
from cookbook.doctor.subject import Subject
from cookbook.training.trainer import Trainer

TEXTS = [" ".join(["the solver computes a median"] * (1 + 3 * (i % 3))) for i in range(32)]


@pytest.fixture
def arguments(tmp_path):
    def make(steps=4, **settings):
        return transformers.TrainingArguments(
            tmp_path / "run", gradient_accumulation_steps=steps, per_device_train_batch_size=2,
            report_to="none", use_cpu=True, **settings,
        )  # fmt: skip

    return make


@pytest.fixture
def classified(tokenizer):
    return [tokenizer(text) | {"labels": i % 2} for i, text in enumerate(TEXTS)]


@pytest.fixture
def causal(tokenizer):
    rows = []
    for text in TEXTS:
        ids = tokenizer(text, truncation=True, max_length=40)["input_ids"]
        short = 40 - len(ids)
        rows.append({
            "input_ids": ids + [0] * short, "attention_mask": [1] * len(ids) + [0] * short,
            "labels": ids + [-100] * short,
        })  # fmt: skip
    return rows


def gpt2(tokenizer):
    torch.manual_seed(0)
    config = transformers.GPT2Config(
        vocab_size=len(tokenizer), n_positions=64, n_embd=32, n_layer=2, n_head=2
    )
    return transformers.GPT2LMHeadModel(config)


def found(model, args, rows, tokenizer, trainer=None):
    subject = Subject(model, train_dataset=rows, processing_class=tokenizer, args=args,
                      trainer=trainer)  # fmt: skip
    return examination.attempt(accumulation_probes.check_accumulation, subject)


@pytest.mark.parametrize("steps", [2, 4])
def test_transformers_own_trainer_multiplies_the_gradient_of_a_bert_head(
    tiny_bert, tokenizer, arguments, classified, steps
):
    # Dropout must not stand between the two gradients.
    model = tiny_bert("BertForSequenceClassification", hidden_dropout_prob=0.3)
    args = arguments(steps)
    trainer = transformers.Trainer(model, args, train_dataset=classified)
    for given in (None, trainer):
        (said,), why = found(model, args, classified, tokenizer, given)
        assert (said.fault, said.severity) == ("L3", "error") and not why
        assert f"×{steps}" in said.evidence
        assert said.measured["ratio"] == pytest.approx(steps, rel=1e-3)


def test_our_trainer_is_silent(tiny_bert, tokenizer, arguments, classified):
    model, args = tiny_bert("BertForSequenceClassification", hidden_dropout_prob=0.1), arguments()
    trainer = Trainer(model, args, train_dataset=classified)
    assert found(model, args, classified, tokenizer, trainer) == ([], "")


def test_a_decoder_that_honours_the_count_is_silent_though_rows_differ(
    tokenizer, arguments, causal
):
    model, args = gpt2(tokenizer), arguments()
    assert found(model, args, causal, tokenizer) == ([], "")
    trainer = Trainer(model, args, train_dataset=causal)
    assert found(model, args, causal, tokenizer, trainer) == ([], "")


def test_our_trainer_is_silent_on_t5_too(tokenizer, arguments, causal):
    torch.manual_seed(0)
    config = transformers.T5Config(
        vocab_size=len(tokenizer), d_model=32, d_ff=64, d_kv=16, num_layers=1, num_heads=2,
        decoder_start_token_id=0,
    )  # fmt: skip
    model, args = transformers.T5ForConditionalGeneration(config), arguments()
    trainer = Trainer(model, args, train_dataset=causal)
    assert found(model, args, causal, tokenizer, trainer) == ([], "")


class Weighted(transformers.Trainer):
    """A loss of the reader's own, as many write it: it does not look at the window's count."""

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        labels = inputs.pop("labels")
        outputs = model(**inputs)
        loss = nn.functional.cross_entropy(outputs.logits, labels, torch.tensor([1.0, 3.0]))
        return (loss, outputs) if return_outputs else loss


def test_a_loss_of_the_readers_own_is_multiplied_too(tiny_bert, tokenizer, arguments, classified):
    model, args = tiny_bert("BertForSequenceClassification"), arguments(2)
    trainer = Weighted(model, args, train_dataset=classified)
    (said,), _ = found(model, args, classified, tokenizer, trainer)
    assert said.fault == "L3" and "×2" in said.evidence


class MeansOnly(nn.Module):
    """A token-level loss that says it takes no count: the Trainer averages the means."""

    accepts_loss_kwargs = False

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.table, self.out = nn.Embedding(500, 8), nn.Linear(8, 500)

    def forward(self, input_ids, labels=None):
        logits = self.out(torch.tanh(self.table(input_ids)))
        loss = nn.functional.cross_entropy(logits.flatten(0, 1), labels.flatten())
        return {"loss": loss, "logits": logits}


def test_the_mean_of_means_over_unequal_rows_is_warned_of(tokenizer, arguments, causal):
    rows = [{k: row[k] for k in ("input_ids", "labels")} for row in causal[2::3]]
    short = [row | {"labels": row["labels"][:3] + [-100] * 37} for row in rows]
    collate = transformers.default_data_collator
    batches = [collate(part[i : i + 2]) for i in (0, 2, 4) for part in (rows, short)]
    subject = Subject(MeansOnly(), args=arguments(6))
    subject.train.batches = batches
    (said,), _ = examination.attempt(accumulation_probes.check_accumulation, subject)
    assert (said.fault, said.severity) == ("L3", "warn")
    subject.train.batches = batches[::2]
    assert examination.attempt(accumulation_probes.check_accumulation, subject) == ([], "")


def test_without_accumulation_or_with_an_unknown_loop_nothing_is_said(
    tiny_bert, tokenizer, arguments, classified
):
    model = tiny_bert("BertForSequenceClassification")
    assert found(model, arguments(1), classified, tokenizer) == ([], "does not apply")
    subject = Subject(model, train_dataset=classified, args=arguments(),
                      loss_fn=lambda out, batch: out.logits.sum())  # fmt: skip
    said, why = examination.attempt(accumulation_probes.check_accumulation, subject)
    assert said == [] and "who accumulates" in why


def test_it_leaves_no_trace(tiny_bert, tokenizer, arguments, classified, tmp_path):
    model, args = tiny_bert("BertForSequenceClassification"), arguments()
    model.classifier.weight.grad = kept = torch.ones_like(model.classifier.weight)
    flags = [m.training for m in model.modules()]
    found(model, args, classified, tokenizer)
    assert model.classifier.weight.grad is kept and bool((kept == 1).all())
    assert [m.training for m in model.modules()] == flags and "train" not in model.__dict__
    assert args.gradient_accumulation_steps == 4 and not (tmp_path / "run").exists()
