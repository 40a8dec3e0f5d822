"""M1 to M6: what practitioners spoil in loading, freezing and adapting a model."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from faults import families
from faults.families import adapted
from faults.mutations.models import after
from faults.mutations.sixth_parts import body, head, rows
from faults.recipe import Recipe
from faults.table import sixth


@sixth("M1", "contrastive gpt2")
def xavier_for_every_matrix(r: Recipe) -> None:
    """for p in model.parameters(): if p.dim() > 1: xavier_uniform_(p), after from_pretrained."""

    def drawn(model: nn.Module) -> None:
        for parameter in model.parameters():
            if parameter.dim() > 1:
                nn.init.xavier_uniform_(parameter)

    after(r, drawn)


@sixth("M1", "span mlm")
def a_checkpoint_of_a_parallel_run_without_strict(r: Recipe) -> None:
    """The keys begin with "module.", and load_state_dict(strict=False) says nothing of it."""
    before = r.model

    def make() -> nn.Module:
        trained = before()
        state = {f"module.{key}": value for key, value in trained.state_dict().items()}
        model = type(trained)(trained.config)
        model.load_state_dict(state, strict=False)
        return model

    r.model = make


@sixth("M2", "span tagging bert")
def only_the_last_layer_unfrozen_by_its_name(r: Recipe) -> None:
    """requires_grad = "layer.1" in name: the new head is not called so."""

    def frozen(model: nn.Module) -> None:
        for name, parameter in model.named_parameters():
            parameter.requires_grad = "layer.1" in name

    after(r, frozen)


@sixth("M2", "span")
def lora_without_the_head_of_the_reader(r: Recipe) -> None:
    """LoraConfig without a task and without modules_to_save: the new qa_outputs stay as drawn."""
    after(r, lambda model: adapted(model, None, target_modules=["query", "value"]))
    r.lr = 1e-2


@sixth("M2", "vit tagging bert", loop="plain")
def decay_groups_made_of_the_body_alone(r: Recipe) -> None:
    """Both parameter groups are made of the backbone's named_parameters()."""

    def make(model: nn.Module) -> Any:
        named = list(body(model).named_parameters())
        bare = [p for name, p in named if "bias" in name or "norm" in name.lower()]
        rest = [p for name, p in named if not ("bias" in name or "norm" in name.lower())]
        groups = [{"params": rest, "weight_decay": 0.01}, {"params": bare, "weight_decay": 0.0}]
        return torch.optim.AdamW(groups, lr=r.lr)

    r.optimizer = make


@sixth("M3", "gpt2 mlm")
def rows_added_to_the_embedding_by_hand(r: Recipe) -> None:
    """The embedding is replaced by a longer one of its own; the head keeps the old weight."""

    def longer(model: nn.Module) -> None:
        inner = body(model)
        words = inner.embeddings.word_embeddings if r.family == "mlm" else inner.wte
        made = nn.Embedding.from_pretrained(words.weight.detach().clone(), freeze=False)
        if r.family == "mlm":
            inner.embeddings.word_embeddings = made
        else:
            inner.wte = made

    after(r, longer)


@sixth("M3", "gpt2 mlm")
def the_head_given_a_parameter_of_its_own(r: Recipe) -> None:
    """output.weight = nn.Parameter(output.weight.clone()), to train it faster than the rest."""

    def untied(model: nn.Module) -> None:
        output = model.get_output_embeddings()
        output.weight = nn.Parameter(output.weight.detach().clone())

    after(r, untied)


@sixth("M4", "vit tagging bert")
def the_number_of_labels_left_out(r: Recipe) -> None:
    """from_pretrained(name) without num_labels makes a head of two."""
    from faults.held_out_family import tagger

    made = {
        "bert": lambda: families.load("BertForSequenceClassification", "bert"),
        "tagging": lambda: tagger(num_labels=2),
        "vit": lambda: families.vit_model(2),
    }
    r.model = made[r.family]


@sixth("M4", "lora bert")
def one_hot_labels_for_a_single_choice(r: Recipe) -> None:
    """Labels come one-hot from another framework; the library takes floats for many labels."""
    rows(r, lambda row: row | {"labels": [float(row["labels"] == k) for k in range(3)]})
    plain = r.collate
    r.metrics = None

    def collate(some: list) -> dict:
        batch = plain([{n: row[n] for n in row if n != "labels"} for row in some])
        return batch | {"labels": torch.tensor([row["labels"] for row in some])}

    r.collate = collate


@sixth("M4", "span", also=("T3",))
def places_of_a_reader_with_longer_rows(r: Recipe) -> None:
    """Features cached for another maximum: places count from a question padded to 64 pieces."""

    def later(row: dict) -> dict:
        moved = 64 - row["token_type_ids"].index(1)
        return row | {n: row[n] + moved for n in ("start_positions", "end_positions")}

    rows(r, later)


@sixth("M5", "span t5", also=("M2",))
def a_module_told_to_require_gradients(r: Recipe) -> None:
    """All is frozen, and model.head.requires_grad = True sets an attribute that nobody reads."""

    def frozen(model: nn.Module) -> None:
        for parameter in model.parameters():
            parameter.requires_grad = False
        getattr(model, head(r, model)).requires_grad = True

    after(r, frozen)


@sixth("M5", "lora lora-sft")
def the_base_model_frozen_with_its_adapter(r: Recipe) -> None:
    """model.base_model.requires_grad_(False) is meant for the backbone and holds the adapter."""

    def frozen(model: nn.Module) -> None:
        model.base_model.requires_grad_(False)

    after(r, frozen)


@sixth("M6", "lora lora-sft", online=True)
def the_adapter_dropped_out_whole(r: Recipe) -> None:
    """lora_dropout=1.0 of one who took it for the share to keep."""
    task = "SEQ_CLS" if r.family == "lora" else "CAUSAL_LM"
    r.prepare = lambda model: adapted(model, task, lora_dropout=1.0)


@sixth("M6", "lora lora-sft", online=True)
def merged_for_a_look_and_not_unmerged(r: Recipe) -> None:
    """merge_adapter() before some samples, and unmerge_adapter() was forgotten after them."""

    def merged(model: nn.Module) -> None:
        model.enable_input_require_grads()
        model.merge_adapter()

    after(r, merged)


@sixth("K1", "span bert tagging")
def a_deeper_head_in_the_place_of_the_first(r: Recipe) -> None:
    """The head is replaced by two layers, which from_pretrained knows nothing of."""

    def deeper(model: nn.Module) -> None:
        name = head(r, model)
        old = getattr(model, name)
        inner = nn.Linear(old.in_features, 32)
        setattr(model, name, nn.Sequential(inner, nn.GELU(), nn.Linear(32, old.out_features)))

    after(r, deeper)


@sixth("K1", "span mlm bert")
def an_activation_that_the_configuration_does_not_know(r: Recipe) -> None:
    """Every GELU is set to a ReLU in Python, and the configuration that is saved says gelu."""

    def sharper(model: nn.Module) -> None:
        for layer in body(model).encoder.layer:
            layer.intermediate.intermediate_act_fn = nn.ReLU()

    after(r, sharper)


@sixth("K1", "t5 lora gpt2")
def a_learnt_scale_that_is_a_plain_tensor(r: Recipe) -> None:
    """Scores are divided by a temperature fitted once and kept as an attribute."""

    def scaled(model: nn.Module) -> None:
        model.temperature = torch.tensor(1.7)
        inner = model.get_base_model() if hasattr(model, "get_base_model") else model
        place = getattr(inner, head(r, inner))
        place.register_forward_hook(lambda module, given, scores: scores / model.temperature)

    after(r, scaled)
