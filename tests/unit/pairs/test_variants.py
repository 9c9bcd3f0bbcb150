"""Variants of one problem are one group: on one side of the split, counted, and nothing alike is left across it."""

import json
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir

from socratic_rl.commands.generate import Summary, run_stages
from socratic_rl.commands.settings import GenerateSettings, parse
from socratic_rl.conversations import GSM8KSocratic, MathDial, MathQA, Starter
from socratic_rl.conversations.problems import Source
from socratic_rl.core.dialogue import Problem
from socratic_rl.pairs.duplicates import shingles
from socratic_rl.pairs.pairing import split_of
from socratic_rl.pairs.variants import ALIKE, find_variants, without_names, without_numbers

CONF = Path(__file__).parents[3] / "conf"


def problem(question: str, number: int = 0, answer: str = "4") -> Problem:
    return Problem(id=f"{number:03}", question=question, solution="", answer=answer, source="x")


def groups(*questions: str) -> list[set[int]]:
    """The numbers of the questions that are variants of each other."""
    problems = [problem(question, number) for number, question in enumerate(questions)]
    variants = find_variants(problems)
    found: dict[str, set[int]] = {}
    for number, one in enumerate(problems):
        found.setdefault(variants.group_of(one.id), set()).add(number)
    assert all(min(found[key]) == int(key) for key in found)
    return [group for group in found.values() if len(group) > 1]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Tom has 3 apples and eats 2.", "Tom has 12 apples and eats 10."),
        ("What is 3 + 4?", "what is  3.5 + 1,000 ?"),
        ("It costs $5 and 20% more.", "It costs $7.50 and 5% more."),
        ("He has three apples, half of them red.", "He has twenty-one apples, 3/4 of them red."),
        ("He has two hundred and five pens.", "He has 12 pens."),
        ("Is it 1½ or 8:15?", "Is it ¾ or 9:30?"),
    ],
)
def test_numbers_are_masked(one: str, other: str) -> None:
    assert without_numbers(one) == without_numbers(other)
    assert groups(one, "Something else altogether?", other) == [{0, 2}]


@pytest.mark.parametrize(
    ("one", "other"),
    [("What is 3 + 4?", "What is 3 - 4?"), ("Tom has 3 apples.", "Tom eats 3 apples."), ("It is 5%.", "It is 5.")],
)
def test_other_words_and_signs_are_not(one: str, other: str) -> None:
    assert without_numbers(one) != without_numbers(other)


def test_names_are_masked_beyond_equality() -> None:
    one = "Tom has 3 apples. Each morning Tom eats 1 apple. How many are left after 2 days?"
    other = "Mary-Ann has 7 apples. Each morning Mary-Ann eats 2 apples. How many are left after 3 days?"
    assert without_names("How old is Zoë in Rome?") == "how old is @ in @"
    assert groups(one, other) == [{0, 1}]
    assert groups(one, "Tom has 3 pears. He sells them for 2 dollars a piece. What does he get?") == []


def test_variants_of_variants_are_of_one_group_and_are_counted() -> None:
    words = "a long train of {} cars leaves the old station at noon and needs {} hours to the sea at {} miles an hour"
    changed = words.replace("noon", "night").replace("sea", "lake")
    again = changed.replace("old", "new").replace("long", "short")
    problems = [problem(text.format(n, n + 1, n + 2), n) for n, text in enumerate((words, words, changed, again))]
    variants = find_variants([*problems, problem("What now?", 9)])
    assert {variants.group_of(one.id) for one in problems} == {"000"}
    assert (variants.equal, variants.alike, variants.group_of("009")) == (2, 2, "009")
    assert str(variants).startswith("4 problems are variants of 1, kept on one side of the split: 2 equal to")


def test_a_lessons_topic_is_no_problem() -> None:
    assert groups("We are working on Money.", "We are working on Money.") == []


def test_the_order_of_the_problems_does_not_matter() -> None:
    problems = [problem(f"What is {n % 5} plus {'one' * (n % 3)}?", n) for n in range(40)]
    forwards, backwards = find_variants(problems), find_variants(problems[::-1])
    assert [forwards.group_of(one.id) for one in problems] == [backwards.group_of(one.id) for one in problems]


# ---- generate.py ----


