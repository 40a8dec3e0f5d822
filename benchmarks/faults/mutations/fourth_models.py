"""The fourth set, continued: M1 to M10; `fourth_data` says by which rule."""

from __future__ import annotations

import copy
import re
import tempfile
from typing import Any

import torch
from torch import nn

from faults.families import CLASSES, adapted, load
from faults.held_out_family import tagger
from faults.mutations.data import labels_of
from faults.mutations.fourth_data import each_label
from faults.mutations.models import after, layers
from faults.recipe import Recipe
from faults.table import fourth

LORA = "lora-sft lora"
TASKS = {"lora": "SEQ_CLS", "lora-sft": "CAUSAL_LM"}


def head_of(model: nn.Module) -> nn.Module:
    """What makes scores of hidden states."""
    return model.get_output_embeddings() or model.classifier


def before_layer(r: Recipe, change: Any, place: int = -1) -> None:
    """What this layer is given, changed."""

    def prepare(model: nn.Module) -> None:
        stack = model.decoder.block if r.family == "t5" else layers(model)
        stack[place].register_forward_pre_hook(lambda module, given: (change(given[0]), *given[1:]))

    after(r, prepare)


def through(r: Recipe, make: Any, call: Any) -> None:
    """A new part of the model stands before its last layer."""

    def prepare(model: nn.Module) -> None:
        stack = model.decoder.block if r.family == "t5" else layers(model)
        norm = next(m for m in stack.modules() if getattr(m, "weight", torch.empty(1, 1)).dim() < 2)
        model.extra = make(norm.weight.shape[0])
        stack[-1].register_forward_pre_hook(
            lambda module, given: (call(model.extra, given[0]), *given[1:])
        )

    after(r, prepare)


# -- M1, M2, M3 ----------------------------------------------------------------------------------

WIDER = {
    "bert": {"hidden_size": 96, "intermediate_size": 192, "num_labels": CLASSES},
    "gpt2": {"n_embd": 96},
    "t5": {"d_model": 96},
    "tagging": {"dim": 96, "hidden_dim": 192},
}


@fourth("M1", "bert gpt2 t5 tagging")
def sizes_that_do_not_fit_are_ignored(r: Recipe) -> None:
    """The model was made wider, and `ignore_mismatched_sizes` silenced the error."""
    name, more = type(r.model()).__name__, WIDER[r.family] | {"ignore_mismatched_sizes": True}
    if r.family == "tagging":  # few rows: from many, these tags are learnt without a checkpoint too
        r.model, r.train = lambda: tagger(**more), r.train[:48]
    else:
        r.model = lambda: load(name, r.family, **more)


@fourth("M1", "mlm gpt2 sft")
def layers_under_another_name(r: Recipe) -> None:
    """Read by hand and not strictly: only embeddings and norms outside of the layers fit."""
    read = r.model

    def model() -> nn.Module:
        known = read()
        torch.manual_seed(1000 + r.seed)
        fresh = type(known)(known.config)
        state = {
            re.sub(r"\.(layer|layers|h)\.", ".blocks.", key): value
            for key, value in known.state_dict().items()
        }
        fresh.load_state_dict(state, strict=False)
        return fresh

    r.model = model


@fourth("M2", "bert tagging")
def the_wrong_end_is_frozen(r: Recipe) -> None:
    """`[8:]` where `[:8]` was meant."""

    def prepare(model: nn.Module) -> None:
        for parameter in list(model.parameters())[8:]:
            parameter.requires_grad = False

    after(r, prepare)


@fourth("M2", "tagging")
def lora_of_a_tagger_for_features(r: Recipe) -> None:
    """A task type under which no head is trained."""
    import peft

    r.prepare = lambda model: peft.get_peft_model(
        model,
        peft.LoraConfig(task_type="FEATURE_EXTRACTION", r=4, target_modules=["q_lin", "v_lin"]),
    )


@fourth("M3", "mlm gpt2 t5")
def every_parameter_wrapped_anew(r: Recipe) -> None:
    """Module by module, as when averaged weights are put in: what was one tensor becomes two."""

    def prepare(model: nn.Module) -> None:
        for module in model.modules():
            for name, parameter in list(module.named_parameters(recurse=False)):
                setattr(module, name, nn.Parameter(parameter.detach().clone()))

    after(r, prepare)


# -- M4, M5 --------------------------------------------------------------------------------------


@fourth("M4", "bert lora")
def a_setting_for_many_labels_over_one(r: Recipe) -> None:
    r.model = lambda: load(
        "BertForSequenceClassification",
        "bert",
        num_labels=CLASSES,
        problem_type="multi_label_classification",
    )


@fourth("M4", "tagging")
def tags_with_beginnings_and_insides(r: Recipe) -> None:
    """B and I of each kind, and a head for the kinds."""
    for row in [*r.train, *r.eval]:
        last, tags = -1, []
        for y in row["labels"]:
            tags.append(y if y == -100 else 2 * y + int(y == last))
            last = last if y == -100 else y
        row["labels"] = tags


