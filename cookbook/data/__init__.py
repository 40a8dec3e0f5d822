"""Data: sources, embedded sets, splits, cleaning with a ledger, augmentation, tokenisation."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submodules=[
        "answer_spans",
        "augmentation",
        "cleaning",
        "cluster",
        "deduplication",
        "digit_scenes",
        "embedded",
        "glyphs",
        "image_augmentation",
        "leakage",
        "shingles",
        "splits",
        "template_words",
        "tokenization",
        "word_tags",
    ],
    submod_attrs={
        "augmentation": ["augment"],
        "cleaning": ["balance", "class_balance", "clean"],
        "deduplication": ["exact_duplicates", "fingerprint", "near_duplicates"],
        "errors": ["DataError"],
        "image_augmentation": ["augment_images", "mixup"],
        "ledger": ["Ledger"],
        "sources": ["load", "load_apart"],
        "splits": ["assign", "check_disjoint", "split"],
        "tokenization": ["encode", "pack", "train_tokenizer"],
    },
)
