"""Where problems come from: each source reads a local file or a hub data set and yields problems."""

import codecs
import logging
import re
from abc import abstractmethod
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from itertools import groupby
from pathlib import Path
from typing import Annotated, Any, ClassVar

from pydantic import AfterValidator, PrivateAttr

from socratic_rl.conversations.gathering import Gathered, Row, together
from socratic_rl.conversations.transcripts import Labels, StrangerError, bare
from socratic_rl.core.component import Component, Count
from socratic_rl.core.dialogue import Problem, Speaker, Step, Turn, merge_turns, text_id
from socratic_rl.core.errors import UserError
from socratic_rl.core.records import Index
from socratic_rl.core.rows import Row as FileRow
from socratic_rl.core.rows import looks_local, read_rows

logger = logging.getLogger(__name__)


def _known_encoding(name: str) -> str:
    try:
        codecs.lookup(name)
    except LookupError:
        raise ValueError(f"no such encoding: {name!r}; e.g. utf-8 or latin-1") from None
    return name


Encoding = Annotated[str, AfterValidator(_known_encoding)]
"""The name of a text encoding that Python knows."""


CONTRADICTS = "the question of another row, whose answer differs"
"""Why none of some rows is taken."""


EXAMPLES = 3
"""So many rows that give no problem are named."""


class Source(Component):
    """What all sources share; a source itself says how one row becomes a problem.

    Rows with the same question are one problem with all their dialogues; where their answers differ, they are none.
    """

    name: str
    """What the data set is called."""
    path: str
    """A file (.jsonl, .json, .csv, .parquet), relative to where the command runs, or a hub id."""
    subset: str | None = None
    """The subset of a hub data set."""
    split: str = "train"
    """The split of a hub data set."""
    encoding: Encoding = "utf-8"
    """Of a local text file."""
    limit: Count | None = None
    """Only the first so many problems."""

    key: ClassVar[str] = "problems"
    """The config key that a source stands under, for what is told of its mistakes."""
    columns: ClassVar[tuple[str, ...]] = ()
    """What every row must have."""
    by_id: ClassVar[bool] = False
    """Whether rows with the same id are one problem, since they do not state it; else those with the same question."""

    _skipped: Counter[str] = PrivateAttr(default_factory=Counter)
    _examples: dict[str, list[str]] = PrivateAttr(default_factory=dict)

    @abstractmethod
    def problem(self, where: str, row: Mapping[str, Any]) -> Problem | str:
        """The row as a problem, or why there is none in it.

        Args:
            where: The row's place, ``file:line``.
            row: The row; it has all ``columns``.
        """

    @property
    def skipped(self) -> Mapping[str, int]:
        """How many rows the last ``read`` left out, by reason."""
        return self._skipped

    def mistakes(self) -> list[str]:
        """A path that is no file."""
        path = Path(self.path).expanduser()
        if path.is_dir():
            return [f"{self.key}.path: {self.path} is a folder; give one of the files in it"]
        if looks_local(self.path) and not path.exists():
            return [f"{self.key}.path: {self.path}: no such file"]
        return []

    def read(self) -> Iterator[Problem]:
        """The problems in the order of the rows; what gives none is counted in ``skipped`` and logged.

        Raises:
            UserError: The file is missing, empty or unreadable, a column is missing, or no row gives a problem.
        """
        if mistakes := self.mistakes():
            raise UserError("\n".join(mistakes))
        self._skipped.clear()
        self._examples.clear()
        any_problem = False
        for problem in self._problems():
            any_problem = True
            yield problem
        for reason, count in self._skipped.items():
            some = ", ".join(self._examples[reason]) + (", …" if count > EXAMPLES else "")
            logger.warning("%s: rows that give no problem: %d, %s (%s)", self.name, count, reason, some)
        if not any_problem:
            raise UserError(f"{self.key}.path: {self.path}: no row gives a problem: {'; '.join(self._skipped)}")

    def _problems(self) -> Iterator[Problem]:
        """One problem of all rows with a question, which are known once the last row is read."""
        for rows, agree in self._gathered().groups():
            if not agree:
                for where, _ in rows:
                    self._skip(CONTRADICTS, where)
                continue
            first, *rest = rows
            for where, problem in rest:
                if not problem.dialogues:
                    self._skip("the question of an earlier row", where)
            yield together([first.problem, *(problem for _, problem in rest)])

    def _gathered(self) -> Gathered:
        """The rows that give a problem, by question; beyond the limit only dialogues about those problems."""
        gathered, ids, any_dialogue = Gathered(), Index(), False
        for where, row in self._rows():
            problem = self.problem(where, row)
            if isinstance(problem, str):
                self._skip(problem, where)
                continue
            group = problem.id if self.by_id else text_id(problem.question)
            if ids.get(problem.id) not in (None, gathered.number(group)):
                raise UserError(f"{where}: id: {problem.id!r} is an earlier problem's; every problem needs its own")
            any_dialogue = any_dialogue or bool(problem.dialogues)
            if gathered.number(group) is not None or len(gathered) != self.limit:
                ids[problem.id] = gathered.add(group, Row(where, problem))
            if len(gathered) == self.limit and not any_dialogue:
                break
        return gathered

    def _skip(self, reason: str, where: str) -> None:
        self._skipped[reason] += 1
        if self._skipped[reason] <= EXAMPLES:
            self._examples.setdefault(reason, []).append(where)

    def _rows(self) -> Iterator[FileRow]:
        try:
            yield from read_rows(self.path, self.split, self.encoding, self.columns, self.subset)
        except UserError as error:
            raise UserError(f"{self.key}.path: {error}") from error


