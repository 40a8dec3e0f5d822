"""Training: objectives, the loop, the trainer, schedules, checkpoints, the order of rows."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submodules=["accumulation", "causal", "checkpoints", "clip", "contrastive", "decay",
                "early_stopping", "gradient_cache", "groups", "image_runs", "loop", "objectives",
                "optimizers", "order", "pretraining", "random_search", "range_test",
                "regularization", "schedules", "search", "trainer", "trainer_checkpoints",
                "updates", "zero_shot"],
    submod_attrs={
        "causal": ["CausalCollator", "next_token_loss"],
        "clip": ["ImageTextCollator", "clip_loss", "image_text_rows", "train_clip"],
        "contrastive": ["ContrastiveLoss", "PairCollator", "PairEncoder"],
        "infilling": ["TextInfillingCollator", "infill"],
        "objectives": ["MaskedLMCollator", "mask_tokens", "next_sentence_pairs"],
        "order": ["Batches", "EpochSampler", "Keyed"],
        "permutation": ["PermutationCollator", "permuted", "random_rank"],
        "pretraining": ["evaluate_masked_lm", "masked_lm_rows", "pretrain"],
        "sentence_order": ["sentence_order_pairs"],
        "span_denoising": ["SpanDenoisingCollator", "add_sentinels", "cut_out", "noise_spans"],
        "trainer": ["MaskedLMTrainer", "Trainer"],
    },
)  # fmt: skip
