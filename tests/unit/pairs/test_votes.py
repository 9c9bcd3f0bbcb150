"""The votes' files: what is kept, what a kill leaves, what training makes of them."""

import itertools
import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from operator import attrgetter
from pathlib import Path
from typing import Any, TypeVar

import pytest
from filelock import FileLock

from socratic_rl.core import records
from socratic_rl.core.dialogue import PreferencePair, Problem, Record, turn_key
from socratic_rl.core.errors import UserError
from socratic_rl.core.records import RecordWriter, read_records
from socratic_rl.pairs.pairing import split_of
from socratic_rl.pairs.votes import TEST, VALIDATION, Ballot, BallotBox, Tally, Votes

R = TypeVar("R", bound=Record)


def written(kind: type[R], path: Path) -> RecordWriter[R]:
    key: Any = attrgetter("id") if kind is Problem else turn_key
    return RecordWriter(kind, path, key, shared=True)


def problem(number: int) -> Problem:
    return Problem(id=f"p{number}", question=f"{number} + 1?", solution="", answer=str(number + 1), source="test")


def ballot(number: int = 0, turn: int = 0, **changed: Any) -> Ballot:
    values: dict[str, Any] = {
        "conversation_id": f"c{number}",
        "problem_id": f"p{number}",
        "turn": turn,
        "prompt": [{"role": "user", "content": f"{number} + 1?"}],
        "replies": {"A": "What is one more?", "B": f"{number + 1}."},
        "tutor": "A",
        "picked": "A",
        "time": "2026-01-01T00:00:00+00:00",
        "provenance": {"tutor": "adapter-1"},
    }
    return Ballot(**values | changed)


def pairs(folder: Path) -> list[PreferencePair]:
    return list(read_records(PreferencePair, folder / "votes.jsonl"))


def test_a_vote_is_a_pair_and_a_ballot_with_its_problem(tmp_path: Path):
    box = BallotBox(tmp_path / "votes")
    box.cast(ballot(3, picked="B"), problem(3))
    box.cast(ballot(3, turn=1, picked=None), problem(3))
    (pair,) = pairs(tmp_path / "votes")
    assert pair.chosen == [{"role": "assistant", "content": "4."}]
    assert pair.rejected == [{"role": "assistant", "content": "What is one more?"}]
    assert pair.prompt == [{"role": "user", "content": "3 + 1?"}]
    assert (pair.rejection, pair.conversation_id, pair.problem_id, pair.turn) == ("voted", "c3", "p3", 0)
    assert pair.split == split_of("p3", VALIDATION, TEST)
    assert [kept.picked for kept in written(Ballot, tmp_path / "votes/ballots.jsonl").records()] == ["B", None]
    assert list(read_records(Problem, tmp_path / "votes/problems.jsonl")) == [problem(3)]


def test_the_tally_goes_on_after_a_restart_and_is_each_tutors_own(tmp_path: Path):
    box = BallotBox(tmp_path)
    for number, picked in enumerate(("A", "A", "B", None)):
        box.cast(ballot(number, picked=picked), problem(number))
    box.cast(ballot(0, turn=1), problem(0))
    box.cast(ballot(5, provenance={"tutor": "adapter-2"}), problem(5))
    for seen in (box, BallotBox(tmp_path)):
        assert seen.tally("adapter-1") == Tally(picked=3, n=4, undecided=1, problems=3)
        assert seen.tally("adapter-2") == Tally(picked=1, n=1, undecided=0, problems=1)
        assert seen.tally("adapter-3").n == 0
    # 3 of 4 by the formula of Wilson's interval
    assert box.tally("adapter-1").interval == pytest.approx((0.30064, 0.95441), abs=1e-5)


