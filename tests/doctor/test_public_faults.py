"""Silent faults that others have reported, rebuilt as their reports describe them.

Nobody here invented them: each test names the report. The healthy twin of each must stay silent.
"""

import os
import subprocess
import sys
import textwrap

import numpy as np
import pytest
import torch
import transformers
from torch import nn

from cookbook.doctor import Doctor, Watch, examine
from cookbook.training.trainer import Trainer

WORDS = ["gradient", "tensor", "kernel", "matrix", "median", "solver", "array", "sample"]


@pytest.fixture
def sentences():
    draw = np.random.default_rng(0)
    return [
        f"the {WORDS[a]} of the {WORDS[b]} returns {c}" for a, b, c in draw.integers(0, 8, (64, 3))
    ]


@pytest.fixture
def labelled(tokenizer, sentences):
    return [
        {**tokenizer(text), "labels": int("matrix" in text or "solver" in text)}
        for text in sentences
    ]


def gpt2(tokenizer, **more):
    torch.manual_seed(0)
    config = transformers.GPT2Config(
        vocab_size=len(tokenizer), n_positions=64, n_embd=32, n_layer=2, n_head=2,
        resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0,
        bos_token_id=tokenizer.cls_token_id, eos_token_id=tokenizer.sep_token_id, **more,
    )  # fmt: skip
    return transformers.GPT2LMHeadModel(config)


def arguments(folder, **more):
    kept = {"max_steps": 6, "per_device_train_batch_size": 8, "report_to": "none", "use_cpu": True,
            "disable_tqdm": True, "save_strategy": "no", "logging_steps": 1}  # fmt: skip
    return transformers.TrainingArguments(str(folder), **(kept | more))


def loop(model, optimizer, batches, *, zero=True, schedule=None, steps=12):
    """The plain loop of a tutorial, watched."""
    with Watch(model, optimizer, schedule) as watch:
        for step in range(steps):
            batch = batches[step % len(batches)]
            loss = model(**batch).loss
            loss.backward()
            optimizer.step()
            if zero:
                optimizer.zero_grad()
            watch.step(loss, batch=batch)
    return watch.report


def batches_of(tokenizer, rows, size=8):
    collate = transformers.DataCollatorWithPadding(tokenizer)
    return [collate(rows[i : i + size]) for i in range(0, len(rows), size)]


def test_optimizer_built_before_the_embeddings_were_replaced(tiny_bert, tokenizer, labelled):
    """transformers#3532: the optimizer trains the old embedding, the model uses the new one.

    `resize_token_embeddings` has kept the parameter since; replacing the module by hand does not.
    """
    model = tiny_bert("BertForSequenceClassification", num_labels=2)
    stale = torch.optim.AdamW(model.parameters(), lr=1e-3)
    model.set_input_embeddings(nn.Embedding(len(tokenizer) + 8, 32))
    model.config.vocab_size = len(tokenizer) + 8  # else nobody could load it again: K1
    given = {"train_dataset": labelled, "processing_class": tokenizer}
    report = examine(model, **given, optimizer=stale)
    assert report.primary.fault == "O6", str(report)
    assert "word_embeddings" in report.primary.evidence
    assert examine(model, **given, optimizer=torch.optim.AdamW(model.parameters())).healthy


def test_zero_grad_was_forgotten(tiny_bert, tokenizer, labelled):
    """The first mistake of Karpathy's list of 2018: "you forgot to .zero_grad()"."""
    batches = batches_of(tokenizer, labelled)
    for zero, expected in ((False, "O5"), (True, None)):
        model = tiny_bert("BertForSequenceClassification", num_labels=2)
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
        report = loop(model, optimizer, batches, zero=zero)
        assert (report.primary and report.primary.fault) == expected, str(report)


class Augmented(torch.utils.data.Dataset):
    """pytorch#5059: a data set that holds a NumPy generator, copied into every worker."""

    def __init__(self, shared):
        self.generator = np.random.RandomState(0) if shared else None

    def __len__(self):
        return 64

    def __getitem__(self, index):
        noise = self.generator.rand(4) if self.generator else torch.rand(4).numpy()
        return torch.tensor(noise, dtype=torch.float32), index % 2


@pytest.mark.parametrize(("shared", "expected"), [(True, "D7"), (False, None)])
def test_workers_share_a_numpy_generator(shared, expected):
    loader = torch.utils.data.DataLoader(Augmented(shared), batch_size=8, num_workers=2)
    report = examine(nn.Linear(4, 2), train_dataset=loader, loss_fn=nn.functional.cross_entropy)
    assert (report.primary and report.primary.fault) == expected, str(report)


class Functional(nn.Module):
    """simpletransformers#941 and many others: dropout that does not know about evaluation."""

    def __init__(self, knows):
        super().__init__()
        self.knows, self.one, self.two = knows, nn.Linear(4, 16), nn.Linear(16, 2)

    def forward(self, x):
        hidden = torch.relu(self.one(x))
        training = self.training if self.knows else True
        return self.two(nn.functional.dropout(hidden, 0.3, training=training))


