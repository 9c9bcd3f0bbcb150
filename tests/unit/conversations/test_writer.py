"""Conversations: who says what to whom, where they end, and what the quality gate finds in them."""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from socratic_rl import conversations
from socratic_rl.conversations import Annotated, Auto, RolePlay, Script
from socratic_rl.conversations.writer import Flaw, gate
from socratic_rl.core.dialogue import Conversation, Problem, Step, Turn
from socratic_rl.core.errors import UserError, reasons
from socratic_rl.core.generator import InRounds, Reply, Request
from socratic_rl.generators import LlamaCpp, Transformers

ROBE = Problem(
    id="robe",
    question="A robe takes 2 bolts of blue fiber and half that much white fiber. How many bolts does it take?",
    solution="Half of 2 is 2 / 2 = 1 bolt.\nIn all that is 2 + 1 = 3 bolts.",
    steps=(
        Step(work="2 / 2 = 1 bolt", question="How much white fiber does it take?", reply="Half of 2, so 1 bolt."),
        Step(work="2 + 1 = 3 bolts", question="How can you put the two together?"),
    ),
    answer="3 bolts",
    source="test",
)
BARE = ROBE.model_copy(update={"id": "bare", "steps": ()})


class Says(InRounds):
    """A generator whose replies a test chooses; it keeps the requests that it got together."""

    def __init__(self, reply: Callable[[Request], str | Reply], width: int = 1) -> None:
        self.reply = reply
        self.width = width
        self.rounds: list[list[Request]] = []

    @property
    def requests(self) -> list[Request]:
        return [request for together in self.rounds for request in together]

    def identity(self) -> dict[str, Any]:
        return {"kind": "says"}

    def generate(self, requests: Sequence[Request]) -> Iterator[tuple[int, Reply]]:
        self.rounds.append(list(requests))
        # the last first, since replies come as they finish
        for index, request in reversed(list(enumerate(requests))):
            said = self.reply(request)
            yield index, said if isinstance(said, Reply) else Reply(said, "stop")


def in_turn(*replies: str | Reply) -> Says:
    """A generator that says these one after another."""
    rest = iter(replies)
    return Says(lambda _: next(rest))


def by_request(request: Request) -> str:
    """Something that depends on all of the request and on nothing else."""
    return "Why " + hashlib.sha256(repr(request).encode()).hexdigest()[:12].translate(
        str.maketrans("0123456789", "g" * 10)
    )


def roleplay(**settings: Any) -> RolePlay:
    return RolePlay(**{"max_turns": 8, "per_problem": 1, "teacher_prompt": None, "student_prompt": None, **settings})


def script(**settings: Any) -> Script:
    return Script(**{"max_turns": 8, "per_problem": 1, "prompt": None, "max_tokens": 300, **settings})


def write(writer: Any, generator: Any, *about: Problem, seed: int = 0, done: Sequence[str] = ()) -> list[Conversation]:
    return list(writer.write(about or (BARE,), generator, seed, done))


def said(conversation: Conversation) -> list[tuple[str, str]]:
    return [(turn.speaker[0], turn.text) for turn in conversation.turns]


# --- role-play ---


def test_teacher_and_student_take_turns_until_the_student_states_the_answer() -> None:
    [got] = write(roleplay(), in_turn("How much white?", "1 bolt.", "And together?", "3 bolts.", "never said"))
    assert said(got) == [
        ("s", BARE.question),
        ("t", "How much white?"),
        ("s", "1 bolt."),
        ("t", "And together?"),
        ("s", "3 bolts."),
    ]
    assert (got.id, got.problem_id, got.accepted, got.reasons) == ("bare/0", "bare", True, ())


def test_or_until_the_turn_limit() -> None:
    [got] = write(roleplay(max_turns=4), in_turn("How much white?", "I am lost.", "What is half of 2?", "never said"))
    assert len(got.turns) == 4
    assert got.accepted


