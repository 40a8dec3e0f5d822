"""M1 to M10 and C1: what can be wrong with the model itself."""

from __future__ import annotations

import shutil
import types
from typing import Any

import torch
import transformers
from safetensors.torch import load_file, save_file
from torch import nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from faults import families, material
from faults.families import InfoNCE, adapted, load
from faults.recipe import Recipe
from faults.table import fault

HF = "bert mlm gpt2 sft t5"


def after(r: Recipe, change: Any) -> None:
    """The script's own preparation of the model, and a line after it."""
    before = r.prepare

    def prepare(model: nn.Module) -> nn.Module:
        model = before(model)
        made = change(model)
        return model if made is None else made

    r.prepare = prepare


def backbone(model: nn.Module) -> nn.Module:
    """The encoder or decoder under the head."""
    return getattr(model, getattr(model, "base_model_prefix", ""), model)


def layers(model: nn.Module) -> nn.ModuleList:
    """The longest list of layers."""
    lists = [m for m in model.modules() if isinstance(m, nn.ModuleList)]
    return max(lists, key=lambda found: sum(p.numel() for p in found.parameters()))


# -- M1 ------------------------------------------------------------------------------------------


@fault("M1", HF)
def weights_drawn_again_after_loading(r: Recipe) -> None:
    after(r, lambda model: model.apply(_fresh))


def _fresh(module: nn.Module) -> None:
    if isinstance(module, nn.Linear | nn.Embedding) or type(module).__name__ == "Conv1D":
        module.weight.data.normal_(0.0, 0.02)


@fault("M1", "bert mlm gpt2")
def keys_with_another_prefix(r: Recipe) -> None:
    """The checkpoint was saved from inside a wrapper: no key fits, every weight is new."""
    name, head = ("bert" if r.family in ("bert", "mlm") else r.family), type(r.model()).__name__
    folder = material.folder() / f"{name}-prefixed"
    if not folder.exists():
        shutil.copytree(material.checkpoint(name), folder)
        state = load_file(folder / "model.safetensors")
        wrapped = {f"net.inner.{key}": value for key, value in state.items()}
        save_file(wrapped, folder / "model.safetensors", metadata={"format": "pt"})
    more = {"num_labels": families.CLASSES} if r.family == "bert" else {}
    r.model = lambda: getattr(transformers, head).from_pretrained(folder, **more)


# -- M2, M3 --------------------------------------------------------------------------------------


@fault("M2", "bert")
def everything_frozen_but_the_encoder(r: Recipe) -> None:
    def prepare(model: nn.Module) -> None:
        for name, parameter in model.named_parameters():
            parameter.requires_grad = name.startswith("bert.")

    after(r, prepare)


@fault("M2", "bert", loop="plain")
def optimizer_of_the_backbone_only(r: Recipe) -> None:
    r.optimizer = lambda model: torch.optim.AdamW(model.bert.parameters(), lr=r.lr)


@fault("M2", "lora")
def adapter_without_its_head(r: Recipe) -> None:
    import peft

    r.prepare = lambda model: peft.get_peft_model(
        model, peft.LoraConfig(r=4, lora_alpha=8, target_modules=["query", "value"])
    )


@fault("M2", "bert")
def head_frozen_with_the_rest(r: Recipe) -> None:
    def prepare(model: nn.Module) -> None:
        model.requires_grad_(False)
        model.bert.encoder.layer[-1].requires_grad_(True)

    after(r, prepare)


@fault("M3", "mlm gpt2")
def head_is_a_copy(r: Recipe) -> None:
    def prepare(model: nn.Module) -> None:
        head = model.get_output_embeddings()
        head.weight = nn.Parameter(head.weight.detach().clone())

    after(r, prepare)


@fault("M3", "gpt2 mlm")
def embedding_replaced_after_loading(r: Recipe) -> None:
    def prepare(model: nn.Module) -> None:
        old = model.get_input_embeddings()
        new = nn.Embedding(*old.weight.shape)
        new.weight.data.copy_(old.weight.data)
        backbone(model).set_input_embeddings(new)

    after(r, prepare)


