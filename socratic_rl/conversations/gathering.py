"""Rows about one question become one problem, with all their dialogues; contradicting ones become none."""

import sqlite3
from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import NamedTuple

from socratic_rl.core.dialogue import Problem, text_id
from socratic_rl.core.records import Index
from socratic_rl.notation import answers


class Row(NamedTuple):
    """A row's problem and its place, ``file:line``."""

    where: str
    problem: Problem


class Gathered:
    """Problems in groups, in a temporary file of SQLite's own: memory does not grow with them."""

    def __init__(self) -> None:
        self._groups = Index()
        self._rows = sqlite3.connect("")
        self._rows.execute("CREATE TABLE rows (number INTEGER, place TEXT, problem TEXT)")
        self._rows.execute("CREATE INDEX by_number ON rows (number)")
        self._contradicting: set[int] = set()

    def __len__(self) -> int:
        """How many groups there are whose rows agree."""
        return len(self._groups) - len(self._contradicting)

    def number(self, key: str) -> int | None:
        """The number of a group; None where it has no row."""
        return self._groups.get(key)

    def add(self, key: str, row: Row) -> int:
        """Put a row into a group; returns the group's number."""
        number = self._groups.get(key)
        if number is None:
            self._groups[key] = number = len(self._groups)
        elif any(contradict(row.problem.answer, other.problem.answer) for other in self._of(number)):
            self._contradicting.add(number)
        values = (number, row.where, row.problem.model_dump_json())
        self._rows.execute("INSERT INTO rows VALUES (?, ?, ?)", values)
        return number

    def _of(self, number: int) -> Iterator[Row]:
        rows = self._rows.execute("SELECT place, problem FROM rows WHERE number = ?", (number,))
        return (Row(where, Problem.model_validate_json(problem)) for where, problem in rows)

    def groups(self) -> Iterator[tuple[list[Row], bool]]:
        """Each group's rows, and whether they agree on the answer; in the order of their first rows."""
        rows = self._rows.execute("SELECT number, place, problem FROM rows ORDER BY number, rowid")
        for number, group in groupby(rows, key=lambda row: row[0]):
            yield (
                [Row(where, Problem.model_validate_json(problem)) for _, where, problem in group],
                number not in self._contradicting,
            )


def contradict(first: str, other: str) -> bool:
    """Whether two gold answers to one question differ: neither is empty, and neither states the other."""
    if not first.strip() or not other.strip() or text_id(first) == text_id(other):
        return False
    return not (answers.states(first, other) or answers.states(other, first))


def together(problems: Sequence[Problem]) -> Problem:
    """The first of these problems that has an answer, with the first one's id and the dialogues of all."""
    solved = next((problem for problem in problems if problem.answer.strip()), problems[0])
    dialogues = tuple(dialogue for problem in problems for dialogue in problem.dialogues or ())
    return solved.model_copy(update={"id": problems[0].id, "dialogues": dialogues or None})
