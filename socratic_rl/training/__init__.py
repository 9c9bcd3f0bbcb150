"""Preference pairs become a tutor."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "best_of_n": ["BestOfN"],
    },
)
