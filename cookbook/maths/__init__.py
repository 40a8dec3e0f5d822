"""The maths of training, by hand and equal to the library."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submodules=["losses"],
    submod_attrs={
        "losses": ["binary_cross_entropy", "cross_entropy", "log_softmax", "log_sum_exp",
                   "mean_squared_error"],
    },
)  # fmt: skip
