"""More healthy runs: adapters, prompts, other heads, plain networks, contrastive pairs.

`healthy` says what a configuration is and holds the others.
"""

from __future__ import annotations

import random
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from faults import families, material
from faults.families import (
    InfoNCE,
    Padding,
    adapted,
    bert,
    contrastive,
    gpt2,
    lora,
    mlm,
    sft,
    t5,
    vit,
)
from faults.healthy import changed, evaluated, healthy
from faults.mutations.models import after
from faults.recipe import Recipe

# -- adapters and prompts ------------------------------------------------------------------------


@healthy()
def lora_of_all_matrices(seed: int) -> Recipe:
    r = bert(seed)
    r.prepare = lambda model: adapted(model, "SEQ_CLS", target_modules="all-linear", r=2)
    return changed(r, lr=3e-3)


@healthy(held_out=True)
def dora(seed: int) -> Recipe:
    r = sft(seed)
    r.prepare = lambda model: adapted(model, "CAUSAL_LM", use_dora=True)
    return changed(r, lr=3e-3)


@healthy()
def lora_with_trained_embeddings(seed: int) -> Recipe:
    r = sft(seed)
    r.prepare = lambda model: adapted(
        model, "CAUSAL_LM", modules_to_save=["embed_tokens", "lm_head"]
    )
    return changed(r, lr=2e-3)


@healthy()
def rslora_by_hand(seed: int) -> Recipe:
    r = lora(seed, "plain")
    r.prepare = lambda model: adapted(model, "SEQ_CLS", use_rslora=True)
    return r


@healthy()
def prompt_tuning_at_its_own_rate(seed: int) -> Recipe:
    import peft

    r = sft(seed)
    r.prepare = lambda model: peft.get_peft_model(
        model, peft.PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=8)
    )
    return changed(r, lr=5e-2)


@healthy(held_out=True)
def ia3(seed: int) -> Recipe:
    import peft

    r = sft(seed)
    r.prepare = lambda model: peft.get_peft_model(
        model,
        peft.IA3Config(
            task_type="CAUSAL_LM",
            target_modules=["k_proj", "v_proj", "down_proj"],
            feedforward_modules=["down_proj"],
        ),
    )
    return changed(r, lr=2e-2)


# -- other tasks ---------------------------------------------------------------------------------


@healthy()
def regression(seed: int) -> Recipe:
    r = bert(seed)
    for row in [*r.train, *r.eval]:
        row["labels"] = len(row["text"]) / 300
    return changed(
        r,
        metrics=None,
        model=lambda: families.load(
            "BertForSequenceClassification", "bert", num_labels=1, problem_type="regression"
        ),
    )


@healthy()
def multi_label(seed: int) -> Recipe:
    r = bert(seed)
    for row in [*r.train, *r.eval]:
        row["labels"] = [
            float(word in row["text"].lower()) for word in ("return", "param", "the ", "class")
        ]
    return changed(
        r,
        metrics=None,
        model=lambda: families.load(
            "BertForSequenceClassification",
            "bert",
            num_labels=4,
            problem_type="multi_label_classification",
        ),
    )


@healthy(held_out=True)
def two_classes(seed: int) -> Recipe:
    r = bert(seed)
    r.train, r.eval = ([row for row in rows if row["labels"] < 2] for rows in (r.train, r.eval))
    return evaluated(
        changed(
            r, model=lambda: families.load("BertForSequenceClassification", "bert", num_labels=2)
        )
    )


@healthy()
def tagger(seed: int) -> Recipe:
    r = mlm(seed)
    tokens = r.tokenizer.convert_ids_to_tokens(range(len(r.tokenizer)))
    kind = [
        0 if t.startswith("##") else 1 if t[0].isupper() else 2 if t.isalpha() else 3
        for t in tokens
    ]
    for row in [*r.train, *r.eval]:
        row["labels"] = [-100, *(kind[i] for i in row["input_ids"][1:-1]), -100]
    return changed(
        r,
        collate=Padding(r.tokenizer.pad_token_id),
        lr=2e-3,
        model=lambda: families.load("BertForTokenClassification", "bert", num_labels=4),
    )


