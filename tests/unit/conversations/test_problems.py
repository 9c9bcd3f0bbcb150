import itertools
import json
import logging
from pathlib import Path
from typing import Any

import pytest
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from omegaconf import OmegaConf
from pydantic import ValidationError

from socratic_rl.conversations.human_dialogues import Bridge, MathDial
from socratic_rl.conversations.mathqa import MathQA
from socratic_rl.conversations.own_problems import JsonlProblems, Starter
from socratic_rl.conversations.problems import GSM8K, GSM8KSocratic, Source
from socratic_rl.core.dialogue import Problem, text_id
from socratic_rl.core.errors import UserError

CONF = Path(__file__).parents[3] / "conf" / "problems"


def write(path: Path, rows: list[dict[str, Any]]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return str(path)


def mathqa_row(question: str = "what is 2 + 2 ?", **changed: str) -> dict[str, str]:
    options = "a ) 3 , b ) 4 , c ) 5 , d ) 6 , e ) none of these"
    row = {"Problem": question, "Rationale": "2 + 2 = 4 answer : b", "options": options, "correct": "b"}
    return row | changed


def test_mathqa(tmp_path: Path) -> None:
    path = write(tmp_path / "m.jsonl", [mathqa_row(category="general")])
    (problem,) = MathQA(name="mine", path=path).read()
    assert problem.model_dump(exclude={"steps", "dialogues"}) == {
        "id": text_id("what is 2 + 2?"),
        "question": "what is 2 + 2?",
        "solution": "2 + 2 = 4",
        "answer": "4",
        "topic": "general",
        "source": "mine",
    }
    assert [step.work for step in problem.steps] == ["2 + 2 = 4"]


def test_mathqa_counts_and_names_what_gives_no_problem(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    rows = [
        mathqa_row("what is 1 + 1 ?", correct="e"),
        mathqa_row(),
        mathqa_row("what is 3 ?", options="four or five"),
        mathqa_row("what is 4 ?", Rationale='"answer : b"'),
        mathqa_row(Rationale="a second time answer : b"),
    ]
    source = MathQA(name="mathqa", path=write(tmp_path / "m.jsonl", rows))
    with caplog.at_level(logging.WARNING):
        assert [problem.question for problem in source.read()] == ["what is 2 + 2?"]
    told = {
        "the correct option names no value": 1,
        "the correct option is not among the options": 3,
        "the rationale holds nothing but the answer": 4,
        "the question of an earlier row": 5,
    }
    for reason, line in told.items():
        assert f"rows that give no problem: 1, {reason} ({source.path}:{line})" in caplog.text
    assert source.skipped == dict.fromkeys(told, 1)
    assert len(list(source.read())) == 1
    assert source.skipped == dict.fromkeys(told, 1)  # of the last read alone


def test_a_source_without_any_problem_is_a_mistake(tmp_path: Path) -> None:
    path = write(tmp_path / "m.jsonl", [mathqa_row(correct="e")])
    with pytest.raises(UserError, match=r"problems.path: .*m.jsonl: no row gives a problem: the correct option names"):
        list(MathQA(name="mathqa", path=path).read())


def test_ids_stay_when_rows_are_added_and_are_the_same_in_every_source(tmp_path: Path) -> None:
    row = {"question": "How many is  2 + 2?", "answer": "It is 4.\n#### 4"}
    one = write(tmp_path / "one.jsonl", [row])
    two = write(tmp_path / "two.jsonl", [{"question": "Why?", "answer": "So.\n#### 1"}, row])
    dial = {"question": "How many is 2 + 2?", "ground_truth": "4", "conversation": "Teacher: (focus)Well?"}
    alone = next(GSM8K(name="a", path=one).read())
    assert list(GSM8K(name="b", path=two).read())[1].id == alone.id
    assert next(MathDial(name="c", path=write(tmp_path / "d.jsonl", [dial])).read()).id == alone.id


def test_limit_stops_reading(tmp_path: Path) -> None:
    path = tmp_path / "g.jsonl"
    write(path, [{"question": f"What is {n}?", "answer": f"It is {n}.\n#### {n}"} for n in range(3)])
    path.write_text(path.read_text() + "not JSON\n")
    assert [problem.answer for problem in GSM8K(name="g", path=str(path), limit=3).read()] == ["0", "1", "2"]
    with pytest.raises(UserError, match=r"problems.max_flawed: 1 of 4 rows cannot be used.*g.jsonl:4: not JSON"):
        list(GSM8K(name="g", path=str(path)).read())


@pytest.mark.parametrize("answer", ["1,000", "-9", "2.50", "3/4"])
def test_gsm8k(tmp_path: Path, answer: str) -> None:
    row = {
        "question": " Q? ",
        "answer": f"In April 48/2 = <<48/2=24>>24 clips.\n\nThen 24+1=$<<24+1=25>>25.\n#### {answer}",
    }
    (problem,) = GSM8K(name="g", path=write(tmp_path / "g.jsonl", [row])).read()
    assert problem.question == "Q?"
    assert problem.solution == "In April 48/2 = 24 clips.\nThen 24+1=$25."
    assert [step.work for step in problem.steps] == problem.solution.splitlines()
    assert all(step.question is None for step in problem.steps)
    assert problem.answer == answer


def test_gsm8k_keeps_powers(tmp_path: Path) -> None:
    row = {"question": "Q?", "answer": "The area is 5 ** 2 = 25\n#### 25"}
    (problem,) = GSM8K(name="g", path=write(tmp_path / "g.jsonl", [row])).read()
    assert problem.solution == "The area is 5 ** 2 = 25"


def test_gsm8k_socratic(tmp_path: Path) -> None:
    lines = [
        "How many in May? ** In May 48/2 = <<48/2=24>>24.",
        "How many in June? ** ",
        "How many will she be able|endoftext|>|endoftext| ** So 24 + 1 = 25.",
        "No question leads here.",
        "#### 25",
    ]
    row = {"question": "Q?", "answer": "\n".join(lines)}
    (problem,) = GSM8KSocratic(name="g", path=write(tmp_path / "g.jsonl", [row])).read()
    assert [(step.question, step.work) for step in problem.steps] == [
        ("How many in May?", "In May 48/2 = 24."),
        (None, "So 24 + 1 = 25."),
        (None, "No question leads here."),
    ]
    assert problem.solution == "In May 48/2 = 24.\nSo 24 + 1 = 25.\nNo question leads here."


@pytest.mark.parametrize("answer", ["It is 4.", "It is 4.\n####", ""])
def test_gsm8k_without_answer(tmp_path: Path, answer: str) -> None:
    path = write(tmp_path / "g.jsonl", [{"question": "Q?", "answer": answer}])
    with pytest.raises(UserError, match=r"g.jsonl:1: answer: no final answer after ####"):
        list(GSM8K(name="g", path=path).read())


def dialogue(problem: Problem, number: int = 0) -> list[tuple[str, str, str | None]]:
    assert problem.dialogues
    return [(turn.speaker, turn.text, turn.act) for turn in problem.dialogues[number]]


def test_mathdial(tmp_path: Path) -> None:
    turns = [
        "Teacher: (generic)Hi Ann, how did you start?",
        "Student: I did 3 (focus) on it: 4.",
        "Ann: Then I stopped.",
        "Teacher: (focus) ",
        "Teacher: (focus)What is 2 + 2?",
        "Teacher: (telling)It is 4.",
        "Student: ",
        "Teacher:(focus)See?",
        " Student : 4",
        "Teacher: (sic) good",
    ]
    row = {"question": "Q?", "ground_truth": "First 2.\nThen 4.\n 4", "conversation": "|EOM|".join(turns)}
    second = row | {"conversation": "Teacher: (probing)Why?|EOM|Student: Because."}
    other = row | {"question": "R?"}
    path = write(tmp_path / "d.jsonl", [row, other, second])
    first, _ = MathDial(name="d", path=path).read()
    assert (first.solution, first.answer) == ("First 2.\nThen 4.", "4")
    assert [step.work for step in first.steps] == ["First 2.", "Then 4."]
    assert dialogue(first) == [
        ("teacher", "Hi Ann, how did you start?", "generic"),
        ("student", "I did 3 (focus) on it: 4.\nThen I stopped.", None),
        ("teacher", "What is 2 + 2?\nIt is 4.\nSee?", "focus+telling"),
        ("student", "4", None),
        ("teacher", "(sic) good", None),
    ]
    assert dialogue(first, 1) == [("teacher", "Why?", "probing"), ("student", "Because.", None)]
    (limited,) = MathDial(name="d", path=path, limit=1).read()
    assert limited == first  # a limit counts problems, it does not cut off their dialogues


def bridge_row(session: str = "7_1", topic: str = "3.6D.Decomposing Figures", **changed: Any) -> dict[str, Any]:
    def said(*texts: str) -> list[dict[str, str]]:
        return [{"user": "student" if text[0] == "S" else "tutor", "text": text[1:]} for text in texts]

    row = {
        "c_id": session,
        "lesson_topic": topic,
        "c_h": said("THello.", "T ", "TWhat is 2 x 3?", "S5"),
        "c_r": said("TWrong.", "TIt is 6."),
        "c_r_": said("THm, not quite.", "TWhat is 3 + 3?"),
        "c_revision": said("THm, not quite.", "TWhat is 3 + 3?", "S6", "TRight!"),
        "z_what": "ask_question ",
    }
    return row | {key: said(*value) if isinstance(value, tuple) else value for key, value in changed.items()}


def test_bridge(tmp_path: Path) -> None:
    path = write(tmp_path / "b.jsonl", [bridge_row(), bridge_row("8_1"), bridge_row("7_9", c_revision=())])
    first, second = Bridge(name="bridge", path=path).read()
    assert (first.id, second.id) == ("7", "8")
    assert (first.question, first.answer, first.solution) == ("We are working on Decomposing Figures.", "", "")
    assert first.topic == "3.6D.Decomposing Figures"
    assert dialogue(first) == [
        ("teacher", "Hello.\nWhat is 2 x 3?", None),
        ("student", "5", None),
        ("teacher", "Hm, not quite.\nWhat is 3 + 3?", "ask_question"),
        ("student", "6", None),
        ("teacher", "Right!", None),
    ]
    assert first.dialogues
    assert [turn.worse for turn in first.dialogues[0]] == [None, None, "Wrong.\nIt is 6.", None, None]
    assert len(first.dialogues) == 2
    assert len(first.dialogues[1]) == 3


def test_bridge_without_a_pair(tmp_path: Path) -> None:
    rows = [bridge_row(), bridge_row("8_1", c_h=("SHi", "TWell?")), bridge_row("9_1", c_r=("T ",))]
    source = Bridge(name="bridge", path=write(tmp_path / "b.jsonl", rows))
    assert len(list(source.read())) == 1
    assert {reason.partition(" ")[2]: count for reason, count in source.skipped.items()} == {
        "student does not speak last before the reply": 1,
        "novice's or the expert's reply is missing": 1,
    }


@pytest.mark.parametrize(
    ("topic", "sentence"),
    [
        ("A2.7D.Factoring Polynomials (Review) - 1", "We are working on Factoring Polynomials."),
        ("8.4A.What is Slope?", "We are working on What is Slope?"),
        ("6.4E.Percents;6.2C.Graphs", "We are working on Percents and Graphs."),
        ("Money", "We are working on Money."),
        ("Unknown", "We are working on mathematics."),
    ],
)
def test_bridge_topics(tmp_path: Path, topic: str, sentence: str) -> None:
    (problem,) = Bridge(name="b", path=write(tmp_path / "b.jsonl", [bridge_row(topic=topic)])).read()
    assert problem.question == sentence


RECORD = {"question": "Q?", "solution": "It is 4.", "answer": "4 cm"}


def test_records(tmp_path: Path) -> None:
    rows = [
        RECORD,
        RECORD | {"id": "mine", "question": "R?", "source": "book", "steps": [{"work": "w", "question": "q"}]},
    ]
    first, second = JsonlProblems(name="own", path=write(tmp_path / "r.jsonl", rows)).read()
    assert (first.id, first.source, first.answer) == (text_id("Q?"), "own", "4 cm")
    assert (second.id, second.source, second.steps[0].question) == ("mine", "book", "q")


def test_record_with_dialogues_needs_no_answer(tmp_path: Path) -> None:
    record = next(Bridge(name="b", path=write(tmp_path / "b.jsonl", [bridge_row()])).read()).to_record()
    assert next(JsonlProblems(name="own", path=write(tmp_path / "r.jsonl", [record])).read()).to_record() == record


def test_starter() -> None:
    problems = list(Starter(name="demo").read())
    assert len(problems) >= 120
    assert {problem.source for problem in problems} == {"starter"}
    assert Starter(name="demo").mistakes() == []


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("m.jsonl", b"", "m.jsonl: the file is empty"),
        ("m.csv", b"Problem,Rationale,options,correct\n", "m.csv: the file is empty"),
        ("m.json", b"", "m.json: the file is empty"),
        (
            "m.jsonl",
            b'{"Problem": "x"}\n',
            "m.jsonl:1: no column 'Rationale', 'options', 'correct'; the columns are 'P",
        ),
        ("m.jsonl", b'\n{"Problem": \n', "m.jsonl:2: not JSON"),
        ("m.json", b'[\n{"Problem": }]', "m.json:2: not JSON"),
        ("m.csv", b"Problem,Rationale,options,correct\ncaf\xe9,b,c,d\n", "m.csv:2: not utf-8 .*encoding=latin-1"),
        ("m.csv", b"Problem,Rationale,options,correct\nx,y\n", "m.csv:2: nothing in column 'options', 'correct'"),
        ("m.parquet", b"PAR1", "m.parquet: cannot be read as Parquet"),
        ("m.txt", b"x", r"m.txt: do not know how to read '.txt'"),
    ],
)
def test_a_bad_file_is_one_clear_line(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(UserError, match=message) as caught:
        list(MathQA(name="m", path=str(path)).read())
    assert str(caught.value).startswith("problems.path: ")
    assert "\n" not in str(caught.value)


def test_every_kind_of_file(tmp_path: Path) -> None:
    import pyarrow
    from pyarrow import parquet

    row = mathqa_row("what is a café of 2 + 2 ?")
    (tmp_path / "m.json").write_text(json.dumps([row], indent=1), encoding="utf-8")
    (tmp_path / "m.csv").write_bytes(
        (",".join(row) + "\n" + ",".join(f'"{v}"' for v in row.values()) + "\n").encode("latin-1")
    )
    parquet.write_table(pyarrow.Table.from_pylist([row]), tmp_path / "m.parquet")
    expected = list(MathQA(name="m", path=write(tmp_path / "m.jsonl", [row])).read())
    for name in ("m.json", "m.csv", "m.parquet"):
        encoding = "latin-1" if name == "m.csv" else "utf-8"
        assert list(MathQA(name="m", path=str(tmp_path / name), encoding=encoding).read()) == expected, name


@pytest.mark.parametrize("path", ["nowhere.jsonl", "./nowhere", "~/nowhere", "a/b/c", "/nowhere"])
def test_a_missing_file_is_told_before_anything_is_read(path: str) -> None:
    source = MathQA(name="m", path=path)
    assert source.mistakes() == [f"problems.path: {path}: no such file"]
    with pytest.raises(UserError, match=r"problems.path: .*: no such file"):
        list(source.read())


def test_a_folder_is_told(tmp_path: Path) -> None:
    (mistake,) = MathQA(name="m", path=str(tmp_path)).mistakes()
    assert mistake.startswith("problems.path: ")
    assert "folder" in mistake


def test_relative_paths_start_where_the_command_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "m.jsonl", [mathqa_row()])
    monkeypatch.chdir(tmp_path)
    source = MathQA(name="m", path="m.jsonl")
    assert source.mistakes() == []
    assert len(list(source.read())) == 1


