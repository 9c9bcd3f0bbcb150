"""The seed rows: a CSV of dialogues, each cut at a few places, with the columns Prompt, Bad answer and Good answer."""

import hashlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Annotated, NamedTuple

from socratic_rl.conversations.problems import Encoding
from socratic_rl.core.component import Count, MustExist
from socratic_rl.core.dialogue import (
    LABEL,
    Conversation,
    PreferencePair,
    Problem,
    Turn,
    merge_turns,
    parse_transcript,
    text_id,
)
from socratic_rl.core.errors import UserError
from socratic_rl.core.generator import Generator
from socratic_rl.core.records import RecordWriter
from socratic_rl.core.rows import csv_fields
from socratic_rl.measures import replies
from socratic_rl.pairs.audit import audit_rows
from socratic_rl.pairs.cases import Case, Rejected, Rejection
from socratic_rl.pairs.dataset import (
    DataSet,
    Flawed,
    Prepared,
    SocraticPairs,
    UnusableError,
    counts,
    go_on_from,
    name_flawed,
    own_file,
    share_mistakes,
)
from socratic_rl.pairs.duplicates import write_pairs
from socratic_rl.pairs.pairing import Share, WhichTurns, evenly, pairs_at, split_of
from socratic_rl.pairs.rejections import Annotated as Given

COLUMNS = ("Prompt", "Bad answer", "Good answer")


# what a narrator adds below a dialogue: "Note: The conversation above is just an example, …"
_NOTE = re.compile(r"^[ \t]*\(?note\b[^:\n]{0,20}:.*", re.IGNORECASE | re.MULTILINE | re.DOTALL)


class SeedRow(NamedTuple):
    """A row that can be used."""

    turns: tuple[Turn, ...]
    """The dialogue, student and teacher in turn; the last turn is the good answer."""
    bad: str
    """The bad answer; empty where the row has none."""


class SeedCsv(DataSet):
    """The seed rows as preference pairs: dialogues put together again, missing bad answers filled."""

    path: Annotated[str, MustExist(expands_home=True)]
    encoding: Encoding
    turns: WhichTurns
    """Which teacher turns become pairs: the rows' own, all of the dialogues, or so many of each, evenly spaced."""
    must_ask: bool
    """Only turns that ask the student something."""
    limit: Count | None
    """The first so many turns, in the order of the file."""
    validation: Share
    test: Share

    def mistakes(self) -> list[str]:
        """A path that is no file, shares that leave nothing to train on."""
        return [*super().mistakes(), *share_mistakes(self.validation, self.test)]

    def prepare(self, folder: Path, rejection: Rejection, generator: Generator | None, seed: int) -> Prepared:
        """Make ``pairs.jsonl`` in a folder, and ``flawed_rows.jsonl`` where a row has something wrong.

        Raises:
            UserError: The file cannot be read, has no usable row, or the rejection has nothing to say about any.
        """
        path = own_file(folder)
        file = Path(self.path).expanduser()
        try:
            rows, flawed = read_seed_rows(file, self.encoding)
        except UserError as error:
            raise UserError(f"dataset.path: {error}") from error
        conversations, turns_of_rows = put_together(rows)
        places = self._choose(conversations, turns_of_rows)
        if not places:
            first = f" ({flawed[0].where}: {flawed[0].why})" if flawed else ""
            raise UserError(f"dataset.path: {self.path}: none of its rows can be used{first}")
        with file.open("rb") as data:
            digest = hashlib.file_digest(data, "sha256").hexdigest()
        made_from = {
            "dataset": self.model_dump(mode="json"),
            "sha256": digest,
            "rejection": repr(rejection),
            "generator": repr(generator),
            "seed": seed,
        }
        go_on_from(folder, made_from, "all_pairs.jsonl*")
        make = partial(self._pairs, places, Filled(rejection=rejection), generator, seed)
        written = write_pairs(path, make, len(places))
        if written is None:
            raise UserError(
                f"rejection: {type(rejection).__name__} has nothing to say at any of {len(places)} turns; seed rows "
                "have neither gold answer nor worked steps: irrelevant, repeated, weak_model, constant or mixed fit"
            )
        pairs, duplicates = written
        read = len(rows) + sum(not row.used for row in flawed)
        nothing = len(places) - len(pairs) - duplicates
        problems = len({conversation.problem_id for conversation in conversations})
        summary = {
            "rows": f"{read}, {len(rows)} usable, at {sum(map(len, turns_of_rows))} different turns",
            **name_flawed(flawed, folder / "flawed_rows.jsonl"),
            "conversations": f"{len(conversations)} about {problems} problems",
            "pairs made": f"{len(pairs)} of {len(places)} turns ({duplicates} duplicates left out"
            f", {nothing} where there was no bad answer)",
            "rejected by": counts(pair.rejection for pair in pairs),
            "split": counts(pair.split for pair in pairs),
            **audit_rows(pairs, seed)[0],
        }
        return Prepared(SocraticPairs(path=str(path)), summary)

    def _choose(
        self, conversations: Sequence[Conversation], turns_of_rows: Sequence[Sequence[int]]
    ) -> list[tuple[Conversation, int]]:
        places = []
        for conversation, row_turns in zip(conversations, turns_of_rows, strict=True):
            turns = row_turns if self.turns == "rows" else range(1, len(conversation.turns), 2)
            fit = [n for n in turns if not self.must_ask or replies.asks_question(conversation.turns[n].text)]
            places += [
                (conversation, turn) for turn in (evenly(fit, self.turns) if isinstance(self.turns, int) else fit)
            ]
        return places[: self.limit]

    def _pairs(
        self,
        places: Sequence[tuple[Conversation, int]],
        rejection: Rejection,
        generator: Generator | None,
        seed: int,
        done: RecordWriter[PreferencePair],
    ) -> Iterator[PreferencePair]:
        questions = {conversation.problem_id: conversation.turns[0].text for conversation, _ in places}
        problems = {
            key: Problem(id=key, question=question, solution="", answer="", source="seed_csv")
            for key, question in questions.items()
        }
        side = partial(split_of, validation=self.validation, test=self.test)
        return pairs_at(places, side, problems, rejection, generator, seed, done)


