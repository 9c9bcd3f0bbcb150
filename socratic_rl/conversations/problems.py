"""Where problems come from: each source reads a local file or a hub data set and yields problems."""

import logging
import re
from abc import abstractmethod
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar

from pydantic import AfterValidator, Field, PrivateAttr, ValidationError

from socratic_rl.conversations.gathering import Gathered, Row, together
from socratic_rl.core.component import Component, Count, Real
from socratic_rl.core.dialogue import Problem, Step, text_id
from socratic_rl.core.errors import UserError
from socratic_rl.core.records import Index
from socratic_rl.core.rows import check_share, looks_local, no_column, read_any_rows, with_names
from socratic_rl.core.text_files import AnyRow

logger = logging.getLogger(__name__)


def _known_encoding(name: str) -> str:
    try:
        # codecs.lookup also knows what is no encoding of text
        "a".encode(name)
    except (LookupError, UnicodeError):
        raise ValueError(f"no such encoding: {name!r}; e.g. utf-8 or latin-1") from None
    return name


Encoding = Annotated[str, AfterValidator(_known_encoding)]
"""The name of a text encoding that Python knows."""


CONTRADICTS = "the question of another row, whose answer differs"
"""Why none of some rows is taken."""


EXAMPLES = 3
"""So many rows that give no problem are named."""


class FlawedRow(Exception):  # noqa: N818 – what it is about, not what was done wrong
    """Why a row cannot be used: something is missing or is not what it should be."""


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
    max_flawed: Annotated[Real, Field(ge=0, le=1)] = 0.05
    """The share of rows that may be unusable; they are left out."""

    key: ClassVar[str] = "problems"
    """The config key that a source stands under, for what is told of its mistakes."""
    columns: ClassVar[tuple[str, ...]] = ()
    """What every row must have."""
    lists: ClassVar[tuple[str, ...]] = ()
    """Those of them that may be lists; the others are texts."""
    by_id: ClassVar[bool] = False
    """Whether rows with the same id are one problem, since they do not state it; else those with the same question."""

    _skipped: Counter[str] = PrivateAttr(default_factory=Counter)
    _examples: dict[str, list[str]] = PrivateAttr(default_factory=dict)

    @abstractmethod
    def problem(self, row: Mapping[str, Any]) -> Problem | str:
        """The row as a problem, or why there is none in it.

        Args:
            row: It has all ``columns``.

        Raises:
            FlawedRow: The row cannot be used.
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
            UserError: The file is missing, empty or unreadable, a column is missing, too many rows cannot be used, or
                no row gives a problem.
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
        read, flawed, first = 0, 0, list[tuple[str, str]]()
        for where, row in self._rows():
            read += 1
            try:
                problem = self._problem(row)
                if isinstance(problem, str):
                    self._skip(problem, where)
                    continue
                group = problem.id if self.by_id else text_id(problem.question)
                _check_id(ids.get(problem.id), gathered.number(group))
            except FlawedRow as error:
                self._skip(str(error), where)
                flawed += 1
                first = [*first, (where, str(error))][:EXAMPLES]
                continue
            any_dialogue = any_dialogue or bool(problem.dialogues)
            if gathered.number(group) is not None or len(gathered) != self.limit:
                ids[problem.id] = gathered.add(group, Row(where, problem))
            if len(gathered) == self.limit and not any_dialogue:
                break
        if flawed == read:
            raise UserError(f"{self.key}.path: no row can be used: {'; '.join(map(': '.join, first))}")
        check_share(f"{self.key}.max_flawed", self.max_flawed, flawed, read, first)
        return gathered

    def _skip(self, reason: str, where: str) -> None:
        self._skipped[reason] += 1
        if self._skipped[reason] <= EXAMPLES:
            self._examples.setdefault(reason, []).append(where)

    def _rows(self) -> Iterator[AnyRow]:
        """The rows with their columns under the names that are read, or why a row cannot be read."""
        checked = False
        try:
            rows = read_any_rows(self.path, self.split, self.encoding, self.subset, f"{self.key}.encoding")
            for where, row in rows:
                if isinstance(row, dict):
                    row = with_names(where, row, self._names())
                    if not checked:
                        self._check_columns(where, row)
                    checked = True
                yield where, row
        except UserError as error:
            raise UserError(f"{self.key}.path: {error}") from error

    def _names(self) -> Iterable[str]:
        """The columns that are read."""
        return self.columns

    def _check_columns(self, where: str, row: Mapping[str, Any]) -> None:
        """``UserError`` where the first row lacks a column that is needed."""
        if missing := [column for column in self.columns if column not in row]:
            raise no_column(where, missing, row)

    def _usable(self, row: dict[str, Any] | str) -> dict[str, Any]:
        if isinstance(row, str):
            raise FlawedRow(row)
        if empty := [column for column in self.columns if row.get(column) is None]:
            raise FlawedRow(f"nothing in column {', '.join(map(repr, empty))}")
        for column in self.columns:
            if column not in self.lists and not isinstance(row[column], str | int | float):
                raise FlawedRow(f"{column}: is of type {type(row[column]).__name__}, not text")
        return row

    def _problem(self, row: dict[str, Any] | str) -> Problem | str:
        try:
            return self.problem(self._usable(row))
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            raise FlawedRow(f"{first['loc'][0]}: {first['msg']}") from error


def _check_id(number: int | None, own_id: int | None) -> None:
    if number not in (None, own_id):
        raise FlawedRow("id: is that of another question before it")


class GSM8K(Source):
    """GSM8K (Cobbe et al., 2021, https://arxiv.org/abs/2110.14168): a step a line, the answer after ``####``."""

    columns: ClassVar[tuple[str, ...]] = ("question", "answer")

    def problem(self, row: Mapping[str, Any]) -> Problem:
        """The row without its calculator marks ``<<48/2=24>>``."""
        question = str(row["question"]).strip()
        work, marked, answer = str(row["answer"]).rpartition("####")
        if not question or not marked or not answer.strip():
            raise FlawedRow("answer: no final answer after ####" if question else "question: is empty")
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
