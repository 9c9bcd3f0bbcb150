import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import compress
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from socratic_rl.conversations import Annotated
from socratic_rl.conversations.own_problems import Starter
from socratic_rl.core.dialogue import Conversation, PreferencePair, Problem, Turn
from socratic_rl.core.errors import UserError
from socratic_rl.core.generator import Reply, Request
from socratic_rl.pairs import duplicates
from socratic_rl.pairs.duplicates import Keys, distinct
from socratic_rl.pairs.pairing import Pairing, pairs_at, split_of
from socratic_rl.pairs.rejections import Constant, DirectAnswer, Irrelevant, Mixed, Premature, Repeated, WeakModel

ROOT = Path(__file__).parents[3]
MIXED = Mixed(
    kinds={
        "direct_answer": DirectAnswer(),
        "premature": Premature(),
        "irrelevant": Irrelevant(),
        "repeated": Repeated(),
    },
    weights={"direct_answer": 2, "premature": 1, "irrelevant": 1, "repeated": 1},
)


def pairing(**keys: Any) -> Pairing:
    return Pairing(
        **{"splits": None, "must_ask": True, "skip_acts": ("telling", "generic"), "validation": 0.1, "test": 0.2} | keys
    )


def talk(*said: str | Turn, number: int = 0, **keys: Any) -> Conversation:
    turns = [
        turn if isinstance(turn, Turn) else Turn(speaker=("student", "teacher")[n % 2], text=turn)
        for n, turn in enumerate(said)
    ]
    given = {"id": f"p/{number}", "problem_id": "p", "accepted": True, "provenance": {}} | keys
    return Conversation(turns=tuple(turns), **given)


def teacher(text: str, **keys: str) -> Turn:
    return Turn(speaker="teacher", text=text, **keys)


def made(conversations: Sequence[Conversation], *more: Any) -> Iterator[PreferencePair]:
    """The pairs at all turns that may be chosen."""
    return pairs_at(pairing().places(conversations), pairing().split_of, *more)


def deduplicated(pairs: Sequence[PreferencePair]) -> list[PreferencePair]:
    return list(compress(pairs, distinct(pairs, Keys(pairs))))


PROBLEM = Problem(id="p", question="What is 2 + 3 + 4?", solution="2 + 3 = 5. 5 + 4 = 9.", answer="9", source="test")


@pytest.fixture(scope="module")
def starter() -> tuple[dict[str, Problem], list[Conversation]]:
    problems = list(Starter(name="starter", limit=40).read())
    return {p.id: p for p in problems}, list(Annotated().write(problems, None, 0, ()))


# ---- which turns ----


def test_only_accepted_conversations_and_turns_that_ask():
    said = talk("What is 2 + 3?", "What do you think?", "5", "Well done!")
    assert pairing().turns(said) == [1]
    assert pairing(must_ask=False).turns(said) == [1, 3]
    assert pairing().turns(said.model_copy(update={"accepted": False})) == []


def test_acts_are_left_out_where_a_turn_has_no_other():
    acts = ["focus", "telling", "generic+focus", "telling+generic", None]
    said = [t for n, act in enumerate(acts) for t in (f"s{n}", teacher("What now?", **({"act": act} if act else {})))]
    assert pairing().turns(talk(*said)) == [1, 5, 9]
    assert pairing(skip_acts=()).turns(talk(*said)) == [1, 3, 5, 7, 9]


def test_where_a_person_gave_a_worse_turn_only_that_place_is_chosen():
    assert pairing().turns(talk("s", "What?", "s", teacher("Why?", worse="No."), "s", "How?")) == [3]


@pytest.mark.parametrize(
    ("turns", "splits", "chosen"),
    [
        (6, 3, [0, 3, 5]),
        (5, 3, [0, 2, 4]),
        (4, 3, [0, 2, 3]),
        (3, 3, [0, 1, 2]),
        (2, 3, [0, 1]),
        (9, 1, [0]),
        (9, 2, [0, 8]),
        (0, 2, []),
    ],
)
def test_splits_are_evenly_spaced_from_the_first_to_the_last(turns: int, splits: int, chosen: list[int]):
    said = ["s", *(text for n in range(turns) for text in (f"What is {n}?", "s"))]
    assert pairing(splits=splits).turns(talk(*said)) == [2 * n + 1 for n in chosen]


def test_shares_leave_something_to_train_on():
    with pytest.raises(ValidationError, match="must be less than 1"):
        pairing(validation=0.5, test=0.5)


# ---- pairs ----