class GSM8K(Source):
    """GSM8K (Cobbe et al., 2021, https://arxiv.org/abs/2110.14168): a step a line, the answer after ``####``."""

    columns: ClassVar[tuple[str, ...]] = ("question", "answer")

    def problem(self, where: str, row: Mapping[str, Any]) -> Problem:
        """The row without its calculator marks ``<<48/2=24>>``."""
        question = str(row["question"]).strip()
        work, marked, answer = str(row["answer"]).rpartition("####")
        if not question or not marked or not answer.strip():
            raise UserError(
                f"{where}: {'answer' if question else 'question'}: "
                f"{'no final answer after ####' if question else 'is empty'}"
            )
        lines = [line.strip() for line in re.sub(r"<<.*?>>", "", work).splitlines()]
        steps = tuple(step for line in lines if line and (step := self.step(line)))
        return Problem(
            id=text_id(question),
            question=question,
            solution="\n".join(step.work for step in steps),
            steps=steps,
            answer=answer.strip(),
            source=self.name,
        )

    def step(self, line: str) -> Step | None:
        """The step that a line is."""
        return Step(work=line)


class GSM8KSocratic(GSM8K):
    """GSM8K's Socratic subset: a line is ``sub-question ** step``."""

    def step(self, line: str) -> Step | None:
        """The step with the question that leads to it; None where the work is missing."""
        question, marked, work = (part.strip() for part in line.partition("**"))
        if not marked:
            return Step(work=line)
        # a sub-question that runs into "|endoftext|" is cut off
        return (
            Step(work=work, question=question if question and "|endoftext|" not in question else None) if work else None
        )


class MathDial(Source):
    """MathDial (Macina et al., 2023, https://arxiv.org/abs/2305.14536): human teachers and a simulated student."""

    columns: ClassVar[tuple[str, ...]] = ("question", "ground_truth", "conversation")

    def problem(self, where: str, row: Mapping[str, Any]) -> Problem | str:
        """The problem with the row's dialogue, whose turns are ``Teacher: (act)text`` or ``<student's name>: text``.

        The dialogue begins with the student's wrong solution, of which the teacher speaks.
        """
        question = str(row["question"]).strip()
        *work, answer = [line.strip() for line in str(row["ground_truth"]).splitlines() if line.strip()] or [""]
        if not question or not answer:
            raise UserError(f"{where}: {'ground_truth' if question else 'question'}: is empty")
        try:
            turns = list(_mathdial_turns(str(row["conversation"]), str(row.get("student_profile") or "")))
        except StrangerError as error:
            return str(error)
        if not turns:
            return "no dialogue"
        wrong = "\n".join(
            line.strip() for line in str(row.get("student_incorrect_solution") or "").strip().splitlines()
        )
        opening = [Turn(speaker="student", text=wrong)] if wrong else []
        return Problem(
            id=text_id(question),
            question=question,
            solution="\n".join(work),
            steps=tuple(Step(work=line) for line in work),
            answer=answer,
            source=self.name,
            dialogues=(tuple(_merge_acts([*opening, *turns])),),
        )


_MATHDIAL_TURN = re.compile(
    r"(?P<speaker>[^:：\n]{1,40}?)\s*[:：]\s*(?:\((?P<act>focus|probing|telling|generic)\))?(?P<text>.*)", re.DOTALL
)


