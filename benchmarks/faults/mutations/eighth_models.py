"""M1 to M7 as they are mostly committed: what is loaded, trained, adapted, and in which mode."""

from __future__ import annotations

import tempfile

import torch
import transformers
from torch import nn

from faults import material
from faults.families import load
from faults.held_out_family import tagger
from faults.mutations.eighth_parts import after, both, last, with_label
from faults.recipe import Recipe
from faults.table import eighth

HEADS = {
    "bert": ("BertForSequenceClassification", "bert"),
    "mlm": ("BertForMaskedLM", "bert"),
    "gpt2": ("GPT2LMHeadModel", "gpt2"),
    "sft": ("LlamaForCausalLM", "llama"),
    "t5": ("T5ForConditionalGeneration", "t5"),
}

# -- M1, M2, M3 ----------------------------------------------------------------------------------


def _settings(r: Recipe) -> dict[str, int]:
    return {"num_labels": 3} if r.family == "bert" else {}


@eighth("M1", "bert gpt2 t5")
def usual_built_from_the_config_of_the_checkpoint(r: Recipe) -> None:
    head, name = HEADS[r.family]
    config = transformers.AutoConfig.from_pretrained(material.checkpoint(name), **_settings(r))
    r.model = lambda: getattr(transformers, head)(config)


@eighth("M1", "bert sft mlm")
def usual_state_dict_with_a_prefix_loaded_not_strictly(r: Recipe) -> None:
    head, name = HEADS[r.family]
    config = transformers.AutoConfig.from_pretrained(material.checkpoint(name), **_settings(r))

    def model() -> nn.Module:
        state = load(head, name, **_settings(r)).state_dict()
        made = getattr(transformers, head)(config)
        made.load_state_dict({f"module.{key}": state[key] for key in state}, strict=False)
        return made

    r.model = model


@eighth("M2", "bert span tagging")
def usual_all_frozen_but_the_last_layers_of_the_encoder(r: Recipe) -> None:
    def freeze(model: nn.Module) -> None:
        model.requires_grad_(False)
        layers = model.distilbert.transformer if r.family == "tagging" else model.bert.encoder
        layers.layer[-1].requires_grad_(True)

    after(r, freeze)


@eighth("M2", "lora")
def usual_adapter_without_a_task_type(r: Recipe) -> None:
    import peft

    r.prepare = lambda model: peft.get_peft_model(
        model, peft.LoraConfig(r=4, lora_alpha=8, target_modules=["query", "value"])
    )


@eighth("M3", "gpt2 t5 mlm")
def usual_output_layer_replaced_by_hand(r: Recipe) -> None:
    def replace(model: nn.Module) -> None:
        old = model.get_output_embeddings()
        new = nn.Linear(old.in_features, old.out_features, bias=old.bias is not None)
        new.load_state_dict(old.state_dict())
        if r.family == "mlm":
            model.cls.predictions.decoder = new
        else:
            model.lm_head = new

    after(r, replace)


@eighth("M3", "gpt2 mlm")
def usual_embedding_table_replaced_by_hand(r: Recipe) -> None:
    def replace(model: nn.Module) -> None:
        table = model.get_input_embeddings().weight.detach().clone()
        model.set_input_embeddings(nn.Embedding.from_pretrained(table, freeze=False))

    after(r, replace)


# -- M4, M5 --------------------------------------------------------------------------------------


@eighth("M4", "tagging lora")
def usual_number_of_labels_left_at_its_default(r: Recipe) -> None:
    r.model = (
        (lambda: tagger(num_labels=2)) if r.family == "tagging"
        else lambda: load("BertForSequenceClassification", "bert")
    )  # fmt: skip


@eighth("M4", "bert vit")
def usual_classes_counted_from_one(r: Recipe) -> None:
    both(r, lambda row: with_label(
        row, (int(row[1]) if isinstance(row, tuple) else row["labels"]) + 1
    ))  # fmt: skip


@eighth("M4", "bert")
def usual_one_output_for_several_classes(r: Recipe) -> None:
    r.model = lambda: load("BertForSequenceClassification", "bert", num_labels=1)
    both(r, lambda row: {**row, "labels": float(row["labels"])})
    r.metrics = None


@eighth("M5", "t5 mlm vit")
def usual_everything_frozen(r: Recipe) -> None:
    after(r, lambda model: model.requires_grad_(False) and None)


@eighth("M5", "lora lora-sft")
def usual_adapter_loaded_as_if_for_inference(r: Recipe) -> None:
    import peft

    before = r.prepare

    def prepare(model: nn.Module) -> nn.Module:
        with tempfile.TemporaryDirectory() as folder:
            made = before(model)
            made.save_pretrained(folder)
            return peft.PeftModel.from_pretrained(made.unload(), folder)

    r.prepare = prepare


# -- M6, M7 --------------------------------------------------------------------------------------


@eighth("M6", "lora lora-sft", loop="plain", online=True, also=("O6",))
def usual_optimizer_built_before_the_adapter(r: Recipe) -> None:
    before, held = r.prepare, []

    def prepare(model: nn.Module) -> nn.Module:
        held.extend(model.parameters())
        return before(model)

    r.prepare = prepare
    r.optimizer = lambda model: torch.optim.AdamW(held, lr=r.lr)


@eighth("M6", "lora", online=True, also=("M8",))
def usual_adapter_merged_for_a_first_evaluation_and_left_so(r: Recipe) -> None:
    after(r, lambda model: model.merge_adapter())


@eighth("M7", "t5 span tagging", loop="plain", online=True)
def usual_left_in_evaluation_after_the_first_one(r: Recipe) -> None:
    calls = iter([True])
    r.line.to_train = lambda model: model.train() if next(calls, False) else None
    r.eval_every = 15


@eighth("M7", "bert t5 mlm", loop="plain", online=True)
def usual_evaluated_in_training_mode(r: Recipe) -> None:
    r.line.to_eval = lambda model: None
    r.eval_every = 15


@eighth("M7", "bert span")
def usual_functional_dropout_that_ignores_the_mode(r: Recipe) -> None:
    def dropping(model: nn.Module) -> None:
        holder, name = last(model)
        getattr(holder, name).register_forward_pre_hook(
            lambda module, args: (nn.functional.dropout(args[0], 0.1),)
        )

    after(r, dropping)