def test_a_kill_at_any_byte_loses_no_vote_that_was_kept_before(tmp_path: Path):
    whole = tmp_path / "whole"
    BallotBox(whole).cast(ballot(1), problem(1))
    before = {path.name: path.read_bytes() for path in whole.iterdir()}
    BallotBox(whole).cast(ballot(2), problem(2))
    names = ("problems.jsonl", "ballots.jsonl", "votes.jsonl")
    added = {name: (whole / name).read_bytes()[len(before[name]) :] for name in names}
    for at, name in enumerate(names):
        for length in range(0, len(added[name]), 7):
            folder = tmp_path / f"{name}-{length}"
            folder.mkdir()
            for other in names[:at]:
                (folder / other).write_bytes(before[other] + added[other])
            (folder / name).write_bytes(before[name] + added[name][:length])
            for other in names[at + 1 :]:
                (folder / other).write_bytes(before[other])
            box = BallotBox(folder)
            n = box.tally("adapter-1").n
            # a ballot that is whole gets its pair, one that is not is as if it had not been given
            assert n == (2 if name == "votes.jsonl" else 1)
            box.cast(ballot(3), problem(3))
            assert BallotBox(folder).tally("adapter-1").n == n + 1
            assert [pair.problem_id for pair in pairs(folder)] == (["p1", "p2", "p3"] if n == 2 else ["p1", "p3"])


CASTS = """
import sys
from pathlib import Path

from socratic_rl.core.dialogue import Problem
from socratic_rl.pairs.votes import Ballot, BallotBox

folder, who, text = Path(sys.argv[1]), sys.argv[2], "a" * 100_000
box = BallotBox(folder)
print(flush=True)
sys.stdin.readline()
for number in range(30):
    ballot = Ballot(
        conversation_id=f"{who}{number}",
        problem_id=f"p{number}",
        turn=0,
        prompt=[{"role": "user", "content": text}],
        replies={"A": text, "B": "b"},
        tutor="A",
        picked="A",
        time="t",
        provenance={"tutor": who},
    )
    box.cast(ballot, Problem(id=f"p{number}", question=text, solution="", answer="", source="test"))
"""


def test_two_pages_at_once_lose_no_vote(tmp_path: Path):
    command = [sys.executable, "-c", CASTS, str(tmp_path)]
    pages = [subprocess.Popen([*command, who], stdin=subprocess.PIPE, stdout=subprocess.PIPE) for who in ("one", "two")]
    for page in pages:
        assert page.stdout
        page.stdout.readline()
    for page in pages:
        page.communicate(b"\n")
        assert page.returncode == 0
    votes = sorted((who, number) for who in ("one", "two") for number in range(30))
    for kept in (written(Ballot, tmp_path / "ballots.jsonl"), written(PreferencePair, tmp_path / "votes.jsonl")):
        assert sorted((vote.conversation_id[:3], int(vote.conversation_id[3:])) for vote in kept.records()) == votes
    assert sorted(problem.id for problem in written(Problem, tmp_path / "problems.jsonl").records()) == sorted(
        f"p{number}" for number in range(30)
    )


