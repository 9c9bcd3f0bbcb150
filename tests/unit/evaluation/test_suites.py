"""Outside test sets: which two turns become a pair, and that nothing trained on is among them."""

import json
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from socratic_rl.core.dialogue import PreferencePair, Problem, Turn, text_id
from socratic_rl.core.errors import UserError
from socratic_rl.core.files import write_jsonl
from socratic_rl.evaluation import test_sets
from socratic_rl.evaluation.mrbench import read as dialogues
from socratic_rl.pairs.audit import audit_rows
from socratic_rl.pairs.dataset import SocraticPairs
from socratic_rl.pairs.pairing import split_of

PENS = "Ann has 3 boxes of 4 pens. How many pens has she?"


def write(path: Path, *rows: dict[str, Any]) -> str:
    write_jsonl(path, rows)
    return str(path)


def sides(pairs: Iterator[PreferencePair]) -> list[tuple[str, str, str]]:
    """The last message of the prompt, the chosen turn and the rejected one of each pair."""
    return [(p.prompt[-1]["content"], p.chosen[0]["content"], p.rejected[0]["content"]) for p in pairs]


def test_bridge_pairs_the_expert_with_the_novice(tmp_path: Path) -> None:
    chat = [{"user": "tutor", "text": "What is 3 x 4?"}, {"user": "student", "text": "7"}]
    expert, novice = [{"user": "tutor", "text": "How many boxes?"}], [{"user": "tutor", "text": "No, it is 12."}]
    row = {"c_id": "5_1", "lesson_topic": "3.1.Multiplication", "c_h": chat, "c_r": novice, "c_r_": expert}
    path = write(tmp_path / "bridge.jsonl", {**row, "c_revision": expert})
    (pair,) = test_sets.Bridge(name="bridge", path=path).pairs()
    assert sides(iter([pair])) == [("7", "How many boxes?", "No, it is 12.")]
    assert (pair.problem_id, pair.split) == ("5", "test")


def test_mathdial_pairs_a_guiding_turn_with_what_is_told_next(tmp_path: Path) -> None:
    said = [
        "Teacher: (generic)Hi, show me.",
        "Ann: I get 7.",
        "Teacher: (focus)How many boxes?",
        "Ann: 3.",
        "Teacher: (telling)So it is 3 x 4.",
        "Ann: Is it 14?",
        "Teacher: (telling)It is 12.",
        "Ann: Oh.",
        "Teacher: (probing)Why?",
        "Ann: 3 x 4.",
        "Teacher: (generic)Well done.",
    ]
    row = {"question": PENS, "ground_truth": "3 * 4 = 12\n 12", "conversation": "|EOM|".join(said)}
    (pair,) = test_sets.MathDial(name="mathdial", path=write(tmp_path / "mathdial.jsonl", row)).pairs()
    assert sides(iter([pair])) == [("I get 7.", "How many boxes?", "So it is 3 x 4.")]
    assert pair.prompt[0] == {"role": "user", "content": PENS}
    assert pair.problem_id == text_id(PENS)


def bridge_row(c_id: str, topic: str = "3.1.Multiplication") -> dict[str, Any]:
    said = {
        "c_h": ("student", "7"),
        "c_r": ("tutor", "It is 12."),
        "c_r_": ("tutor", "Why?"),
        "c_revision": ("tutor", "Why?"),
    }
    return {"c_id": c_id, "lesson_topic": topic} | {k: [{"user": who, "text": text}] for k, (who, text) in said.items()}


def test_bridges_sessions_are_told_apart_though_they_share_a_topic(tmp_path: Path) -> None:
    rows = [bridge_row("4110653_19"), bridge_row("4110653_56"), bridge_row("2950057_118")]
    pairs = list(test_sets.Bridge(name="bridge", path=write(tmp_path / "bridge.jsonl", *rows)).pairs())
    first = pairs[0].model_copy(update={"split": "train"})
    problem = Problem(id="4110653", question="We are working on Multiplication.", solution="", answer="", source="x")
    path = write(tmp_path / "pairs.jsonl", first.to_record())
    write(tmp_path / "problems.jsonl", problem.to_record())
    trained = test_sets.trained_problems(SocraticPairs(path=path))
    assert trained == {"4110653"}
    assert [left.problem_id for left in test_sets.unseen(pairs, trained)] == ["2950057"]


def mrbench(path: Path, **changes: Any) -> test_sets.MRBench:
    def reply(text: str, reveals: str, guides: str) -> dict[str, Any]:
        return {"response": text, "annotation": {"Revealing_of_the_Answer": reveals, "Providing_Guidance": guides}}

    row = {
        "conversation_id": "c1",
        "conversation_history": f"Tutor: Hi. The question is: {PENS}\xa0\n\xa0Student: 3 + 4 = 7",
        "Topic": "Not Available",
        "Ground_Truth_Solution": "3 * 4 = 12\n 12",
        "anno_llm_responses": {
            "A": reply("How many boxes?", "No", "Yes"),
            "B": reply("It is 12.", "Yes (and the answer is correct)", "Yes"),
            "C": reply("Look again.", "No", "To some extent"),
            "D": reply("It is 14.", "Yes (but the answer is incorrect)", "No"),
            "E": reply("Draw them.", "No", "Yes"),
        },
    }
    return test_sets.MRBench(name="mrbench", path=write(path, {**row, **changes}))


