"""M1 to M6 as they are committed most often: weights, heads, ties, what is trained, adapters."""

from __future__ import annotations

import tempfile
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from faults import families, held_out_family, material, summary_family
from faults.families import SUBJECTS, adapted
from faults.mutations.ninth_parts import after, both, label, relabelled, rows_of, scored
from faults.recipe import Recipe
from faults.table import ninth

CLASSES = len(SUBJECTS)
HEADS = {
    "bert": "BertForSequenceClassification",
    "gpt2": "GPT2LMHeadModel",
    "sft": "LlamaForCausalLM",
    "t5": "T5ForConditionalGeneration",
    "summary": "BartForConditionalGeneration",
    "tagging": "DistilBertForTokenClassification",
}
FOLDERS = {"sft": "llama"}


def _place(r: Recipe) -> str:
    if r.family == "summary":
        return summary_family.checkpoint()
    if r.family == "tagging":
        return held_out_family.checkpoint()
    return material.checkpoint(FOLDERS.get(r.family, r.family))


def _drawn(r: Recipe) -> nn.Module:
    import transformers

    labels = {"bert": CLASSES, "tagging": len(held_out_family.TAGS)}.get(r.family)
    told = {"num_labels": labels} if labels else {}
    config = transformers.AutoConfig.from_pretrained(_place(r), **told)
    return getattr(transformers, HEADS[r.family])(config)


# -- M1, M2, M3 ----------------------------------------------------------------------------------


@ninth("M1", "bert gpt2 t5 tagging")
def often_model_made_from_the_configuration_of_the_checkpoint(r: Recipe) -> None:
    def model() -> nn.Module:
        made = _drawn(r)
        made.config._name_or_path = _place(r)
        return made

    r.model = model


@ninth("M1", "bert sft summary")
def often_state_with_module_prefix_loaded_without_strict(r: Recipe) -> None:
    good = r.model

    def model() -> nn.Module:
        saved = {f"module.{name}": value for name, value in good().state_dict().items()}
        made = _drawn(r)
        made.load_state_dict(saved, strict=False)
        return made

    r.model = model


def _backbone(model: nn.Module) -> nn.Module:
    return getattr(model, model.base_model_prefix)


@ninth("M2", "bert tagging span")
def often_freeze_loop_takes_the_head_too(r: Recipe) -> None:
    def freeze(model: nn.Module) -> None:
        for name, parameter in model.named_parameters():
            parameter.requires_grad = "layer.1." in name

    after(r, freeze)


@ninth("M2", "bert tagging span", also=("O6",))
def often_optimizer_of_the_backbone_without_the_head(r: Recipe) -> None:
    r.optimizer = lambda model: torch.optim.AdamW(_backbone(model).parameters(), lr=r.lr)


@ninth("M3", "gpt2 mlm summary")
def often_new_output_layer_left_untied(r: Recipe) -> None:
    def replace(model: nn.Module) -> None:
        new = nn.Linear(model.get_input_embeddings().embedding_dim, len(r.tokenizer), bias=False)
        nn.init.normal_(new.weight, std=0.1)
        if r.family == "mlm":
            model.cls.predictions.decoder = new
        else:
            model.lm_head = new

    after(r, replace)


@ninth("M3", "gpt2 mlm t5")
def often_input_embedding_replaced_by_a_copy(r: Recipe) -> None:
    def replace(model: nn.Module) -> None:
        weight = model.get_input_embeddings().weight.detach().clone()
        model.set_input_embeddings(nn.Embedding.from_pretrained(weight, freeze=False))

    after(r, replace)


# -- M4 ------------------------------------------------------------------------------------------


@ninth("M4", "recurrent vit", online=True)
def often_labels_from_one_to_k(r: Recipe) -> None:
    both(r, lambda row: relabelled(row, label(row) + 1))


@ninth("M4", "bert lora")
def often_one_output_left_for_many_classes(r: Recipe) -> None:
    r.model = lambda: families.load("BertForSequenceClassification", "bert", num_labels=1)
    r.metrics = None


@ninth("M4", "recurrent vit")
def often_multi_hot_rows_under_cross_entropy(r: Recipe) -> None:
    classes = 1 + max(label(row) for row in rows_of(r.train))

    def several(row: Any) -> Any:
        hot = functional.one_hot(torch.tensor([label(row), int(row[0].sum()) % classes]), classes)
        return row[0], hot.amax(0).float()

    both(r, several)
    scored(r, lambda logits, y: functional.cross_entropy(logits, y))
    r.metrics = None


# -- M5, M6 --------------------------------------------------------------------------------------


@ninth("M5", "bert vit")
def often_only_norms_and_biases_of_norms_trainable(r: Recipe) -> None:
    def freeze(model: nn.Module) -> None:
        for name, parameter in model.named_parameters():
            parameter.requires_grad = "norm" in name.lower() or ".ln_" in name

    after(r, freeze)


@ninth("M5", "recurrent vit")
def often_head_unfrozen_by_a_name_of_another_model(r: Recipe) -> None:
    def freeze(model: nn.Module) -> None:
        for name, parameter in model.named_parameters():
            parameter.requires_grad = name.startswith(("fc.", "score."))

    after(r, freeze)


def _saved_adapter(model: nn.Module, task: str) -> str:
    place = tempfile.mkdtemp()
    adapted(model, task).save_pretrained(place)
    return place


@ninth("M5", "lora sft")
def often_adapter_loaded_for_inference_and_trained(r: Recipe) -> None:
    import peft

    task = "CAUSAL_LM" if r.family == "sft" else "SEQ_CLS"
    place = _saved_adapter(r.model(), task)
    r.prepare = lambda model: peft.PeftModel.from_pretrained(model, place)


@ninth("M6", "lora sft", loop="plain", online=True, also=("O6",))
def often_optimizer_made_before_the_adapter(r: Recipe) -> None:
    task = "CAUSAL_LM" if r.family == "sft" else "SEQ_CLS"
    held: list = []

    def prepare(model: nn.Module) -> nn.Module:
        held.append(torch.optim.AdamW(model.parameters(), lr=r.lr))
        return adapted(model, task)

    r.prepare, r.optimizer = prepare, lambda model: held[-1]


@ninth("M6", "lora sft", loop="plain", online=True, also=("O6",))
def often_second_adapter_made_active_after_the_optimizer(r: Recipe) -> None:
    import peft

    task = "CAUSAL_LM" if r.family == "sft" else "SEQ_CLS"
    r.prepare = lambda model: adapted(model, task)

    def switch(model: nn.Module) -> None:
        targets = model.peft_config["default"].target_modules
        config = peft.LoraConfig(task_type=task, r=4, target_modules=targets)
        model.add_adapter("task", config)
        model.set_adapter("task")

    r.late = switch
