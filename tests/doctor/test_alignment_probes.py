import numpy as np
import pytest
import torch
import transformers
from sklearn.datasets import load_digits
from torch import nn

from cookbook.doctor import alignment_probes, examination, preserve
from cookbook.doctor.subject import Subject

functional = nn.functional


def found(model, data, loss_fn=None, **given):
    subject = Subject(model, train_dataset=data, loss_fn=loss_fn, **given)
    with preserve.everything(model):
        said, why = examination.attempt(alignment_probes.check_labels_belong, subject)
    assert not why.startswith("failed"), why
    return [(f.fault, f.severity) for f in said], why


def texts(tokenizer, shuffled=False, count=320):
    """Sentences whose label is in a word, or, after a wrong join, nowhere."""
    draw, rows, labels = np.random.default_rng(0), [], []
    for _ in range(count):
        label = int(draw.integers(0, 2))
        words = draw.choice("the solver computes two tensors and returns an array".split(), 10)
        words[draw.integers(0, 10)] = ["gradient", "median"][label]
        rows.append(dict(tokenizer(" ".join(words))))
        labels.append(label)
    if shuffled:
        labels = list(draw.permutation(labels))
    return [row | {"labels": int(label)} for row, label in zip(rows, labels, strict=True)]


def test_shuffled_labels_of_texts_are_named_and_true_ones_are_not(tiny_bert, tokenizer):
    model = tiny_bert("BertForSequenceClassification", num_labels=2)
    given = {"processing_class": tokenizer}
    assert found(model, texts(tokenizer, shuffled=True), **given)[0] == [("D8", "warn")]
    assert found(model, texts(tokenizer), **given) == ([], "")


