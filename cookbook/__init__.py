"""A cookbook on training pretrained models: wings in the order in which data flows.

Nothing is imported until it is used, so `import cookbook` costs next to nothing.

>>> import cookbook
>>> cookbook.data.DataError.__name__
'DataError'
"""

import lazy_loader

__version__ = "0.1.0"

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submodules=[
        "session",
        "data",
        "maths",
        "models",
        "training",
        "finetuning",
        "scaling",
        "evaluation",
        "plots",
    ],
)
