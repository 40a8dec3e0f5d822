"""The doctor: examine a model, its data and a run; name what is wrong, with evidence and remedy."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submodules=["catalogue", "findings", "report"],
    submod_attrs={
        "callback": ["Doctor"],
        "catalogue": ["FAULTS", "Fault"],
        "examination": ["examine"],
        "findings": ["Curve", "Finding"],
        "report": ["Report"],
        "watch": ["Watch"],
    },
)
