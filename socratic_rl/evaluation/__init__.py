"""Base against tutor, a judge, and agreement with people."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "human_agreement": ["Calibration", "HumanLabels"],
        "judge": ["Judge"],
        "student_gain": ["StudentGain"],
        "test_sets": ["Bridge", "MRBench", "MathDial", "RankedReplies"],
    },
)