def test_a_pair_can_be_traced(starter):
    problems, conversations = starter
    pairs = list(made(conversations, problems, MIXED, None, 0))
    by_id = {conversation.id: conversation for conversation in conversations}
    assert len(pairs) == sum(len(conversation.turns) // 2 for conversation in conversations)
    assert {pair.rejection for pair in pairs} == set(MIXED.kinds)
    for pair in pairs:
        conversation = by_id[pair.conversation_id]
        assert pair.chosen[0] == {"role": "assistant", "content": conversation.turns[2 * pair.turn + 1].text}
        assert [m["content"] for m in pair.prompt] == [t.text for t in conversation.turns[: 2 * pair.turn + 1]]
        assert [m["role"] for m in pair.prompt] == ["user", "assistant"] * pair.turn + ["user"]
        assert pair.problem_id == conversation.problem_id
        assert pair.split == split_of(pair.problem_id, 0.1, 0.2)
        assert pair.rejected[0]["content"] != pair.chosen[0]["content"]


def test_pairs_are_the_same_with_one_seed_and_others_with_another(starter):
    problems, conversations = starter
    first, again, other = (list(made(conversations, problems, MIXED, None, seed)) for seed in (0, 0, 1))
    assert first == again
    assert first != other


def test_pairs_do_not_depend_on_the_process(starter):
    problems, conversations = starter
    code = (
        "from tests.unit.pairs.test_pairing import *\n"
        "problems = list(Starter(name='starter', limit=40).read())\n"
        "talks = list(Annotated().write(problems, None, 0, ()))\n"
        "pairs = made(talks, {p.id: p for p in problems}, MIXED, None, 0)\n"
        "print(*(pair.model_dump_json() for pair in pairs), sep='\\n')"
    )
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT).stdout
    pairs = made(conversations, problems, MIXED, None, 0)
    assert printed.splitlines() == [pair.model_dump_json() for pair in pairs]


def test_a_pair_that_says_the_same_is_never_written():
    said = talk(PROBLEM.question, "What is 2 + 3?", "5", "What is  5 + 4?!")
    pairs = list(made([said], {"p": PROBLEM}, Constant(text="what is 5 + 4?"), None, 0))
    assert [pair.turn for pair in pairs] == [0]


def test_a_conversation_without_its_problem_is_a_mistake():
    with pytest.raises(UserError, match="conversation p/0: its problem 'p' is not among the problems"):
        list(made([talk("s", "What?")], {}, Constant(text="No."), None, 0))


class Batching:
    """Its replies depend on what stands beside a request, as those of a model do by rounding."""

    width = 1

    def identity(self) -> dict[str, Any]:
        return {}

    def generate(self, requests: Sequence[Request]) -> Iterator[tuple[int, Reply]]:
        beside = sum(request.seed for request in requests) % 1000
        for index, request in enumerate(requests):
            # here and there it says nothing
            yield index, Reply("" if request.seed % 5 == 0 else f"It is {beside}.", "stop")


