"""Dialogues, files and votes become preference pairs."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "dataset": ["SocraticPairs"],
        "pairing": ["Pairing"],
        "rejections": [
            "Annotated",
            "Constant",
            "DirectAnswer",
            "Irrelevant",
            "Mixed",
            "Premature",
            "Repeated",
            "WeakModel",
        ],
        "seed_csv": ["SeedCsv"],
        "trl_pairs": ["TrlPairs"],
        "votes": ["Votes"],
    },
)
