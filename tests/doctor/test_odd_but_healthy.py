"""Forty odd but healthy things on which `examine` neither raises nor warns.

Each is a function that returns what `examine` is given. What cannot be looked at may be named in
`not_checked`, but not because a check fell over.
"""

import copy
import dataclasses
from types import SimpleNamespace

import datasets
import numpy as np
import pytest
import torch
import torch.nn.functional as F
import transformers
from torch import nn
from torch.utils.data import DataLoader, Dataset, IterableDataset, TensorDataset

from cookbook.doctor import examine

ODD = {}


def odd(function):
    ODD[function.__name__.replace("_", " ")] = function
    return function


def points(count=24, width=6, classes=3):
    """Separable clusters: what a healthy classifier sees."""
    torch.manual_seed(0)
    centres = 2 * torch.randn(classes, width)
    return [(centres[i % classes] + 0.5 * torch.randn(width), i % classes) for i in range(count)]


def mlp(width=6, classes=3):
    torch.manual_seed(1)
    return nn.Sequential(nn.Linear(width, 16), nn.ReLU(), nn.Linear(16, classes))


def texts(count=16, labels=2, length=12, key="labels"):
    torch.manual_seed(0)
    ids = torch.randint(10, 90, (count, length))
    return [
        {"input_ids": row.tolist(), "attention_mask": [1] * length, key: int(row[0] % labels)}
        for row in ids
    ]


def lines(count=16, length=12):
    torch.manual_seed(0)
    ids = torch.randint(10, 90, (count, length)).tolist()
    return [{"input_ids": row, "attention_mask": [1] * length, "labels": row} for row in ids]


SMALL = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "vocab_size": 99,
         "intermediate_size": 32}  # fmt: skip


def bert(head="BertForSequenceClassification", **settings):
    torch.manual_seed(0)
    return getattr(transformers, head)(transformers.BertConfig(**SMALL, **settings))


def gpt2(head="GPT2LMHeadModel", **settings):
    torch.manual_seed(0)
    sizes = {"n_embd": 32, "n_layer": 1, "n_head": 2, "vocab_size": 99, "n_positions": 32,
             "bos_token_id": 1, "eos_token_id": 1}  # fmt: skip
    return getattr(transformers, head)(transformers.GPT2Config(**sizes, **settings))


CE = nn.CrossEntropyLoss()


@odd
def a_module_without_anything():
    return {"model": nn.Linear(2, 2)}


@odd
def a_module_without_parameters():
    return {"model": nn.Identity()}


@odd
def a_module_without_a_configuration():
    return {"model": mlp(), "train_dataset": points(), "loss_fn": CE}


@odd
def a_tied_autoencoder():
    class Tied(nn.Module):
        def __init__(self):
            super().__init__()
            self.inward = nn.Linear(6, 4)

        def forward(self, x):
            return F.linear(self.inward(x).tanh(), self.inward.weight.t())

    rows = [(x, x) for x, _ in points()]
    return {"model": Tied(), "train_dataset": rows, "loss_fn": F.mse_loss}


@odd
def shared_modules():
    one = nn.Linear(6, 6)
    model = nn.Sequential(one, nn.ReLU(), one, nn.Linear(6, 3))
    return {"model": model, "train_dataset": points(), "loss_fn": CE,
            "optimizer": torch.optim.AdamW(model.parameters())}  # fmt: skip


@odd
def tied_words():
    model = bert("BertForMaskedLM")
    return {"model": model, "optimizer": torch.optim.AdamW(model.parameters())}


@odd
def int8_linears():
    quantised = torch.ao.quantization.quantize_dynamic(mlp(), {nn.Linear})
    return {"model": quantised, "train_dataset": points(), "loss_fn": CE}


@odd
def an_int8_bert():
    quantised = torch.ao.quantization.quantize_dynamic(bert(), {nn.Linear})
    return {"model": quantised, "train_dataset": texts()}