class Filled(Rejection):
    """The bad answer that a row gives, and where it gives none that of another kind."""

    rejection: Rejection
    """The other kind."""

    def reject(self, cases: Sequence[Case], generator: Generator | None) -> list[Rejected | None]:
        """For every case the row's bad answer, or what the other kind says."""
        worse = Given().reject(cases, None)
        empty = [n for n, rejected in enumerate(worse) if rejected is None]
        if empty:
            filled = self.rejection.reject([cases[n] for n in empty], generator)
            for n, rejected in zip(empty, filled, strict=True):
                worse[n] = rejected
        return worse


def read_seed_rows(path: Path, encoding: str = "utf-8") -> tuple[list[SeedRow], list[Flawed]]:
    """The usable rows in the order of the file, and what is wrong with which row: left out, or mended and used.

    Raises:
        UserError: A column is missing, or the file is empty, not CSV or not in that encoding.
    """
    rows: list[SeedRow] = []
    flawed: list[Flawed] = []
    lines = csv_fields(path, encoding)
    names = _column_names(path, lines)
    for line, fields in lines:
        where = f"{path}:{line}"
        if len(fields) != len(names):
            flawed.append(Flawed(where, f"{len(fields)} fields, but {len(names)} columns"))
            continue
        cells = dict(zip(names, fields, strict=True))
        try:
            row, mended = parse_row(*(cells.get(column, "") for column in COLUMNS))
        except UnusableError as error:
            flawed.append(Flawed(where, str(error)))
            continue
        rows.append(row)
        flawed += [Flawed(where, what, used=True) for what in mended]
    return rows, flawed


def _column_names(path: Path, lines: Iterator[tuple[int, list[str]]]) -> list[str]:
    names = [name.strip() for name in next(lines, (0, []))[1]]
    if missing := [column for column in ("Prompt", "Good answer") if column not in names]:
        raise UserError(
            f"{path}:1: no column {', '.join(map(repr, missing))}; seed rows have {', '.join(COLUMNS)}, and the "
            f"columns here are {', '.join(names) or 'none'}"
        )
    return names


def parse_row(prompt: str, bad: str, good: str) -> tuple[SeedRow, list[str]]:
    """The dialogue that a row holds, and what was mended in it.

    Raises:
        UnusableError: Whose words they are cannot be told, or something is missing.
    """
    prompt, bad, good = (cell.replace("\r\n", "\n").replace("\r", "\n") for cell in (prompt, bad, good))
    mended: list[str] = []
    turns, before = _turns(prompt, "the prompt")
    if before:
        if turns and turns[0].speaker == "student":
            raise UnusableError("the prompt has text before its first label")
        mended.append("the prompt begins without a label, taken as the student's")
        turns.insert(0, Turn(speaker="student", text=before))
    turns = merge_turns(turns)
    if turns[0].speaker == "teacher":
        raise UnusableError("the prompt begins with the teacher")
    if turns[-1].speaker == "teacher":
        raise UnusableError("the prompt ends with the teacher")
    if _turns(good, "the good answer")[1]:
        mended.append("the good answer begins without a label, taken as the teacher's")
    answer = _answer(good, "the good answer", mended)
    if replies.speaks_for_student(answer):
        raise UnusableError("the good answer speaks for the student")
    worse = _answer(bad, "the bad answer", mended) if bad.strip() else ""
    if text_id(worse) == text_id(answer):
        raise UnusableError("the bad answer is the good one")
    return SeedRow((*turns, Turn(speaker="teacher", text=answer)), worse), mended