@fourth("M4", "vit bert")
def what_is_unknown_is_minus_one(r: Recipe) -> None:
    rare = max(labels_of(r))
    each_label(r, lambda y: -1 if y == rare else y)


@fourth("M5", "bert t5 vit tagging sft")
def an_empty_entry_in_the_list_of_what_to_freeze(r: Recipe) -> None:
    """A comma too many: every name holds the empty string."""

    def prepare(model: nn.Module) -> None:
        for name, parameter in model.named_parameters():
            parameter.requires_grad = not any(part in name for part in "embed,shared,".split(","))

    after(r, prepare)


@fourth("M5", LORA, also=("M2", "M6"))
def an_adapter_read_back_to_train_on(r: Recipe) -> None:
    """`PeftModel.from_pretrained` reads for inference unless it is told otherwise."""
    import peft

    def prepare(model: nn.Module) -> nn.Module:
        with tempfile.TemporaryDirectory() as folder:
            adapted(copy.deepcopy(model), TASKS[r.family]).save_pretrained(folder)
            return peft.PeftModel.from_pretrained(model, folder)

    r.prepare = prepare


# -- M6, M7 --------------------------------------------------------------------------------------


@fourth("M6", LORA, online=True)
def both_matrices_begin_at_zero(r: Recipe) -> None:
    """Neither gets a gradient through the other."""

    def prepare(model: nn.Module) -> None:
        for name, parameter in model.named_parameters():
            if "lora_" in name:
                nn.init.zeros_(parameter)

    after(r, prepare)


@fourth("M6", LORA, online=True)
def a_share_to_keep_given_as_a_share_to_drop(r: Recipe) -> None:
    """`lora_dropout=1.0`: nothing reaches the adapter while it trains."""
    r.prepare = lambda model: adapted(model, TASKS[r.family], lora_dropout=1.0)


@fourth("M6", "lora-sft", loop="plain", online=True, also=("O6",))
def the_optimizer_holds_the_adapter_that_sleeps(r: Recipe) -> None:
    import peft

    def more(model: nn.Module) -> None:
        model.add_adapter(
            "second",
            peft.LoraConfig(task_type="CAUSAL_LM", r=4, target_modules=["q_proj", "v_proj"]),
        )

    after(r, more)
    r.optimizer = lambda model: torch.optim.AdamW(
        [p for n, p in model.named_parameters() if ".second." in n], lr=r.lr
    )


@fourth("M7", "bert tagging t5 mlm", loop="plain", online=True)
def only_the_head_is_put_into_training_mode(r: Recipe) -> None:
    """What is read from a checkpoint comes in evaluation mode, and the rest stays there."""

    def to_train(model: nn.Module) -> None:
        model.eval()
        head_of(model).train()

    r.line.to_train = to_train


@fourth("M7", "bert gpt2 tagging sft")
def noise_on_embeddings_that_evaluation_hears_too(r: Recipe) -> None:
    def prepare(model: nn.Module) -> None:
        model.get_input_embeddings().register_forward_hook(
            lambda module, given, out: out + 0.1 * out.std() * torch.randn_like(out)
        )

    after(r, prepare)


@fourth("M7", "bert t5 tagging", loop="plain", online=True)
def evaluated_in_training_mode(r: Recipe) -> None:
    r.line.to_eval, r.eval_every = lambda model: None, 8


# -- M8, M9, M10 ---------------------------------------------------------------------------------


@fourth("M8", "bert gpt2 vit tagging", loop="plain", online=True)
def a_loss_rebuilt_from_its_number(r: Recipe) -> None:
    """It asks for a gradient, and knows of no model."""
    r.line.loss = lambda loss: torch.tensor(loss.item(), requires_grad=True)


@fourth("M8", "bert gpt2 vit tagging")
def activations_rounded_to_eighths(r: Recipe) -> None:
    """The slope of `round` is zero: what lies before it gets zeros."""
    before_layer(r, lambda hidden: (hidden * 8).round() / 8)


@fourth("M9", "gpt2 sft lora-sft")
def a_layer_that_reads_both_ways(r: Recipe) -> None:
    through(
        r,
        lambda width: nn.LSTM(width, width // 2, batch_first=True, bidirectional=True),
        lambda extra, hidden: hidden + extra(hidden)[0],
    )


@fourth("M9", "gpt2 sft t5")
def a_running_maximum_read_from_the_right(r: Recipe) -> None:
    before_layer(r, lambda hidden: hidden + 0.1 * hidden.flip(1).cummax(1).values.flip(1))


@fourth("M10", "bert vit tagging mlm gpt2")
def an_encoder_layer_that_wants_the_length_first(r: Recipe) -> None:
    """`batch_first` was forgotten: each row attends to the other rows."""
    through(
        r,
        lambda width: nn.TransformerEncoderLayer(width, 2, 2 * width, dropout=0.0),
        lambda extra, hidden: hidden + extra(hidden),
    )


@fourth("M10", "contrastive t5 sft")
def a_recurrent_layer_that_reads_down_the_batch(r: Recipe) -> None:
    through(
        r,
        lambda width: nn.GRU(width, width),
        lambda extra, hidden: hidden + extra(hidden)[0],
    )