@pytest.mark.parametrize(("knows", "expected"), [(False, "M7"), (True, None)])
def test_dropout_in_evaluation(knows, expected):
    torch.manual_seed(0)
    data = torch.utils.data.TensorDataset(torch.randn(64, 4), torch.arange(64) % 2)
    report = examine(Functional(knows), train_dataset=data, loss_fn=nn.functional.cross_entropy)
    assert (report.primary and report.primary.fault) == expected, str(report)


@pytest.mark.parametrize(("trainer", "expected"), [(transformers.Trainer, "L3"), (Trainer, None)])
def test_accumulation_multiplies_the_gradient(
    trainer, expected, tiny_bert, tokenizer, labelled, tmp_path
):
    """transformers 5: a BERT head ignores `num_items_in_batch`, and the Trainer relies on it."""
    doctor = Doctor()
    trainer(
        tiny_bert("BertForSequenceClassification", num_labels=2),
        arguments(tmp_path, gradient_accumulation_steps=4, max_steps=4),
        train_dataset=labelled, processing_class=tokenizer, callbacks=[doctor],
        data_collator=transformers.DataCollatorWithPadding(tokenizer),
    ).train()  # fmt: skip
    assert (doctor.report.primary and doctor.report.primary.fault) == expected, str(doctor.report)


def test_all_labels_are_lost_to_truncation(tokenizer, sentences):
    """trl#1053, trl#3927: the prompt fills max_length and every label is -100: nan, or 0."""
    rows = []
    for text in sentences:
        prompt = tokenizer("please summarize " + 4 * text)["input_ids"]
        whole = prompt + tokenizer(text)["input_ids"]
        labels = [-100] * len(prompt) + whole[len(prompt) :]
        rows.append({"input_ids": whole[:24], "attention_mask": [1] * 24, "labels": labels[:24]})
    report = examine(gpt2(tokenizer), train_dataset=rows, processing_class=tokenizer)
    assert report.primary.fault == "T3", str(report)


@pytest.mark.parametrize(("twice", "expected"), [(True, "T7"), (False, None)])
def test_bos_twice(twice, expected, tokenizer, sentences):
    """open-r1#462: the chat template writes BOS, and encoding its text adds another."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(
        _saved(tokenizer, bos_token="[CLS]", eos_token="[SEP]")
    )
    rows = []
    for text in sentences:
        ids = tokenizer("[CLS]" + text if twice else text)["input_ids"]
        rows.append({"input_ids": ids, "attention_mask": [1] * len(ids), "labels": list(ids)})
    collate = transformers.DataCollatorForSeq2Seq(tokenizer)
    report = examine(
        gpt2(tokenizer), train_dataset=rows, data_collator=collate, processing_class=tokenizer
    )
    assert (report.primary and report.primary.fault) == expected, str(report)


def _saved(tokenizer, **tokens):
    import copy
    import tempfile

    copied = copy.deepcopy(tokenizer)
    for name, value in tokens.items():
        setattr(copied, name, value)
    folder = tempfile.mkdtemp()
    copied.save_pretrained(folder)
    return folder


DRIFT = """
    import sys, torch, torch.distributed as dist
    from torch import nn
    from cookbook.doctor import Watch

    torch.set_num_threads(1)
    dist.init_process_group("gloo")
    torch.manual_seed(0)
    wrapper = nn.parallel.DistributedDataParallel(nn.Linear(4, 2))
    assert dist.get_world_size() == 2
    called = wrapper.module if "inside" in sys.argv else wrapper
    optimizer = torch.optim.SGD(wrapper.parameters(), lr=0.1)
    torch.manual_seed(dist.get_rank())
    with Watch(wrapper, optimizer) as watch:
        for step in range(30):
            x, y = torch.randn(8, 4), torch.randint(0, 2, (8,))
            loss = nn.functional.cross_entropy(called(x), y)
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            watch.step(loss, batch=(x, y))
    fault = watch.report.primary and watch.report.primary.fault
    sys.stdout.write(f"verdict {fault}\\n")  # at once: two ranks share the line
    dist.destroy_process_group()
"""


@pytest.mark.ranks
@pytest.mark.parametrize(("how", "expected"), [("inside", "X2"), ("wrapper", "None")])
def test_replicas_drift_when_the_module_inside_ddp_is_called(how, expected, tmp_path):
    """The hooks that average gradients belong to the wrapper: without them ranks part silently."""
    script = tmp_path / "drift.py"
    script.write_text(textwrap.dedent(DRIFT))
    command = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc-per-node",
        "2",
    ]
    done = subprocess.run(
        [*command, str(script), how], env={**os.environ, "OMP_NUM_THREADS": "1"}, text=True,
        capture_output=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    verdicts = [line for line in done.stdout.splitlines() if line.startswith("verdict")]
    assert verdicts == [f"verdict {expected}"] * 2, done.stdout
