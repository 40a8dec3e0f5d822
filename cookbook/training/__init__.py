"""Training: objectives, the loop, the trainer, schedules, checkpoints, the order of rows."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submodules=["checkpoints", "contrastive", "gradient_cache", "loop", "objectives", "order", "pretraining", "schedules",
                "trainer", "trainer_checkpoints"],
    submod_attrs={
        "contrastive": ["ContrastiveLoss", "PairCollator", "PairEncoder"],
        "objectives": ["MaskedLMCollator", "mask_tokens", "next_sentence_pairs"],
        "order": ["Batches", "EpochSampler", "Keyed"],
        "pretraining": ["evaluate_masked_lm", "masked_lm_rows", "pretrain"],
        "trainer": ["MaskedLMTrainer", "Trainer"],
    },
)  # fmt: skip
