"""The maths of training, by hand and equal to the library."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submodules=["adapters", "attention", "attention_statistics", "blocks", "boxes", "contrastive",
                "convolution", "language_models", "lookup", "losses", "optimizers", "positions",
                "pouring", "set_prediction"],
    submod_attrs={
        "adapters": ["Bottleneck", "LoRALinear", "bias_names", "dora_weight", "ia3",
                     "with_prompt"],
        "attention": ["MultiHeadAttention", "causal_mask", "padding_mask",
                      "scaled_dot_product_attention", "softmax"],
        "blocks": ["DecoderBlock", "EncoderBlock", "LayerNorm", "gelu", "gelu_tanh", "layer_norm"],
        "contrastive": ["alignment", "info_nce", "uniformity"],
        "losses": ["binary_cross_entropy", "cross_entropy", "distillation", "log_softmax",
                   "log_sum_exp", "mean_squared_error"],
        "positions": ["LearnedPositions", "rotate", "sinusoidal"],
    },
)  # fmt: skip
