"""M1 to M5: weights that were not loaded, tied or given, in an encoder and a decoder."""

from __future__ import annotations

import shutil
from pathlib import Path

import torch
import transformers
from safetensors.torch import load_file, save_file
from torch import nn

from faults.families import adapted
from faults.material import kept
from faults.mutations.models import after
from faults.recipe import Recipe
from faults.summary_family import checkpoint, writer
from faults.table import seventh

# -- M1 ------------------------------------------------------------------------------------------


def _renamed(r: Recipe, name: str, rename: dict[str, str]) -> None:
    """The script loads a copy of its checkpoint in which some keys begin otherwise."""

    def write(folder: Path) -> None:
        shutil.copytree(checkpoint(), folder)
        state = load_file(folder / "model.safetensors")
        for old, new in rename.items():
            state = {key.replace(old, new, 1): value for key, value in state.items()}
        save_file(state, folder / "model.safetensors", metadata={"format": "pt"})

    folder = kept(name, write)
    r.model = lambda: transformers.BartForConditionalGeneration.from_pretrained(folder)


@seventh("M1", "summary")
def writer_keys_with_another_prefix(r: Recipe) -> None:
    _renamed(r, "bart-prefixed", {"model.": "net.inner."})


@seventh("M1", "summary")
def writer_keys_of_the_decoder_renamed(r: Recipe) -> None:  # own form
    """The encoder is the pretrained one, the decoder is new."""
    _renamed(r, "bart-half", {"model.decoder.layers": "model.decoder.blocks"})


@seventh("M1", "summary")
def writer_loaded_without_its_tie(r: Recipe) -> None:  # own form
    """The checkpoint holds one embedding for all; untied, encoder, decoder and head are new."""
    r.model = lambda: writer(tie_word_embeddings=False)


@seventh("M1", "summary")
def writer_made_from_the_configuration(r: Recipe) -> None:  # own form
    config = transformers.AutoConfig.from_pretrained(checkpoint())
    r.model = lambda: transformers.AutoModelForSeq2SeqLM.from_config(config)


# -- M2: an own head, which the checkpoint has not ------------------------------------------------


def _own_head(r: Recipe) -> None:
    """Embedding and head are two: the checkpoint holds the embeddings only, the head is new."""
    folder = kept("bart-headless", _without_head)
    r.model = lambda: transformers.BartForConditionalGeneration.from_pretrained(folder)
    after(r, lambda model: model.model.shared.requires_grad_(False) and None)  # nobody reads it


def _without_head(folder: Path) -> None:
    model = writer(tie_word_embeddings=False)
    for part in (model.model.encoder, model.model.decoder):
        part.embed_tokens.weight.data.copy_(model.model.shared.weight.data)
    state = {key: value for key, value in model.state_dict().items() if "lm_head" not in key}
    model.save_pretrained(folder, state_dict=state)


@seventh("M2", "summary")
def writer_everything_frozen_but_the_body(r: Recipe) -> None:
    _own_head(r)
    after(r, lambda model: model.lm_head.requires_grad_(False) and None)


@seventh("M2", "summary", loop="plain")
def writer_optimizer_of_the_body_only(r: Recipe) -> None:
    _own_head(r)
    r.optimizer = lambda model: torch.optim.AdamW(
        [p for p in model.model.parameters() if p.requires_grad], lr=r.lr
    )


@seventh("M2", "summary")
def writer_head_frozen_with_the_rest(r: Recipe) -> None:
    _own_head(r)

    def prepare(model: nn.Module) -> None:
        model.requires_grad_(False)
        model.model.decoder.layers[-1].requires_grad_(True)

    after(r, prepare)


@seventh("M2", "summary")
def writer_adapter_without_its_head(r: Recipe) -> None:
    _own_head(r)
    r.lr, r.prepare = 1e-2, lambda model: adapted(model, "SEQ_2_SEQ_LM")


# -- M3 ------------------------------------------------------------------------------------------


@seventh("M3", "summary")
def writer_encoder_reads_a_copy_of_the_embedding(r: Recipe) -> None:  # own form
    def prepare(model: nn.Module) -> None:
        shared = model.model.shared.weight.detach()
        model.model.encoder.embed_tokens = nn.Embedding.from_pretrained(
            shared.clone(), freeze=False, padding_idx=model.config.pad_token_id
        )

    after(r, prepare)


# -- M5 ------------------------------------------------------------------------------------------


@seventh("M5", "summary", also=("M6",))
def writer_adapter_loaded_for_inference(r: Recipe) -> None:
    r.prepare = lambda model: adapted(model, "SEQ_2_SEQ_LM", inference_mode=True)


@seventh("M5", "summary")
def writer_decoder_unfrozen_under_a_wrong_name(r: Recipe) -> None:  # own form
    """The names of its parameters begin with `model.`, so nothing is unfrozen."""

    def prepare(model: nn.Module) -> None:
        for name, parameter in model.named_parameters():
            parameter.requires_grad = name.startswith("decoder.")

    after(r, prepare)
