import re
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

import socratic_rl.pages.report
from socratic_rl.core import files
from socratic_rl.core.files import write_jsonl
from socratic_rl.measures.comparisons import speaker_comparison, speaker_figure, with_verdicts
from socratic_rl.measures.figures import Figure, FigureFile
from socratic_rl.measures.registry import failures
from socratic_rl.pages import console
from socratic_rl.pages.marked_replies import select
from socratic_rl.pages.report import TITLE, Report, from_folder, render, write

HOSTILE = "<script>alert('1')</script> & \"quoted\" <b>bold</b> $x_1$ {{ 7 * 7 }}"


def metric(name: str = "asks_question", **changes: Any) -> dict[str, Any]:
    row = {"name": name, "kind": "all", "base": 0.21, "tutor": 0.94, "difference": 0.73, "low": 0.65, "high": 0.8}
    ends = {"base_low": 0.12, "base_high": 0.3, "tutor_low": 0.88, "tutor_high": 0.98, "n": 96, "problems": 24}
    return {**row, **ends, **changes}


def dialogue(problem: str = "p1", turn: int = 0, **changes: Any) -> dict[str, Any]:
    good = {"asks_question": True, "reveals_answer": False, "speaks_for_student": False, "repeats_turn": False}
    row = {
        "problem_id": problem,
        "topic": "percent",
        "question": "What is 15% of 80?",
        "answer": "12",
        "turn": turn,
        "prompt": [{"role": "user", "content": "What is 15% of 80?"}],
        "reference": "What does percent mean?",
        "base": "The answer is 12.",
        "tutor": "What is 10% of 80?",
        "base_marks": {**good, "asks_question": False, "reveals_answer": True, "words": 4},
        "tutor_marks": {**good, "words": 5},
    }
    return {**row, **changes}


def failing(problem: str, turn: int = 0, **marks: Any) -> dict[str, Any]:
    row = dialogue(problem, turn)
    return {**row, "tutor_marks": {**row["tutor_marks"], **(marks or {"asks_question": False})}}


def page(**changes: Any) -> str:
    parts: dict[str, Any] = {"title": "A tutor", "facts": {}, "metrics": [], "curves": [], "dialogues": []}
    parts |= changes
    parts["metrics"] = [Figure(**row) for row in parts["metrics"]]
    parts["suites"] = [FigureFile(**suite) for suite in parts.get("suites", ())]
    return render(Report(**parts))