@healthy()
def question_answering(seed: int) -> Recipe:
    r, draw = mlm(seed), random.Random(seed)
    for row in [*r.train, *r.eval]:
        start = draw.randrange(1, len(row["input_ids"]) - 2)
        row["start_positions"], row["end_positions"] = start, start + 1
        row["input_ids"] = [*row["input_ids"][:1], row["input_ids"][start], *row["input_ids"][2:]]
    pad = Padding(r.tokenizer.pad_token_id)

    def collate(rows: list) -> dict[str, torch.Tensor]:
        places = {
            k: torch.tensor([row[k] for row in rows]) for k in ("start_positions", "end_positions")
        }
        return pad(rows) | places

    return changed(
        r, collate=collate, lr=2e-3, model=lambda: families.load("BertForQuestionAnswering", "bert")
    )


class Net(nn.Module):
    """A convolutional network with batch norm, on digits."""

    def __init__(self, outputs: int = 10) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(1, 16, 3, padding=1),
            nn.BatchNorm2d(16),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(16, 32, 3, padding=1),
            nn.BatchNorm2d(32),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(512, outputs),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.body(x)


@healthy()
def convolutional(seed: int) -> Recipe:
    return evaluated(changed(vit(seed), model=Net, loss=nn.CrossEntropyLoss(), metrics=None))


@healthy(held_out=True)
def convolutional_by_sgd(seed: int) -> Recipe:
    return changed(
        vit(seed),
        model=Net,
        loss=nn.CrossEntropyLoss(label_smoothing=0.1),
        metrics=None,
        optimizer=lambda m: torch.optim.SGD(m.parameters(), lr=0.02, momentum=0.9, nesterov=True),
    )


@healthy()
def pixels_regressed(seed: int) -> Recipe:
    return changed(
        vit(seed),
        model=lambda: Net(1),
        metrics=None,
        loss=lambda out, y: functional.mse_loss(out[:, 0], y.float()),
    )


class Perceptron(nn.Module):
    """Two layers on flat pixels."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Flatten(), nn.Linear(64, 64), nn.GELU(), nn.Linear(64, 10))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.body(x)


@healthy()
def perceptron(seed: int) -> Recipe:
    return changed(vit(seed), model=Perceptron, loss=nn.CrossEntropyLoss(), metrics=None)


@healthy()
def linear_model(seed: int) -> Recipe:
    return changed(
        vit(seed),
        model=lambda: nn.Sequential(nn.Flatten(), nn.Linear(64, 10)),
        loss=nn.CrossEntropyLoss(),
        metrics=None,
        lr=1e-2,
    )


@healthy(held_out=True)
def log_probabilities(seed: int) -> Recipe:
    return changed(
        vit(seed),
        model=lambda: nn.Sequential(Perceptron(), nn.LogSoftmax(1)),
        loss=nn.NLLLoss(),
        metrics=None,
    )


class Autoencoder(nn.Module):
    """Pixels through sixteen numbers and back."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Flatten(), nn.Linear(64, 16), nn.ReLU(), nn.Linear(16, 64), nn.Sigmoid()
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.body(x).view_as(x)


@healthy(held_out=True)
def autoencoder(seed: int) -> Recipe:
    r = changed(vit(seed), model=Autoencoder, loss=functional.mse_loss, metrics=None)
    r.train = [(x, x) for x, _ in (r.train[i] for i in range(len(r.train)))]
    r.eval = [(x, x) for x, _ in (r.eval[i] for i in range(len(r.eval)))]
    return r


# -- contrastive ---------------------------------------------------------------------------------


@healthy()
def contrastive_at_a_warmer_temperature(seed: int) -> Recipe:
    return changed(contrastive(seed), loss=InfoNCE(0.2), steps=60)


