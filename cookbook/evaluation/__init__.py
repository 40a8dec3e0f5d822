"""Evaluation: metrics and curves, calibration, retrieval, intervals, errors, explanations."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submodules=["calibration", "curves", "entities", "errors", "generation", "interpretation",
                "label_errors", "lexical", "metrics", "model_report", "optimism", "retrieval",
                "significance", "translation"],
    submod_attrs={
        "metrics": ["accuracy", "classification_metrics", "confusion_matrix", "f1", "matthews",
                    "metric", "perplexity", "precision", "recall", "trivial_baseline"],
    },
)  # fmt: skip
