"""A problem becomes a dialogue of a teacher and a student."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "annotated": ["Annotated"],
        "auto": ["Auto"],
        "generated": ["RolePlay", "Script"],
        "human_dialogues": ["Bridge", "MathDial"],
        "mathqa": ["MathQA"],
        "own_problems": ["JsonlProblems", "Starter"],
        "problems": ["GSM8K", "GSM8KSocratic"],
    },
)
