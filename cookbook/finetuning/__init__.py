"""Fine-tuning: every strategy behind one signature, and the baselines it has to beat."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submodules=["baselines", "encoding", "results", "strategies", "trials"],
    submod_attrs={
        "results": ["Result", "intervals", "table"],
        "strategies": ["STRATEGIES", "fine_tune"],
    },
)
