"""Where the weights of a model come from: random, a checkpoint, an extended vocabulary.

It loads from safetensors only and never executes code that comes with a checkpoint. It does not
train. Chapters 03, 06 and 07 use it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from cookbook import shipped

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

TASKS = {
    "encoder": "AutoModel",
    "masked-lm": "AutoModelForMaskedLM",
    "classification": "AutoModelForSequenceClassification",
    "next-sentence": "AutoModelForNextSentencePrediction",
    "pretraining": "AutoModelForPreTraining",
    "tagging": "AutoModelForTokenClassification",
    "question-answering": "AutoModelForQuestionAnswering",
    "writing": "AutoModelForSeq2SeqLM",
}


def resolve(name: str) -> str:
    """The folder of a checkpoint that ships here, or `name` itself: a folder or a hub id.

    >>> resolve("google-bert/bert-base-uncased")
    'google-bert/bert-base-uncased'
    """
    return str(shipped.folder("docbert")) if name == "docbert" else str(name)


def load_config(name: str) -> Any:
    """The configuration of a checkpoint (`"docbert"`, a local folder or a hub id), without weights.

    Raises ValueError, in one line, where there is none.

    >>> load_config("docbert").num_hidden_layers
    4
    """
    from transformers import AutoConfig

    with _one_line(name):
        return AutoConfig.from_pretrained(resolve(name), trust_remote_code=False)


def load_tokenizer(name: str) -> PreTrainedTokenizerBase:
    """The tokenizer of a checkpoint (`"docbert"`, a local folder or a hub id)."""
    from transformers import AutoTokenizer

    with _one_line(name):
        return AutoTokenizer.from_pretrained(resolve(name), trust_remote_code=False)


def load_model(
    name: str,
    task: str = "masked-lm",
    *,
    num_labels: int | None = None,
    random: bool = False,
    seed: int = 0,
    **overrides: Any,
) -> PreTrainedModel:
    """A model in fp32 with the head for `task`, weights from the checkpoint or random.

    `random=True` takes the checkpoint's configuration only: the fair baseline for what pretraining
    brought. What the checkpoint lacked (a new head, as a rule, or one for other classes) is in
    `model.missing_keys`, what it had in vain in `model.unexpected_keys`. `overrides` change the
    configuration, such as `hidden_dropout_prob=0.0`. Raises ValueError for an unknown task, a
    checkpoint that is not there, has no safetensors or a body of another shape.
    """
    import transformers

    if task not in TASKS:
        raise ValueError(f"unknown task {task!r}: choose one of {', '.join(TASKS)}")
    head = getattr(transformers, TASKS[task])
    if num_labels is not None:
        overrides["num_labels"] = num_labels
    torch.manual_seed(seed)  # the new head, or all of it, is drawn from here
    with _one_line(name), quiet():
        if random:
            config = transformers.AutoConfig.from_pretrained(
                resolve(name), trust_remote_code=False, **overrides
            )
            model, report = head.from_config(config, dtype=torch.float32), {}
        else:
            # transformers 5 keeps the dtype on disk unless told: half precision would train badly.
            model, report = head.from_pretrained(
                resolve(name), dtype=torch.float32, use_safetensors=True, trust_remote_code=False,
                output_loading_info=True, ignore_mismatched_sizes=True, **overrides,
            )  # fmt: skip
        unfit = _unfit_head(model, report)
    model.missing_keys = sorted({*report.get("missing_keys", []), *unfit})
    model.unexpected_keys = sorted(report.get("unexpected_keys", []))
    return model


def _unfit_head(model: PreTrainedModel, report: dict[str, Any]) -> list[str]:
    """Weights of the head whose shape differs, and which are new; of the body it is an error."""
    names = sorted(name for name, *_ in report.get("mismatched_keys", []))
    body = "" if model.base_model is model else f"{model.base_model_prefix}."
    if wrong := [name for name in names if name.startswith(body)]:
        raise ValueError(f"{wrong[0]} has another shape than the configuration asks for")
    return names


def count_parameters(model: torch.nn.Module) -> tuple[int, int]:
    """`(total, trainable)`; tied weights count once.

    >>> count_parameters(torch.nn.Linear(3, 2))
    (8, 8)
    """
    parameters = list(model.parameters())
    return (
        sum(p.numel() for p in parameters),
        sum(p.numel() for p in parameters if p.requires_grad),
    )


def freeze(module: torch.nn.Module) -> torch.nn.Module:
    """Stop every weight of `module` from training; returns it.

    >>> count_parameters(freeze(torch.nn.Linear(3, 2)))
    (8, 0)
    """
    return module.requires_grad_(False)


def extend_vocabulary(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, tokens: Sequence[str]
) -> int:
    """Add `tokens`; their embeddings start as the mean of the pieces they used to be cut into.

    Returns how many were new. A mean starts the new row where the model already understands
    something (Hewitt 2021, "Initializing new word embeddings for pretrained language models"). The
    output projection, where it is not the same matrix, starts the same way.
    """
    pieces = {t: tokenizer(t, add_special_tokens=False)["input_ids"] for t in dict.fromkeys(tokens)}
    known = set(tokenizer.get_vocab())
    new = [token for token in pieces if token not in known]
    tokenizer.add_tokens(new)
    if len(tokenizer) > model.get_input_embeddings().weight.shape[0]:  # some tables have spare rows
        model.resize_token_embeddings(len(tokenizer), mean_resizing=False)
    for layer in (model.get_input_embeddings(), model.get_output_embeddings()):
        for token in new if layer is not None else []:
            if pieces[token]:
                row = tokenizer.convert_tokens_to_ids(token)
                with torch.no_grad():  # a tied matrix comes twice, and the same mean with it
                    layer.weight[row] = layer.weight[pieces[token]].mean(0)
    return len(new)


def save_half(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, folder: str | Path
) -> None:
    """Write model (fp16 safetensors) and tokenizer; the model in memory stays as it is."""
    halves: dict[int, torch.Tensor] = {}  # by storage: tied weights stay one tensor on disk
    state = {
        name: halves.setdefault(
            tensor.data_ptr(), tensor.half() if tensor.is_floating_point() else tensor
        )
        for name, tensor in model.state_dict().items()
    }
    with quiet():
        model.save_pretrained(folder, state_dict=state)
        tokenizer.save_pretrained(folder)


@contextlib.contextmanager
def _one_line(name: str) -> Iterator[None]:
    from safetensors import SafetensorError  # a damaged file; it is no OSError

    try:
        yield
    except (OSError, KeyError, ValueError, SafetensorError) as error:
        first = (str(error).strip() or type(error).__name__).splitlines()[0]
        if name.startswith(("/", ".", "~")) and not Path(name).expanduser().exists():
            first = "there is no such folder"  # the hub's own words are of its names
        raise ValueError(
            f"no usable checkpoint {name!r}: {first.rstrip(' .:')}. Give 'docbert', a folder with "
            "config.json, model.safetensors and tokenizer.json, or a hub id"
        ) from error


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Within, `transformers` prints no load report and no bars: what was missing is returned."""
    from transformers.utils import logging

    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()
