"""M1 to M5, fifth set: how a model is loaded, given a head, and frozen."""

from __future__ import annotations

import peft
import transformers
from torch import nn
from torch.nn import functional

from faults import material
from faults.families import Towers, load
from faults.mutations.fifth_parts import checkpoint
from faults.mutations.models import after
from faults.recipe import Recipe
from faults.table import fifth


@fifth("M1", "gpt2 tagging t5")
def own_loading_that_is_not_strict(r: Recipe) -> None:
    """`load_state_dict(state, strict=False)`, and every key begins with `module.`."""
    made = r.model

    def build() -> nn.Module:
        whole = made()
        model = type(whole)(transformers.AutoConfig.from_pretrained(checkpoint(r), **_labels(r)))
        state = {f"module.{name}": value for name, value in whole.state_dict().items()}
        model.load_state_dict(state, strict=False)
        return model

    r.model = build


def _labels(r: Recipe) -> dict[str, int]:
    return {"bert": {"num_labels": 3}, "tagging": {"num_labels": 4}}.get(r.family, {})


@fifth("M1", "contrastive")
def towers_made_from_the_configuration(r: Recipe) -> None:
    """`AutoModel.from_config(AutoConfig.from_pretrained(name))` reads no weights."""

    def build() -> nn.Module:
        config = transformers.AutoConfig.from_pretrained(material.checkpoint("bert"))
        return Towers(transformers.AutoModel.from_config(config, add_pooling_layer=False))

    r.model = build


@fifth("M1", "sft mlm")
def weights_initialised_by_the_end_of_the_script_s_own_init(r: Recipe) -> None:
    """A helper `init_weights(model)` for new layers is applied to the pretrained ones as well."""

    def init_weights(module: nn.Module) -> None:
        if isinstance(module, nn.Linear):
            nn.init.xavier_uniform_(module.weight)
        elif isinstance(module, nn.Embedding):
            nn.init.normal_(module.weight, 0.0, 0.02)

    def initialise(model: nn.Module) -> None:
        model.apply(init_weights)

    after(r, initialise)


class WithHeads(nn.Module):
    """An encoder and heads that stand in a Python list."""

    def __init__(self, encoder: nn.Module, classes: int) -> None:
        super().__init__()
        self.encoder, self.config = encoder, encoder.config
        self.heads = [nn.Linear(encoder.config.hidden_size, classes)]
        self.each = classes == 4

    def forward(self, input_ids=None, attention_mask=None, labels=None, **more):
        hidden = self.encoder(input_ids=input_ids, attention_mask=attention_mask)
        hidden = hidden.last_hidden_state
        logits = self.heads[0](hidden if self.each else hidden[:, 0])
        made = {"logits": logits}
        if labels is not None:
            made["loss"] = functional.cross_entropy(logits.flatten(0, -2), labels.flatten())
        return transformers.modeling_outputs.SequenceClassifierOutput(**made)


@fifth("M2", "bert tagging")
def heads_in_a_python_list(r: Recipe) -> None:
    """`self.heads = [nn.Linear(...)]` instead of `nn.ModuleList`: no parameter of the model."""
    each = r.family == "tagging"

    def build() -> nn.Module:
        if each:
            name = checkpoint(r)
            return WithHeads(transformers.DistilBertModel.from_pretrained(name), 4)
        return WithHeads(load("BertModel", "bert", add_pooling_layer=False), 3)

    r.model = build


@fifth("M2", "tagging bert")
def an_adapter_for_feature_extraction_on_a_classifier(r: Recipe) -> None:
    """`task_type="FEATURE_EXTRACTION"` in the LoRA settings: the new head stays frozen."""
    targets = ["q_lin", "v_lin"] if r.family == "tagging" else ["query", "value"]
    config = peft.LoraConfig(task_type="FEATURE_EXTRACTION", r=4, target_modules=targets)
    after(r, lambda model: peft.get_peft_model(model, config))


@fifth("M3", "mlm gpt2 t5")
def the_output_matrix_cloned_for_a_rate_of_its_own(r: Recipe) -> None:
    """`head.weight = nn.Parameter(head.weight.clone())`; the configuration still says tied."""

    def cloned(model: nn.Module) -> None:
        head = model.get_output_embeddings()
        head.weight = nn.Parameter(head.weight.detach().clone())

    after(r, cloned)


@fifth("M4", "bert lora")
def num_labels_left_at_its_default(r: Recipe) -> None:
    """`from_pretrained(name)` without `num_labels`: two outputs for three classes."""
    r.model = lambda: load("BertForSequenceClassification", "bert")


@fifth("M4", "bert lora")
def labels_keep_the_numbers_of_the_file(r: Recipe) -> None:
    """The file numbers its classes 1, 5 and 7, and nobody mapped them to 0, 1, 2."""
    numbers = (1, 5, 7)
    r.train, r.eval = (
        [row | {"labels": numbers[row["labels"]]} for row in rows] for rows in (r.train, r.eval)
    )


@fifth("M4", "tagging")
def a_tagger_with_the_two_labels_of_the_default(r: Recipe) -> None:
    """`AutoModelForTokenClassification.from_pretrained(name)`: two outputs for four tags."""
    name = checkpoint(r)
    r.model = lambda: transformers.DistilBertForTokenClassification.from_pretrained(name)


@fifth("M4", "bert", loop="plain")
def squared_error_of_class_numbers(r: Recipe) -> None:
    """`num_labels=1` as for two classes and a threshold, with classes 0, 1, 2."""
    r.model = lambda: load("BertForSequenceClassification", "bert", num_labels=1)
    r.metrics = None


@fifth("M5", "lora-sft lora")
def prepared_for_kbit_training_after_wrapping(r: Recipe) -> None:
    """`prepare_model_for_kbit_training` after `get_peft_model` freezes the adapters too."""

    def prepared(model: nn.Module) -> nn.Module:
        return peft.prepare_model_for_kbit_training(model, use_gradient_checkpointing=False)

    after(r, prepared)


@fifth("M5", "gpt2 vit tagging")
def trained_is_what_is_called_fc(r: Recipe) -> None:
    """`requires_grad = name.startswith("fc")`, copied from a ResNet: no name begins so."""

    def freeze(model: nn.Module) -> None:
        for name, parameter in model.named_parameters():
            parameter.requires_grad = name.startswith("fc")

    after(r, freeze)


@fifth("M5", "sft t5 contrastive")
def everything_of_two_dimensions_is_frozen(r: Recipe) -> None:
    """Freeze the matrices, tune the rest, as is meant for a model with adapters: norms are left."""

    def freeze(model: nn.Module) -> None:
        for parameter in model.parameters():
            parameter.requires_grad = parameter.dim() < 2

    after(r, freeze)
