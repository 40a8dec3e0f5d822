"""Fresh ways to commit M1 to M10 and C1; `fresh_data` says by which rule."""

from __future__ import annotations

from typing import Any

import torch
import transformers
from torch import nn
from torch.nn import functional

from faults import families
from faults.families import InfoNCE, adapted
from faults.mutations.models import _one_direction, after, backbone, layers
from faults.recipe import Recipe
from faults.table import fault


@fault("M1", "bert mlm gpt2 sft t5 tagging", fresh=True)
def made_from_the_configuration_alone(r: Recipe) -> None:
    read = r.model

    def model() -> nn.Module:
        known = read()
        return type(known)(known.config)

    r.model = model


@fault("M1", "tagging", fresh=True)
def the_class_of_another_architecture(r: Recipe) -> None:
    from faults.held_out_family import checkpoint

    r.model = lambda: transformers.BertForTokenClassification.from_pretrained(
        checkpoint(), num_labels=4, hidden_size=64, num_hidden_layers=2, num_attention_heads=2,
        intermediate_size=128,
    )  # fmt: skip


@fault("M1", "bert", fresh=True)
def roberta_read_from_a_folder_of_bert(r: Recipe) -> None:
    from faults import material

    folder = material.checkpoint("bert")
    config = transformers.RobertaConfig(
        vocab_size=2000, hidden_size=64, num_hidden_layers=2, num_attention_heads=2, num_labels=3,
        intermediate_size=128, max_position_embeddings=48, type_vocab_size=2, pad_token_id=0,
    )  # fmt: skip
    r.model = lambda: transformers.RobertaForSequenceClassification.from_pretrained(
        folder, config=config
    )


@fault("M2", "bert tagging", loop="plain", fresh=True)
def groups_by_layer_that_forget_the_head(r: Recipe) -> None:
    def optimizer(model: nn.Module) -> Any:
        named = list(backbone(model).named_parameters())
        parts = {name.split(".layer.")[-1][:1] for name, _ in named}
        groups = [
            {"params": [p for n, p in named if n.split(".layer.")[-1][:1] == part], "lr": r.lr}
            for part in sorted(parts)
        ]
        return torch.optim.AdamW(groups)

    r.optimizer = optimizer


@fault("M2", "lora", fresh=True)
def only_lora_marked_as_trainable(r: Recipe) -> None:
    def prepare(model: nn.Module) -> None:
        for name, parameter in model.named_parameters():
            parameter.requires_grad_("lora_" in name)

    after(r, prepare)


@fault("M2", "tagging", fresh=True)
def head_of_the_tagger_frozen(r: Recipe) -> None:
    after(r, lambda model: model.classifier.requires_grad_(False) and None)


@fault("M3", "mlm gpt2", fresh=True)
def weights_assigned_from_a_file_with_both(r: Recipe) -> None:
    def prepare(model: nn.Module) -> None:
        state = {name: value.clone() for name, value in model.state_dict().items()}
        model.load_state_dict(state, assign=True)

    after(r, prepare)


@fault("M4", "bert lora", fresh=True)
def labels_keep_the_ids_of_the_whole_set(r: Recipe) -> None:
    for row in [*r.train, *r.eval]:
        row["labels"] = families.SUBJECTS[row["labels"]]


@fault("M4", "vit", fresh=True)
def digits_count_from_one(r: Recipe) -> None:
    r.train.y += 1
    r.eval.y += 1


@fault("M4", "tagging", fresh=True)
def a_head_for_three_of_four_tags(r: Recipe) -> None:
    from faults.held_out_family import tagger

    r.model = lambda: tagger(num_labels=3)


@fault("M5", "bert t5 gpt2 vit tagging", fresh=True)
def a_misspelt_name_decides_what_is_trained(r: Recipe) -> None:
    def prepare(model: nn.Module) -> None:
        for name, parameter in model.named_parameters():
            parameter.requires_grad = name.startswith(("clasifier", "adaptor"))

    after(r, prepare)


@fault("M5", "lora lora-sft", fresh=True)
def one_of_three_targets_misspelt(r: Recipe) -> None:
    task, names = (
        ("SEQ_CLS", ["query", "value", "dense_out"])
        if r.family == "lora"
        else ("CAUSAL_LM", ["q_proj", "v_proj", "gate_porj"])
    )
    r.prepare = lambda model: adapted(model, task, target_modules=names)


@fault("M6", "lora-sft lora", online=True, also=("M5", "M8"), fresh=True)
def merged_before_training(r: Recipe) -> None:
    after(r, lambda model: model.merge_adapter())