class Stream(IterableDataset):
    def __init__(self, rows):
        self.rows = rows

    def __iter__(self):
        return iter(self.rows)


@odd
def a_stream_without_length():
    return {"model": bert(), "train_dataset": Stream(texts())}


@odd
def a_stream_of_pairs():
    return {"model": mlp(), "train_dataset": Stream(points()), "loss_fn": CE}


@odd
def a_generator_of_rows():
    return {"model": mlp(), "train_dataset": (row for row in points()), "loss_fn": CE}


@odd
def a_custom_loss():
    def focal(outputs, y):
        chance = outputs.log_softmax(-1).gather(1, y[:, None]).exp()
        return -((1 - chance) ** 2 * chance.log()).mean()

    return {"model": mlp(), "train_dataset": points(), "loss_fn": focal}


@odd
def a_smoothed_and_weighted_loss():
    loss = nn.CrossEntropyLoss(weight=torch.tensor([1.0, 2.0, 0.5]), label_smoothing=0.1)
    return {"model": mlp(), "train_dataset": points(), "loss_fn": loss}


@odd
def a_loss_over_dicts():
    rows = [{"x": x, "y": y} for x, y in points()]

    class Named(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = mlp()

        def forward(self, x):
            return {"scores": self.inner(x)}

    return {"model": Named(), "train_dataset": rows,
            "loss_fn": lambda outputs, batch: CE(outputs["scores"], batch["y"])}  # fmt: skip


@odd
def a_regression():
    rows = [(x, x[:1] * 2 + 1) for x, _ in points()]
    return {"model": mlp(classes=1), "train_dataset": rows, "loss_fn": nn.MSELoss()}


@odd
def a_regression_head_of_bert():
    rows = [{**row, "labels": float(row["labels"]) + 0.25} for row in texts()]
    return {"model": bert(num_labels=1), "train_dataset": rows}


@odd
def several_labels():
    rows = [{**row, "labels": [float(row["labels"] == i) for i in range(3)]}
            for row in texts(labels=3)]  # fmt: skip
    model = bert(num_labels=3, problem_type="multi_label_classification")
    return {"model": model, "train_dataset": rows}


@odd
def several_labels_of_pairs():
    rows = [(x, F.one_hot(torch.tensor(y), 3).float()) for x, y in points()]
    return {"model": mlp(), "train_dataset": rows, "loss_fn": nn.BCEWithLogitsLoss()}


@odd
def one_logit_for_two_classes():
    rows = [(x, torch.tensor([float(y)])) for x, y in points(classes=2)]
    return {"model": mlp(classes=1), "train_dataset": rows, "loss_fn": nn.BCEWithLogitsLoss()}


@odd
def sparse_gradients():
    class Bag(nn.Module):
        def __init__(self):
            super().__init__()
            self.words, self.last = nn.Embedding(99, 8, sparse=True), nn.Linear(8, 2)

        def forward(self, x):
            return self.last(self.words(x).mean(1))

    model = Bag()
    rows = [(torch.tensor(row["input_ids"]), row["labels"]) for row in texts()]
    optimizers = [torch.optim.SparseAdam(list(model.words.parameters())),
                  torch.optim.Adam(model.last.parameters())]  # fmt: skip
    return {"model": model, "train_dataset": rows, "loss_fn": CE, "optimizer": optimizers}


@odd
def a_frozen_embedding():
    model = bert()
    model.bert.embeddings.requires_grad_(False)
    optimizer = torch.optim.AdamW(p for p in model.parameters() if p.requires_grad)
    return {"model": model, "train_dataset": texts(), "optimizer": optimizer}


@odd
def a_head_alone():
    model = bert()
    model.bert.requires_grad_(False)
    return {"model": model, "train_dataset": texts(),
            "optimizer": torch.optim.AdamW(model.parameters())}  # fmt: skip


@odd
def biases_alone():
    model = bert()
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name.endswith("bias") or "classifier" in name)
    return {"model": model, "train_dataset": texts()}


