"""Problems of one's own, from files, and those that come with the project."""

from collections.abc import Mapping
from importlib import resources
from typing import Any

from socratic_rl.conversations.problems import Source
from socratic_rl.core.dialogue import Problem, text_id
from socratic_rl.core.errors import UserError
from socratic_rl.core.records import parse_record


class JsonlProblems(Source):
    """Our own record: rows are ``Problem``s. ``id`` and ``source`` may be left out."""

    def problem(self, where: str, row: Mapping[str, Any]) -> Problem:
        """The record; an empty answer is a mistake, unless human dialogues stand in for it."""
        values = {"id": text_id(str(row.get("question", ""))), "source": self.name, **row}
        problem = parse_record(Problem, where, values)
        if not problem.answer.strip() and not problem.dialogues:
            raise UserError(f"{where}: answer: is empty; the gold answer is needed")
        return problem


class Starter(JsonlProblems):
    """The problems that come with the project; the formula that their test recomputes answers from is dropped."""

    path: str = str(resources.files("socratic_rl.conversations") / "starter.jsonl")

    def problem(self, where: str, row: Mapping[str, Any]) -> Problem:
        """The record without its formula."""
        return super().problem(where, {key: value for key, value in row.items() if key != "formula"})
