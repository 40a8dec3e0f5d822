"""Fine-tuning: every strategy behind one signature, and the baselines it has to beat."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submodules=["adapters", "assessment", "baselines", "cards", "cells", "comparison", "costs",
                "courses", "distillation", "encoding", "fit", "forecasts", "freezing", "layers",
                "multitask", "pairs", "peft_methods", "question_answering", "remedies",
                "remedy_tasks", "results", "sections", "selection", "sequence_to_sequence",
                "strategies", "tagging", "task_fit", "task_mistakes", "transferability", "trials",
                "tuning"],
    submod_attrs={
        "assessment": ["Assessment", "Recommendation"],
        "comparison": ["Comparison", "compare"],
        "fit": ["check_tokenizer", "tokenizer_fit"],
        "results": ["Result", "intervals", "table"],
        "selection": ["recommend"],
        "strategies": ["STRATEGIES", "fine_tune"],
    },
)  # fmt: skip