def test_mrbench_pairs_each_guiding_reply_with_each_revealing_one(tmp_path: Path) -> None:
    pairs = list(mrbench(tmp_path / "mrbench.jsonl").pairs())
    found = {(pair.chosen[0]["content"], pair.rejected[0]["content"]) for pair in pairs}
    assert found == {(a, b) for a in ("How many boxes?", "Draw them.") for b in ("It is 12.", "It is 14.")}
    assert pairs[0].prompt == [{"role": "user", "content": f"{PENS}\n3 + 4 = 7"}]
    assert {pair.problem_id for pair in pairs} == {text_id(PENS)}


def by_authors(*authors: str) -> list[PreferencePair]:
    """A pair for each "Ab": what A wrote is chosen over what b wrote."""
    return [
        pair(f"{n}", f"Question {n}?", "test").model_copy(
            update={"labels": {"author": (one, other), "source": ("x", "x")}}
        )
        for n, (one, other) in enumerate(authors)
    ]


def test_authors_are_weighed_alike() -> None:
    pairs = by_authors("AB", "AB", "AB", "BA", "AC", "CB", "CB", "BC", "BC", "BC", "AA")
    alike, told = test_sets.authors_alike(pairs)
    assert Counter(pair.labels["author"] for pair in alike if pair.labels) == {
        ("A", "B"): 1,
        ("B", "A"): 1,
        ("C", "B"): 2,
        ("B", "C"): 2,
        ("A", "A"): 1,
    }
    assert told.startswith("weighed alike: 7 of 11 pairs")
    assert [pairs.index(pair) for pair in alike] == sorted(pairs.index(pair) for pair in alike)
    # whatever the order of the data
    assert {pair.conversation_id for pair in test_sets.authors_alike(pairs[::-1])[0]} == {
        pair.conversation_id for pair in alike
    }


def test_authors_of_whom_one_is_always_chosen_are_told() -> None:
    pairs = by_authors("AB", "AB", "AC")
    alike, told = test_sets.authors_alike(pairs)
    assert alike == pairs
    assert told.startswith("not weighed alike: no two of them are each chosen over the other")
    assert test_sets.authors_alike([pair("a", "A?", "test")])[1] == ""


def test_mrbench_without_a_problem_opens_with_the_topic(tmp_path: Path) -> None:
    changes = {
        "conversation_history": "Tutor: What is 3 x 4?\xa0\n\xa0Student: 7",
        "Ground_Truth_Solution": "Not Available",
        "Topic": "3.1.Multiplication",
    }
    first = next(mrbench(tmp_path / "mrbench.jsonl", **changes).pairs())
    assert [message["content"] for message in first.prompt] == [
        "We are working on Multiplication.",
        "What is 3 x 4?",
        "7",
    ]
    assert first.problem_id == "c1"


@pytest.mark.parametrize(
    ("id_", "problem"), [("411065319", "4110653"), ("41106538", "4110653"), ("4110653118", "4110653"), ("c1", "c1")]
)
def test_mrbenchs_rows_from_bridge_are_about_bridges_sessions(tmp_path: Path, id_: str, problem: str) -> None:
    changes = {
        "conversation_id": id_,
        "conversation_history": "Tutor: What is 3 x 4?\xa0\n\xa0Student: 7",
        "Ground_Truth_Solution": "Not Available",
        "Topic": "3.1.Multiplication",
    }
    pairs = list(mrbench(tmp_path / "mrbench.jsonl", **changes).pairs())
    assert {(pair.problem_id, pair.conversation_id) for pair in pairs} == {(problem, id_)}
    trained = write(tmp_path / "pairs.jsonl", pair("4110653", "We are working on Multiplication.", "train").to_record())
    known = test_sets.trained_problems(SocraticPairs(path=trained))
    assert known
    assert len(test_sets.unseen(pairs, known)) == (len(pairs) if id_ == "c1" else 0)


def test_ranked_replies_are_all_scored(tmp_path: Path) -> None:
    rows = [{"prompt": f"Say {n}.", "chosen": f"{n}", "rejected": "No."} for n in range(20)]
    settings = {"subset": None, "revision": None, "encoding": "utf-8", "train_split": "test_prefs", "test_split": None}
    settings |= {"prompt": "prompt", "chosen": "chosen", "rejected": "rejected", "limit": 15, "max_flawed": 0}
    settings |= {"validation_limit": None, "test_limit": None, "validation": 0, "test": 0}
    path = write(tmp_path / "ranked.jsonl", *rows)
    suite = test_sets.RankedReplies(name="ultrafeedback", path=path, **settings)
    assert sides(suite.pairs()) == [(f"Say {n}.", f"{n}", "No.") for n in range(15)]