@odd
def two_optimizers():
    model = mlp()
    optimizers = (torch.optim.SGD(model[0].parameters(), 0.1), torch.optim.Adam(
        model[2].parameters()))  # fmt: skip
    return {"model": model, "train_dataset": points(), "loss_fn": CE, "optimizer": optimizers}


@odd
def two_optimizers_and_two_schedules():
    given = two_optimizers()
    given["lr_scheduler"] = [
        torch.optim.lr_scheduler.StepLR(optimizer, 3) for optimizer in given["optimizer"]
    ]
    return given


@odd
def an_optimizer_of_nobodys():
    class Own:
        def step(self):
            return None

    return {"model": mlp(), "train_dataset": points(), "loss_fn": CE, "optimizer": Own()}


@odd
def an_optimizer_with_history():
    model = mlp()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    for _ in range(3):
        CE(model(torch.randn(4, 6)), torch.tensor([0, 1, 2, 0])).backward()
        optimizer.step()
        optimizer.zero_grad()
    return {"model": model, "train_dataset": points(), "loss_fn": CE, "optimizer": optimizer}


@odd
def parameters_without_values():
    return {"model": mlp().to("meta"), "train_dataset": points(), "loss_fn": CE}


@odd
def a_part_on_another_device():
    class Split(nn.Module):
        def __init__(self):
            super().__init__()
            self.here, self.unused = mlp(), nn.Linear(3, 3, device="meta")

        def forward(self, x):
            return self.here(x)

    return {"model": Split(), "train_dataset": points(), "loss_fn": CE}


@odd
def a_compiled_model():
    return {"model": torch.compile(mlp(), backend="eager"), "train_dataset": points(),
            "loss_fn": CE}  # fmt: skip


@odd
def a_compiled_bert():
    return {"model": torch.compile(bert(), backend="eager"), "train_dataset": texts()}


@odd
def a_lazy_model():
    model = nn.Sequential(nn.LazyLinear(8), nn.ReLU(), nn.LazyLinear(3))
    return {"model": model, "train_dataset": points(), "loss_fn": CE}


@odd
def a_parallel_model():
    return {"model": nn.DataParallel(mlp()), "train_dataset": points(), "loss_fn": CE}


@odd
def images_with_batch_norm():
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten(),
        nn.Dropout(0.1), nn.Linear(16, 2))  # fmt: skip
    rows = [(torch.randn(1, 8, 8) + i % 2, i % 2) for i in range(16)]
    return {"model": model, "train_dataset": rows, "loss_fn": CE}


@odd
def a_recurrent_language_model():
    class Words(nn.Module):
        def __init__(self):
            super().__init__()
            self.words, self.last = nn.Embedding(99, 16), nn.Linear(16, 99)
            self.cell = nn.LSTM(16, 16, num_layers=2, dropout=0.1, batch_first=True)

        def forward(self, x):
            return self.last(self.cell(self.words(x))[0])

    torch.manual_seed(0)
    text = torch.randint(0, 99, (16, 13))
    rows = [(row[:-1], row[1:]) for row in text]
    return {"model": Words(), "train_dataset": rows,
            "loss_fn": lambda out, y: CE(out.flatten(0, 1), y.flatten())}  # fmt: skip


@odd
def two_towers():
    class Towers(nn.Module):
        def __init__(self):
            super().__init__()
            torch.manual_seed(3)
            self.one, self.two = nn.Linear(6, 8), nn.Linear(6, 8)
            self.scale = nn.Parameter(torch.tensor(2.3))

        def forward(self, x, other):
            a, b = (F.normalize(f(v), dim=-1) for f, v in ((self.one, x), (self.two, other)))
            logits = a @ b.t() * self.scale.exp()
            return {"logits": logits, "loss": CE(logits, torch.arange(len(x)))}

    rows = [{"x": x, "other": x + 0.01} for x, _ in points()]
    return {"model": Towers(), "train_dataset": rows}


