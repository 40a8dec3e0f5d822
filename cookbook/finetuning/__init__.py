"""Fine-tuning: every strategy behind one signature, and the baselines it has to beat."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submodules=["adapters", "baselines", "cells", "comparison", "costs", "distillation", "encoding",
                "fit", "freezing", "layers", "multitask", "peft_methods", "results", "strategies",
                "trials"],
    submod_attrs={
        "comparison": ["Comparison", "compare"],
        "fit": ["check_tokenizer", "tokenizer_fit"],
        "results": ["Result", "intervals", "table"],
        "strategies": ["STRATEGIES", "fine_tune"],
    },
)  # fmt: skip
