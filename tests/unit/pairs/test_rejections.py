import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from pydantic import ValidationError

from socratic_rl.core.dialogue import Conversation, Problem, Step, Turn
from socratic_rl.core.errors import UserError
from socratic_rl.core.generator import Generator, Reply, Request
from socratic_rl.measures import replies
from socratic_rl.notation import answers
from socratic_rl.pairs import rejections
from socratic_rl.pairs.cases import Case, Pool, Rejected, Rejection
from socratic_rl.pairs.rejections import (
    Annotated,
    Constant,
    DirectAnswer,
    Irrelevant,
    Mixed,
    Premature,
    Repeated,
    WeakModel,
)

CONF = Path(__file__).parents[3] / "conf"


class Weak:
    """Says the next of its replies to every request, in the order of the requests' seeds."""

    width = 2

    def __init__(self, *replies: Reply) -> None:
        self.replies = replies
        self.batches: list[Sequence[Request]] = []

    def identity(self) -> dict[str, Any]:
        return {"kind": "weak"}

    def generate(self, requests: Sequence[Request]) -> Iterator[tuple[int, Reply]]:
        self.batches.append(requests)
        for index in reversed(range(len(requests))):
            yield index, self.replies[index % len(self.replies)]


SHOP = Problem(
    id="shop",
    question="Amara buys 4 notebooks at $2.75 each and 3 pens at $1.40 each with a $20 bill. What is her change?",
    solution="4 × 2.75 = 11. 3 × 1.40 = 4.20. 11 + 4.20 = 15.20. 20 − 15.20 = 4.80.",
    steps=(
        Step(work="4 × 2.75 = 11", question="What do the notebooks cost?", reply="They are $11."),
        Step(work="3 × 1.40 = 4.20", question="And how much are the pens?", reply="That is $4.20."),
        Step(work="11 + 4.20 = 15.20", question="What does the whole shopping trip come to?", reply="$15.20 in all."),
        Step(work="20 − 15.20 = 4.80", question="What does the cashier hand back?", reply="She gets $4.80."),
    ),
    answer="$4.80",
    source="test",
)
BUS = Problem(
    id="bus",
    question="A bus of 45 seats takes 187 students and 14 teachers to a museum. How many buses are needed?",
    solution="",
    steps=(Step(work="187 + 14 = 201", question="How many students need seats?"),),
    answer="5 buses",
    source="test",
)


def by_steps(problem: Problem) -> Conversation:
    turns = [Turn(speaker="student", text=problem.question)]
    for step in problem.steps:
        turns.append(Turn(speaker="teacher", text=step.question or ""))
        turns.append(Turn(speaker="student", text=step.reply or step.work))
    return talk(problem, turns)


def talk(problem: Problem, turns: Sequence[Turn]) -> Conversation:
    return Conversation(
        id=f"{problem.id}/0", problem_id=problem.id, turns=tuple(turns), accepted=True, provenance={"writer": "test"}
    )


def dialogue(problem: Problem, *texts: str) -> Conversation:
    speakers = ["student", "teacher"]
    turns = (Turn(speaker=speakers[n % 2], text=text) for n, text in enumerate((problem.question, *texts)))
    return talk(problem, list(turns))


def pool(places: list[tuple[Conversation, int]]) -> Pool:
    return Pool.by_side(places, lambda _: "all").get("all", Pool([], [], []))


def case(problem: Problem = SHOP, turn: int = 1, conversation: Conversation | None = None, seed: int = 0) -> Case:
    others = by_steps(BUS)
    places = [(others, n) for n in range(1, len(others.turns), 2)]
    return Case(problem, conversation or by_steps(problem), turn, pool(places), seed)


def only(kind: Rejection, *cases: Case, generator: Generator | None = None) -> list[str | None]:
    return [rejected and rejected.text for rejected in kind.reject(cases, generator)]


