"""Who says what in a transcript: any label before a colon is a speaker, whatever its language, lines or marks."""

import re
import unicodedata
from collections.abc import Mapping, Sequence
from functools import cache, lru_cache
from importlib import resources
from itertools import pairwise
from typing import Annotated, NamedTuple

import yaml  # type: ignore[import-untyped]
from pydantic import BaseModel, BeforeValidator, ConfigDict

from socratic_rl.core.dialogue import Speaker, Turn


def _words(value: object) -> object:
    return [value] if isinstance(value, str) else value


Names = Annotated[tuple[str, ...], BeforeValidator(_words)]


class Labels(BaseModel):
    """How the two sides are called in a transcript, beside the usual names; case and marks around them aside."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    student: Names = ()
    teacher: Names = ()
    neither: Names = ()
    """What stands before a colon and is no speaker: ``Volume``."""

    def speaker(self, label: str) -> Speaker | None:
        """Who speaks under a label, ``Student 2`` and ``Student (Ann)`` too; None where neither side is called so."""
        names = _by_name(self.student, self.teacher)
        outside, _, inside = label.partition("(")
        forms = (label, re.sub(r"\W*\d+\W*$", "", label), outside, inside)
        return next((names[form] for form in map(bare, forms) if form in names), None)

    def may_be_speaker(self, label: str) -> bool:
        """Whether a label that neither side has is written as somebody's name: no heading, number or phrase."""
        words = label.split()
        is_other = {bare(label), bare(words[0])} & {*_usual()["heading"], *map(bare, self.neither)}
        return not is_other and len(words) <= 3 and not re.search(r"\d", label) and not any(map(str.islower, words[1:]))


@lru_cache(maxsize=1 << 6)
def _by_name(student: tuple[str, ...], teacher: tuple[str, ...]) -> Mapping[str, Speaker]:
    students: dict[str, Speaker] = dict.fromkeys([*_usual()["student"], *map(bare, student)], "student")
    teachers: dict[str, Speaker] = dict.fromkeys([*_usual()["teacher"], *map(bare, teacher)], "teacher")
    speakers: dict[str, Speaker] = dict.fromkeys(map(bare, student), "student")
    return students | teachers | speakers


@cache
def _usual() -> Mapping[str, Sequence[str]]:
    """The usual names of both sides, and what is nobody's name."""
    text = (resources.files("socratic_rl.conversations") / "speakers.yaml").read_text(encoding="utf-8")
    names: dict[str, list[str]] = yaml.safe_load(text)
    return names


def bare(label: str) -> str:
    """A label without case and the marks around it: ``**Mr. Lee**`` is ``mr. lee``."""
    return " ".join(re.sub(r"^[\W_]+|[\W_]+$", "", unicodedata.normalize("NFKC", label).casefold()).split())


_BREAK = re.compile(
    # "\n" in letters, but not LaTeX's \neq or \nu
    r"\\{1,2}(?:r\\{1,2})?n(?!(?:abla|eg?|eq|ewline|exists|leq|geq|mid|ot|otin|parallel|u|earrow|warrow|sim)\b)"
    r"|(?i:(?:<|&lt;)br ?/?(?:>|&gt;)|</(?:p|div|li)>)|&#1[03];|_x000D_|\|EOM\||\r\n|[\r\v\f\x85\u2028\u2029]"
)


def with_line_breaks(text: str) -> str:
    r"""The text with every form of a line break, ``<br>`` and ``\n`` in letters too, as one."""
    return re.sub(r"\n?<(?:p|div|li)>", "\n", _BREAK.sub("\n", text), flags=re.IGNORECASE)


_MARKS = r"[^\w\n:：]{0,6}"


# "[12:03] **Student 2 (Ann):**", "学生："
_LINE_LABEL = re.compile(
    rf"^[ \t]*(?:[\[(]?\d{{1,2}}:\d\d(?::\d\d)?[\])]?|\d{{1,3}}[.)])?{_MARKS}"
    r"(?P<label>[^\W\d_](?:[\w .'’()/-]{0,30}?[\w).])?)"
    rf"{_MARKS}(?P<colon>[:：])[*_\]>]*[ \t]*",
    re.MULTILINE,
)


