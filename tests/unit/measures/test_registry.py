"""Measures are registered once, and rows of figures are written as they are read."""

from typing import Any

from socratic_rl import measures
from socratic_rl.core.dialogue import Step
from socratic_rl.measures.figures import Figure
from socratic_rl.measures.measured_reply import MeasuredReply
from socratic_rl.measures.registry import FAILURES, MARKED, MEASURES, OF_REPLIES, marks_of, spans
from socratic_rl.pages.marked_replies import TAGS
from socratic_rl.pages.wording import measure_of

PROMPT = [{"role": "user", "content": "What is 3 * 4?"}, {"role": "assistant", "content": "What is 3 + 3?"}]


def reply(text: str, answer: str = "12", cut_off: bool = False) -> MeasuredReply:
    return MeasuredReply.of(text, answer, "What is 3 * 4?", PROMPT, cut_off)


def test_every_measure_of_a_reply_has_all_that_tables_and_pages_show() -> None:
    assert OF_REPLIES == (
        "helps",
        "guides_share",
        "asks_question",
        "reveals_answer",
        "tells_step",
        "hands_over",
        "asks_known",
        "invents",
        "speaks_for_student",
        "repeats_turn",
        "cut_off",
        "words",
    )
    for measure in MEASURES.values():
        assert measure.label
        assert measure.meaning.endswith(".")
        assert measure.phrase.count("{}") == 1
    assert all(TAGS[name] for name in MARKED)
    assert all(measure.fault for measure in FAILURES.values())
    # the gravest first, each with a rank of its own
    assert [measure.gravity for measure in FAILURES.values()] == list(range(1, len(FAILURES) + 1))


def test_marks_are_those_of_the_spans() -> None:
    without_steps = dict.fromkeys(("helps", "guides_share", "tells_step", "hands_over", "asks_known", "invents"))
    assert marks_of(reply("It is 12.\nStudent: 7")) == without_steps | {
        "asks_question": False,
        "reveals_answer": True,
        "speaks_for_student": True,
        "repeats_turn": False,
        "cut_off": False,
        "words": 5,
    }
    assert marks_of(reply("What is 3 + 3?", answer=""))["reveals_answer"] is None
    assert marks_of(reply("What is 3 + 3?"))["repeats_turn"] is True


def test_of_a_reply_that_was_cut_off_only_what_its_end_cannot_change_is_measured() -> None:
    assert marks_of(reply("It is 12.\nStudent: 7", cut_off=True)) == {
        "helps": None,
        "guides_share": None,
        "asks_question": None,
        "reveals_answer": True,
        "tells_step": None,
        "hands_over": None,
        "asks_known": None,
        "invents": None,
        "speaks_for_student": True,
        "repeats_turn": None,
        "cut_off": True,
        "words": None,
    }
    step = Step(work="3 * 4 = 12")
    guiding = MeasuredReply.of("How many is 3 * 4 in all?", "12", "What is 3 * 4?", PROMPT[:1], True, (step,))
    assert marks_of(guiding)["helps"] is False


def test_what_was_measured_is_not_measured_again() -> None:
    marks_of(reply("Is it 12?", cut_off=True))
    before = spans.cache_info().misses
    # the page does not know by what a reply was ended
    spans(reply("Is it 12?"))
    assert spans.cache_info().misses == before


def test_what_a_judge_scores_is_a_share_that_is_neither_better_nor_worse() -> None:
    measure = measure_of("judge/on_topic")
    assert (measure.label, measure.better, measure.share) == ("On topic", 0, True)
    assert not measure_of("unknown").share


def test_the_two_measures_are_at_the_face_of_the_room() -> None:
    assert measures.reveals_answer("It is 12.", "12", ["3 * 4?"])
    assert measures.asks_question("Why?")


def test_a_row_is_written_as_it_was_read() -> None:
    row: dict[str, Any] = {
        "name": "asks_question",
        "kind": "all",
        "base": 0.25,
        "tutor": 1.0,
        "difference": 0.75,
        "low": None,
        "high": None,
        "n": 4,
        "problems": 1,
    }
    assert list(Figure(**row).to_record().items()) == list(row.items())
    # where a judge was not compared with people its row says so, and any other row says nothing
    judged = row | {"name": "judge/asks", "agreement": None}
    assert Figure(**judged).to_record() == judged
    assert (Figure(**judged).judged, Figure(**row).judged) == (True, False)
    past = {"earlier": [{"name": "round 1", "value": 0.5, "low": 0.4, "high": 0.6}]}
    step = {"step": {"difference": 0.5, "low": 0.1, "high": 0.6}}
    assert Figure(**row, **past, **step).to_record() == row | past | step
    assert Figure(**row | {"tutor": float("nan")}).tutor is None
