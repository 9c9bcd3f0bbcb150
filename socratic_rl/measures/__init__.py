"""What one reply says, and how sure a figure is."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__, submod_attrs={"replies": ["asks_question", "reveals_answer"]}
)