# -- M4, M5 --------------------------------------------------------------------------------------


@fault("M4", "bert")
def one_label_too_few(r: Recipe) -> None:
    r.model = lambda: load("BertForSequenceClassification", "bert", num_labels=families.CLASSES - 1)


@fault("M4", "vit")
def one_label_too_few_for_pixels(r: Recipe) -> None:
    r.model = lambda: families.vit_model(9)


@fault("M4", "bert")
def labels_start_at_one(r: Recipe) -> None:
    for row in [*r.train, *r.eval]:
        row["labels"] += 1


@fault("M4", "bert", also=("T14",))
def one_output_for_classes(r: Recipe) -> None:
    r.model, r.metrics = lambda: load("BertForSequenceClassification", "bert", num_labels=1), None


@fault("M4", "bert")
def float_labels_for_classes(r: Recipe) -> None:
    r.model = lambda: load(
        "BertForSequenceClassification",
        "bert",
        num_labels=families.CLASSES,
        problem_type="single_label_classification",
    )
    for row in [*r.train, *r.eval]:
        row["labels"] = float(row["labels"])


@fault("M4", "bert")
def many_hot_rows_for_one_class(r: Recipe) -> None:
    r.metrics = None
    r.model = lambda: load(
        "BertForSequenceClassification",
        "bert",
        num_labels=families.CLASSES,
        problem_type="single_label_classification",
    )
    for i, row in enumerate([*r.train, *r.eval]):
        row["labels"] = [
            1.0 if k in (row["labels"], i % families.CLASSES) else 0.0
            for k in range(families.CLASSES)
        ]


@fault("M5", HF + " vit")
def everything_frozen(r: Recipe) -> None:
    after(r, lambda model: model.requires_grad_(False))


@fault("M5", "bert vit gpt2")
def only_norms_trainable(r: Recipe) -> None:
    def prepare(model: nn.Module) -> None:
        for name, parameter in model.named_parameters():
            parameter.requires_grad = "norm" in name.lower() or "ln_" in name

    after(r, prepare)


@fault("M5", "lora-sft lora", also=("M2", "M6"))
def adapter_loaded_for_inference(r: Recipe) -> None:
    r.prepare = lambda model: adapted(
        model, "SEQ_CLS" if r.family == "lora" else "CAUSAL_LM", inference_mode=True
    )


@fault("M5", "lora-sft", also=("M6",))
def frozen_after_wrapping(r: Recipe) -> None:
    after(r, lambda model: model.requires_grad_(False))


# -- M6 ------------------------------------------------------------------------------------------


@fault("M6", "lora-sft lora", online=True, also=("M5",))
def adapter_switched_off(r: Recipe) -> None:
    after(r, lambda model: model.disable_adapter_layers())


@fault("M6", "lora-sft lora", online=True)
def alpha_is_zero(r: Recipe) -> None:
    def prepare(model: nn.Module) -> None:
        for module in model.modules():
            if hasattr(module, "scaling") and isinstance(module.scaling, dict):
                module.scaling = dict.fromkeys(module.scaling, 0.0)

    after(r, prepare)


@fault("M6", "lora-sft lora", loop="plain", online=True, also=("O6", "O2"))
def rate_of_b_is_zero(r: Recipe) -> None:
    def optimizer(model: nn.Module) -> Any:
        held = [(n, p) for n, p in model.named_parameters() if p.requires_grad]
        return torch.optim.AdamW(
            [
                {"params": [p for n, p in held if "lora_B" not in n], "lr": r.lr},
                {"params": [p for n, p in held if "lora_B" in n], "lr": 0.0},
            ]
        )

    r.optimizer = optimizer


@fault("M6", "lora-sft", loop="plain", online=True, also=("M8",))
def base_model_called_instead(r: Recipe) -> None:
    def forward(model: nn.Module, batch: Any) -> Any:
        with model.disable_adapter():
            outputs = model(**batch)
        outputs.loss = outputs.loss + 0 * sum(
            p.sum() for p in model.parameters() if p.requires_grad
        )
        return outputs

    r.line.forward = forward


