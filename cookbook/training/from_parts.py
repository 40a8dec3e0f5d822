"""Models that write, put together from the checkpoint of an encoder that only reads.

A decoder is an encoder with a mask over the future, so BERT's weights can start one; an
encoder–decoder is two of them and a cross-attention that no checkpoint has. Rothe et al. 2020,
arXiv:1907.12461. It loads and reports; it does not train. Used by chapter 04.
"""

from __future__ import annotations

from typing import Any

import torch

from cookbook.models import resolve
from cookbook.models.initialization import quiet

LOADING = {"use_safetensors": True, "trust_remote_code": False}


def decoder(name: str, *, is_decoder: bool = True, random: bool = False, seed: int = 0) -> Any:
    """The checkpoint of an encoder as a causal language model, in fp32 and without dropout.

    `is_decoder` puts the mask over the future; `random` takes the configuration only. The names of
    weights that the checkpoint lacks are in `missing_keys`.
    """
    import transformers

    torch.manual_seed(seed)
    with quiet():
        config = _configuration(name, is_decoder=is_decoder)
        head, report = transformers.AutoModelForCausalLM, {"missing_keys": []}
        if random:
            model = head.from_config(config, dtype=torch.float32)
        else:
            model, report = head.from_pretrained(
                resolve(name), config=config, dtype=torch.float32, output_loading_info=True,
                **LOADING,
            )  # fmt: skip
    model.loss_type = "ForCausalLM"  # which it takes anyway, with a warning about its own name
    model.missing_keys = sorted(report["missing_keys"])
    return model


def encoder_decoder(name: str, *, seed: int = 0) -> tuple[Any, list[str]]:
    """Two copies of an encoder's checkpoint, the second one as a decoder that sees the first.

    Returns the model, in fp32 and without dropout, and the names of the weights that neither copy
    has: they start at random.
    """
    import transformers

    torch.manual_seed(seed)
    with quiet():
        reader = transformers.AutoModel.from_pretrained(
            resolve(name), config=_configuration(name), dtype=torch.float32, **LOADING
        )
        config = _configuration(name, is_decoder=True, add_cross_attention=True)
        writer, report = transformers.AutoModelForCausalLM.from_pretrained(
            resolve(name), config=config, dtype=torch.float32, output_loading_info=True, **LOADING
        )
    model = transformers.EncoderDecoderModel(encoder=reader, decoder=writer)
    model.config.decoder_start_token_id = model.config.pad_token_id = config.pad_token_id
    return model, sorted(report["missing_keys"])


def _configuration(name: str, **changes: bool) -> Any:
    import transformers

    config = transformers.AutoConfig.from_pretrained(resolve(name), trust_remote_code=False)
    config.update({"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0} | changes)
    return config