class Convolution(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.look, self.out = nn.Conv2d(1, 8, 3), nn.Linear(8 * 36, 10)

    def forward(self, x):
        return self.out(torch.relu(self.look(x)).flatten(1))


@pytest.mark.parametrize("shuffled", [True, False])
def test_digits_as_pairs(shuffled):
    images, labels = load_digits(return_X_y=True)
    if shuffled:
        labels = np.random.default_rng(1).permutation(labels)
    inputs = torch.from_numpy(images).float().reshape(-1, 1, 8, 8) / 16
    data = list(zip(inputs[:600], labels[:600].tolist(), strict=True))
    said, _ = found(Convolution(), data, functional.cross_entropy)
    assert said == ([("D8", "warn")] if shuffled else [])


@pytest.mark.parametrize("made", [
    lambda y: torch.tensor([y / 9.0]),  # a number
    lambda y: torch.tensor([float(y > 4)]),  # one score for two classes
    lambda y: torch.tensor([y > 4, y % 2, y % 3 == 0]).float(),  # many labels
])  # fmt: skip
@pytest.mark.parametrize("shuffled", [False, True])
def test_numbers_and_many_labels_belong_to_their_rows(made, shuffled):
    x, y = load_digits(return_X_y=True)
    y = np.random.default_rng(0).permutation(y) if shuffled else y
    rows = [(torch.tensor(a, dtype=torch.float32).view(1, 8, 8) / 16, made(int(b)))
            for a, b in zip(x[:600], y[:600], strict=True)]  # fmt: skip
    model = Convolution()
    model.out = nn.Linear(8 * 36, len(rows[0][1]))
    expected = [("D8", "warn")] if shuffled else []
    assert found(model, rows, functional.binary_cross_entropy_with_logits)[0] == expected


def test_features_of_the_model_count_where_no_simple_view_shows(monkeypatch):
    """A model that knows the task already: its own features beat the permuted labels."""

    class Knows(nn.Module):
        def __init__(self):
            super().__init__()
            self.out = nn.Linear(2, 2)

        def forward(self, x):
            parity = (x > 0).sum(1) % 2
            return self.out(functional.one_hot(parity, 2).float())

    draw = torch.Generator().manual_seed(0)
    inputs = torch.randn(400, 60, generator=draw)
    data = [(x, int((x > 0).sum() % 2)) for x in inputs]
    assert found(Knows(), data, functional.cross_entropy) == ([], "")


class Blind(nn.Module):
    def __init__(self):
        super().__init__()
        self.out = nn.Linear(4, 2)

    def forward(self, x):
        return self.out(x * 0)


def test_a_model_that_fits_no_batch_has_another_fault():
    draw = torch.Generator().manual_seed(0)
    data = [(torch.randn(4, generator=draw), i % 2) for i in range(300)]
    said, why = found(Blind(), data, functional.cross_entropy)
    assert said == [] and "fit one batch" in why


def test_few_rows_rare_classes_and_pairs_of_texts_are_left_alone(tiny_bert, tokenizer):
    model = tiny_bert("BertForSequenceClassification", num_labels=2)
    given = {"processing_class": tokenizer}
    shuffled = texts(tokenizer, shuffled=True)
    assert found(model, shuffled[:150], **given) == ([], "does not apply")
    rare = [row | {"labels": int(i % 10 == 0)} for i, row in enumerate(shuffled)]
    assert found(model, rare, **given) == ([], "does not apply")
    couples = [
        dict(tokenizer("the solver", f"an array {i}")) | {"labels": i % 2} for i in range(300)
    ]
    assert found(model, couples, **given) == ([], "does not apply")


def test_a_language_model_is_none_of_its_business(tokenizer):
    model = transformers.GPT2LMHeadModel(transformers.GPT2Config(
        vocab_size=400, n_embd=32, n_layer=1, n_head=2, n_positions=64))  # fmt: skip
    data = [{"input_ids": list(range(5, 15)), "labels": list(range(5, 15))} for _ in range(300)]
    assert found(model, data) == ([], "does not apply")


def test_an_adapter_counts_by_what_it_fits_itself(tiny_bert, tokenizer):
    """Most weights are frozen, and the few that are not memorise a batch."""
    import peft

    def adapted():
        model = tiny_bert("BertForSequenceClassification", num_labels=2)
        config = peft.LoraConfig(task_type="SEQ_CLS", r=4, target_modules=["query", "value"])
        return peft.get_peft_model(model, config)

    given = {"processing_class": tokenizer}
    assert found(adapted(), texts(tokenizer, shuffled=True), **given)[0] == [("D8", "warn")]
    assert found(adapted(), texts(tokenizer), **given) == ([], "")


def numbers(form, of=None, count=320):
    """Rows of a text that `form` makes of a drawn number; the label is a coin's, or `of` it."""
    draw, made = np.random.default_rng(1), []
    for number in draw.permutation(5000)[:count]:
        label = int(draw.integers(0, 2)) if of is None else int(of(int(number)))
        made.append((form(int(number)), label))
    return made


@pytest.mark.parametrize(
    ("form", "of", "expected"),
    [
        (str, None, [("E3", "warn")]),
        (lambda n: f"row {n}", None, [("E3", "warn")]),
        (lambda n: f"2024-{n % 12 + 1:02}-{n % 28 + 1:02} {n}", None, []),  # two numbers
        (lambda n: f"{n * 2654435761 % 2**32:08x}-1f3b-4c5d-{n:012x}", None, [("E3", "warn")]),
        (lambda n: f"Is {n} odd?", lambda n: n % 2, []),  # a task about numbers
        (lambda n: f"Is {n} large?", lambda n: n > 2500, []),
        (lambda n: f"{n} plus {n // 7}", None, []),
        (lambda n: f"the {['solver', 'copy', 'median'][n % 3]} of {n}", None, []),
        (lambda n: f"row {n % 9}", None, []),  # few different ones: classes of something
    ],
)
def test_texts_that_are_the_number_of_their_row(tiny_bert, tokenizer, form, of, expected):
    rows = [{"text": text} | dict(tokenizer(text)) | {"labels": label}
            for text, label in numbers(form, of)]  # fmt: skip
    model = tiny_bert("BertForSequenceClassification", num_labels=2)
    subject = Subject(model, train_dataset=rows, processing_class=tokenizer)
    said, why = examination.attempt(alignment_probes.check_texts_are_no_numbers, subject)
    assert not why.startswith("failed"), why
    assert [(f.fault, f.severity) for f in said] == expected