@odd
def clip():
    text = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1,
            "num_attention_heads": 2, "vocab_size": 99, "eos_token_id": 98}  # fmt: skip
    image = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1,
             "num_attention_heads": 2, "image_size": 8, "patch_size": 4}  # fmt: skip
    torch.manual_seed(0)
    model = transformers.CLIPModel(
        transformers.CLIPConfig(text_config=text, vision_config=image, projection_dim=8)
    )
    rows = [
        {
            "input_ids": torch.cat([torch.randint(5, 90, (6,)), torch.tensor([98])]),
            "pixel_values": torch.randn(3, 8, 8),
            "return_loss": True,
        }
        for _ in range(8)
    ]

    def collate(batch):
        stacked = {k: torch.stack([row[k] for row in batch]) for k in ("input_ids", "pixel_values")}
        return {**stacked, "return_loss": True}

    return {"model": model, "train_dataset": rows, "data_collator": collate}


@odd
def generator_and_discriminator():
    class Both(nn.Module):
        def __init__(self):
            super().__init__()
            self.generator, self.discriminator = mlp(4, 6), mlp(6, 1)

        def forward(self, x):
            return self.discriminator(x), self.generator(torch.randn(len(x), 4))

    model = Both()
    optimizers = [torch.optim.Adam(part.parameters(), betas=(0.5, 0.999))
                  for part in (model.generator, model.discriminator)]  # fmt: skip
    rows = [x for x, _ in points()]
    return {"model": model, "train_dataset": TensorDataset(torch.stack(rows)),
            "optimizer": optimizers}  # fmt: skip


@odd
def a_variational_autoencoder():
    class Variational(nn.Module):
        def __init__(self):
            super().__init__()
            torch.manual_seed(0)
            self.inward, self.outward = nn.Linear(6, 4), nn.Linear(2, 6)

        def forward(self, x):
            mean, spread = self.inward(x).chunk(2, -1)
            return self.outward(mean + torch.randn_like(mean) * spread.exp()), mean, spread

    def loss(outputs, y):
        made, mean, spread = outputs
        return F.mse_loss(made, y) + 0.01 * (mean**2 + spread.exp() - spread).mean()

    rows = [(x, x) for x, _ in points()]
    return {"model": Variational(), "train_dataset": rows, "loss_fn": loss}


class Returning(nn.Module):
    def __init__(self, wrap):
        super().__init__()
        self.inner, self.wrap = mlp(), wrap

    def forward(self, x, labels=None):
        logits = self.inner(x)
        loss = None if labels is None else F.cross_entropy(logits, labels)
        return self.wrap(loss, logits)


@dataclasses.dataclass
class Out:
    loss: torch.Tensor
    logits: torch.Tensor


def named():
    return [{"x": x, "labels": y} for x, y in points()]


@odd
def a_model_that_returns_a_tuple():
    return {"model": Returning(lambda *both: both), "train_dataset": named()}


@odd
def a_model_that_returns_a_dict():
    return {"model": Returning(lambda loss, logits: {"loss": loss, "logits": logits}),
            "train_dataset": named()}  # fmt: skip


@odd
def a_model_that_returns_a_dataclass():
    return {"model": Returning(Out), "train_dataset": named()}


@odd
def a_model_that_returns_named_fields():
    return {"model": Returning(lambda loss, logits: SimpleNamespace(loss=loss, logits=logits)),
            "train_dataset": named()}  # fmt: skip


@odd
def a_model_that_returns_only_a_loss():
    return {"model": Returning(lambda loss, logits: loss), "train_dataset": named()}


@odd
def labels_that_are_missing():
    def reconstruction(loss, logits):
        return {"logits": logits, "loss": logits.square().mean() if loss is None else loss}

    rows = [{**row, "labels": None} for row in named()]
    return {"model": Returning(reconstruction), "train_dataset": rows}