def _mathdial_turns(conversation: str, profile: str) -> Iterator[Turn]:
    """The turns that say something.

    Raises:
        StrangerError: A turn has no label, or one that is neither a usual name nor how the profile begins; without a
            profile, a second name of nobody known.
    """
    usual, student = Labels(), ""
    for part in filter(None, map(str.strip, conversation.split("|EOM|"))):
        match = _MATHDIAL_TURN.match(part)
        if not match:
            raise StrangerError(part[:20])
        speaker = usual.speaker(match["speaker"])
        if not speaker:
            name = bare(match["speaker"])
            student = student or name
            if not (re.match(rf"{re.escape(name)}\b", profile.casefold()) if profile.strip() else name == student):
                raise StrangerError(match["speaker"])
            speaker = "student"
        if match["text"].strip():
            yield Turn(speaker=speaker, text=match["text"], act=match["act"])


def _merge_acts(turns: Iterable[Turn]) -> Iterator[Turn]:
    """Neighbouring turns of one speaker as one, which has all their acts (``focus+telling``)."""
    for _, group in groupby(turns, key=lambda turn: turn.speaker):
        neighbours = list(group)
        acts = dict.fromkeys(turn.act for turn in neighbours if turn.act)
        yield merge_turns(neighbours)[0].model_copy(update={"act": "+".join(acts) or None})


class Bridge(Source):
    """Bridge (Wang et al., 2024, https://arxiv.org/abs/2310.10648): a novice tutor's reply and an expert's revision.

    The chats of one session are the dialogues of one problem. Its question is the lesson's topic, since the chats do
    not state the problem; it has no gold answer.
    """

    columns: ClassVar[tuple[str, ...]] = ("c_id", "lesson_topic", "c_h", "c_r", "c_r_", "c_revision")
    by_id: ClassVar[bool] = True

    def problem(self, where: str, row: Mapping[str, Any]) -> Problem | str:
        """The topic with this row's chat, in which the expert's turn stands where the novice's (``worse``) stood."""
        goes_on = {"c_revision": row["c_revision"][len(row["c_r_"]) :]}
        try:
            history, novice, expert = (_chat(where, row, key) for key in ("c_h", "c_r", "c_r_"))
            after = _chat(where, goes_on, "c_revision")
        except StrangerError as error:
            return str(error)
        if not history or history[-1].speaker != "student":
            return "the student does not speak last before the reply"
        if len(novice) != 1 or len(expert) != 1:
            return "the novice's or the expert's reply is missing"
        revised = expert[0].model_copy(
            update={"worse": novice[0].text, "act": str(row.get("z_what") or "").strip() or None}
        )
        topic = str(row["lesson_topic"]).strip()
        session = str(row["c_id"]).partition("_")[0]
        return Problem(
            id=session,
            question=topic_sentence(topic),
            solution="",
            answer="",
            topic=topic,
            source=self.name,
            dialogues=(tuple(merge_turns([*history, revised, *after])),),
        )


def _chat(where: str, row: Mapping[str, Any], key: str) -> list[Turn]:
    """A list of ``{"user": …, "text": …}`` as turns, empty ones dropped and neighbours of one speaker merged."""
    try:
        messages = [(str(message["user"]), str(message["text"]).strip()) for message in row[key]]
    except (TypeError, KeyError) as error:
        raise UserError(f"{where}: {key}: is no list of messages with user and text ({error!r})") from error
    return merge_turns(Turn(speaker=_speaker(user), text=text) for user, text in messages if text)


def _speaker(user: str) -> Speaker:
    speaker = Labels().speaker(user)
    if not speaker:
        raise StrangerError(user)
    return speaker


UNSTATED = "We are working on "
"""How a dialogue opens whose source names a lesson's topic and states no problem."""


def topic_sentence(topic: str) -> str:
    """``3.6D.Decomposing Figures (Review) - 1`` as a sentence that a student may open with."""
    names = [
        re.sub(r"\s*\(Review\)(?:\s*-\s*\d+)?\s*$", "", re.sub(r"^\w+\.\w+\.\s*", "", part.strip()))
        for part in topic.split(";")
    ]
    named = " and ".join(name for name in names if name and name.lower() != "unknown") or "mathematics"
    return f"{UNSTATED}{named}" + ("" if named.endswith((".", "?", "!")) else ".")
