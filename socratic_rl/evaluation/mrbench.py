"""MRBench (Maurya et al., 2025, https://arxiv.org/abs/2412.09416): tutors' replies, labelled by people."""

import re
from collections.abc import Iterator
from typing import Literal

from pydantic import ConfigDict, Field

from socratic_rl.core.dialogue import Record, Turn, parse_transcript
from socratic_rl.core.errors import UserError
from socratic_rl.core.records import parse_record
from socratic_rl.core.rows import read_rows

RIGHT = "Yes (and the answer is correct)"


UNKNOWN = "Not Available"


class _Row(Record):
    """Part of a row; what is not read of it may be there or not."""

    model_config = ConfigDict(frozen=True, extra="ignore")


class Labels(_Row):
    """What people say of a reply, in eight dimensions; those that are not named here are kept as they are."""

    model_config = ConfigDict(frozen=True, extra="allow")

    reveals: Literal["Yes (and the answer is correct)", "Yes (but the answer is incorrect)", "No"] = Field(
        alias="Revealing_of_the_Answer"
    )
    guides: Literal["Yes", "To some extent", "No"] = Field(alias="Providing_Guidance")


class Reply(_Row):
    """What one tutor, a model or a person, says next."""

    text: str = Field(alias="response")
    labels: Labels = Field(alias="annotation")


class Dialogue(_Row):
    """A dialogue up to a student's mistake, and several tutors' replies to it."""

    id: str = Field(alias="conversation_id")
    history: str = Field(alias="conversation_history")
    solution: str = Field(alias="Ground_Truth_Solution")
    topic: str = Field(alias="Topic", default="")
    source: str = Field(alias="Data", default="")
    """The set that the dialogue is from: MathDial or Bridge."""
    replies: dict[str, Reply] = Field(alias="anno_llm_responses")
    """By who wrote them."""

    @property
    def answer(self) -> str:
        """The gold answer, which the worked solution ends in; empty where the set does not know it (Bridge's rows)."""
        lines = [line.strip() for line in self.solution.splitlines() if line.strip()]
        return "" if self.solution.strip() == UNKNOWN or not lines else lines[-1]

    @property
    def session(self) -> str:
        """Bridge's session: the first 7 digits of a row from there, whose id is Bridge's ``4134665_64`` without its _.

        Any other id as it is.
        """
        match = re.fullmatch(r"(\d{7})\d+", self.id)
        return match[1] if match else self.id

    @property
    def turns(self) -> list[Turn]:
        """The dialogue; with a gold answer its first turn, the tutor's, states the problem."""
        return parse_transcript(self.history.replace("\xa0", " "))


def read(path: str) -> Iterator[tuple[str, Dialogue]]:
    """The dialogues of a file, each with its place.

    Raises:
        UserError: The file is missing or is another one, or a row lacks something; names the file and the line.
    """
    columns = ("conversation_id", "conversation_history", "Ground_Truth_Solution", "anno_llm_responses")
    for where, row in read_rows(path, columns=columns):
        dialogue = parse_record(Dialogue, where, row)
        if not dialogue.turns:
            raise UserError(f"{where}: conversation_history: has no line that begins with 'Tutor:' or 'Student:'")
        yield where, dialogue