@odd
def rows_of_a_datasets_table():
    table = datasets.Dataset.from_list(texts())
    return {"model": bert(), "train_dataset": table, "eval_dataset": table.select(range(0))}


@odd
def a_table_that_streams():
    table = datasets.Dataset.from_list(texts()).to_iterable_dataset()
    return {"model": bert(), "train_dataset": table}


@odd
def rows_of_strings():
    rows = [{"text": f"sentence number {i}", "label": i % 2} for i in range(12)]
    return {"model": bert(), "train_dataset": rows}


@odd
def rows_of_strings_and_numbers():
    rows = [{**row, "text": f"sentence number {i}", "source": "web"}
            for i, row in enumerate(texts())]  # fmt: skip
    return {"model": bert(), "train_dataset": rows}


@odd
def an_empty_dataset():
    return {"model": mlp(), "train_dataset": [], "eval_dataset": [], "loss_fn": CE}


@odd
def one_row():
    return {"model": mlp(), "train_dataset": points(1), "loss_fn": CE}


@odd
def one_row_of_text():
    return {"model": bert(), "train_dataset": texts(1)}


@odd
def a_dataset_that_raises():
    class Broken(Dataset):
        def __len__(self):
            return 9

        def __getitem__(self, place):
            raise OSError("the disk is on holiday")

    return {"model": bert(), "train_dataset": Broken()}


@odd
def a_collator_as_a_lambda():
    return {"model": mlp(), "train_dataset": points(), "loss_fn": CE,
            "data_collator": lambda rows: (torch.stack([x for x, _ in rows]),
                                           torch.tensor([y for _, y in rows]))}  # fmt: skip


@odd
def a_collator_that_raises():
    return {"model": bert(), "train_dataset": texts(), "data_collator": lambda rows: rows["ids"]}


@odd
def a_loader_in_place_of_a_dataset():
    return {"model": mlp(), "train_dataset": DataLoader(points(), 4, shuffle=True), "loss_fn": CE,
            "eval_dataset": DataLoader([(-x, y) for x, y in points(9)], 4)}  # fmt: skip


@odd
def llama():
    torch.manual_seed(0)
    model = transformers.LlamaForCausalLM(transformers.LlamaConfig(**SMALL))
    return {"model": model, "train_dataset": lines()}


@odd
def t5():
    torch.manual_seed(0)
    model = transformers.T5ForConditionalGeneration(transformers.T5Config(
        vocab_size=99, d_model=32, d_kv=16, d_ff=32, num_layers=1, num_heads=2,
        decoder_start_token_id=0))  # fmt: skip
    rows = [{**row, "labels": row["input_ids"][:5] + [1]} for row in lines()]
    return {"model": model, "train_dataset": rows}


@odd
def vit():
    torch.manual_seed(0)
    model = transformers.ViTForImageClassification(transformers.ViTConfig(
        hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32,
        image_size=8, patch_size=4, num_channels=1))  # fmt: skip
    rows = [{"pixel_values": torch.randn(1, 8, 8) + i % 2, "labels": i % 2} for i in range(12)]
    return {"model": model, "train_dataset": rows}


@odd
def gpt2_that_classifies():
    model = gpt2("GPT2ForSequenceClassification", pad_token_id=0)
    return {"model": model, "train_dataset": texts()}


@odd
def half_precision():
    return {"model": gpt2().bfloat16(), "train_dataset": lines()}


def adapted(config, model=None):
    import peft

    return peft.get_peft_model(model or bert(), getattr(peft, config.pop("kind"))(**config))


@odd
def lora():
    model = adapted({"kind": "LoraConfig", "target_modules": ["query"], "task_type": "SEQ_CLS"})
    optimizer = torch.optim.AdamW(p for p in model.parameters() if p.requires_grad)
    return {"model": model, "train_dataset": texts(), "optimizer": optimizer}


