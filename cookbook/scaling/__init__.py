"""Scaling: what a run holds in memory, and what it takes in memory and time, known before it."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submodules=[
        "arithmetic",
        "calculator",
        "crashes",
        "demonstrations",
        "devices",
        "distributed",
        "job",
        "launching",
        "links",
        "pipeline",
        "sampler",
        "sharded",
        "small_model",
        "speed",
        "speed_recipe",
        "tensor_parallel",
        "timing",
        "world",
    ],
    submod_attrs={
        "calculator": ["Memory", "inference_memory", "training_memory"],
        "devices": ["Device", "Work", "plan"],
        "distributed": ["train", "wrap"],
        "launching": ["launch", "torchrun"],
        "sampler": ["ShardedBatches"],
        "speed": ["autotune", "climb", "ladder", "profile_step"],
        "timing": ["StepTimes", "probe"],
        "world": ["RanksError", "World", "joined"],
    },
)