@lru_cache(maxsize=1 << 6)
def _in_line(labels: Labels) -> re.Pattern[str]:
    """A known name before a colon, wherever it stands."""
    names = sorted(_by_name(labels.student, labels.teacher), key=len, reverse=True)
    any_name = "|".join(re.escape(name).replace(r"\ ", r"\s+") for name in names)
    return re.compile(
        rf"(?<![\w'’-])[*_\[(<]{{0,3}}(?P<label>(?:{any_name})(?: ?\d{{1,2}})?)[*_\])>]{{0,3}} ?[:：][*_]*[ \t]*",
        re.IGNORECASE,
    )


class Transcript(NamedTuple):
    """A text as turns."""

    before: str
    """What stands before the first label."""
    turns: list[Turn]
    """In order, not merged; labels without text are dropped."""
    left: str | None
    """The first label that a turn still holds: a name of nobody known, or one in the midst of a line."""


def read_transcript(text: str, labels: Labels, *, in_lines: bool) -> Transcript:
    """The turns of a text by their labels; a turn goes on until the next one.

    Args:
        text: Its line breaks in one form (``with_line_breaks``).
        labels: The names of the two sides.
        in_lines: Whether turns may follow each other on one line. Then a known name before a colon begins one where
            the other side has spoken before it, and it is capitalised as a name or a sentence has ended.
    """
    matches = list(_LINE_LABEL.finditer(text))
    starts = [(m.start(), m.end(), speaker) for m in matches if (speaker := labels.speaker(m["label"]))]
    line_starts = list(starts)
    small = any(m["label"][0].islower() for m in matches if labels.speaker(m["label"]))
    left = {
        m.start(): m["label"].strip()
        for m in matches
        if not labels.speaker(m["label"])
        and labels.may_be_speaker(m["label"])
        and (small or not m["label"][0].islower() or not text[: m.start()].strip())
        # 8:00 and https://
        and not re.match(r"\d|//", text[m.end("colon") :])
    }
    for match in _in_line(labels).finditer(text):
        if any(start <= match.start("label") < end for start, end, _ in line_starts):
            continue
        before = max((start for start in starts if start[0] < match.start()), default=None)
        speaker = labels.speaker(match["label"])
        is_turn = in_lines and before and before[2] != speaker and _begins_turn(text, match)
        if is_turn and speaker:
            starts.append((match.start(), match.end(), speaker))
        else:
            left[match.start()] = match["label"].strip()
    starts.sort()
    ends = [*(begin for begin, _, _ in starts), len(text)][1:] if starts else []
    turns = [
        Turn(speaker=speaker, text=words)
        for (_, begin, speaker), end in zip(starts, ends, strict=True)
        if (words := text[begin:end].strip())
    ]
    return Transcript(text[: starts[0][0] if starts else None].strip(), turns, left[min(left)] if left else None)


def _begins_turn(text: str, match: re.Match[str]) -> bool:
    """Whether a name in the midst of a line is written as a speaker's: capitalised, or after a sentence."""
    return not match["label"][0].islower() or bool(re.search(r"[.?!…。！？][\"”')]*\s+$", text[: match.start()]))


def at_labels(text: str, labels: Labels) -> list[str]:
    """The text, cut before each line that begins with a known label."""
    starts = [match.start() for match in _LINE_LABEL.finditer(text) if labels.speaker(match["label"])]
    return [text[start:end] for start, end in pairwise([0, *starts, len(text)])]


class StrangerError(Exception):
    """Somebody speaks who is neither the teacher nor the student of the record."""

    def __init__(self, label: str) -> None:
        super().__init__(f"{label!r} speaks, neither teacher nor student by the record")


def said_once(text: str) -> str:
    """The text without lines that it says again, and without a sentence that follows itself; spacing, case aside."""
    earlier_lines: set[str] = set()
    lines = []
    for line in text.split("\n"):
        key = _same(line)
        if not key or key not in earlier_lines:
            lines.append(_sentences_once(line))
            earlier_lines |= {key, _same(lines[-1])}
    return "\n".join(lines)


def _sentences_once(line: str) -> str:
    sentences = re.split(r"(?<=[.?!])\s+", line)
    once = [sentence for n, sentence in enumerate(sentences) if not n or _same(sentence) != _same(sentences[n - 1])]
    return line if len(once) == len(sentences) else " ".join(once)


def _same(text: str) -> str:
    return "".join(text.split()).casefold()