def generated(folder: Path, rows: Sequence[dict[str, object]], *overrides: str) -> Summary:
    folder.mkdir(exist_ok=True)
    (folder / "own.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    keys = ["problems=jsonl", f"problems.path={folder / 'own.jsonl'}", "conversations=annotated", "wandb=disabled"]
    with initialize_config_dir(str(CONF), version_base="1.3"):
        settings = parse(GenerateSettings, compose("generate", [*keys, *overrides]))
    return run_stages(settings, folder)


def word_problem(number: int, thing: str) -> dict[str, object]:
    steps = [
        {"work": f"{number} + {number} = {2 * number}", "question": f"What are twice {number} {thing}?"},
        {"work": f"{2 * number} - 1 = {2 * number - 1}", "question": "And one less?"},
    ]
    question = f"A box holds {number} {thing}, and a second one as many. One of the {thing} is lost. What is left?"
    return {"question": question, "solution": "", "answer": str(2 * number - 1), "steps": steps}


def test_variants_are_on_one_side_and_what_is_alone_keeps_its_own(tmp_path: Path) -> None:
    rows = [word_problem(n, thing) for thing in ("pens", "old red marbles of glass") for n in range(2, 22)]
    alone = Starter(name="starter", limit=40).read()
    rows += [one.model_dump(mode="json", include={"question", "solution", "answer", "steps"}) for one in alone]
    summary = generated(tmp_path, rows, "rejection=direct_answer")
    sides: dict[str, set[str]] = {}
    singles = set()
    for line in (tmp_path / "pairs.jsonl").read_text(encoding="utf-8").splitlines():
        pair = json.loads(line)
        opening = pair["prompt"][0]["content"]
        sides.setdefault(without_numbers(opening), set()).add(pair["split"])
        if not opening.startswith("A box"):
            singles.add(pair["split"] == split_of(pair["problem_id"], 0.1, 0.2))
    assert Counter(map(len, sides.values())) == {1: 42}
    assert singles == {True}
    assert str(summary.rows["variants"]).startswith("40 problems are variants of 2, kept on one side of the split: 40 ")


def test_a_set_of_variants_alone_is_trained_on(tmp_path: Path) -> None:
    # the first id is one of the test side
    rows = [word_problem(n, "pens") | {"id": f"problem-{14 + n}"} for n in range(10)]
    assert split_of("problem-14", 0.1, 0.2) == "test"
    summary = generated(tmp_path, rows, "rejection=direct_answer")
    assert str(summary.rows["split"]).startswith("train")
    assert str(summary.rows["variants"]).endswith(
        "more than half of all problems are variants of one, which is trained on"
    )


def test_the_closing_table_says_which_turns_are_passed_over_and_why(tmp_path: Path) -> None:
    def dialogue(*said: tuple[str, str | None, str | None]) -> list[dict[str, str | None]]:
        return [
            turn
            for text, act, worse in said
            for turn in (
                {"speaker": "teacher", "text": text, "act": act, "worse": worse},
                {"speaker": "student", "text": f"I do not know, {text.lower()}", "act": None, "worse": None},
            )
        ]

    rows = [
        {"question": f"What is {n} {thing}?", "solution": "", "answer": "99", "dialogues": [dialogue(*said)]}
        for n, (thing, said) in enumerate(
            {
                "apples": [("What is a half?", None, None), ("A half.", None, None), ("Why?", "telling", None)],
                "pears": [("What is a third?", None, "It is 3."), ("Why a third?", None, None)],
                "plums": [("Who has a plum?", None, None), ("Who has a plum?", None, None)],
                "figs": [("What is a fig?", None, "what is a fig?")],
            }.items()
        )
    ]
    summary = generated(tmp_path, rows, "rejection=annotated")
    assert summary.rows["turns passed over"] == (
        "7 of 8 (conversation not accepted 2, no rejection 2, does not ask 1, act telling skipped 1, "
        "not marked as better 1)"
    )
    again = generated(tmp_path, rows, "rejection=annotated")
    assert again.rows == summary.rows
    starter = generated(tmp_path / "splits", [word_problem(3, "pens")], "rejection=direct_answer", "splits=1")
    assert starter.rows["turns passed over"] == "1 of 2 (more than 1 of a conversation 1)"


def test_no_pair_at_all_says_why(tmp_path: Path) -> None:
    row = {"question": "What?", "solution": "", "answer": "1", "steps": [{"work": "1", "question": "So."}]}
    with pytest.raises(Exception, match=r"no teacher turn may be chosen \(does not ask 1\); see pairs.must_ask"):
        generated(tmp_path, [row])


# ---- real rows ----


@pytest.mark.parametrize(
    ("kind", "file", "in_groups"),
    [
        (MathQA, "mathqa.jsonl", 220),
        (GSM8KSocratic, "gsm8k_socratic.jsonl", 2),
        (MathDial, "mathdial.jsonl", 0),
        (Starter, None, 0),
    ],
)
def test_nothing_held_out_is_like_what_is_trained_on(
    kind: type[Source], file: str | None, in_groups: int, shared_data: Callable[[str], Path]
) -> None:
    source = kind(name="x", path=str(shared_data(file))) if file else Starter(name="x")
    problems = list(source.read())
    variants = find_variants(problems)
    assert len(variants.leaders) >= in_groups
    pairs_of_words = [shingles(without_names(one.question)) for one in problems]
    sides = [split_of(variants.group_of(one.id), 0.1, 0.2) for one in problems]
    trained = [words for words, side in zip(pairs_of_words, sides, strict=True) if side == "train"]
    nearest = [
        max(len(words & other) / len(words | other) for other in trained)
        for words, side in zip(pairs_of_words, sides, strict=True)
        if side != "train"
    ]
    assert len(nearest) > 40
    assert max(nearest) < ALIKE