def test_a_wrong_file_is_told_under_the_suites_key(tmp_path: Path) -> None:
    path = write(tmp_path / "rows.jsonl", {"question": PENS})
    with pytest.raises(UserError, match=r"^suite\.path: .*rows\.jsonl:1: no column 'ground_truth', 'conversation'"):
        list(test_sets.MathDial(name="mathdial", path=path).pairs())
    assert test_sets.Bridge(name="bridge", path="x.jsonl").mistakes() == ["suite.path: x.jsonl: no such file"]
    assert test_sets.MRBench(name="mrbench", path="x.jsonl").mistakes() == ["path: x.jsonl: no such file"]


def pair(problem_id: str, question: str, split: str) -> PreferencePair:
    told = {"conversation_id": f"{problem_id}/0", "problem_id": problem_id, "turn": 0, "rejection": "x", "split": split}
    return PreferencePair.of([Turn(speaker="student", text=question)], "Why?", "12.", **told)


def test_problems_trained_on_are_left_out_by_id_and_by_text(tmp_path: Path) -> None:
    path = write(
        tmp_path / "pairs.jsonl", pair("a", "One?", "train").to_record(), pair("b", "Two?", "test").to_record()
    )
    problem = Problem(id="a", question="What is one?", solution="", answer="1", source="x")
    write(tmp_path / "problems.jsonl", problem.to_record())
    trained = test_sets.trained_problems(SocraticPairs(path=path))
    assert trained is not None
    asked = [pair("a", "Else?", "test"), pair("c", "one?", "test"), pair(text_id("What is one?"), "1?", "test")]
    asked += [pair("b", "Two?", "test"), pair("d", "Four?", "test")]
    assert [left.problem_id for left in test_sets.unseen(asked, trained)] == ["b", "d"]


def test_what_cannot_be_read_any_more_is_not_known(tmp_path: Path) -> None:
    assert test_sets.trained_problems(SocraticPairs(path=str(tmp_path / "gone.jsonl"))) is None


# ---- real rows ----


@pytest.mark.parametrize(
    ("suite", "name", "at_least"),
    [(test_sets.Bridge, "bridge", 400), (test_sets.MathDial, "mathdial", 150), (test_sets.MRBench, "mrbench", 200)],
)
def test_real_rows_give_pairs(
    suite: Callable[..., Any], name: str, at_least: int, shared_data: Callable[[str], Path]
) -> None:
    pairs = list(suite(name=name, path=str(shared_data(f"{name}.jsonl"))).pairs())
    assert len(pairs) >= at_least
    assert all(pair.prompt[0]["role"] == "user" == pair.prompt[-1]["role"] for pair in pairs)
    assert all(pair.chosen != pair.rejected for pair in pairs)


def test_who_wrote_a_reply_of_mrbench_tells_nothing_of_what_is_scored(shared_data: Callable[[str], Path]) -> None:
    pairs = list(test_sets.MRBench(name="m", path=str(shared_data("mrbench.jsonl"))).pairs())
    figures = audit_rows(pairs, 0)[1]
    assert figures["audit/author"] > 0.85
    alike, _ = test_sets.authors_alike(pairs)
    assert len(alike) >= 40
    figures = audit_rows(alike, 0)[1]
    assert figures["audit/author"] == figures["audit/source"] == 0.5
    bridge = list(test_sets.Bridge(name="b", path=str(shared_data("bridge.jsonl"))).pairs())
    assert {pair.labels["author"] for pair in bridge if pair.labels} == {("expert", "novice")}


def test_mrbench_knows_mathdials_problems(shared_data: Callable[[str], Path]) -> None:
    replied = {pair.problem_id for pair in test_sets.MRBench(name="m", path=str(shared_data("mrbench.jsonl"))).pairs()}
    rows = map(json.loads, shared_data("mathdial.jsonl").read_text(encoding="utf-8").splitlines())
    assert replied & {text_id(row["question"]) for row in rows}


def test_mrbenchs_rows_from_bridge_have_the_sessions_that_bridge_has(shared_data: Callable[[str], Path]) -> None:
    bridge = test_sets.Bridge(name="bridge", path=str(shared_data("bridge.jsonl")))
    topics = {problem.id: problem.topic for problem in bridge.read()}
    rows = [row for _, row in dialogues(str(shared_data("mrbench.jsonl"))) if not row.answer]
    shared = [row for row in rows if row.session in topics]
    assert (len(rows), len({row.session for row in rows}), len(shared)) == (17, 16, 14)
    assert all(topics[row.session] == row.topic.strip() for row in shared)


def test_no_session_is_left_out_for_its_topic(shared_data: Callable[[str], Path], tmp_path: Path) -> None:
    pairs = list(test_sets.Bridge(name="bridge", path=str(shared_data("bridge.jsonl"))).pairs())
    split = [pair.model_copy(update={"split": split_of(pair.problem_id, 0.1, 0.2)}) for pair in pairs]
    trained = {pair.problem_id for pair in split if pair.split == "train"}
    known = test_sets.trained_problems(
        SocraticPairs(path=write(tmp_path / "pairs.jsonl", *(pair.to_record() for pair in split)))
    )
    assert known is not None
    assert test_sets.unseen(pairs, known) == [pair for pair in pairs if pair.problem_id not in trained]
