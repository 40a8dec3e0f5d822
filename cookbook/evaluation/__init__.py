"""Evaluation: metrics beside a trivial baseline, retrieval, intervals and paired tests."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submodules=["lexical", "metrics", "retrieval", "significance"],
    submod_attrs={
        "metrics": ["accuracy", "classification_metrics", "confusion_matrix", "f1", "matthews",
                    "metric", "perplexity", "precision", "recall", "trivial_baseline"],
    },
)  # fmt: skip