def test_each_side_hears_its_own_prompt_and_only_the_teacher_the_solution() -> None:
    generator = in_turn("How much white?", "1 bolt.", "And together?", "3 bolts.")
    [got] = write(roleplay(), generator)
    teacher, student, teacher_again, _ = generator.requests
    assert BARE.solution in teacher.messages[0]["content"]
    assert "Half of 2" not in str(student.messages)
    assert BARE.question in student.messages[0]["content"]
    assert BARE.question not in str(student.messages[1:])
    assert got.provenance["persona"] in student.messages[0]["content"]
    assert got.provenance["persona"] not in str(teacher.messages)
    for request, heard in (
        (teacher, [("user", BARE.question)]),
        (student, [("user", "How much white?")]),
        (
            teacher_again,
            [("user", BARE.question), ("assistant", "How much white?"), ("user", "1 bolt.")],
        ),
    ):
        roles = [message["role"] for message in request.messages]
        assert roles == ["system", *["user", "assistant"] * (len(roles) // 2 - 1), "user"]
        assert [(m["role"], m["content"]) for m in request.messages[-len(heard) :]] == heard


def test_own_prompts_are_filled_at_once_and_may_have_examples(tmp_path: Path) -> None:
    teacher, student = tmp_path / "teacher.txt", tmp_path / "student.txt"
    teacher.write_text("Lead to {answer} by {solution}\n\nStudent: 1 {x}?\nTeacher: Why $5?\n", encoding="utf-8")
    student.write_text("Be {persona} at {problem}", encoding="utf-8")
    tricky = BARE.model_copy(update={"solution": "{problem} Teacher: no"})
    generator = in_turn("Why?", "3 bolts")
    write(roleplay(teacher_prompt=str(teacher), student_prompt=str(student)), generator, tricky)
    assert generator.requests[0].messages == (
        {"role": "system", "content": "Lead to 3 bolts by {problem} Teacher: no"},
        {"role": "user", "content": "1 {x}?"},
        {"role": "assistant", "content": "Why $5?"},
        {"role": "user", "content": BARE.question},
    )
    assert len(generator.requests[1].messages) == 2


def test_a_turn_loses_its_own_label_and_keeps_the_others() -> None:
    [got] = write(
        roleplay(), in_turn("**Teacher:** How much white?", "Student: It is 1.\nTeacher: Right.", "never said")
    )
    assert said(got)[1:] == [("t", "How much white?"), ("s", "It is 1.\nTeacher: Right.")]
    assert got.reasons == ("speaks for the other",)


@pytest.mark.parametrize(
    ("replies", "turns", "reason"),
    [
        (["  "], 1, "empty turn"),
        (["How much white?", "Student:"], 2, "empty turn"),
        (["How much white?", Reply("It takes half of two", "length")], 3, "cut-off turn"),
        (["How much white?", "I am lost.", "How much white?"], 4, "turn repeated"),
        (["It takes 3 bolts in all."], 2, "teacher states the answer first"),
        (["How much white?\nStudent: 1 bolt."], 2, "speaks for the other"),
    ],
)
def test_a_conversation_with_a_flaw_is_kept_and_not_carried_on(
    replies: list[str | Reply], turns: int, reason: str
) -> None:
    [got] = write(roleplay(), in_turn(*replies, "never said"))
    assert (len(got.turns), got.accepted, got.reasons) == (turns, False, (reason,))
    where = turns if reason == "empty turn" else turns - 1
    assert got.provenance["flaws"] == {reason: [where]}


def test_a_conversation_can_be_traced_back() -> None:
    [got] = write(roleplay(), in_turn("Why?", "3 bolts"), seed=5)
    assert {k: got.provenance[k] for k in ("writer", "generator", "seed")} == {
        "writer": "roleplay",
        "generator": {"kind": "says"},
        "seed": 5,
    }
    assert len(got.provenance["prompt"]) == 64
    [other] = write(script(), in_turn("Why?"))
    assert other.provenance["prompt"] != got.provenance["prompt"]


def about(count: int) -> list[Problem]:
    return [BARE.model_copy(update={"id": f"p{n}", "question": f"{BARE.question} ({n} robes)"}) for n in range(count)]


@pytest.mark.parametrize("writer", [roleplay(per_problem=2, max_turns=4), script(per_problem=2)])
def test_a_conversation_does_not_depend_on_which_others_are_held_beside_it(writer: Any) -> None:
    def conversations(width: int) -> dict[str, Conversation]:
        return {c.id: c for c in write(writer, Says(by_request, width), *about(4))}

    alone = conversations(1)
    assert sorted(alone) == list(writer.ids(about(4))) == [f"p{n}/{k}" for n in range(4) for k in range(2)]
    assert conversations(3) == conversations(20) == alone
    assert len({c.turns[1].text for c in alone.values()}) == 8


def test_four_times_as_many_conversations_as_the_generator_is_wide_are_held_together() -> None:
    generator = Says(by_request, width=1)
    write(roleplay(max_turns=3), generator, *about(6))
    # in the same order in every round, whichever finished first
    assert [
        [n for r in together for n in range(6) if f"({n} robes)" in str(r.messages)] for together in generator.rounds
    ] == [
        [0, 1, 2, 3],
        [0, 1, 2, 3],
        [4, 5],
        [4, 5],
    ]


def test_a_run_that_goes_on_asks_what_an_uninterrupted_one_asks() -> None:
    whole, rest = Says(by_request, width=2), Says(by_request, width=2)
    conversations = {c.id: c for c in write(roleplay(max_turns=3), whole, *about(12))}
    again = write(roleplay(max_turns=3), rest, *about(12), done=[*(f"p{n}/0" for n in range(8)), "p9/0"])
    assert {c.id for c in again} == {"p8/0", "p10/0", "p11/0"}
    assert all(conversations[c.id] == c for c in again)
    # the group that was not finished is held again as it was
    assert rest.rounds == whole.rounds[2:]


def test_seed_number_and_turn_each_change_what_is_drawn() -> None:
    generator = Says(by_request)
    for seed in (0, 1):
        write(roleplay(per_problem=2, max_turns=4), generator, seed=seed)
    assert len({request.seed for request in generator.requests}) == 2 * 2 * 3
    personas = {c.provenance["persona"] for n in range(9) for c in write(roleplay(), in_turn("Why?", "3"), seed=n)}
    assert len(personas) > 2


def test_without_a_generator_they_say_what_is_needed() -> None:
    for writer in (roleplay(), script()):
        with pytest.raises(UserError, match=r"^generator: none is set, .*generator=llama_cpp"):
            write(writer, None)


# --- script ---


def test_one_completion_is_the_whole_dialogue() -> None:
    generator = in_turn("How much white?\nStudent: 1 bolt.\nTeacher: And together?\nStudent: 3 bolts.\n")
    [got] = write(script(), generator)
    assert said(got)[1:] == [("t", "How much white?"), ("s", "1 bolt."), ("t", "And together?"), ("s", "3 bolts.")]
    assert got.accepted
    [request] = generator.requests
    assert request.text.endswith(f"Problem: {BARE.question}\nSolution: {BARE.solution}\nTeacher:")
    assert (request.stop, request.max_tokens) == (("\nProblem:",), 300)


@pytest.mark.parametrize(
    ("reply", "turns", "reasons"),
    [
        # it ends where the student states the answer or at the limit, whatever comes then
        ("Why?\nStudent: 3 bolts.\nTeacher: Why?\nStudent: 3 bolts.\nTeacher: Wh", 3, ()),
        ("A?\nStudent: b\nTeacher: C?\nStudent: d\nTeacher: E?\nStudent: f\nTeacher: G?\nStudent: h", 8, ()),
        ("Why?\nStudent: Because\nTeacher: Wh", 4, ("cut-off turn",)),
        ("Why?\nTeacher: How?\nStudent: 3 bolts.", 4, ("alternation lost",)),
        ("", 1, ("empty turn", "cut-off turn")),
        ("\nStudent: 3 bolts.", 2, ("alternation lost",)),
        ("Why?\nStudent: Hm\nTeacher: Why?\nStudent: 3 bolts.", 5, ("turn repeated",)),
        ("It takes 3 bolts.\nStudent: 3 bolts.", 3, ("teacher states the answer first",)),
    ],
)
def test_what_a_script_may_do_wrong(reply: str, turns: int, reasons: tuple[str, ...]) -> None:
    cut_off = Reply(reply, "length" if reply[-2:] in ("Wh", "") else "stop")
    [got] = write(script(), in_turn(cut_off))
    assert (len(got.turns), got.reasons, got.accepted) == (turns, reasons, not reasons)


def test_prompt_files_are_checked_before_anything_runs(tmp_path: Path) -> None:
    bare, latin, open_end = tmp_path / "bare.txt", tmp_path / "latin.txt", tmp_path / "open.txt"
    bare.write_text("Teach.")
    latin.write_bytes("Löse {problem}".encode("latin-1"))
    open_end.write_text("{problem}\nStudent:")
    for make, told in (
        (
            lambda: roleplay(teacher_prompt=str(bare), student_prompt=str(tmp_path / "no.txt"), max_turns=0),
            {
                "max_turns": "Input should be greater than or equal to 2 (got 0)",
                "teacher_prompt": f"{bare}: has no {{solution}} in it",
                "student_prompt": f"{tmp_path / 'no.txt'}: no such file or directory",
            },
        ),
        (lambda: script(prompt=str(latin)), {"prompt": f"{latin}: not UTF-8"}),
        (lambda: script(prompt=str(open_end)), {"prompt": f"{open_end}: must end in 'Teacher:'"}),
    ):
        with pytest.raises(ValidationError) as error:
            make()
        assert reasons(error.value) == told


def test_the_shipped_prompts_pass_the_check_on_users_own() -> None:
    shipped = resources.files("socratic_rl.conversations") / "prompts"
    roleplay(teacher_prompt=str(shipped / "teacher.txt"), student_prompt=str(shipped / "student.txt"))
    script(prompt=str(shipped / "script.txt"))


# --- annotated ---


def test_steps_become_questions_and_replies() -> None:
    [got] = write(Annotated(), None, ROBE)
    assert said(got) == [
        ("s", ROBE.question),
        ("t", "How much white fiber does it take?"),
        ("s", "Half of 2, so 1 bolt."),
        ("t", "How can you put the two together?"),
        ("s", "2 + 1 = 3 bolts"),
    ]
    assert got.accepted
    assert got.provenance == {"writer": "annotated", "from": "steps"}


def test_a_step_without_a_question_of_its_own_goes_with_its_neighbour() -> None:
    steps = [("a", None), ("b", "B?"), ("c", None), ("d", "D?"), ("e", "D?")]
    [got] = write(
        Annotated(), None, ROBE.model_copy(update={"steps": tuple(Step(work=w, question=q) for w, q in steps)})
    )
    assert said(got)[1:] == [("t", "B?"), ("s", "a\nb\nc"), ("t", "D?"), ("s", "d\ne")]


def dialogue(*texts: str, first: int = 0) -> tuple[Turn, ...]:
    return tuple(Turn(speaker=("teacher", "student")[(n + first) % 2], text=text) for n, text in enumerate(texts))


def test_a_human_dialogue_follows_the_statement_of_the_problem() -> None:
    told = ROBE.model_copy(
        update={
            "steps": (),
            "answer": "",
            "dialogues": (
                dialogue("Hi, talk me through it.", "I added.", "Well done, bye!"),
                dialogue("I get 4.", "Why?", first=1),
                dialogue(f"  {ROBE.question} ", "Why?", first=1),
                (*dialogue("Hm.", "What?"), Turn(speaker="student", text="4?"), Turn(speaker="teacher", text="Why?")),
            ),
        }
    )
    got = write(Annotated(), None, told)
    assert [c.id for c in got] == list(Annotated().ids([told])) == [f"robe/{n}" for n in range(4)]
    assert [said(c) for c in got] == [
        [("s", ROBE.question), ("t", "Hi, talk me through it."), ("s", "I added."), ("t", "Well done, bye!")],
        [("s", f"{ROBE.question}\nI get 4."), ("t", "Why?")],
        [("s", ROBE.question), ("t", "Why?")],
        [("s", ROBE.question), ("t", "Hm."), ("s", "What?\n4?"), ("t", "Why?")],
    ]
    assert all(c.accepted and c.provenance["from"] == "dialogue" for c in got)
    assert [c.id for c in write(Annotated(), None, told, done=["robe/0", "robe/2"])] == ["robe/1", "robe/3"]


def test_the_gate_looks_at_human_dialogues_too() -> None:
    telling = ROBE.model_copy(update={"steps": (), "dialogues": (dialogue("It is 3 bolts in all.", "Oh."),)})
    [got] = write(Annotated(), None, telling)
    assert (got.accepted, got.reasons) == (False, ("teacher states the answer first",))


@pytest.mark.parametrize(
    ("source", "file", "at_least"),
    [("GSM8KSocratic", "gsm8k_socratic", 0.85), ("MathDial", "mathdial", 0.7), ("Bridge", "bridge", 0.95)],
)
def test_real_annotations_give_alternating_conversations(
    shared_data: Callable[[str], Path], source: str, file: str, at_least: float
) -> None:
    read = list(getattr(conversations, source)(name=file, path=str(shared_data(f"{file}.jsonl")), limit=150).read())
    got = write(Annotated(), None, *read)
    questions = {problem.id: problem.question for problem in read}
    assert {c.problem_id for c in got} == set(questions)
    for conversation in got:
        assert conversation.turns[0].text.startswith(questions[conversation.problem_id])
        speakers = [turn.speaker for turn in conversation.turns]
        assert speakers == [("student", "teacher")[n % 2] for n in range(len(speakers))]
    assert sum(c.accepted for c in got) / len(got) >= at_least


# --- auto ---


def test_auto_uses_annotations_where_there_are_any_and_the_generator_where_not() -> None:
    auto = Auto(annotated=Annotated(), generated=roleplay())
    generator = in_turn("Why?", "3 bolts")
    got = write(auto, generator, BARE, ROBE)
    assert {c.id: c.provenance["writer"] for c in got} == {"robe/0": "annotated", "bare/0": "roleplay"}
    assert list(auto.ids([BARE, ROBE])) == ["bare/0", "robe/0"]
    assert len(write(auto, None, ROBE)) == 1
    with pytest.raises(UserError, match="generator: none is set"):
        write(auto, None, ROBE, BARE)


# --- the quality gate ---


@pytest.mark.parametrize(
    ("turns", "flaws"),
    [
        (["s Q", "t Why?", "s Because."], []),
        (["t Why?", "s Because."], [Flaw("alternation lost", 0)]),
        (["s Q", "t Why?", "t How?", "s So."], [Flaw("alternation lost", 2)]),
        (["s Q", "t Why?\nStudent: so"], [Flaw("speaks for the other", 1)]),
        (["s Q", "t Why?", "s So. Teacher: Right."], [Flaw("speaks for the other", 2)]),
        (["s Q", "t Why, and what does a good teacher: a person, say?"], []),
        (["s Q", "t Why?", "s So.", "t why"], [Flaw("turn repeated", 3)]),
        (["s Q", "t What on Monday?", "s So.", "t What on Tuesday?"], []),
        (["s Q", "t 2 + 1?", "s yes", "t 2 * 1?", "s yes"], []),
        (["s Q", "t A?", "s It is 2 / 2 = 1.", "t B?", "s It is 2 / 2 = 1."], [Flaw("turn repeated", 4)]),
        (["s Q", "t A?", "s It is 2 / 2 = 1.", "t B?", "s It is 2 / 2 = 4."], []),
        (["s Q", "t So it takes 3 bolts."], [Flaw("teacher states the answer first", 1)]),
        (["s Q", "t Why?", "s It takes 3 bolts.", "t Yes, 3 bolts."], []),
        (["s Q", "t Why?", "s 3 times 2 is 6.", "t No, so it takes 3."], [Flaw("teacher states the answer first", 3)]),
        (["s Is it 3 bolts?", "t Why 3 bolts?"], []),
    ],
)
def test_the_gate_names_each_flaw_and_its_turn(turns: list[str], flaws: list[Flaw]) -> None:
    spoken = [Turn(speaker={"s": "student", "t": "teacher"}[text[0]], text=text[2:]) for text in turns]
    assert gate(spoken, ROBE) == flaws


def test_without_a_gold_answer_the_teacher_cannot_state_it() -> None:
    turns = [Turn(speaker="student", text="Q"), Turn(speaker="teacher", text="So it takes 3 bolts.")]
    assert gate(turns, ROBE.model_copy(update={"answer": ""})) == []


# --- for real ---


@pytest.fixture(scope="module")
def embedded_model() -> LlamaCpp:
    return LlamaCpp(
        model_path=None,
        n_ctx=512,
        width=2,
        n_threads=1,
        n_gpu_layers=0,
        temperature=0.7,
        top_p=0.9,
        max_tokens=16,
    )


def test_llama_cpp_writes_the_same_again_whatever_it_wrote_before(embedded_model: LlamaCpp, tmp_path: Path) -> None:
    (tmp_path / "teacher.txt").write_text("Ask. {solution}")
    (tmp_path / "student.txt").write_text("Answer. {problem}")
    writer = roleplay(
        max_turns=3, teacher_prompt=str(tmp_path / "teacher.txt"), student_prompt=str(tmp_path / "student.txt")
    )
    both = write(writer, embedded_model, BARE, *about(1))
    assert [c.turns[0].speaker for c in both] == ["student"] * 2
    assert write(writer, embedded_model, BARE, *about(1), done=["bare/0"]) == both[1:]
    assert both[0].provenance["generator"]["sha256"]


def test_transformers_writes_the_same_after_a_kill(tiny_llama: Path) -> None:
    generator = Transformers(
        model=str(tiny_llama), revision=None, dtype="auto", width=2, temperature=1.0, top_p=1.0, max_tokens=8
    )
    writer = script(max_tokens=8)
    whole = write(writer, generator, *about(4))
    assert write(writer, generator, *about(4), done=["p0/0", "p3/0"]) == [
        c for c in whole if c.id not in ("p0/0", "p3/0")
    ]
