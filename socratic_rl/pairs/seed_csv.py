"""The seed rows: a CSV of dialogues, each cut at a few places, with the columns Prompt, Bad answer and Good answer."""

import hashlib
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Annotated

from pydantic import Field

from socratic_rl.conversations.problems import Encoding
from socratic_rl.conversations.transcripts import Labels, Transcript, read_transcript, said_once, with_line_breaks
from socratic_rl.core.component import Count, MustExist, Real
from socratic_rl.core.dialogue import Conversation, PreferencePair, Problem, Turn, merge_turns, text_id
from socratic_rl.core.errors import UserError
from socratic_rl.core.generator import Generator
from socratic_rl.core.records import RecordWriter
from socratic_rl.core.rows import check_share, csv_fields
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
    told_counts,
)
from socratic_rl.pairs.duplicates import write_pairs
from socratic_rl.pairs.pairing import Share, Split, WhichTurns, evenly, pairs_at, split_of
from socratic_rl.pairs.rejections import Annotated as Given
from socratic_rl.pairs.seed_dialogues import SeedRow, put_together, variants

COLUMNS = ("Prompt", "Bad answer", "Good answer")


USUAL = Labels()


OF_NOBODY = "of nobody known"


# what a narrator adds below a dialogue: "Note: The conversation above is just an example, …"
_NOTE = re.compile(r"^[ \t]*\(?note\b[^:\n]{0,20}:.*", re.IGNORECASE | re.MULTILINE | re.DOTALL)


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
    labels: Labels = USUAL
    """Names of the two sides beside the usual ones."""
    max_flawed: Annotated[Real, Field(ge=0, le=1)] = 0.05
    """The share of rows that may be unusable or mended."""

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
        rows, flawed, read = self._read(file)
        conversations, turns_of_rows = put_together(rows)
        passed_over = Counter[str]()
        places = self._choose(conversations, turns_of_rows, passed_over)
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
        groups = variants(conversations)
        make = partial(self._pairs, places, groups, Filled(rejection=rejection), generator, seed)
        written = write_pairs(path, make, len(places))
        if written is None:
            raise UserError(
                f"rejection: {type(rejection).__name__} has nothing to say at any of {len(places)} turns; seed rows "
                "have neither gold answer nor worked steps: irrelevant, repeated, weak_model, constant or mixed fit"
            )
        pairs, duplicates = written
        nothing = len(places) - len(pairs) - duplicates
        problems = len({conversation.problem_id for conversation in conversations})
        summary = {
            "rows": f"{read}, {len(rows)} usable, at {sum(map(len, turns_of_rows))} different turns",
            **name_flawed(flawed, folder / "flawed_rows.jsonl"),
            "conversations": f"{len(conversations)} about {problems} problems",
            "pairs made": f"{len(pairs)} of {len(places)} turns ({duplicates} duplicates left out"
            f", {nothing} where there was no bad answer)",
            **(
                {"turns passed over": told_counts(passed_over, passed_over.total() + len(places))}
                if passed_over.total()
                else {}
            ),
            "rejected by": counts(pair.rejection for pair in pairs),
            "split": counts(pair.split for pair in pairs),
            **_variants_row(groups),
            **audit_rows(pairs, seed, Filled(rejection=rejection).against_shortcut)[0],
        }
        return Prepared(SocraticPairs(path=str(path)), summary)

    def _read(self, file: Path) -> tuple[list[SeedRow], list[Flawed], int]:
        """The usable rows, those with something wrong, and how many there are in all."""
        try:
            rows, flawed = read_seed_rows(file, self.encoding, self.labels)
        except UserError as error:
            raise UserError(f"dataset.path: {error}") from error
        read = len(rows) + sum(not row.used for row in flawed)
        check_share(
            "dataset.max_flawed",
            self.max_flawed,
            len({row.where for row in flawed}),
            read,
            [(row.where, row.why) for row in flawed[:3]],
            "are broken or had to be mended",
            _advice(flawed),
        )
        return rows, flawed, read

    def _choose(
        self,
        conversations: Sequence[Conversation],
        turns_of_rows: Sequence[Sequence[int]],
        passed_over: Counter[str],
    ) -> list[tuple[Conversation, int]]:
        places = []
        for conversation, row_turns in zip(conversations, turns_of_rows, strict=True):
            turns = row_turns if self.turns == "rows" else range(1, len(conversation.turns), 2)
            fit = [n for n in turns if not self.must_ask or replies.asks_question(conversation.turns[n].text)]
            chosen = evenly(fit, self.turns) if isinstance(self.turns, int) else fit
            passed_over["does not ask"] += len(turns) - len(fit)
            passed_over[f"more than {self.turns} of a conversation"] += len(fit) - len(chosen)
            places += [(conversation, turn) for turn in chosen]
        passed_over["beyond dataset.limit"] += len(places[self.limit or len(places) :])
        return places[: self.limit]

    def _pairs(
        self,
        places: Sequence[tuple[Conversation, int]],
        groups: Mapping[str, str],
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

        def side_of(problem_id: str) -> Split:
            return split_of(groups[problem_id], self.validation, self.test)

        return pairs_at(places, side_of, problems, rejection, generator, seed, done)


def _variants_row(groups: Mapping[str, str]) -> dict[str, object]:
    sizes = Counter(groups.values())
    several = [size for size in sizes.values() if size > 1]
    note = (
        f"{sum(several)} problems are variants of {len(several)}, equal but for numbers, kept on one side of the split"
    )
    return {"variants": note} if several else {}


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

    def against_shortcut(self, kinds: Sequence[str]) -> str:
        """What the other kind says; the rows' own bad answers have no weight."""
        if list(kinds) == [Given.kind]:
            return "other bad answers in the rows"
        return self.rejection.against_shortcut([kind for kind in kinds if kind != Given.kind])


def read_seed_rows(path: Path, encoding: str = "utf-8", labels: Labels = USUAL) -> tuple[list[SeedRow], list[Flawed]]:
    """The usable rows in the order of the file, and what is wrong with which row: left out, or mended and used.

    Raises:
        UserError: A column is missing, or the file is empty, not CSV or not in that encoding.
    """
    rows: list[SeedRow] = []
    flawed: list[Flawed] = []
    lines = csv_fields(path, encoding, "dataset.encoding")
    names = _column_names(path, lines)
    for line, fields in lines:
        where = f"{path}:{line}"
        if len(fields) != len(names):
            flawed.append(Flawed(where, f"{len(fields)} fields, but {len(names)} columns"))
            continue
        cells = dict(zip(names, fields, strict=True))
        try:
            row, mended = parse_row(*(cells.get(column, "") for column in COLUMNS), labels=labels)
        except UnusableError as error:
            flawed.append(Flawed(where, str(error)))
            continue
        rows.append(row)
        flawed += [Flawed(where, what, used=True) for what in mended]
    return rows, flawed


def _column_names(path: Path, lines: Iterator[tuple[int, list[str]]]) -> list[str]:
    usual = {column.lower(): column for column in COLUMNS}
    names = [usual.get(name.strip().lower(), name.strip()) for name in next(lines, (0, []))[1]]
    if missing := [column for column in ("Prompt", "Good answer") if column not in names]:
        raise UserError(
            f"{path}:1: no column {', '.join(map(repr, missing))}; seed rows have {', '.join(COLUMNS)}, and the "
            f"columns here are {', '.join(names) or 'none'}"
        )
    return names


def parse_row(prompt: str, bad: str, good: str, *, labels: Labels = USUAL) -> tuple[SeedRow, list[str]]:
    """The dialogue that a row holds, and what was mended in it.

    Raises:
        UnusableError: Whose words they are cannot be told, or something is missing.
    """
    mended: list[str] = []
    asked = _transcript(prompt, "the prompt", labels)
    turns = asked.turns
    if asked.before:
        if turns and turns[0].speaker == "student":
            raise UnusableError("the prompt has text before its first label")
        mended.append("the prompt begins without a label, taken as the student's")
        turns.insert(0, Turn(speaker="student", text=asked.before))
    turns = [_said_once(turn) for turn in merge_turns(turns)]
    if turns[0].speaker == "teacher":
        raise UnusableError("the prompt begins with the teacher")
    if turns[-1].speaker == "teacher":
        raise UnusableError("the prompt ends with the teacher")
    _check_left(asked, "the prompt", labels)
    if _transcript(good, "the good answer", labels).before:
        mended.append("the good answer begins without a label, taken as the teacher's")
    answer = _answer(good, "the good answer", labels, mended)
    worse = _answer(bad, "the bad answer", labels, mended) if bad.strip() else ""
    if text_id(worse) == text_id(answer):
        raise UnusableError("the bad answer is the good one")
    return SeedRow((*turns, Turn(speaker="teacher", text=answer)), worse), list(dict.fromkeys(mended))


def _transcript(cell: str, name: str, labels: Labels) -> Transcript:
    """A cell's turns; only in the prompt may several stand on one line."""
    text = with_line_breaks(cell)
    transcript = read_transcript(text, labels, in_lines=name == "the prompt")
    if not transcript.turns and not transcript.before:
        raise UnusableError(f"{name} is empty" if not text.strip() else f"{name} is a label without text")
    return transcript


def _check_left(transcript: Transcript, name: str, labels: Labels) -> None:
    label = transcript.left
    if label and labels.speaker(label):
        raise UnusableError(f"{name} holds the label {label!r} in the midst of a turn")
    if label:
        raise UnusableError(f"{name} holds the label {label!r} {OF_NOBODY}")


def _advice(flawed: Sequence[Flawed]) -> str:
    """How to say whose the first unknown label is; nothing where there is none."""
    labels = (re.search(rf"label '(.*)' {OF_NOBODY}", row.why) for row in flawed)
    named = next((f"'dataset.labels.student=[{match[1]}]'" for match in labels if match), None)
    return f"; say whose a label is by {named}, dataset.labels.teacher or dataset.labels.neither" if named else ""


def _said_once(turn: Turn) -> Turn:
    return turn.model_copy(update={"text": said_once(turn.text)}) if turn.speaker == "teacher" else turn


def _answer(cell: str, name: str, labels: Labels, mended: list[str]) -> str:
    """What the teacher says in a cell; what is mended in it is added to the list."""
    transcript = _transcript(cell, name, labels)
    turns = transcript.turns
    if transcript.before:
        turns.insert(0, Turn(speaker="teacher", text=transcript.before))
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
    if name == "the good answer" and replies.speaks_for_student(text):
        raise UnusableError("the good answer speaks for the student")
    _check_left(transcript, name, labels)
    return said_once(text)
