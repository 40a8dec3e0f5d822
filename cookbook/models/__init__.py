"""Models: small configurations of the named architectures, and where their weights come from."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submodules=["initialization", "text"],
    submod_attrs={
        "initialization": ["count_parameters", "extend_vocabulary", "freeze", "load_model",
                           "load_tokenizer", "resolve", "save_half"],
        "text": ["bert_config"],
    },
)  # fmt: skip
