"""The third set, continued: M1 to M10, C1 and L1, L2; `third_data` says by which rule."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.nn import functional

from faults.mutations.models import after, layers
from faults.recipe import Recipe
from faults.table import third


@third("M1", "bert mlm gpt2 tagging")
def initialised_once_more_after_loading(r: Recipe) -> None:
    def prepare(model: nn.Module) -> None:
        torch.manual_seed(1000 + r.seed)  # not the draw that the checkpoint itself began with
        for module in model.modules():
            if isinstance(module, nn.Linear | nn.Embedding) or type(module).__name__ == "Conv1D":
                nn.init.normal_(module.weight, 0.0, model.config.initializer_range)

    after(r, prepare)


@third("M1", "sft t5")
def an_architecture_without_its_weights(r: Recipe) -> None:
    read = r.model

    def model() -> nn.Module:
        import transformers

        known = read()
        torch.manual_seed(1000 + r.seed)
        auto = transformers.AutoModelForSeq2SeqLM if r.family == "t5" else (
            transformers.AutoModelForCausalLM)  # fmt: skip
        return auto.from_config(known.config)

    r.model = model


@third("M2", "bert tagging", loop="plain", also=("O6",))
def only_what_is_called_layer_is_optimised(r: Recipe) -> None:
    r.optimizer = lambda model: torch.optim.AdamW(
        [p for n, p in model.named_parameters() if ".layer." in n], lr=r.lr
    )


@third("M2", "lora tagging")
def whatever_is_called_classifier_is_frozen(r: Recipe) -> None:
    def prepare(model: nn.Module) -> None:
        for name, parameter in model.named_parameters():
            if "classifier" in name:
                parameter.requires_grad = False

    after(r, prepare)


@third("M3", "gpt2 mlm t5")
def a_new_head_under_a_tied_configuration(r: Recipe) -> None:
    def prepare(model: nn.Module) -> None:
        old = model.get_output_embeddings()
        new = nn.Linear(old.in_features, old.out_features, bias=old.bias is not None)
        with torch.no_grad():
            new.weight.copy_(old.weight)
        model.set_output_embeddings(new)

    after(r, prepare)


@third("M4", "tagging")
def ignored_pieces_are_called_255(r: Recipe) -> None:
    for row in [*r.train, *r.eval]:
        row["labels"] = [255 if y == -100 else y for y in row["labels"]]


@third("M4", "bert lora")
def a_fourth_class_from_a_later_export(r: Recipe) -> None:
    for row in r.train[::9]:
        row["labels"] = 3


@third("M4", "vit")
def classes_numbered_by_twos(r: Recipe) -> None:
    from faults.mutations.data import Read

    r.train = Read(r.train, lambda row, i: (row[0], row[1] * 2))
    r.eval = Read(r.eval, lambda row, i: (row[0], row[1] * 2))


@third("M5", "bert gpt2 tagging sft")
def only_what_has_one_dimension_trains(r: Recipe) -> None:
    def prepare(model: nn.Module) -> None:
        for parameter in model.parameters():
            parameter.requires_grad = parameter.dim() == 1

    after(r, prepare)


@third("M6", "lora lora-sft", loop="plain", online=True)
def second_matrices_are_frozen(r: Recipe) -> None:
    def prepare(model: nn.Module) -> None:
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.requires_grad = False

    after(r, prepare)


@third("M6", "lora-sft", loop="trainer", online=True)
def updates_of_the_second_matrix_put_back(r: Recipe) -> None:
    import transformers

    class Clear(transformers.TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, **given: Any) -> None:
            with torch.no_grad():
                for name, parameter in given["model"].named_parameters():
                    if "lora_B" in name:
                        parameter.zero_()

    r.callbacks = [*r.callbacks, Clear()]


@third("M7", "bert tagging vit gpt2")
def a_hook_that_drops_in_evaluation_too(r: Recipe) -> None:
    def prepare(model: nn.Module) -> None:
        layers(model)[0].register_forward_hook(
            lambda module, given, out: (
                (functional.dropout(out[0], 0.1), *out[1:])
                if isinstance(out, tuple)
                else functional.dropout(out, 0.1)
            )
        )

    after(r, prepare)


@third("M7", "bert tagging", loop="plain", online=True)
def evaluation_mode_set_by_the_loading_of_the_best(r: Recipe) -> None:
    """Every ten steps the best state is looked at, and the mode stays."""
    steps = [0]

    def back(model: nn.Module, optimizer: Any) -> None:
        steps[0] += 1
        if steps[0] % 10 == 0:
            model.eval()

    r.line.after = back


@third("M8", "gpt2 tagging t5")
def the_first_layer_inside_no_grad(r: Recipe) -> None:
    def prepare(model: nn.Module) -> None:
        layer = layers(model)[0]
        layer.forward = torch.no_grad()(layer.forward)

    after(r, prepare)


@third("M8", "bert vit", loop="plain")
def features_computed_for_a_probe(r: Recipe) -> None:
    def prepare(model: nn.Module) -> None:
        model.classifier.register_forward_pre_hook(lambda module, given: (given[0].clone().data,))

    after(r, prepare)


@third("M9", "gpt2 sft lora-sft")
def a_summary_of_the_whole_row_is_added(r: Recipe) -> None:
    def prepare(model: nn.Module) -> None:
        layers(model)[-1].register_forward_pre_hook(
            lambda module, given: (given[0] + 0.1 * given[0].mean(1, keepdim=True), *given[1:])
        )

    after(r, prepare)


@third("M10", "bert vit tagging mlm")
def standardised_by_the_whole_batch(r: Recipe) -> None:
    def prepare(model: nn.Module) -> None:
        layers(model)[-1].register_forward_pre_hook(
            lambda module, given: (given[0] / given[0].std(), *given[1:])
        )

    after(r, prepare)


@third("M10", "gpt2 t5")
def heads_and_rows_in_the_wrong_order(r: Recipe) -> None:
    """A third of the features comes from the row before."""

    def mixed(hidden: torch.Tensor) -> torch.Tensor:
        third_part = hidden.shape[-1] // 3
        return torch.cat([hidden[..., :third_part].roll(1, 0), hidden[..., third_part:]], -1)

    def prepare(model: nn.Module) -> None:
        layers(model)[0].register_forward_pre_hook(
            lambda module, given: (mixed(given[0]), *given[1:])
        )

    after(r, prepare)


@third("C1", "contrastive", online=True)
def cosine_embedding_loss_of_positives(r: Recipe) -> None:
    def loss(outputs: Any, batch: Any = None) -> torch.Tensor:
        pair = outputs["text_embeds"], outputs["pair_embeds"]
        return functional.cosine_embedding_loss(*pair, torch.ones(len(pair[0])))

    r.loss, r.steps = loss, 120


@third("C1", "contrastive", online=True)
def every_pair_is_a_positive(r: Recipe) -> None:
    def loss(outputs: Any, batch: Any = None) -> torch.Tensor:
        scores = outputs["text_embeds"] @ outputs["pair_embeds"].T
        return -functional.logsigmoid(10 * scores).mean()

    r.loss, r.steps = loss, 120


@third("C1", "contrastive", online=True)
def agreement_maximised_and_nothing_else(r: Recipe) -> None:
    """A Siamese loss whose predictor and stopped gradient were forgotten."""

    def loss(outputs: Any, batch: Any = None) -> torch.Tensor:
        one, other = outputs["text_embeds"], outputs["pair_embeds"]
        return -0.5 * (functional.cosine_similarity(one, other).mean()
                       + functional.cosine_similarity(other, one).mean())  # fmt: skip

    r.loss, r.steps = loss, 150


@third("L1", "t5 mlm", loop="plain")
def shifted_as_for_a_decoder_alone(r: Recipe) -> None:
    r.loss = lambda outputs, batch: functional.cross_entropy(
        outputs.logits[:, :-1].flatten(0, 1), batch["labels"][:, 1:].flatten()
    )


@third("L1", "gpt2 sft lora-sft")
def scores_and_labels_cut_alike(r: Recipe) -> None:
    """The first token is dropped from both, so that they stay beside each other."""
    r.loss = lambda outputs, batch: functional.cross_entropy(
        outputs.logits[:, 1:].flatten(0, 1), batch["labels"][:, 1:].flatten()
    )


@third("L2", "bert tagging lora")
def a_hook_that_makes_shares_of_the_scores(r: Recipe) -> None:
    def prepare(model: nn.Module) -> None:
        inner = model.get_base_model() if hasattr(model, "get_base_model") else model
        inner.classifier.register_forward_hook(lambda module, given, out: out.softmax(-1))

    after(r, prepare)


@third("L2", "vit", loop="plain")
def shares_and_then_the_cross_entropy_of_the_library(r: Recipe) -> None:
    r.loss = lambda outputs, y: nn.CrossEntropyLoss()(nn.Softmax(dim=1)(outputs.logits), y)