@pytest.mark.parametrize(
    ("kind", "answer"),
    [
        ("number", "12"),
        ("number", "4 1/2 hours"),
        ("choice", "B"),
        ("choice", "(D)"),
        ("truth", "yes"),
        ("truth", "false"),
        ("name", "midwest"),
        ("name", "8:00 am"),
        ("sentence", "He should buy the big box of pens"),
        ("expression", "5 - x"),
        ("expression", "[0,1)"),
        ("expression", r"x \le 3"),
        ("code", "for i in range(10):\n    print(i)"),
        ("code", "total += 1;"),
    ],
)
def test_every_wording_of_a_direct_answer_gives_the_answer_away(kind: answers.Kind, answer: str) -> None:
    parts = {
        "question": "What would you do first?",
        "last_question": "What is it then?",
        "step": "First we look at the shape.",
        "solution": "First we look at the shape. Then we turn it round.",
    }
    templates = rejections._templates(frozenset({"answer", *parts}), kind)
    assert len(set(templates)) == len(templates) >= 40
    assert answers.kind(answer) == kind
    for template in templates:
        assert set(re.findall(r"\{(\w+)\}", template)) <= {"answer", *parts}
        text = template.format(answer=answer, **parts)
        assert replies.reveals_answer(text, answer, ["Here is a problem.", "How do I begin?"]), text
    # enough to draw from in all that begin with the chosen turn
    assert sum(template.startswith("{question}") and "{s" not in template for template in templates) >= 3


@pytest.mark.parametrize(
    ("answer", "fits"),
    [
        (
            "midwest",
            r"(?:answer|problem)\b.* midwest|(?:[Ii]t|that) (?:is|has to be) midwest|down midwest|\? midwest",
        ),
        ("Yes", r"(?:answer|say)\b.* yes\b"),
        ("B", r"(?:is|be|simply|[Cc]hoose|pick) B\b"),
    ],
)
def test_a_direct_answer_is_worded_for_its_kind(answer: str, fits: str) -> None:
    problem = SHOP.model_copy(update={"answer": answer})
    texts = [text for text in only(DirectAnswer(), *(case(problem, turn=3, seed=seed) for seed in range(200))) if text]
    assert len(set(texts)) > 30
    assert [text for text in texts if not re.search(fits, text)] == []


@pytest.mark.parametrize("answer", ["None", "nan", "N/A", "<NA>"])
def test_what_a_table_has_for_nothing_is_not_given_away(answer: str) -> None:
    assert only(DirectAnswer(), case(SHOP.model_copy(update={"answer": answer}))) == [None]


def test_a_direct_answer_reveals_in_many_wordings_of_the_chosen_length():
    cases = [case(turn=3, seed=seed) for seed in range(200)]
    texts = [text for text in only(DirectAnswer(), *cases) if text]
    assert len(texts) == 200
    known = [turn.text for turn in cases[0].before]
    assert all(replies.reveals_answer(text, SHOP.answer, known) for text in texts)
    assert len(set(texts)) > 30
    lengths = [replies.word_count(text) for text in texts]
    chosen = replies.word_count(cases[0].chosen.text)
    assert sum(length < chosen for length in lengths) > 10
    assert sum(length > chosen for length in lengths) > 10
    # the step that is due, and neither the one before it nor, without those between, the one after it
    assert any("3 × 1.40 = 4.20" in text for text in texts)
    assert not any("4 × 2.75" in text for text in texts)
    # a question is answered by the answer only where it asks for it
    assert not any(text.startswith("And how much are the pens? $4.80") for text in texts)


def test_a_direct_answer_finds_the_step_that_is_due_in_a_free_dialogue():
    free = dialogue(SHOP, "Hi, how did you begin?", "The notebooks are 11 dollars.", "Good, what else is there?")
    texts = only(DirectAnswer(), *(case(turn=3, conversation=free, seed=seed) for seed in range(100)))
    assert any(text and "3 × 1.40 = 4.20" in text for text in texts)
    assert not any(text and "4 × 2.75" in text for text in texts)


def test_nothing_is_given_away_where_there_is_no_answer_or_it_is_known():
    nothing = SHOP.model_copy(update={"answer": ""})
    known = dialogue(SHOP, "How did you begin?", "It must be $4.80.", "How did you find that?")
    assert only(DirectAnswer(), case(nothing), case(turn=3, conversation=known)) == [None, None]


