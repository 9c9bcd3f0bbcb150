"""Problems of one's own, from files, and those that come with the project."""

import logging
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal
from importlib import resources
from typing import Any

from pydantic import PrivateAttr

from socratic_rl.conversations.problems import FlawedRow, Source
from socratic_rl.core.dialogue import Problem, text_id
from socratic_rl.core.errors import UserError
from socratic_rl.core.rows import likely, no_column
from socratic_rl.core.text_files import JsonError, json_value

logger = logging.getLogger(__name__)


OPTIONAL = ("solution", "steps", "id", "topic", "dialogues")
"""The fields that a row need not have."""


LONGEST = 300
"""Characters of the longest gold answer; a longer text is a worked solution, whose last line says the answer."""


class JsonlProblems(Source):
    r"""Problems of rows with any column names; without any, our own record.

    A gold answer that stands at the end of a worked solution, after ``####``, in ``\boxed{…}`` or after "The answer
    is", is read there, and what it ends is the solution where there is none of its own.
    """

    question: str | tuple[str, ...] = "question"
    """The column of the question, or several that make it together."""
    answer: str = "answer"
    """The column of the gold answer: text, a number, or a worked solution that ends with it."""
    solution: str | None = "solution"
    """The column of the worked solution."""
    steps: str | None = "steps"
    """The column of the solution's steps: texts, or objects with ``work``, ``question`` and ``reply``."""
    id: str | None = "id"
    """The column of the id; without one it is made from the question."""
    topic: str | None = "topic"
    """The column of the topic."""
    dialogues: str | None = "dialogues"
    """The column of human dialogues about the problem."""

    _unread: dict[str, None] = PrivateAttr(default_factory=dict)

    def read(self) -> Iterator[Problem]:
        """The problems, see ``Source.read``; columns that are not read are named once."""
        self._unread.clear()
        yield from super().read()
        if self._unread:
            logger.warning("%s: columns that are not read: %s", self.name, ", ".join(self._unread))

    @property
    def _question_columns(self) -> tuple[str, ...]:
        return (self.question,) if isinstance(self.question, str) else self.question

    def _names(self) -> list[str]:
        optional = (self.solution, self.steps, self.id, self.topic, self.dialogues, "source")
        return [*self._question_columns, self.answer, *(name for name in optional if name)]

    def _check_columns(self, where: str, row: Mapping[str, Any]) -> None:
        """Missing are a question, an answer without which there are dialogues, and what is called by another name."""
        fields = type(self).model_fields
        needed = [("question", name) for name in self._question_columns]
        if not (self.dialogues and row.get(self.dialogues)):
            needed.append(("answer", self.answer))
        needed += [(key, name) for key in OPTIONAL if (name := getattr(self, key)) not in (None, fields[key].default)]
        for key, name in needed:
            if name not in row:
                advice = f"{self.key}.{key}={likely(row, LIKELY.get(key, ()))}"
                raise UserError(f"{no_column(where, [name], row)}; {advice} says which it is")

    def problem(self, row: Mapping[str, Any]) -> Problem:
        """The row as a problem.

        Raises:
            FlawedRow: The question or the answer is missing, or something is of a type that it cannot have.
        """
        self._unread |= dict.fromkeys(name for name in row if name and name not in self._names())
        values = {key: row.get(getattr(self, key)) for key in OPTIONAL}
        parts = (_text(row.get(name), "question", several=True) for name in self._question_columns)
        question = " ".join(part for part in parts if part)
        if not question:
            raise FlawedRow("question: is empty")
        solution = _text(values.get("solution"), "solution", several=True)
        worked, answer = final_answer(_text(row.get(self.answer), "answer"))
        steps = _steps(values.get("steps"))
        dialogues = _parsed(values.get("dialogues"), "dialogues") or None
        if not answer and not dialogues:
            raise FlawedRow("answer: is empty")
        return Problem(
            id=_text(values.get("id"), "id") or text_id(question),
            question=question,
            solution=solution or worked or "\n".join(step["work"] for step in steps),
            steps=steps,
            answer=answer,
            topic=_text(values.get("topic"), "topic"),
            source=_text(row.get("source"), "source") or self.name,
            dialogues=dialogues,
        )