class Slow:
    """A file that is written in two halves, with a pause between them."""

    def __init__(self, file: Any, halfway: threading.Event, go_on: threading.Event) -> None:
        self.file, self.halfway, self.go_on = file, halfway, go_on

    def __enter__(self) -> "Slow":
        return self

    def __exit__(self, *_: object) -> None:
        self.file.close()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.file, name)

    def write(self, line: bytes) -> int:
        self.file.write(line[: len(line) // 2])
        self.file.flush()
        self.halfway.set()
        assert self.go_on.wait(10)
        self.file.write(line[len(line) // 2 :])
        return len(line)


def test_what_another_page_is_writing_is_not_cut_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = tmp_path / "problems.jsonl"
    one, two = written(Problem, path), written(Problem, path)
    halfway, go_on = threading.Event(), threading.Event()
    opened = Path.open

    def slowly(self: Path, mode: str = "r", *arguments: Any, **named: Any) -> Any:
        file = opened(self, mode, *arguments, **named)
        return Slow(file, halfway, go_on) if mode == "ab" and not halfway.is_set() else file

    monkeypatch.setattr(Path, "open", slowly)
    pages = [
        threading.Thread(target=journal.append, args=[problem(number)]) for number, journal in ((1, one), (2, two))
    ]
    pages[0].start()
    assert halfway.wait(10)
    pages[1].start()
    pages[1].join(0.5)
    assert list(written(Problem, path).records()) == []
    go_on.set()
    for page in pages:
        page.join(10)
    assert list(written(Problem, path).records()) == list(two.records()) == [problem(1), problem(2)]
    two.refresh()
    assert list(one.records()) == [problem(1)]


def test_two_pages_see_each_others_votes_and_keep_each_once(tmp_path: Path):
    one, two = BallotBox(tmp_path), BallotBox(tmp_path)
    one.cast(ballot(1), problem(1))
    two.cast(ballot(2), problem(1))
    one.cast(ballot(3), problem(3))
    for box in (one, two):
        assert box.tally("adapter-1").n == 3
    assert [pair.conversation_id for pair in pairs(tmp_path)] == ["c1", "c2", "c3"]
    assert list(read_records(Problem, tmp_path / "problems.jsonl")) == [problem(1), problem(3)]


def test_a_vote_waits_for_another_page_but_not_for_ever(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(records, "LOCKED", 0.1)
    box = BallotBox(tmp_path)
    with FileLock(tmp_path / ".ballots.jsonl.lock"), pytest.raises(OSError, match="ballots"):
        box.cast(ballot(1), problem(1))
    box.cast(ballot(1), problem(1))
    assert box.tally("adapter-1").n == 1


def test_files_that_were_taken_away_are_begun_anew(tmp_path: Path):
    box = BallotBox(tmp_path / "votes")
    box.cast(ballot(1), problem(1))
    (tmp_path / "votes").rename(tmp_path / "aside")
    assert box.tally("adapter-1").n == 0
    box.cast(ballot(2), problem(1))
    assert box.tally("adapter-1").n == 1
    assert [pair.conversation_id for pair in pairs(tmp_path / "votes")] == ["c2"]
    assert list(read_records(Problem, tmp_path / "votes/problems.jsonl")) == [problem(1)]


def test_a_last_line_that_an_editor_left_without_its_end_is_a_record(tmp_path: Path):
    path = tmp_path / "problems.jsonl"
    journal = written(Problem, path)
    journal.append(problem(1))
    path.write_bytes(path.read_bytes().rstrip(b"\n"))
    again = written(Problem, path)
    again.append(problem(2))
    for seen in (again, written(Problem, path)):
        seen.refresh()
        assert list(seen.records()) == [problem(1), problem(2)]
    journal.append(problem(3))
    assert list(journal.records()) == [problem(1), problem(2), problem(3)]
    path.write_bytes(path.read_bytes() + b"{}\n")
    with pytest.raises(UserError, match=r"problems\.jsonl:4: not a Problem"):
        journal.refresh()


def test_a_broken_line_in_the_middle_is_named(tmp_path: Path):
    BallotBox(tmp_path).cast(ballot(1), problem(1))
    path = tmp_path / "ballots.jsonl"
    path.write_bytes(b'{"half": \n' + path.read_bytes())
    with pytest.raises(UserError, match=r"ballots\.jsonl:1: not JSON"):
        BallotBox(tmp_path)


def test_a_vote_that_the_disk_did_not_take_may_be_cast_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    box = BallotBox(tmp_path)
    for fails_at in range(3):  # the problem, the ballot, the pair
        written = itertools.count()

        def fsync(_: int, fails_at: int = fails_at, written: Iterator[int] = written) -> None:
            if next(written) == fails_at:
                raise OSError(28, "No space left on device")

        with monkeypatch.context() as patched:
            patched.setattr("os.fsync", fsync)
            with pytest.raises(OSError, match="No space left"):
                box.cast(ballot(fails_at), problem(fails_at))
        box.cast(ballot(fails_at), problem(fails_at))
    for seen in (box, BallotBox(tmp_path)):
        assert seen.tally("adapter-1").n == 3
    assert [pair.problem_id for pair in pairs(tmp_path)] == ["p0", "p1", "p2"]
    assert list(read_records(Problem, tmp_path / "problems.jsonl")) == [problem(number) for number in range(3)]


def votes(folder: Path, **changed: Any) -> Votes:
    return Votes(**{"path": str(folder / "votes.jsonl"), "validation": VALIDATION, "test": TEST} | changed)


def cast(folder: Path, *numbers: int) -> None:
    box = BallotBox(folder)
    for number in numbers:
        box.cast(ballot(number), problem(number))


def numbers_on(side: str) -> list[int]:
    return [number for number in range(100) if split_of(f"p{number}", VALIDATION, TEST) == side]


def test_training_reads_a_copy_split_by_problem(tmp_path: Path):
    train, validation, test = (numbers_on(side)[0] for side in ("train", "validation", "test"))
    cast(tmp_path / "votes", train, validation, test)
    dataset, told = votes(tmp_path / "votes").prepare(tmp_path, None, None, 0)
    assert dataset.path == str(tmp_path / "pairs.jsonl")
    assert told == {"votes": "3 about 3 problems"}
    assert {pair.problem_id: pair.split for pair in dataset.read()} == {
        f"p{train}": "train",
        f"p{validation}": "validation",
        f"p{test}": "test",
    }
    assert dataset.read_problems()[f"p{test}"] == problem(test)
    dataset, _ = votes(tmp_path / "votes", validation=0, test=0).prepare(tmp_path, None, None, 0)
    assert {pair.split for pair in dataset.read()} == {"train"}


def test_sides_without_a_vote_are_told(tmp_path: Path):
    cast(tmp_path / "few", *numbers_on("train")[:2])
    _, told = votes(tmp_path / "few").prepare(tmp_path, None, None, 0)
    assert told["votes"] == "2 about 2 problems"
    assert {"no validation", "no test"} <= set(told)
    cast(tmp_path / "none", numbers_on("test")[0])
    with pytest.raises(UserError, match=r"no vote to train on \(1 about 1 problems: validation 0, test 1\); vote on"):
        votes(tmp_path / "none").prepare(tmp_path, None, None, 0)


def test_half_a_line_of_a_killed_page_is_not_read_and_not_touched(tmp_path: Path):
    cast(tmp_path, *numbers_on("train")[:2])
    path = tmp_path / "votes.jsonl"
    half = path.read_bytes()[:-20]
    path.write_bytes(half)
    _, told = votes(tmp_path).prepare(tmp_path / "run", None, None, 0)
    assert told["votes"] == "1 about 1 problems"
    assert path.read_bytes() == half


def test_votes_on_what_others_hold_out_are_told(tmp_path: Path):
    held_out = [*numbers_on("test")[:2], numbers_on("validation")[0]]
    cast(tmp_path, *held_out, *numbers_on("train")[:2])
    _, told = votes(tmp_path, test=0).prepare(tmp_path / "run", None, None, 0)
    assert told["held out by default"] == (
        "2 votes trained on are about problems that other data sets keep for testing; evaluate on other problems"
    )
    _, told = votes(tmp_path, validation=0, test=0).prepare(tmp_path / "run", None, None, 0)
    assert str(told["held out by default"]).startswith("3 votes trained on")
    _, told = votes(tmp_path, validation=0, test=0, limit=1).prepare(tmp_path / "run", None, None, 0)
    assert str(told["held out by default"]).startswith("1 votes trained on")
    _, told = votes(tmp_path).prepare(tmp_path / "run", None, None, 0)
    assert "held out by default" not in told


def test_wrong_paths_and_shares_are_mistakes(tmp_path: Path):
    mistakes = votes(tmp_path, validation=0.5, test=0.5).mistakes()
    assert mistakes[0].endswith("votes.jsonl: no such file; python chat.py ui=web adapter=… keeps votes in one")
    assert mistakes[1] == "test: with validation 1 together; must be less than 1"


def test_a_ballot_is_read_as_it_was_written(tmp_path: Path):
    kept = ballot(1, picked=None)
    BallotBox(tmp_path).cast(kept, problem(1))
    assert Ballot.model_validate(json.loads((tmp_path / "ballots.jsonl").read_text())) == kept
