"""What the report says first, of speakers that were and were not measured."""

from types import SimpleNamespace
from typing import Any

import pytest

from socratic_rl.core.errors import UserError
from socratic_rl.evaluation import speakers
from socratic_rl.measures.comparisons import speaker_comparison, speaker_figure, with_verdicts


def headline(tutor: list[Any], prompted: list[Any] | None) -> str:
    """Of a reply to each of so many problems."""
    problems = [f"p{number}" for number in range(len(tutor))]
    sides = {"tutor": tutor} | ({"prompted": prompted} if prompted else {})
    figures = [speaker_figure("helps", "all", name, side, problems, share=True) for name, side in sides.items()]
    compared = [
        speaker_comparison("helps", "all", "prompted", tutor, prompted, problems, share=True, seed=0)
        for _ in range(bool(prompted))
    ]
    return speakers.headline(figures, with_verdicts(compared, {"helps": 1}, "helps", "prompted"))


def test_a_clear_and_an_unclear_difference() -> None:
    assert headline([1] * 20, [0] * 20) == (
        "helps: the tutor in 100% of its replies, the prompted base in 0%: +100 points [77, 100], better "
        "(n 20, 20 problems); not validated"
    )
    unclear = headline([1] * 5 + [0] * 15, [1] * 4 + [0] * 16)
    assert ", unclear, a difference under 36% would mostly not have been seen (n 20, 20 problems)" in unclear


def test_too_few_problems_have_no_interval() -> None:
    assert headline([1] * 4, [0] * 4) == (
        "helps: the tutor in 100% of its replies, the prompted base in 0%; 4 problems are too few for an interval; "
        "not validated"
    )


def test_what_was_not_measured_is_said_as_what_it_is() -> None:
    assert headline([None] * 20, [None] * 20).startswith("helps: not measured, no step is due at any turn")
    # its prompt did not fit, which is no want of a worked solution
    assert headline([1] * 20, None) == (
        "helps: the tutor in 100% of its replies; the prompted base said nothing to compare with; not validated"
    )


def test_a_tutor_by_sft_of_another_base_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    def tutor(base: str) -> Any:
        return SimpleNamespace(settings=SimpleNamespace(pretrained=base))

    monkeypatch.setattr(speakers, "Tutor", lambda folder: tutor("gpt2"))
    with pytest.raises(UserError, match=r"^sft: other: its base is gpt2, not the tutor's$"):
        speakers.sft_tutor("other", tutor("embedded"))
    assert speakers.sft_tutor("other", tutor("gpt2")).settings.pretrained == "gpt2"  # type: ignore[union-attr]
    assert speakers.sft_tutor(None, tutor("gpt2")) is None