def _turns(cell: str, name: str) -> tuple[list[Turn], str]:
    """A cell's turns, and the text before its first label."""
    label = LABEL.search(cell)
    turns, before = parse_transcript(cell), cell[: label.start() if label else None].strip()
    if not turns and not before:
        raise UnusableError(f"{name} is empty" if not cell.strip() else f"{name} is a label without text")
    return turns, before


def _answer(cell: str, name: str, mended: list[str]) -> str:
    """What the teacher says in a cell; what is mended in it is added to the list."""
    turns, before = _turns(cell, name)
    if before:
        turns.insert(0, Turn(speaker="teacher", text=before))
    turns = merge_turns(turns)
    if turns[0].speaker == "student":
        raise UnusableError(f"{name} is the student's")
    if len(turns) > 1:
        mended.append(f"{name} goes on with the student's turn, cut off there")
    text = turns[0].text
    if note := _NOTE.search(text):
        mended.append(f"{name} ends in a note, cut off there")
        text = text[: note.start()].strip()
    if not text:
        raise UnusableError(f"{name} is a note")
    return text


@dataclass
class _Dialogue:
    """A dialogue in the making."""

    turns: tuple[Turn, ...]
    first: int
    """The number of its first row."""
    bad: dict[int, str] = field(default_factory=dict)
    """The bad answer of each turn that a row has, by the turn's index; empty where the row has none."""


def put_together(rows: Sequence[SeedRow]) -> tuple[list[Conversation], list[list[int]]]:
    """The conversations that the rows were cut from, in the order of the file, and the turns that each one's rows have.

    A row whose dialogue is the beginning of another row's belongs to that one's conversation. Conversations are about
    the same problem, and so on the same side of the split, where they open with the same words or where the student
    states a number in the same long sentence.

    Returns:
        The conversations and, for each, the indices of its rows' good answers in its turns.
    """
    by_beginning: dict[tuple[str, ...], _Dialogue] = {}
    dialogues: dict[str, _Dialogue] = {}
    # the longest first, so that a row's own dialogue is known when its beginnings come
    for number, row in sorted(enumerate(rows), key=lambda item: -len(item[1].turns)):
        ids = tuple(text_id(turn.text) for turn in row.turns)
        turn_index = len(ids) - 1
        dialogue = by_beginning.get(ids)
        earlier_bad = dialogue.bad.get(turn_index) if dialogue else None
        if dialogue is None or (earlier_bad and row.bad and text_id(earlier_bad) != text_id(row.bad)):
            # a second bad answer to the same turn makes a conversation of its own
            key = text_id(*ids) if dialogue is None else text_id(*ids, row.bad)
            dialogue = dialogues.setdefault(key, _Dialogue(row.turns, number))
            for length in range(2, len(ids) + 1, 2):
                by_beginning.setdefault(ids[:length], dialogue)
        dialogue.first = min(dialogue.first, number)
        dialogue.bad[turn_index] = dialogue.bad.get(turn_index) or row.bad
    ordered = sorted(dialogues.items(), key=lambda item: item[1].first)
    problem_ids = _problem_ids([dialogue.turns for _, dialogue in ordered])
    conversations = [
        Conversation(
            id=key,
            problem_id=problem_id,
            turns=tuple(
                turn.model_copy(update={"worse": dialogue.bad.get(n) or None}) for n, turn in enumerate(dialogue.turns)
            ),
            accepted=True,
            provenance={"writer": "seed_csv"},
        )
        for (key, dialogue), problem_id in zip(ordered, problem_ids, strict=True)
    ]
    return conversations, [sorted(dialogue.bad) for _, dialogue in ordered]


def _problem_ids(dialogues: Sequence[Sequence[Turn]]) -> list[str]:
    """An id for each dialogue, the same where they are about the same problem."""
    from scipy.cluster.hierarchy import DisjointSet

    same = DisjointSet()
    openings = []
    for turns in dialogues:
        # many open with no more than "Professor, can you help me?" and state the problem later
        first, *sentences = [text_id(turns[0].text), *(text_id(s) for turn in turns[:5:2] for s in _statements(turn))]
        openings.append(first)
        for key in (first, *sentences):
            same.add(key)
            same.merge(first, key)
    ids = {key: min(group) for group in same.subsets() for key in group}
    return [ids[opening] for opening in openings]


def _statements(turn: Turn) -> Iterator[str]:
    """The sentences that are long enough to be a problem's and state a number."""
    for sentence in re.split(r"(?<=[.?!])\s+", turn.text):
        words = re.findall(r"\w+", sentence)
        if len(words) >= 10 and any(map(str.isdigit, sentence)):
            yield " ".join(words)