LIKELY = {
    "question": ("problem", "query", "instruction", "prompt", "input", "text", "body"),
    "answer": ("final_answer", "expected_answer", "final_ans", "target", "label", "output", "response", "solution"),
}
"""What columns are mostly called in public data sets, for advice."""


# what programs write where there is nothing
_NOTHING = {"nan", "none", "null", "n/a", "<na>"}


def _text(value: Any, name: str, several: bool = False) -> str:
    """A value of a row as text; empty where there is none.

    Args:
        value: Text, a number, a truth value, or a list of one of them.
        name: What it is, for what is told.
        several: Whether the list may be longer.

    Raises:
        FlawedRow: It is something else.
    """
    if isinstance(value, list) and (several or len(value) == 1):
        return "\n".join(_text(item, name) for item in value)
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        # a column of whole numbers with a gap in it holds 5 as 5.0
        value = int(value) if value.is_integer() else value
    if not isinstance(value, str | int | float | Decimal) or value in (math.inf, -math.inf):
        what = f"of type {type(value).__name__}" if not isinstance(value, float) else str(value)
        raise FlawedRow(f"{name}: is {what}, not text or a number")
    text = str(value).strip()
    return "" if text.lower() in _NOTHING else text


def final_answer(text: str) -> tuple[str, str]:
    """A worked solution and the answer that ends it; no solution where the text is the answer alone.

    Raises:
        FlawedRow: The text is too long for an answer and does not say where in it the answer is.
    """
    if "####" in text:
        work, _, answer = text.rpartition("####")
        answer = answer.strip().split("\n")[0].strip()
        if not answer:
            raise FlawedRow("answer: no final answer after ####")
        return work.strip(), answer
    if boxed := _boxed(text):
        return ("" if len(text) <= len(boxed) + len("$\\boxed{}$.") else text), boxed
    if match := _ENDS_WITH.search(text):
        return text[: match.start()].strip(), match["answer"].strip().removesuffix(".")
    if len(text) > LONGEST:
        raise FlawedRow(
            f"answer: a text of more than {LONGEST} characters that does not end in an answer (#### 5, "
            "\\boxed{5}, The answer is 5)"
        )
    return "", text


_ENDS_WITH = re.compile(
    r"(?:^|\n|(?<=[.!?]\s))(?:(?:so|thus|hence|therefore),? )?(?:the (?:final )?answer is|(?:final )?answer):? *"
    r"(?P<answer>[^\n]+?)\s*\Z",
    re.IGNORECASE,
)


def _boxed(text: str) -> str | None:
    r"""What stands in the last ``\boxed{…}`` of a text; None where there is none."""
    start = max(text.rfind(mark) for mark in ("\\boxed{", "\\fbox{"))
    if start < 0:
        return None
    opening = text.index("{", start)
    depth = 0
    for position in range(opening, len(text)):
        depth += {"{": 1, "}": -1}.get(text[position], 0)
        if not depth:
            return text[opening + 1 : position].strip() or None
    return None


def _parsed(value: Any, name: str) -> Any:
    """A list, which a CSV holds as JSON."""
    if not isinstance(value, str) or not value.strip().startswith("["):
        return value
    try:
        return json_value(value)
    except JsonError as error:
        raise FlawedRow(f"{name}: looks like a list and is {error}") from error


def _steps(value: Any) -> list[dict[str, Any]]:
    """The steps as our record holds them: of texts, of objects, or of the lines of a text."""
    value = _parsed(value, "steps") or []
    steps = value.splitlines() if isinstance(value, str) else value
    if not isinstance(steps, Sequence):
        raise FlawedRow(f"steps: is of type {type(value).__name__}, not a list")
    records = [step if isinstance(step, dict) else {"work": _text(step, "steps")} for step in steps]
    if any("work" not in record for record in records):
        raise FlawedRow("steps: one is an object without 'work'")
    return [record for record in records if record["work"]]


class Starter(JsonlProblems):
    """The problems that come with the project; the formula that their test recomputes answers from is dropped."""

    path: str = str(resources.files("socratic_rl.conversations") / "starter.jsonl")

    def problem(self, row: Mapping[str, Any]) -> Problem:
        """The record without its formula."""
        return super().problem({key: value for key, value in row.items() if key != "formula"})
