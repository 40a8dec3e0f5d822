"""Models: small configurations of the named architectures, and where their weights come from."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submodules=["bridge", "convolutional", "detection", "generative", "image_tokens",
                "initialization", "multimodal", "outputs", "profiling", "random_weights",
                "recurrent", "registry", "replaced_tokens", "samples", "surgery", "text",
                "two_towers", "vision", "word2vec"],
    submod_attrs={
        "bridge": ["FlamingoBridge", "GatedCrossAttention", "Resampler"],
        "convolutional": ["Convolutional", "Vgg"],
        "image_tokens": ["ImageTokenizer", "TextToImage", "VectorQuantizer"],
        "initialization": ["count_parameters", "extend_vocabulary", "freeze", "load_model",
                           "load_tokenizer", "resolve", "save_half"],
        "multimodal": ["JointEncoder"],
        "profiling": ["architecture_table", "overfit", "peak_bytes"],
        "random_weights": ["draw_truncated", "weight_scales"],
        "recurrent": ["ElmoLM", "RecurrentLM", "lstm_step"],
        "registry": ["architectures", "build"],
        "replaced_tokens": ["ReplacedTokenDetection"],
        "surgery": ["add_layers", "change_head", "pour", "report_of"],
        "text": ["bert_config"],
        "word2vec": ["Word2Vec", "draw_negatives", "skip_gram_pairs"],
    },
)  # fmt: skip