def test_a_hub_that_cannot_be_reached_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    source = GSM8K(name="g", path="openai/no-such-set", subset="main")
    assert source.mistakes() == []
    with pytest.raises(UserError, match=r"^problems.path: openai/no-such-set: neither a local file nor a hub data set"):
        list(source.read())


@pytest.mark.parametrize("wrong", [{"limit": 0}, {"encoding": "latin-x"}, {"pth": "x"}])
def test_wrong_keys_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        MathQA(name="m", path="m.jsonl", **wrong)


@pytest.mark.parametrize("path", sorted(CONF.glob("*.yaml")), ids=lambda path: path.stem)
def test_configs_make_their_source(path: Path) -> None:
    with initialize_config_dir(str(CONF.parent), version_base="1.3"):
        config = compose("generate", overrides=[f"problems={path.stem}"]).problems
    if OmegaConf.is_missing(config, "path"):
        config.path = "mine.jsonl"
    source = instantiate(config)
    assert isinstance(source, Source)
    assert path.stem == "jsonl" or source.mistakes() == []


def test_real_rows(shared_data: Any) -> None:
    mathqa = MathQA(name="mathqa", path=str(shared_data("mathqa.jsonl")))
    assert len(list(mathqa.read())) >= 0.95 * 1000
    assert sum(mathqa.skipped.values()) <= 50
    socratic = list(GSM8KSocratic(name="s", path=str(shared_data("gsm8k_socratic.jsonl"))).read())
    assert len(socratic) == 652
    assert not any("<<" in problem.solution or "**" in problem.solution for problem in socratic)
    mathdial = list(MathDial(name="d", path=str(shared_data("mathdial.jsonl"))).read())
    assert sum(len(problem.dialogues or ()) for problem in mathdial) == 299
    bridge = list(Bridge(name="b", path=str(shared_data("bridge.jsonl"))).read())
    assert sum(len(problem.dialogues or ()) for problem in bridge) >= 0.99 * 419
    for problem in [*mathdial, *bridge]:
        for turns in problem.dialogues or ():
            assert all(one.speaker != other.speaker for one, other in itertools.pairwise(turns))
            assert not any("|EOM|" in turn.text or turn.text.startswith(("(focus)", "Teacher:")) for turn in turns)
