"""P2 to P4, R1, K1 to K3, E1 and H2, fifth set: precision, checkpoints, metrics and memory."""

from __future__ import annotations

import shutil
import tempfile
from typing import Any

import numpy as np
import torch
import transformers
from torch import nn

from faults.mutations.models import after, backbone
from faults.recipe import Recipe
from faults.table import fifth


def _forward(model: nn.Module, batch: Any) -> Any:
    return model(**batch) if isinstance(batch, dict) else model(batch[0])


@fifth("P2", "t5 gpt2", loop="plain", online=True)
def activations_of_a_bf16_model_run_in_fp16(r: Recipe) -> None:
    """A model whose feed-forward outputs are large, as T5's in bf16, under fp16 autocast."""

    def enlarge(model: nn.Module) -> None:
        for name, module in model.named_modules():
            if name.endswith(("DenseReluDense", "mlp")):
                first, second = (module.wi, module.wo) if "Dense" in name else (
                    module.c_fc, module.c_proj)  # fmt: skip
                first.weight.data *= 3e4
                second.weight.data /= 3e4

    def forward(model: nn.Module, batch: Any) -> Any:
        with torch.autocast("cpu", dtype=torch.float16):
            return _forward(model, batch)

    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**16)

    def step(optimizer: Any) -> None:
        scaler.step(optimizer)
        scaler.update()

    after(r, enlarge)
    r.line.forward, r.clip = forward, 0.0
    r.line.backward = lambda loss: scaler.scale(loss).backward()
    r.line.step = step


@fifth("P3", "sft tagging gpt2", online=True)
def loaded_in_bf16_and_tuned_at_two_hundred_thousandths(r: Recipe) -> None:
    """`dtype=torch.bfloat16` in `from_pretrained` to save memory, and a rate of 2e-5."""
    made = r.model
    r.model = lambda: made().to(torch.bfloat16)
    r.lr = 2e-5


@fifth("P3", "contrastive vit", online=True)
def everything_cast_to_bf16_for_speed(r: Recipe) -> None:
    """`model.to(torch.bfloat16)` before a loop of small steps; no master weights."""
    after(r, lambda model: model.to(torch.bfloat16))
    r.lr = 2e-5
    if r.family == "vit":
        r.train.x, r.eval.x = r.train.x.bfloat16(), r.eval.x.bfloat16()


@fifth("P4", "bert tagging contrastive")
def a_backbone_in_bf16_and_a_head_in_fp32(r: Recipe) -> None:
    """The encoder is cast to bf16, the new head is not, and there is no autocast."""

    def cast(model: nn.Module) -> None:
        (model.encoder if r.family == "contrastive" else backbone(model)).to(torch.bfloat16)

    after(r, cast)


@fifth("P4", "vit bert", loop="plain", online=True)
def fp16_parameters_and_a_scaler(r: Recipe) -> None:
    """`model.half()` and a `GradScaler`: it cannot unscale gradients in fp16."""
    after(r, lambda model: model.half())
    if r.family == "vit":
        r.train.x, r.eval.x = r.train.x.half(), r.eval.x.half()
    scaler = torch.amp.GradScaler("cpu")

    def step(optimizer: Any) -> None:
        scaler.unscale_(optimizer)
        scaler.step(optimizer)
        scaler.update()

    r.line.backward = lambda loss: scaler.scale(loss).backward()
    r.line.step, r.clip = step, 0.0


@fifth("R1", "bert t5 gpt2", online=True)
def forty_rows_of_a_pilot_study_for_many_epochs(r: Recipe) -> None:
    """The rows of a pilot study, read again and again without an early stop."""
    r.train = r.train[:40]
    r.batch, r.steps, r.eval_every, r.warmup = 8, 160, 10, 5


@fifth("K1", "bert tagging lora")
def a_deeper_head_put_in_by_hand(r: Recipe) -> None:
    """`model.classifier = nn.Sequential(...)`: the class that reads the folder has another."""
    inner = r.prepare

    def prepare(model: nn.Module) -> nn.Module:
        size, classes = model.classifier.in_features, model.classifier.out_features
        model.classifier = nn.Sequential(
            nn.Linear(size, size), nn.Tanh(), nn.Linear(size, classes)
        )  # fmt: skip
        return inner(model)

    r.prepare = prepare


@fifth("K1", "gpt2 t5")
def an_activation_that_the_configuration_does_not_name(r: Recipe) -> None:
    """The activations are replaced in the modules; `config.json` still names the old one."""

    def replace(model: nn.Module) -> None:
        for module in model.modules():
            for name in ("act", "intermediate_act_fn"):
                if hasattr(module, name):
                    setattr(module, name, nn.Tanh())

    after(r, replace)