# -- M7, M8 --------------------------------------------------------------------------------------


@fault("M7", "bert mlm gpt2 lora t5", loop="plain", online=True)
def never_put_into_training_mode(r: Recipe) -> None:
    r.line.to_train = lambda model: model.eval()


@fault("M7", "bert gpt2", loop="plain", online=True)
def left_in_evaluation_mode_after_the_first_evaluation(r: Recipe) -> None:
    calls = []
    r.eval_every = 10
    r.line.to_train = lambda model: model.train() if not calls else None
    r.line.to_eval = lambda model: (calls.append(1), model.eval())


class AlwaysDropping(nn.Module):
    """Dropout by the functional, whose default is training."""

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        return functional.dropout(hidden, 0.1)


@fault("M7", "bert vit gpt2 t5")
def dropout_alive_in_evaluation(r: Recipe) -> None:
    def prepare(model: nn.Module) -> None:
        for module in list(model.modules()):
            for name, child in list(module.named_children()):
                if isinstance(child, nn.Dropout):
                    setattr(module, name, AlwaysDropping())

    after(r, prepare)


@fault("M7", "bert vit mlm")
def training_mode_that_cannot_be_left(r: Recipe) -> None:
    def prepare(model: nn.Module) -> None:
        model.train()
        model.config.hidden_dropout_prob = 0.1
        for module in model.modules():
            if isinstance(module, nn.Dropout):
                module.p = 0.1
                module.train = types.MethodType(lambda self, mode=True: self, module)
                module.training = True

    after(r, prepare)


@fault("M8", HF + " vit")
def hidden_states_detached(r: Recipe) -> None:
    def prepare(model: nn.Module) -> None:
        layer, inner = layers(model)[0], layers(model)[0].forward

        def forward(*args: Any, **kwargs: Any) -> Any:
            out = inner(*args, **kwargs)
            return (out[0].detach(), *out[1:]) if isinstance(out, tuple) else out.detach()

        layer.forward = forward

    after(r, prepare)


@fault("M8", "bert gpt2 vit t5")
def backbone_under_no_grad(r: Recipe) -> None:
    def prepare(model: nn.Module) -> None:
        module = model.get_encoder() if r.family == "t5" else backbone(model)
        inner = module.forward

        def forward(*args: Any, **kwargs: Any) -> Any:
            with torch.no_grad():
                return inner(*args, **kwargs)

        module.forward = forward

    after(r, prepare)


@fault("M8", "lora-sft", loop="trainer")
def checkpointing_with_a_frozen_input(r: Recipe) -> None:
    def prepare(model: nn.Module) -> None:
        base = model.get_base_model()
        base.gradient_checkpointing_enable({"use_reentrant": True})
        base.disable_input_require_grads() if hasattr(base, "_require_grads_hook") else None
        model.train()

    after(r, prepare)


@fault("M8", "sft gpt2 bert t5", loop="plain")
def reentrant_checkpointing_over_a_frozen_embedding(r: Recipe) -> None:
    """The first layer's input asks for no gradient, so a reentrant checkpoint gives it none."""

    def prepare(model: nn.Module) -> None:
        model.get_input_embeddings().requires_grad_(False)
        for name, parameter in model.named_parameters():
            if "wpe" in name or "embeddings" in name:
                parameter.requires_grad_(False)
        layer, inner = layers(model)[0], layers(model)[0].forward
        layer.forward = lambda hidden, *a, **k: checkpoint(
            lambda h: inner(h, *a, **k), hidden, use_reentrant=True
        )

    after(r, prepare)


# -- M9, M10 -------------------------------------------------------------------------------------


def _sees_everything(r: Recipe) -> None:
    collate = r.collate

    def open_mask(rows: Any) -> dict[str, torch.Tensor]:
        batch = collate(rows)
        keys = batch["attention_mask"][:, None, None, :].bool()
        width = keys.shape[-1]
        eye = torch.eye(width, dtype=torch.bool)
        shown = keys.expand(-1, 1, width, -1) | eye
        batch["attention_mask"] = torch.where(shown, 0.0, torch.finfo(torch.float32).min)
        return batch

    r.collate = open_mask


