"""Scaling: what a run holds in memory, and what it takes in memory and time, known before it."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submodules=["live_memory"],
    submod_attrs={"live_memory": ["LiveMemory"]},
)
