"""Socratic RL: train open language models to tutor by asking, not telling."""

from typing import TYPE_CHECKING

import lazy_loader

if TYPE_CHECKING:
    from socratic_rl.commands.python_api import Tutor, evaluate, make_pairs, train

__all__ = ["Tutor", "evaluate", "make_pairs", "train"]

# resolved when they are first used, since they load torch
__getattr__, __dir__, _ = lazy_loader.attach(__name__, submod_attrs={"commands.python_api": __all__})