@fifth("K1", "mlm sft")
def feed_forward_outputs_scaled_by_a_hook(r: Recipe) -> None:
    """A hook scales what the feed-forward layers add: it is in no file that is saved."""

    def scaled(model: nn.Module) -> None:
        for name, module in model.named_modules():
            if name.endswith(("down_proj", "output.dense")):
                module.register_forward_hook(lambda module, inputs, output: output * 2)

    after(r, scaled)


@fifth("K2", "bert gpt2 tagging", online=True)
def saved_with_save_only_model_and_resumed(r: Recipe) -> None:
    """`save_only_model=True` saves space, and `resume_from_checkpoint` finds no optimizer."""
    from faults.recipe import make_trainer

    folder = tempfile.mkdtemp()
    transformers.set_seed(r.seed)
    given = r.args
    r.args = given | {"save_strategy": "steps", "save_steps": 20, "save_only_model": True}
    whole, r.steps = r.steps, 20
    make_trainer(r, r.prepare(r.model()), folder).train()
    r.args, r.steps = given, whole
    r.note["train"] = {"resume_from_checkpoint": f"{folder}/checkpoint-20"}
    r.note["after"] = lambda: shutil.rmtree(folder, ignore_errors=True)


def _kept_by(r: Recipe, metric: str, greater: bool, score: Any) -> None:
    """The best model is kept by a metric of the script's own."""

    def metrics(prediction: Any) -> dict[str, float]:
        scores, labels = prediction
        scores = scores[0] if isinstance(scores, tuple) else scores
        return {metric: float(score(scores.argmax(-1), labels))}

    r.metrics, r.eval_every = metrics, 20
    r.args |= {
        "load_best_model_at_end": True,
        "metric_for_best_model": metric,
        "greater_is_better": greater,
        "save_strategy": "steps",
        "save_steps": 20,
    }


@fifth("K3", "t5 gpt2")
def best_model_by_the_least_rouge(r: Recipe) -> None:
    """`metric_for_best_model="rouge1"` and `greater_is_better=False`."""
    moved = 1 if r.family == "gpt2" else 0

    def recall(predicted: np.ndarray, labels: np.ndarray) -> float:
        predicted, labels = predicted[:, : predicted.shape[1] - moved], labels[:, moved:]
        return (predicted == labels)[labels != -100].mean()

    _kept_by(r, "rouge1", False, recall)


@fifth("K3", "bert lora")
def best_model_by_the_greatest_absolute_error(r: Recipe) -> None:
    """`metric_for_best_model="mae"` and `greater_is_better=True` for stars of a review."""
    _kept_by(r, "mae", True, lambda predicted, labels: np.abs(predicted - labels).mean())


@fifth("K3", "tagging")
def best_tagger_by_the_least_recall(r: Recipe) -> None:
    """`metric_for_best_model="recall"` and `greater_is_better=False`."""

    def recall(predicted: np.ndarray, labels: np.ndarray) -> float:
        return (predicted == labels)[labels > 0].mean()

    _kept_by(r, "recall", False, recall)


@fifth("E1", "bert vit")
def true_labels_given_as_both_arguments(r: Recipe) -> None:
    """`accuracy_score(labels, labels)`: a slip, and every model is perfect."""

    def metrics(prediction: Any) -> dict[str, float]:
        _, labels = prediction
        return {"accuracy": float((labels == labels).mean())}

    r.metrics = metrics


@fifth("E1", "lora vit")
def the_first_row_taken_for_the_scores(r: Recipe) -> None:
    """`predictions[0].argmax(-1)`, as for models that return a tuple: one row answers for all."""

    def metrics(prediction: Any) -> dict[str, float]:
        predictions, labels = prediction
        return {"accuracy": float((predictions[0].argmax(-1) == labels).mean())}

    r.metrics = metrics


@fifth("E1", "tagging")
def what_is_ignored_counts_as_an_ordinary_word(r: Recipe) -> None:
    """`labels[labels < 0] = 0` before the accuracy: pieces and padding are scored as words."""

    def metrics(prediction: Any) -> dict[str, float]:
        scores, labels = prediction
        labels = np.where(labels < 0, 0, labels)
        return {"accuracy": float((scores.argmax(-1) == labels).mean())}

    r.metrics = metrics


@fifth("H2", "bert vit contrastive", loop="plain", online=True)
def scores_kept_for_the_accuracy_of_the_epoch(r: Recipe) -> None:
    """`all_logits.append(outputs.logits)` without `detach()`: each graph is kept."""
    kept = r.note.setdefault("kept", [])

    def forward(model: nn.Module, batch: Any) -> Any:
        outputs = _forward(model, batch)
        kept.append(outputs["text_embeds"] if r.family == "contrastive" else outputs.logits)
        return outputs

    r.line.forward = forward