def test_premature_builds_on_what_is_missing():
    # the pens do not depend on the notebooks; the total and the change do
    ahead = set(only(Premature(), *(case(turn=1, seed=seed) for seed in range(20))))
    assert ahead == {"What does the whole shopping trip come to?", "What does the cashier hand back?"}
    assert only(Premature(), case(turn=5)) == ["What does the cashier hand back?"]
    assert only(Premature(), case(turn=7)) == [None]


def test_premature_in_a_free_dialogue_speaks_of_a_number_that_nobody_said():
    free = dialogue(
        SHOP, "How do you begin?", "The notebooks, 11.", "Good! What else?", "The pens, 4.20.", "What is 11 and 4.20?"
    )
    ahead = only(Premature(), *(case(turn=1, conversation=free, seed=seed) for seed in range(20)))
    assert set(ahead) == {"What is 11 and 4.20?"}
    assert only(Premature(), case(turn=3, conversation=free)) == ["What is 11 and 4.20?"]
    assert only(Premature(), case(turn=5, conversation=free)) == [None]


def test_irrelevant_belongs_to_another_problem():
    assert only(Irrelevant(), case()) == ["How many students need seats?"]


def test_irrelevant_leaves_out_what_fits_anywhere_and_its_own_problem():
    anywhere = dialogue(BUS, "What could you do next?", "Add.")
    own = dialogue(SHOP, "What do the notebooks cost?", "My cashier drawer is open.", "Who has a cashier drawer?")
    assert only(Irrelevant(), Case(SHOP, own, 1, pool([(anywhere, 1)]), 0)) == [None]
    assert only(Irrelevant(), Case(SHOP, own, 1, pool([(own, 3)]), 0)) == [None]
    assert only(Irrelevant(), Case(BUS, by_steps(BUS), 1, pool([(own, 3)]), 0)) == ["Who has a cashier drawer?"]
    assert only(Irrelevant(), Case(SHOP, own, 1, pool([]), 0)) == [None]


def test_the_pool_draws_turns_of_about_the_same_length():
    talks = [dialogue(BUS, " ".join(["word"] * n)) for n in range(1, 60)]
    cases = case()
    drawn = pool([(conversation, 1) for conversation in talks]).draw(20, cases.rng("test"))
    lengths = [len(next(drawn)[0].turns[1].text.split()) for _ in range(200)]
    assert 15 <= min(lengths) < 19
    assert 21 < max(lengths) <= 26


def test_repeated_asks_what_has_been_answered():
    assert only(Repeated(), case(turn=1)) == [None]
    assert only(Repeated(), case(turn=3)) == ["What do the notebooks cost?"]
    wrong = dialogue(
        SHOP, "What do the notebooks cost?", "They cost 6.75.", "Is that so?", "Well, 12?", "How many are there?"
    )
    # it was not answered, so that asking again is no mistake, until the teacher has gone on
    assert only(Repeated(), case(turn=3, conversation=wrong)) == [None]
    assert only(Repeated(), case(turn=5, conversation=wrong)) == ["What do the notebooks cost?"]


def test_weak_model_hears_the_dialogue_without_a_system_message():
    generator = Weak(Reply("Teacher: It is $11.\nStudent: Oh.", "stop"), Reply("  ", "stop"))
    cases = [case(turn=1, seed=5), case(turn=3, seed=6)]
    assert only(WeakModel(max_tokens=9), *cases, generator=generator) == ["It is $11.", None]
    (requests,) = generator.batches
    asked = ({"role": "user", "content": SHOP.question},)
    assert requests[0] == Request(seed=5, messages=asked, max_tokens=9, shorten=True)
    assert [message["role"] for message in requests[1].messages] == ["user", "assistant", "user"]