def test_a_killed_run_goes_on_to_the_same_pairs(starter):
    problems, conversations = starter
    weak = WeakModel(max_tokens=9)

    def pairs(done: set[tuple[str, int]]) -> Iterator[PreferencePair]:
        return made(conversations[:10], problems, weak, Batching(), 0, done)

    whole = list(pairs(set()))
    assert len(whole) < sum(len(conversation.turns) // 2 for conversation in conversations[:10])
    for stop in (0, 1, 6, len(whole) - 1, len(whole)):
        done = {(pair.conversation_id, pair.turn) for pair in whole[:stop]}
        assert whole[:stop] + list(pairs(done)) == whole


# ---- the split ----


def test_a_problem_keeps_its_side_and_the_shares_are_kept():
    sides = {f"problem-{n}": split_of(f"problem-{n}", 0.1, 0.2) for n in range(5000)}
    counts = Counter(sides.values())
    assert counts["validation"] == pytest.approx(500, rel=0.15)
    assert counts["test"] == pytest.approx(1000, rel=0.1)
    # written down once, so that it cannot change with a version
    assert [sides[f"problem-{n}"] for n in range(12, 22)] == [
        "train",
        "train",
        "test",
        "train",
        "train",
        "train",
        "validation",
        "train",
        "train",
        "train",
    ]
    # what was tested on is not trained on when less is held back for validation
    assert all(split_of(name, 0.0, 0.2) == "test" for name, side in sides.items() if side == "test")
    assert {split_of(name, 0, 0) for name in sides} == {"train"}


# ---- duplicates ----


def pair(
    question: str = "Tom has 12 apples and eats 5 of them. How many apples does he have left now?",
    *between: str,
    chosen: str = "What happens to the number of apples in the basket when Tom eats some of them?",
    rejected: str = "He eats 5 of the 12 apples, so in the end there are 7 of them left in the basket.",
    number: int = 0,
    problem_id: str = "p",
) -> PreferencePair:
    said = talk(question, *between)
    return PreferencePair.of(
        said.turns,
        chosen,
        rejected,
        conversation_id=f"{problem_id}/{number}",
        problem_id=problem_id,
        turn=0,
        rejection="constant",
        split="train",
    )


def test_exact_duplicates_go_wherever_they_come_from():
    first, again = pair(), pair(number=1)
    shouted = pair(chosen=first.chosen[0]["content"].upper(), number=2)
    assert deduplicated([first, again, shouted]) == [first]


def test_the_same_turn_of_a_conversation_twice_is_one():
    assert deduplicated([pair(), pair()]) == [pair()]


@pytest.fixture(params=[0, 1000], ids=["by MinHash", "each with each"])
def few(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both ways to find near duplicates."""
    monkeypatch.setattr(duplicates, "FEW", request.param)


@pytest.mark.usefixtures("few")
def test_near_duplicates_go():
    first = pair()
    near = pair(
        "Tom has 12 apples and eats 5 of them. So how many apples does he have left now?",
        chosen="What happens to the number of the apples in the basket when Tom eats some of them?",
        problem_id="q",
    )
    other = pair(chosen="If some of them are eaten, does the basket get fuller or emptier?", problem_id="q", number=1)
    assert deduplicated([first, near, other]) == [first, other]


@pytest.mark.usefixtures("few")
def test_other_numbers_are_no_duplicates():
    def template(apples: str, eaten: str, between: str = "", **turns: str) -> PreferencePair:
        question = f"Tom picked {apples} apples from the old tree behind his house in the garden and he eats {eaten}."
        told = f"Tom picked some apples behind the house and he eats a few, so you take {eaten} of them away again."
        said = [question, "What do we know about all of the apples?", between] if between else [question]
        return pair(*said, rejected=told, problem_id=f"{apples}-{eaten}", **turns)

    names = [("12", "5"), ("12", "4"), ("5", "12"), ("twelve", "three"), ("1.2", "5"), ("20%", "5"), ("2/3", "5")]
    first_turns = [template(*numbers) for numbers in names]
    assert deduplicated(first_turns) == first_turns
    later_turns = [
        template(apples, "5", "He picked them, and then some were eaten.", chosen=chosen)
        for apples in ("11", "12", "13")
        for chosen in ("What is left of them then?", "Where have the others gone?")
    ]
    assert deduplicated(later_turns) == later_turns


@pytest.mark.usefixtures("few")
def test_the_turns_of_one_conversation_are_no_duplicates():
    question = "Tom has 12 apples and eats 5 of them. How many apples does he have left now?"
    turns = [
        pair(question),
        pair(question, "What happens to the apples?", "They get fewer."),
        pair(question, "What happens to the apples?", "They get fewer.", "How come?", "They get fewer."),
    ]
    assert deduplicated(turns) == turns


@pytest.mark.usefixtures("few")
def test_the_starter_pairs_are_all_kept(starter):
    problems, conversations = starter
    pairs = list(made(conversations, problems, MIXED, None, 0))
    assert deduplicated(pairs) == pairs


@pytest.mark.parametrize("copies", [2, 50])
def test_many_rows_with_the_same_numbers(copies: int):
    words = ["river", "mountain", "window", "garden", "letter", "basket", "winter", "summer", "candle", "bottle"]
    rows = [
        pair(
            f"About {one} and {two}.",
            chosen=f"Why {one} {two}?",
            rejected=f"See {two} {one}.",
            problem_id=f"{one}{two}",
        )
        for one in words
        for two in words
        if one != two
    ]
    same = [row.model_copy(update={"conversation_id": f"{n}"}) for n in range(copies) for row in rows]
    assert deduplicated(same) == same[: len(rows)]


def test_a_rejected_turn_is_never_from_the_other_side_of_the_split(starter):
    problems, conversations = starter
    sides = {
        turn.text: split_of(said.problem_id, 0.1, 0.2)
        for said in conversations
        for turn in said.turns
        if turn.speaker == "teacher"
    }
    pairs = list(made(conversations, problems, Irrelevant(), None, 0))
    assert {pair.split for pair in pairs} >= {"train", "test"}
    assert all(sides[pair.rejected[0]["content"]] == pair.split for pair in pairs)