@fault("M9", "gpt2 sft")
def mask_without_its_triangle(r: Recipe) -> None:
    _sees_everything(r)


@fault("M9", "gpt2 sft")
def a_layer_that_mixes_positions(r: Recipe) -> None:
    def prepare(model: nn.Module) -> None:
        layer = layers(model)[-1]
        inner = layer.forward

        def forward(hidden: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
            return inner(hidden + 0.1 * hidden.mean(1, keepdim=True), *args, **kwargs)

        layer.forward = forward

    after(r, prepare)


@fault("M9", "t5")
def decoder_that_mixes_positions(r: Recipe) -> None:
    def prepare(model: nn.Module) -> None:
        head, inner = model.lm_head, model.lm_head.forward
        head.forward = lambda hidden: inner(hidden + 0.1 * hidden.mean(1, keepdim=True))

    after(r, prepare)


@fault("M9", "gpt2")
def convolution_padded_on_both_sides(r: Recipe) -> None:
    def prepare(model: nn.Module) -> None:
        model.smooth = nn.Conv1d(64, 64, 3, padding=1)
        layer = layers(model)[0]
        inner = layer.forward
        layer.forward = lambda hidden, *a, **k: inner(
            hidden + model.smooth(hidden.transpose(1, 2)).transpose(1, 2), *a, **k
        )

    after(r, prepare)


@fault("M10", "bert mlm gpt2 sft t5 vit")
def mean_over_the_batch(r: Recipe) -> None:
    def prepare(model: nn.Module) -> None:
        layer = layers(model)[0]
        inner = layer.forward
        layer.forward = lambda hidden, *a, **k: inner(
            hidden + 0.3 * hidden.mean(0, keepdim=True), *a, **k
        )

    after(r, prepare)


@fault("M10", "bert vit gpt2")
def view_instead_of_transpose(r: Recipe) -> None:
    def prepare(model: nn.Module) -> None:
        layer = layers(model)[0]
        inner = layer.forward

        def forward(hidden: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
            rows, length, width = hidden.shape
            mixed = hidden.transpose(0, 1).reshape(rows, length, width)
            return inner(mixed, *args, **kwargs)

        layer.forward = forward

    after(r, prepare)


@fault("M10", "bert vit")
def batch_statistics_in_evaluation(r: Recipe) -> None:
    def prepare(model: nn.Module) -> None:
        width = model.classifier.in_features
        model.classifier = nn.Sequential(
            nn.BatchNorm1d(width, track_running_stats=False), model.classifier
        )

    after(r, prepare)


# -- C1 ------------------------------------------------------------------------------------------


@fault("C1", "contrastive", online=True)
def temperature_of_ten(r: Recipe) -> None:
    r.steps = 80
    after(r, _one_direction)
    r.loss = InfoNCE(10.0)


def _one_direction(model: nn.Module) -> None:
    """A projection whose bias outweighs what it projects, as in an anisotropic encoder."""
    model.projection.bias.data.fill_(20.0)


@fault("C1", "contrastive", online=True, also=("O1", "O3"))
def rate_that_collapses_the_towers(r: Recipe) -> None:
    r.lr, r.warmup, r.clip, r.steps = 1.0, 0, 0.0, 80


@fault("C1", "contrastive", online=True)
def only_attraction(r: Recipe) -> None:
    def attract(outputs: Any, batch: Any = None) -> torch.Tensor:
        scores = outputs["text_embeds"] @ outputs["pair_embeds"].T
        n = len(scores)
        return functional.cross_entropy(scores * 1e-3, torch.arange(n)) + (1 - scores).mean()

    r.lr, r.loss, r.steps = 3e-3, attract, 100


@fault("C1", "contrastive", online=True, also=("O4",))
def negatives_are_copies(r: Recipe) -> None:
    """Every row of a batch is the same text: there is nothing to tell apart."""
    collate, r.steps = r.collate, 80
    r.collate = lambda rows: collate([rows[0]] * len(rows))