@pytest.mark.parametrize(
    ("said", "kept"),
    [
        ("It costs 11. Then you add the", "It costs 11."),
        ("First you multiply!\n1. Take the", "First you multiply!"),
        ("You need to mul", None),
        ("It is 4.2", None),
    ],
)
def test_a_cut_off_reply_ends_after_a_whole_sentence(said: str, kept: str | None):
    assert only(WeakModel(max_tokens=9), case(), generator=Weak(Reply(said, "length"))) == [kept]


def test_weak_model_needs_a_generator():
    with pytest.raises(UserError, match="generator: none is set"):
        WeakModel(max_tokens=9).reject([case()], None)


def test_constant_and_annotated():
    marked = talk(
        SHOP,
        [
            Turn(speaker="student", text=SHOP.question),
            Turn(speaker="teacher", text="What do you think?", worse="That is wrong."),
        ],
    )
    assert only(Constant(text="No."), case(), case(turn=3)) == ["No.", "No."]
    assert only(Annotated(), case(), case(conversation=marked)) == [None, "That is wrong."]


def mixed(**weights: float) -> Mixed:
    kinds: dict[str, Rejection] = {
        "direct_answer": DirectAnswer(),
        "repeated": Repeated(),
        "weak_model": WeakModel(max_tokens=9),
        "constant": Constant(text="No."),
    }
    return Mixed(kinds={name: kinds[name] for name in weights}, weights=weights)


def kinds_of(found: Sequence[Rejected | None]) -> list[str | None]:
    return [rejected and rejected.kind for rejected in found]


def test_mixed_draws_by_weight_and_the_same_again():
    cases = [case(seed=seed) for seed in range(400)]
    kind = mixed(direct_answer=3, constant=1)
    found = kind.reject(cases, None)
    assert found == kind.reject(cases, None)
    assert 250 < kinds_of(found).count("direct_answer") < 350
    # a turn's draw does not depend on what else is drawn
    assert found[7:8] == kind.reject(cases[7:8], None)


def test_mixed_tries_the_next_kind_where_one_has_nothing_to_say_or_says_the_same():
    assert kinds_of(mixed(repeated=1000, constant=0.001).reject([case(turn=1), case(turn=3)], None)) == [
        "constant",
        "repeated",
    ]
    same = dialogue(SHOP, "no", "Hm.")
    assert kinds_of(mixed(constant=1).reject([case(conversation=same)], None)) == [None]


def test_mixed_leaves_out_weight_0_and_gives_the_generator_whole_batches():
    cases = [case(seed=seed) for seed in range(6)]
    assert set(kinds_of(mixed(direct_answer=1, weak_model=0).reject(cases, None))) == {"direct_answer"}
    generator = Weak(Reply("It is 11.", "stop"))
    assert set(kinds_of(mixed(weak_model=1).reject(cases, generator))) == {"weak_model"}
    assert [len(batch) for batch in generator.batches] == [6]


@pytest.mark.parametrize(
    ("weights", "mistake"),
    [({"direct_answer": 0.0}, "all weights are 0"), ({"direct_answer": -1.0}, "greater than or equal to 0")],
)
def test_weights_that_cannot_be(weights: dict[str, float], mistake: str):
    with pytest.raises(ValidationError, match=mistake):
        mixed(**weights)
    with pytest.raises(ValidationError, match="weights are for other, but the kinds are constant"):
        Mixed(kinds={"constant": Constant(text="No.")}, weights={"other": 1})


def test_the_config_composes_the_kinds_and_their_weights_are_within_reach():
    with initialize_config_dir(str(CONF), version_base="1.3"):
        cfg = compose(
            "generate", overrides=["rejection.weights.irrelevant=0", "rejection.kinds.weak_model.max_tokens=7"]
        )
        made = {
            file.stem: instantiate(compose(f"rejection/{file.stem}").rejection) for file in CONF.glob("rejection/*")
        }
    kind = instantiate(cfg.rejection)
    assert isinstance(kind, Mixed)
    assert kind.weights["irrelevant"] == 0
    assert kind.kinds["weak_model"] == WeakModel(max_tokens=7)
    assert all(isinstance(kind, Rejection) for kind in made.values())