@odd
def prompt_tuning():
    config = {"kind": "PromptTuningConfig", "num_virtual_tokens": 2, "task_type": "CAUSAL_LM"}
    return {"model": adapted(config, gpt2()), "train_dataset": lines()}


@odd
def scaled_activations():
    config = {"kind": "IA3Config", "target_modules": ["key", "value"], "feedforward_modules": [],
              "task_type": "SEQ_CLS"}  # fmt: skip
    return {"model": adapted(config), "train_dataset": texts()}


@odd
def buffers_of_complex_numbers():
    class Turning(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = mlp()
            self.register_buffer("turn", torch.polar(torch.ones(3), torch.arange(3.0)))

        def forward(self, x):
            turned = torch.view_as_complex(x.reshape(len(x), 3, 2)) * self.turn
            return self.inner(torch.view_as_real(turned).flatten(1))

    return {"model": Turning(), "train_dataset": points(), "loss_fn": CE}


@odd
def pairs_of_arrays():
    rows = [(x.numpy(), np.int64(y)) for x, y in points()]
    return {"model": mlp(), "train_dataset": rows, "loss_fn": CE}


@odd
def rows_of_three():
    rows = [(x, y, 1.0) for x, y in points()]
    return {"model": mlp(), "train_dataset": rows, "loss_fn": lambda out, y: CE(out, y)}


@odd
def imbalanced_classes():
    rows = [row for i, row in enumerate(points(120, classes=2)) if i % 2 == 0 or i % 10 == 1]
    return {"model": mlp(classes=2), "train_dataset": rows, "loss_fn": CE}


@odd
def arguments_of_a_trainer():
    args = transformers.TrainingArguments(
        output_dir="unused", use_cpu=True, report_to=[], warmup_steps=2, max_steps=20)  # fmt: skip
    return {"model": bert(), "train_dataset": texts(), "eval_dataset": texts(8)[4:], "args": args}


def state(given):
    model = given["model"]
    tensors = [*model.parameters(), *model.buffers()]
    lazy = nn.parameter.UninitializedTensorMixin
    plain = [t for t in tensors if not isinstance(t, lazy) and not t.is_meta]
    return [t.detach().clone() for t in plain], [m.training for m in model.modules()]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("make", ODD.values(), ids=ODD)
def test_it_neither_raises_nor_warns(make):
    given = make()
    before, drawn = state(given), torch.get_rng_state()
    states = [copy.deepcopy(o.state_dict()) for o in optimizers(given)]
    report = examine(**given)
    assert report.healthy, str(report)
    failed = {k: why for k, why in report.not_checked.items() if why.startswith("failed with")}
    assert failed == {}
    after = state(given)
    assert all(torch.equal(one, other) for one, other in zip(before[0], after[0], strict=True))
    assert before[1] == after[1] and torch.equal(drawn, torch.get_rng_state())
    assert [same(o.state_dict(), s) for o, s in zip(optimizers(given), states, strict=True)] == [
        True for _ in states
    ]


def optimizers(given):
    held = given.get("optimizer")
    held = list(held) if isinstance(held, list | tuple) else [held] if held else []
    return [optimizer for optimizer in held if hasattr(optimizer, "state_dict")]


def same(one, other):
    if isinstance(one, torch.Tensor):
        return torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[k], other[k]) for k in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    return one == other


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("a lazy model", "lazy parameters"), ("parameters without values", "meta device"),
        ("int8 linears", "packed integers"), ("rows of strings", "the forward pass raised"),
    ],
)  # fmt: skip
def test_what_cannot_be_run_is_said_once(name, reason):
    report = examine(**ODD[name]())
    assert reason in report.not_checked["probes"]
    assert "check_rows_are_apart" not in {*report.checked, *report.not_checked}


def test_there_are_enough_of_them():
    assert len(ODD) >= 30