@fault("M6", "lora-sft lora", online=True, fresh=True)
def gradient_of_b_zeroed_by_a_hook(r: Recipe) -> None:
    def prepare(model: nn.Module) -> None:
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.register_hook(torch.zeros_like)

    after(r, prepare)


@fault("M7", "bert gpt2 t5 mlm tagging", loop="plain", online=True, fresh=True)
def left_in_evaluation_mode_by_a_look_at_samples(r: Recipe) -> None:
    r.line.after = lambda model, optimizer: model.eval() and None


@fault("M7", "bert vit gpt2 tagging", fresh=True)
def monte_carlo_dropout_left_on(r: Recipe) -> None:
    def prepare(model: nn.Module) -> None:
        layers(model)[-1].register_forward_hook(
            lambda module, given, out: (
                (functional.dropout(out[0], 0.2, True), *out[1:])
                if isinstance(out, tuple)
                else functional.dropout(out, 0.2, True)
            )
        )

    after(r, prepare)


@fault("M8", "bert vit gpt2 sft t5 tagging", fresh=True)
def head_fed_with_data(r: Recipe) -> None:
    def prepare(model: nn.Module) -> None:
        head = model.get_output_embeddings() or model.classifier
        head.register_forward_pre_hook(lambda module, given: (given[0].detach(), *given[1:]))

    after(r, prepare)


@fault("M8", "mlm bert tagging", fresh=True)
def hidden_states_through_numpy(r: Recipe) -> None:
    def prepare(model: nn.Module) -> None:
        layers(model)[-1].register_forward_pre_hook(
            lambda module, given: (torch.from_numpy(given[0].detach().numpy().copy()), *given[1:])
        )

    after(r, prepare)


@fault("M9", "gpt2 sft lora-sft", fresh=True)
def a_feature_of_the_next_token(r: Recipe) -> None:
    def prepare(model: nn.Module) -> None:
        model.get_input_embeddings().register_forward_hook(
            lambda module, given, out: out + 0.1 * out.roll(-1, 1)
        )

    after(r, prepare)


@fault("M9", "gpt2 sft", fresh=True)
def normalised_over_the_positions(r: Recipe) -> None:
    def prepare(model: nn.Module) -> None:
        layers(model)[0].register_forward_pre_hook(
            lambda module, given: (given[0] / (given[0].std(1, keepdim=True) + 0.1), *given[1:])
        )

    after(r, prepare)


@fault("M10", "bert gpt2 vit t5 tagging", fresh=True)
def softmax_over_the_rows(r: Recipe) -> None:
    def prepare(model: nn.Module) -> None:
        def gate(module: nn.Module, given: tuple) -> tuple:
            hidden = given[0]
            return (hidden * (0.5 + hidden.mean(-1, keepdim=True).softmax(0)), *given[1:])

        layers(model)[-1].register_forward_pre_hook(gate)

    after(r, prepare)


@fault("M10", "sft mlm tagging", fresh=True)
def summed_along_the_batch(r: Recipe) -> None:
    def prepare(model: nn.Module) -> None:
        model.get_input_embeddings().register_forward_hook(
            lambda module, given, out: out + 0.1 * out.cumsum(0)
        )

    after(r, prepare)


# -- C1 ------------------------------------------------------------------------------------------


@fault("C1", "contrastive", online=True, fresh=True)
def multiplied_by_the_temperature(r: Recipe) -> None:
    r.steps = 80
    after(r, _one_direction)
    r.loss = InfoNCE(1 / 0.07)


@fault("C1", "contrastive", online=True, fresh=True)
def squared_distance_without_negatives(r: Recipe) -> None:
    def pull(outputs: Any, batch: Any = None) -> torch.Tensor:
        return 10 * (outputs["text_embeds"] - outputs["pair_embeds"]).square().sum(-1).mean()

    r.loss, r.steps = pull, 120


@fault("C1", "contrastive", online=True, fresh=True)
def negatives_pulled_like_positives(r: Recipe) -> None:
    """The mask of the same row is inverted: every other row of the batch counts as a pair."""

    def loss(outputs: Any, batch: Any = None) -> torch.Tensor:
        scores = outputs["text_embeds"] @ outputs["pair_embeds"].T / 0.07
        n = len(scores)
        wanted = (1 - torch.eye(n)) / (n - 1)
        return functional.cross_entropy(scores, wanted)

    r.loss, r.steps = loss, 120