class Reader(HTMLParser):
    """The text of a page, its tags and its attributes."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: Counter[str] = Counter()
        self.attributes: list[tuple[str, str]] = []
        self.words: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags[tag] += 1
        self.attributes += [(name, value or "") for name, value in attrs]

    def handle_data(self, data: str) -> None:
        self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).replace("\u00a0", " ").split())

    def values(self, name: str) -> list[str]:
        return [value for attribute, value in self.attributes if attribute == name]


def text(**changes: Any) -> str:
    return Reader(re.sub(r"<style>.*?</style>", "", page(**changes), flags=re.DOTALL)).text


@pytest.fixture(scope="module")
def full() -> str:
    return page(
        metrics=[metric(), metric("preference_accuracy"), metric("preference_accuracy", kind="direct_answer")],
        curves=[
            {"step": 1, "loss": 0.7, "rewards/accuracies": 0.5},
            {"step": 2, "loss": 0.4},
            {"step": 2, "eval_loss": 0.5},
        ],
        dialogues=[dialogue()],
    )


def test_headline_says_it_in_a_sentence() -> None:
    found = text(metrics=[metric()])
    assert (
        "The tutor asks a question in 94% of its replies, its base in 21%: +73 points [65, 80], "
        "n = 96 replies to 24 problems." in found
    )
    assert "The tutor is better than its base on 1 of 1 measure: it asks a question more often." in found


def test_worse_is_said_plainly() -> None:
    found = text(metrics=[metric(tutor=0.1, difference=-0.11, low=-0.2, high=-0.03)])
    assert "−11 points [−20, −3]" in found
    assert "The tutor is worse than its base on 1 of 1 measure: it asks a question less often." in found
    assert "The tutor is worse here than the model it came from." in found
    assert "Better than" not in found


def test_revealing_more_is_worse_and_revealing_less_is_better() -> None:
    assert "Worse than the base" in text(metrics=[metric("reveals_answer")])
    less = metric("reveals_answer", tutor=0.02, difference=-0.19, low=-0.3, high=-0.1)
    assert "it reveals the answer less often" in text(metrics=[less])
    assert "Worse than" not in text(metrics=[less])


def test_any_measure_on_which_the_tutor_is_worse_opens_the_page() -> None:
    worse, better = metric("repeats_turn"), metric("repeats_turn", difference=-0.1, low=-0.2, high=-0.05)
    sentence = "The tutor repeats an earlier turn in 94%"
    assert sentence in text(metrics=[worse])
    assert sentence not in text(metrics=[better])


@pytest.mark.parametrize(("low", "high"), [(-0.01, 0.2), (0, 0.2), (-0.2, 0), (0, 0)])
def test_an_interval_with_zero_shows_no_difference(low: float, high: float) -> None:
    found = text(metrics=[metric(difference=0.09, low=low, high=high)])
    assert "The interval includes zero, so this shows no difference." in found
    assert "No clear difference on 1 of 1 measure: asks a question." in found


def test_one_problem_gives_no_interval() -> None:
    found = text(metrics=[metric(low=None, high=None, problems=1, n=4)])
    assert "n = 4 replies to 1 problem. One problem is too few for an interval" in found
    assert "Too few problems to tell on 1 of 1 measure: asks a question." in found


def test_intervals_from_few_problems_come_with_a_warning() -> None:
    warning = "The intervals come from as few as 9 problems, which makes them too narrow to rely on."
    assert warning in text(metrics=[metric(), metric("repeats_turn", problems=9)])
    assert "too narrow" not in text(metrics=[metric(problems=10)])


def test_a_measure_without_a_base_claims_no_difference() -> None:
    none = dict.fromkeys(("base", "difference", "low", "high", "base_low", "base_high"))
    found = text(metrics=[metric("ranking_accuracy", **none)])
    assert "No measure compares the tutor with its base." in found
    assert "– 94% [88%, 98%] – 96 24 –" in found


def test_words_are_neither_better_nor_worse() -> None:
    found = text(metrics=[metric("words", base=56.1, tutor=23.44, difference=-32.66, low=-40, high=-25)])
    assert "23.4" in found
    assert "−32.7 [−40.0, −25.0]" in found
    assert "Less than the base" in found
    assert "points" not in found.split("n counts")[0]


@pytest.mark.parametrize(
    ("share", "shown"),
    [(0, "0%"), (1, "100%"), (0.004, "0.4%"), (0.996, "99.6%"), (0.5, "50%"), (0.015, "2%"), (1e-12, "0%")],
)
def test_shares_are_rounded_without_claiming_none_or_all(share: float, shown: str) -> None:
    assert f" {shown} [" in text(metrics=[metric(tutor=share)])


@pytest.mark.parametrize(
    ("difference", "shown"), [(0.004, "+0.4"), (-0.004, "−0.4"), (0, "0"), (1e-15, "0"), (0.1249, "+12"), (-1, "−100")]
)
def test_differences_keep_their_sign(difference: float, shown: str) -> None:
    assert f" {shown} [" in text(metrics=[metric(difference=difference)])


def test_the_table_has_every_row_with_n_intervals_and_meaning() -> None:
    found = text(metrics=[metric("preference_accuracy", kind="weak_model", n=12345), metric("preference_accuracy")])
    assert "Share of held-out pairs whose chosen reply" in found
    assert "21% [12%, 30%] 94% [88%, 98%] +73 [65, 80] 96 24 Better than the base" in found
    assert "weak model 24 21% → 94% +73 [65, 80] n = 12,345" in found


def test_only_the_keys_of_the_format_are_needed() -> None:
    keys = ("name", "kind", "base", "tutor", "difference", "low", "high", "n")
    assert "n = 96 replies." in text(metrics=[{key: metric()[key] for key in keys}])


def test_a_measure_it_does_not_know_is_shown_without_a_verdict() -> None:
    found = text(metrics=[metric("judge_score")])
    assert "Judge score" in found
    assert "No measure compares the tutor with its base." in found
    assert "Better than" not in found


def test_nothing_measured_claims_nothing() -> None:
    found = page(metrics=[metric(**dict.fromkeys(("base", "tutor", "difference", "low", "high")), n=0, problems=0)])
    assert "No measure compares" in found
    assert "of its replies" not in found
    assert "<svg" not in found
    assert "<h2>Training" not in page()
    assert "<h2>Dialogues" not in page()


def test_all_text_is_escaped() -> None:
    hostile = dict.fromkeys(("problem_id", "topic", "question", "answer", "reference", "base", "tutor"), HOSTILE)
    html = page(
        title=HOSTILE,
        facts={HOSTILE: HOSTILE},
        metrics=[metric(HOSTILE), metric("preference_accuracy", kind=HOSTILE)],
        dialogues=[dialogue(**hostile, prompt=[{"role": "user", "content": HOSTILE}])],
    )
    read = Reader(html)
    assert not {"script", "b", "img", "iframe", "object"} & set(read.tags)
    assert sum(HOSTILE in words for words in read.words) >= 11
    assert any(HOSTILE.replace("_", " ") in value for value in read.values("aria-label"))
    assert "&lt;script&gt;" in html[html.rindex("<svg") : html.rindex("</svg>")]


def test_nothing_comes_from_outside(full: str) -> None:
    read = Reader(full)
    references = [value for name in ("src", "href", "xlink:href", "srcset", "action") for value in read.values(name)]
    assert references
    assert all(value.startswith(("#", "data:,")) for value in references)
    assert not re.search(r"@import|url\((?!#)", full)
    assert not {"script", "img", "iframe"} & set(read.tags)


def test_a_table_that_scrolls_can_be_reached_by_keyboard(full: str) -> None:
    assert full.count('<div class="scroll" role="region"') == full.count('tabindex="0"') == 3


def test_ids_are_unique_and_references_find_them(full: str) -> None:
    read = Reader(full)
    ids = read.values("id")
    assert len(ids) == len(set(ids))
    used = {value[1:] for name in ("href", "xlink:href") for value in read.values(name) if value.startswith("#")}
    used |= set(re.findall(r"url\(#([^)]+)\)", full))
    assert used <= set(ids)


def test_pictures_take_their_colours_from_the_page_and_say_what_they_show(full: str) -> None:
    pictures = re.findall(r"<svg.*?</svg>", full, re.DOTALL)
    assert len(pictures) == 4
    for picture in pictures:
        assert not re.search(r"#[0-9a-fA-F]{3,6}\b(?!\))", re.sub(r'(xlink:href="|url\()#\w+', "", picture))
        assert "var(--" in picture
        assert "DejaVu" not in picture
        assert "<metadata" not in picture
    labels = Reader(full).values("aria-label")
    assert any("Asks a question: +73 points [65, 80]" in label.replace("\u00a0", " ") for label in labels)
    assert "Loss: training 0.7 at step 1, 0.4 at step 2; held out 0.5 at step 2, 0.5 at step 2." in labels


def test_every_run_gives_the_same_page(full: str) -> None:
    report = Report("t", {}, [Figure(**metric())], [{"step": 1, "loss": 0.5}], [dialogue()])
    assert render(report) == render(report)


def test_curves_skip_what_is_not_a_number() -> None:
    history = [{"step": 1, "loss": float("nan")}, {"step": 2, "loss": "rubbish"}, {"step": 3}, {"train_loss": 0.2}]
    assert "<h2>Training" not in page(curves=history)
    assert "training 0.3 at step 4" in page(curves=[*history, {"step": 4, "loss": 0.3}])


def test_failures_come_first_the_gravest_before_others_and_spread_over_problems() -> None:
    rows = [dialogue(f"p{p}", t) for p in range(10) for t in range(4)]
    rows += [failing("p3", t, reveals_answer=True) for t in range(4, 7)] + [failing("p7", 9), failing("p7", 8)]
    rows += [failing("p1", 5, cut_off=True), failing("p2", 5, reveals_answer=True, cut_off=True)]
    chosen = select(rows)
    assert [failures(row["tutor_marks"])[:1] for row in chosen[:8]] == [
        *[["reveals_answer"]] * 4,
        *[["asks_question"]] * 2,
        ["cut_off"],
        [],
    ]
    assert {row["problem_id"] for row in chosen[:2]} == {"p2", "p3"}
    assert len(chosen) == len(rows)
    assert {row["problem_id"] for row in chosen[7:17]} == {f"p{p}" for p in range(10)}
    assert len({row["turn"] for row in chosen[7:17]}) > 1
    assert select(reversed(rows)) == chosen


def test_many_failures_on_one_problem_do_not_push_out_those_on_others() -> None:
    rows = [failing("a", t) for t in range(5)]
    for problem in "bcdefg":
        rows += [*(dialogue(problem, t) for t in range(8)), failing(problem, 8)]
    assert {row["problem_id"] for row in select(rows)[:7]} == set("abcdefg")


def test_as_many_dialogues_as_there_is_room_for() -> None:
    rows = [dialogue(f"p{p}") for p in range(30)] + [failing("bad")]
    size = len(str(rows[0]))
    assert [row["problem_id"] for row in select(rows, room=1)] == ["bad"]
    assert len(select(rows, room=10 * size)) in (9, 10)
    assert text(dialogues=rows).count("Gold answer: 12") == 31


def test_what_does_not_fit_into_the_page_is_said() -> None:
    rows = [dialogue(f"p{p}", tutor="What is left, then " * 4000) for p in range(30)] + [failing("bad")]
    found = text(dialogues=rows)
    assert "10 of the 31 places where both replied, over 31 problems." in found
    assert "Those where the tutor fails (1) come first, so there are more failures among them" in found
    assert found.count("Gold answer: 12") == 10


def test_how_often_replies_fail_is_counted_by_kind() -> None:
    rows = [
        dialogue(),
        failing("a", reveals_answer=True, asks_question=False),
        failing("b", repeats_turn=True),
        failing("c", reveals_answer=None),
    ]
    found = text(dialogues=rows)
    assert "How often a reply fails, of 4 The reply Base Tutor" in found
    assert (
        "reveals the answer 4 1 tells a step – – does not ask 4 1 asks what is known – – invents a number – – "
        "hands over the operation – – speaks for the student 0 0 repeats a turn 0 1 is cut off – – "
        "any of these 4 2" in found
    )
    assert "all (4) any failure (2) reveals the answer (1)" in found


def test_a_reply_without_a_gold_answer_does_not_fail_by_it() -> None:
    row = failing("p", reveals_answer=None)
    assert not failures(row["tutor_marks"])
    assert "no gold answer" in text(dialogues=[row])


def test_a_dialogue_shows_both_replies_with_their_marks() -> None:
    row = dialogue("p9", 1, base="", prompt=[*dialogue()["prompt"], {"role": "assistant", "content": "Go on?"}])
    found = text(dialogues=[row])
    assert "percent · teacher turn 2 What is 15% of 80? What is 10% of 80? Tutor asks does not reveal" in found
    assert "Student What is 15% of 80? Teacher, turn 1 Go on?" in found
    assert "Base (empty reply) reveals the answer does not ask 4 words" in found
    assert "Tutor What is 10% of 80? asks asks does not reveal 5 words" in found
    assert "Annotated turn What does percent mean? Gold answer: 12 · problem p9" in found
    assert "In none of them the tutor fails." in found


# ---- marks in the text ----


def cells(html: str, marks: str) -> list[str]:
    return re.findall(rf'<mark class="{marks}">(.*?)</mark>', html.split('</ul>\n    <div class="filter">')[1])


def test_marks_stand_where_a_reply_asks_and_where_it_reveals() -> None:
    row = dialogue(tutor="Good! What is 10% of 80? Tell me.", base="So it is 12, since 1.5 * 8 = 12.")
    html = page(dialogues=[row])
    assert cells(html, "asks_question") == ["What is 10% of 80?", "Tell me."]
    assert cells(html, "reveals_answer") == ["12", "12"]
    assert '<mark class="reveals_answer">12</mark><span class="tag reveals_answer">reveals</span>, since' in html


def test_marks_that_lie_on_each_other_are_both_there() -> None:
    row = failing("p", reveals_answer=True, asks_question=True)
    html = page(dialogues=[{**row, "tutor": "Isn't it <12> then?"}])
    assert cells(html, "asks_question reveals_answer") == ["12"]
    assert cells(html, "asks_question") == ["Isn&#39;t it &lt;", "&gt; then?"]
    assert html.count('<span class="tag asks_question">asks</span>') == 2  # the legend and this


def test_the_students_part_and_a_repeated_turn_are_marked() -> None:
    prompt = [*dialogue()["prompt"], {"role": "assistant", "content": "Why?"}, {"role": "user", "content": "12"}]
    row = failing("p", speaks_for_student=True)
    spoken = page(dialogues=[{**row, "tutor": "Go on.\nStudent: <b>It is 5."}])
    assert cells(spoken, "speaks_for_student") == ["Student: &lt;b&gt;It is 5."]
    row = failing("p", repeats_turn=True)
    again = page(dialogues=[{**row, "tutor": "Why?", "prompt": prompt}])
    assert cells(again, "asks_question repeats_turn") == ["Why?"]
    assert "as in turn 1" in again
    assert "cut off here" in page(dialogues=[failing("p", cut_off=True)])


def test_no_mark_without_the_measure() -> None:
    row = dialogue(tutor_marks={"asks_question": False, "reveals_answer": False})
    assert "<mark" not in page(dialogues=[row]).split('<div class="reply tutor">')[1]


# ---- topics, rounds, judges, suites ----


def test_figures_by_topic_and_by_kind() -> None:
    found = text(
        metrics=[
            metric(),
            metric(kind="topic: area", n=6, problems=3),
            metric("reveals_answer", kind="topic: area", n=5, problems=3),
            metric(kind="topic: other", base=None, difference=None, n=2, problems=2),
            metric("words", kind="topic: area"),
            metric("ranking_accuracy", kind="weak_model"),
        ]
    )
    by_topic, by_kind = found.split("By problem topic Topic")[1].split("By kind of rejected reply Rejected reply")
    assert "area 3 21% → 94% +73 [65, 80] n = 6 21% → 94% +73 [65, 80] n = 5" in by_topic
    assert "other 2 94% [88%, 98%] n = 2 –" in by_topic
    assert "Words" not in by_topic
    assert "weak model 24 21% → 94%" in by_kind


def test_earlier_rounds_stand_between_base_and_tutor() -> None:
    past = [{"name": "round 1", "value": 0.5, "low": 0.4, "high": 0.61}]
    reply = {"name": "round 1", "text": "Is it 12?", "marks": {"asks_question": True, "reveals_answer": True}}
    step = {"difference": 0.44, "low": -0.01, "high": 0.6}
    rows = [metric(earlier=past, step=step), metric("words", base=5.0, tutor=9.0, difference=4.0)]
    found = text(metrics=rows, dialogues=[dialogue(earlier=[reply])])
    assert "Measure Base Round 1 Round 2 Difference" in found
    assert "21% [12%, 30%] 50% [40%, 61%] 94% [88%, 98%] +73" in found
    assert "How often a reply fails, of 1 The reply Base Round 1 Round 2 reveals the answer 1 1 0" in found
    assert (
        "Base The answer is 12 reveals . reveals the answer does not ask 4 words Round 1 Is it 12 reveals ? asks"
        in found
    )
    assert "Asks a question: base 21%, round 1 50%, round 2 94%." in Reader(page(metrics=rows)).values("aria-label")
    assert "Since round 1: +44 points [−1, 60], no clear difference." in found
    clear = metric(earlier=past, step={**step, "low": 0.1})
    assert "Since round 1: +44 points [10, 60]." in text(metrics=[clear])
    assert "<h2>Round by round" not in page(metrics=[metric()])


def test_a_judges_scores_come_with_its_agreement() -> None:
    agreement = {"kappa": 0.712, "low": 0.5, "high": 0.88, "n": 34}
    found = text(metrics=[metric("judge/on_topic", agreement=agreement), metric("judge/helps", agreement=None)])
    part = found.split("What a judge says")[1]
    assert "On topic judge against people: κ 0.71 [0.50, 0.88], n = 34 21% [12%, 30%] 94% [88%, 98%] +73" in part
    assert "Helps the judge was not compared with people 21%" in part
    assert "All measures" not in part
    assert "No measure compares the tutor with its base." in found


def test_other_tests_are_shown_with_their_facts() -> None:
    suite = {"name": "bridge", "metrics": [metric("preference_accuracy")], "facts": {"pairs": "5 <b>"}}
    html = page(suites=[suite])
    assert "<h3>bridge</h3>" in html
    gain = metric("gain", base=-0.1, tutor=0.2, difference=0.3, low=0.1, high=0.5, base_low=-0.2, base_high=-0.004)
    found = text(
        suites=[{"name": "student_gain", "metrics": [gain, {**gain, "kind": "nothing revealed"}], "facts": {}}]
    )
    assert (
        "−10% [−20%, −0.4%] 20% [88%, 98%] +30 [10, 50] 96 24 Better than the base nothing revealed Student's" in found
    )
    assert "pairs: 5 &lt;b&gt;" in html


def test_the_page_is_made_from_files(tmp_path: Path) -> None:
    log = tmp_path / "training_log.jsonl"
    facts = {"base": "tiny", "seed": "7"}
    files.write_json(tmp_path / "evaluation.json", {"metrics": [metric()], "facts": facts})
    write_jsonl(tmp_path / "replies.jsonl", [dialogue()])
    assert from_folder(tmp_path, log) == Report(TITLE, facts, (Figure(**metric()),), [], [dialogue()], [])
    write_jsonl(log, [{"step": 1, "loss": 0.5}])
    (tmp_path / "suites").mkdir()
    suites = [{"name": name, "metrics": [metric()], "facts": {}} for name in ("bridge", "mathdial")]
    for suite in reversed(suites):
        files.write_json(tmp_path / "suites" / f"{suite['name']}.json", suite)
    found = from_folder(tmp_path, log)
    assert (found.curves, found.suites) == ([{"step": 1, "loss": 0.5}], [FigureFile(**suite) for suite in suites])
    assert write(tmp_path, log).read_text(encoding="utf-8") == render(found)


def test_a_dialogue_whose_problem_is_not_known_is_named_by_its_first_turn() -> None:
    assert text(dialogues=[dialogue(question="", answer="", topic="")]).count("What is 15% of 80?") == 2


def luminance(colour: str) -> float:
    parts = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    red, green, blue = (p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


@pytest.mark.parametrize("scheme", [0, 1], ids=["light", "dark"])
def test_text_has_enough_contrast(scheme: int) -> None:
    template = Path(socratic_rl.pages.report.__file__).parent / "templates" / "page.html.j2"
    block = re.findall(r":root \{(.*?)\}", template.read_text(encoding="utf-8"), re.DOTALL)[scheme]
    colours = {name: luminance(value) for name, value in re.findall(r"--(\w+): (#\w{6});", block)}
    shown = [
        (name, ground)
        for name in ("ink", "muted", "base", "tutor", "better", "worse", "unclear", "hue2")
        for ground in ("page", "card")
    ]
    # the marks in a reply, and the choice that is made
    shown += [("ink", "asks"), ("ink", "reveals"), ("page", "tutor")]
    for name, ground in shown:
        darker, lighter = sorted((colours[name], colours[ground]))
        assert (lighter + 0.05) / (darker + 0.05) >= 4.5, f"{name} on {ground}"


# ---- speakers ----


def speakers() -> dict[str, Any]:
    """Of twelve replies each; on pairs there are more rows."""
    problems = [f"p{number}" for number in range(12)]
    helps: dict[str, list[Any]] = {"base": [0] * 12, "prompted": [1] * 2 + [0] * 10, "<i>round": [1] * 6 + [0] * 6}
    helps |= {"tutor": [1] * 10 + [0] * 2}
    figures = [speaker_figure("helps", "all", name, side, problems, share=True) for name, side in helps.items()]
    figures += [speaker_figure("words", "all", "tutor", [9] * 12, problems, share=False)]
    figures += [speaker_figure("preference_accuracy", "all", "tutor", [1] * 40, ["p"] * 40, share=True)]
    compared = [
        speaker_comparison("helps", "all", name, helps["tutor"], side, problems, share=True, seed=0)
        for name, side in helps.items()
        if name != "tutor"
    ]
    compared.append(
        speaker_comparison("words", "all", "prompted", [9] * 12, [None] * 12, problems, share=False, seed=0)
    )
    verdicts = with_verdicts(compared, {"helps": 1, "words": 0}, "helps", "prompted")
    return {"speakers": figures, "comparisons": verdicts}


def test_the_page_opens_with_all_speakers_side_by_side() -> None:
    said = text(facts={"headline": "helps: <b>more", "validated": "a", "base": "llama"}, **speakers())
    assert said.index("Does it help? helps: <b>more") < said.index("What came out")
    # the headline is no fact among others
    assert said.count("helps: <b>more") == 1
    assert "Of 12 replies of each speaker The reply Base Prompted <i>round Tutor Tutor − prompted Verdict" in said
    assert re.search(r"Helps 0% 17% 50% 83% \+67 \[\d+, \d+\] better", said)
    # nothing to compare, and a speaker without a row
    assert "Words – – – 9.0 –" in said
    assert "Does it help?" not in text(metrics=[metric()])


def test_the_terminal_shows_the_same_speakers(capsys: pytest.CaptureFixture[str]) -> None:
    console.speakers_table(*speakers().values())
    lines = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    assert "measure base prompted <i>round tutor tutor − prompted verdict" in lines
    assert any(
        re.fullmatch(r"helps 0\.00 0\.17 0\.50 0\.83 \+0\.67 \[0\.\d\d, 0\.\d\d\] better", line) for line in lines
    )
    assert "words – – – 9.00 –" in lines
