"""Votes of people between two replies whose speakers they do not know, as preference pairs."""

from collections import Counter
from collections.abc import Mapping, Sequence
from operator import attrgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from socratic_rl.core.dialogue import Message, PreferencePair, Problem, Record, teacher_message, turn_key
from socratic_rl.core.errors import UserError, shell_command
from socratic_rl.core.files import write_jsonl
from socratic_rl.core.records import RecordWriter
from socratic_rl.measures.intervals import share_interval
from socratic_rl.pairs.dataset import Prepared, SocraticPairs, own_file, share_mistakes
from socratic_rl.pairs.pairing import Share, split_of

if TYPE_CHECKING:
    from socratic_rl.core.generator import Generator
    from socratic_rl.pairs.cases import Rejection

Label = Literal["A", "B"]


LABELS: tuple[Label, Label] = ("A", "B")


VALIDATION, TEST = 0.1, 0.2
"""The shares of problems that a pair's split is made with when it is kept, those of ``conf/pairs``."""


class Ballot(Record):
    """One person's choice between two replies, with what the pair that it makes does not hold."""

    conversation_id: str
    problem_id: str
    turn: int
    """Which teacher turn of the conversation the replies are, from 0."""
    prompt: list[Message]
    replies: dict[Label, str]
    """As they were shown."""
    tutor: Label
    """Which one was the tutor's; the other one was the base's."""
    picked: Label | None = None
    """None where the person preferred neither."""
    time: str
    """When, ISO 8601 with its zone."""
    provenance: dict[str, Any]
    """Where the replies came from: tutor, its folder, base, sampling, seed, engine, versions."""

    @property
    def pair(self) -> PreferencePair | None:
        """The picked reply against the other one; None where neither was preferred."""
        if self.picked is None:
            return None
        (other,) = set(LABELS) - {self.picked}
        return PreferencePair(
            prompt=self.prompt,
            chosen=[teacher_message(self.replies[self.picked])],
            rejected=[teacher_message(self.replies[other])],
            conversation_id=self.conversation_id,
            problem_id=self.problem_id,
            turn=self.turn,
            rejection="voted",
            split=split_of(self.problem_id, VALIDATION, TEST),
        )


class Tally(NamedTuple):
    """How often a tutor was picked."""

    picked: int
    n: int
    """Votes that preferred one of the two."""
    undecided: int
    """Votes that preferred neither."""
    problems: int
    """Problems that the ``n`` votes are about."""

    @property
    def interval(self) -> tuple[float, float]:
        """The 95% interval of the share; votes about one problem are not independent, so it is somewhat narrow."""
        return share_interval(self.picked, self.n)


class BallotBox:
    """The votes in a folder: ``votes.jsonl`` (pairs), ``ballots.jsonl`` and ``problems.jsonl``.

    A ballot is written before its pair; a pair that a killed process did not come to is written when the folder is
    opened again. Several processes may share the folder.

    Args:
        folder: Made with the first vote.

    Raises:
        UserError: A record cannot be read; names the file and the line.
    """

    def __init__(self, folder: Path) -> None:
        self._problems = RecordWriter(Problem, folder / "problems.jsonl", attrgetter("id"), shared=True)
        self._ballots = RecordWriter(Ballot, folder / "ballots.jsonl", turn_key, shared=True)
        self._pairs = RecordWriter(PreferencePair, folder / "votes.jsonl", turn_key, shared=True)
        for ballot in self._ballots.records():
            self._write_pair(ballot)

    def cast(self, ballot: Ballot, problem: Problem) -> None:
        """Keep a vote; when this returns it is on the disk.

        Raises:
            OSError: It could not be written. It may be cast again; what was written of it counts once.
            UserError: Somebody else wrote what cannot be read.
        """
        self._problems.append(problem)
        self._ballots.append(ballot)
        self._write_pair(ballot)

    def _write_pair(self, ballot: Ballot) -> None:
        if turn_key(ballot) not in self._pairs and ballot.pair:
            self._pairs.append(ballot.pair)

    def tally(self, tutor: str) -> Tally:
        """How often a tutor was picked, on whichever page; ``tutor`` as the ballots' provenance names it."""
        self._ballots.refresh()
        its = [ballot for ballot in self._ballots.records() if ballot.provenance["tutor"] == tutor]
        decided = [ballot for ballot in its if ballot.picked]
        return Tally(
            picked=sum(ballot.picked == ballot.tutor for ballot in decided),
            n=len(decided),
            undecided=len(its) - len(decided),
            problems=len({ballot.problem_id for ballot in decided}),
        )


class Votes(SocraticPairs):
    """The votes that ``chat.py ui=web`` kept, their problems split by a hash of their ids."""

    validation: Share
    test: Share

    def mistakes(self) -> list[str]:
        """Paths that do not exist, shares that leave nothing to train on."""
        return [*super().mistakes(), *share_mistakes(self.validation, self.test)]

    def _made_by(self) -> str:
        return f"{shell_command('chat')} ui=web adapter=… keeps votes in one"

    def prepare(
        self,
        folder: Path,
        rejection: "Rejection | None",  # noqa: ARG002
        generator: "Generator | None",  # noqa: ARG002
        seed: int,  # noqa: ARG002
    ) -> Prepared:
        """Copy the votes into ``pairs.jsonl`` of a folder, since more may come while they are trained on.

        Raises:
            UserError: There is no vote to train on.
        """
        pairs = [
            pair.model_copy(update={"split": split_of(pair.problem_id, self.validation, self.test)})
            for pair in RecordWriter(PreferencePair, Path(self.path), turn_key, shared=True).records()
        ]
        facts = _facts(pairs, self.limit)
        path = own_file(folder)
        write_jsonl(path, (pair.to_record() for pair in pairs))
        problems = self.problems or str(Path(self.path).with_name("problems.jsonl"))
        return Prepared(SocraticPairs(path=str(path), problems=problems, limit=self.limit), facts)


def _facts(pairs: Sequence[PreferencePair], limit: int | None) -> Mapping[str, object]:
    """What to say of the votes, of a side of the split that has none, and of what others hold out.

    Raises:
        UserError: None of them is for training.
    """
    sides = Counter(pair.split for pair in pairs)
    about = f"{len(pairs)} about {len({pair.problem_id for pair in pairs})} problems"
    if not sides["train"]:
        raise UserError(
            f"dataset.path: no vote to train on ({about}: validation {sides['validation']}, test {sides['test']});"
            " vote on problems of your own or of problems=…, or lower dataset.validation and dataset.test"
        )
    facts: dict[str, object] = {"votes": about}
    trained = [pair.problem_id for pair in pairs if pair.split == "train"][:limit]
    if held_out := sum(split_of(problem, VALIDATION, TEST) != "train" for problem in trained):
        facts["held out by default"] = (
            f"{held_out} votes trained on are about problems that other data sets keep for testing;"
            " evaluate on other problems"
        )
    if not sides["validation"]:
        facts["no validation"] = (
            "no vote is about such a problem, so no figure is held out; more problems would give one"
        )
    if not sides["test"]:
        facts["no test"] = (
            "no vote is about such a problem: evaluate.py needs dataset=socratic dataset.path=PAIRS.jsonl"
        )
    return facts