@healthy(held_out=True)
def contrastive_both_ways(seed: int) -> Recipe:
    def loss(outputs: Any, batch: Any = None) -> torch.Tensor:
        scores = outputs["text_embeds"] @ outputs["pair_embeds"].T / 0.07
        places = torch.arange(len(scores))
        return (
            functional.cross_entropy(scores, places) + functional.cross_entropy(scores.T, places)
        ) / 2

    return changed(contrastive(seed), loss=loss, steps=60)


@healthy()
def contrastive_with_a_frozen_embedding(seed: int) -> Recipe:
    r = contrastive(seed)
    after(r, lambda model: model.encoder.embeddings.requires_grad_(False) and None)
    return r


# -- other architectures -------------------------------------------------------------------------


@healthy()
def distilbert(seed: int) -> Recipe:
    import transformers

    tokens = material.tokenizer("bert")
    config = transformers.DistilBertConfig(
        vocab_size=len(tokens),
        dim=64,
        n_layers=2,
        n_heads=2,
        hidden_dim=128,
        num_labels=3,
        max_position_embeddings=48,
        initializer_range=0.1,
    )
    r = bert(seed)
    for row in [*r.train, *r.eval]:
        row.pop("token_type_ids")
    return changed(
        r, model=lambda: transformers.DistilBertForSequenceClassification(config), lr=1e-3
    )


@healthy(held_out=True)
def gpt_neox_from_scratch(seed: int) -> Recipe:
    import transformers

    tokens = material.tokenizer("gpt2")
    config = transformers.GPTNeoXConfig(
        vocab_size=len(tokens),
        hidden_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=128,
        max_position_embeddings=96,
        initializer_range=0.1,
        bos_token_id=0,
        eos_token_id=0,
    )
    return changed(gpt2(seed), model=lambda: transformers.GPTNeoXForCausalLM(config), lr=1e-3)


class Recurrent(nn.Module):
    """An LSTM language model: no configuration, logits as they are."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.lstm = nn.Embedding(2000, 64), nn.LSTM(64, 64, batch_first=True)
        self.head = nn.Linear(64, 2000)

    def forward(self, input_ids: torch.Tensor) -> torch.Tensor:
        return self.head(self.lstm(self.embed(input_ids))[0])


@healthy()
def recurrent(seed: int) -> Recipe:
    r = gpt2(seed, "plain")

    def loss(logits: torch.Tensor, batch: Any) -> torch.Tensor:
        return functional.cross_entropy(
            logits[:, :-1].flatten(0, 1), batch["labels"][:, 1:].flatten()
        )

    r.line.forward = lambda model, batch: model(batch["input_ids"])
    return changed(r, model=Recurrent, loss=loss, lr=3e-3)


@healthy(held_out=True)
def compiled_by_eager(seed: int) -> Recipe:
    r = vit(seed)
    after(r, lambda model: torch.compile(model, backend="eager"))
    return changed(r, steps=20)


@healthy()
def two_optimizers(seed: int) -> Recipe:
    class Both:
        """Matrices by one, the rest by another, as Muon with AdamW."""

        def __init__(self, model: nn.Module) -> None:
            thick = [p for p in model.parameters() if p.dim() == 2]
            thin = [p for p in model.parameters() if p.dim() != 2]
            self.parts = [
                torch.optim.SGD(thick, lr=0.02, momentum=0.9),
                torch.optim.AdamW(thin, lr=1e-3),
            ]

    r = vit(seed)
    held: list = []

    def optimizer(model: nn.Module) -> Any:
        held[:] = Both(model).parts
        return held

    r.optimizer, r.schedule = optimizer, lambda o: None
    r.line.step = lambda o: [part.step() for part in held]
    r.line.zero = lambda o: [part.zero_grad() for part in held]
    r.line.schedule = lambda schedule: None
    return r


@healthy(held_out=True)
def t5_by_adafactor(seed: int) -> Recipe:
    return changed(t5(seed), args={"optim": "adafactor"})
