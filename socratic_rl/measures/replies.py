"""What can be measured of one teacher reply without a judge, and where in the reply it stands."""

import re
from collections.abc import Sequence
from difflib import SequenceMatcher
from functools import lru_cache
from itertools import pairwise

from socratic_rl.measures.asking import LEAD, SENTENCE_END, STUDENT_LABEL
from socratic_rl.measures.asking import asks_question as asks_question
from socratic_rl.measures.asking import questions as questions
from socratic_rl.notation.answers import concluded, ends_in, first_stated, is_answer, stated_at, states, values
from socratic_rl.notation.spans import Span, pieces

_RESULT = r"(?:gets?|got|gives?|giving|is|are|was|equals?|makes?|leaves?|have|so|which|then|results?|becomes?|means?)\b"


_UP_TO = rf"(?:(?!\b{_RESULT})[^.;:?!=,\n]){{0,60}}?"


# "divide the cost by", "add 3 to", "subtract"
_TO_WORK_WITH = re.compile(
    rf"\b(?:(?:divid|multiply|multipl|split|shar)(?:e|ing|ting)?\b{_UP_TO}\b(?:by|into|among)"
    r"|(?:add|subtract|deduct|multiply|divide|split|times)(?:ing|ting)?(?: the| another| these| those)?"
    r"|(?:multiply|divid)(?:e|ing)(?: the| these| those)?"
    rf"|(?:add|subtract|deduct)(?:ing)?\b{_UP_TO}\b(?:and|to|from|with))[ ($]*$",
    re.IGNORECASE,
)


# "take 2 away", "2 more than"
_TO_TAKE = re.compile(r"(?<=\btake )\w+ (?:away|off|out|from)\b", re.IGNORECASE)


_ANALOGY = re.compile(
    rf"{LEAD}(?:(?:let's )?(?:suppose|imagine|pretend|say)|for (?:example|instance)|as an example"
    r"|think of it this way)\b[,:]?(?: that)?(?: if)? (?:an?|one|some\w*|you|i|we|my|your)\b"
    r"|(?:[^.?!]{0,60}\b)?if (?:an? (?P<subject>\w+)|some(?:one|body)"
    r"|(?:you|i|we) (?:had|were|bought|owned|ate|gave|drove))\b",
    re.IGNORECASE,
)


def _asides(reply: str, start: int, end: int, question: str) -> list[Span]:
    """What of a sentence speaks of another thing than the problem, or of a number to work with."""
    sentence = reply[start:end].replace("’", "'")
    if (match := _ANALOGY.match(sentence.lstrip(' "“*'))) and not _is_of_problem(match["subject"], question):
        return [(start, end)]
    return [
        (start + number.start(), start + number.end())
        for number in re.finditer(r"\w+", sentence)
        if _TO_WORK_WITH.search(sentence, 0, number.start()) or _TO_TAKE.match(sentence, number.start())
    ]


def _is_of_problem(subject: str | None, question: str) -> bool:
    return bool(subject) and bool(re.search(rf"\b{re.escape(str(subject))}", question, re.IGNORECASE))


_DENIED_BEFORE = re.compile(
    r"(?:\b(?:not|never|cannot)|n['’]t)"
    r"(?: (?!but\b|only\b|know\b|sure\b|certain\b|understand\b|see\b|remember\b|until\b|it['’]s\b)[A-Za-z'’]+){0,5}"
    r"[ $*\"“']*$",
    re.IGNORECASE,
)


_DENIED_AFTER = re.compile(
    r"[\"”'*]*(?: \w+)? (?:(?:is|was|seems|looks)(?: not|n['’]t)?"
    r" (?:right|correct|wrong|incorrect|it|the answer|too \w+)"
    r"|(?:can|could|must|should)(?: ?not|n['’]t) be\b|(?:is|was)(?: not|n['’]t)\b)"
    r"|,? which (?:is|was)(?: not|n['’]t)\b",
    re.IGNORECASE,
)


_SENTENCE = re.compile(r"(?<=[.!?])\s+|\n")


def _without_denials(text: str, answer: str) -> str:
    """The text without the gold answer where it is denied: "It is not 7 weeks", "7 is wrong"."""
    if not states(text, answer):
        return text
    for start, end in reversed(stated_at(text, answer)):
        first, last = next((piece for piece in pieces(_SENTENCE, text) if piece[0] <= start < piece[1]), (0, len(text)))
        after = _DENIED_AFTER.match(text, end)
        denied = _DENIED_BEFORE.search(text[first:start]) or (
            after
            and not re.search(r" (?:is|was|seems|looks) (?:right|correct|it|the answer)$", after[0], re.IGNORECASE)
        )
        if denied and not text[first:last].rstrip().endswith("?"):
            text = text[:start] + " " * (end - start) + text[end:]
    return text


def revealed(reply: str, answer: str, before: Sequence[str]) -> list[Span] | None:
    """What in the reply gives the gold answer away.

    It does when it states the answer and the question and no earlier turn stated it, or when it presents the answer as
    a conclusion ("so the total is 90 minutes") and the turn before did not end in it: people call that revealing too
    where the student had 90 minutes as an intermediate result or gave it up, not where the student has just found it.

    An earlier turn that denies it ("It is not 7 weeks") did not state it. A number in an analogy ("If a cake took 4
    grams …") and one to work with ("divide the cost by 2") is not the answer.

    Args:
        reply: The teacher's reply.
        answer: The gold answer, in any notation.
        before: The question, then every earlier turn. A number that stands there with another unit does not make the
            answer known, the same number without a unit does.

    Returns:
        None where there is no gold answer.
    """
    if not is_answer(answer):
        return None
    question, *turns = before
    turns = [_without_denials(turn, answer) for turn in turns]
    asides = [span for start, end in pieces(SENTENCE_END, reply) for span in _asides(reply, start, end, question)]
    stated = first_stated(reply, answer, [question, *turns])
    if not stated and not ends_in([question, *turns][-1], answer):
        stated = concluded(reply, answer)
    return [place for place in stated if not any(first <= place[0] < last for first, last in asides)]


def reveals_answer(reply: str, answer: str, known: Sequence[str]) -> bool | None:
    """Whether the reply gives the gold answer away, as ``revealed`` finds it; None where there is no gold answer."""
    spans = revealed(reply, answer, known)
    return None if spans is None else bool(spans)


_STUDENT_VOICE = re.compile(
    r"\W*(?:(?:oh|ah|ok|okay|hmm+|um+|sure|yes|yeah|no|sorry|so|well|right)\b\W*)*"
    r"(?:i (?:see|get|got|understand|forgot|think|thought|don't|do not|added|subtracted|multiplied|divided|used|started"
    r"|made|need|should|would|will|can|could|have|know)\b|i'(?:m|d|ll|ve)\b|thank you\b|thanks\b|is it\b"
    r"|my (?:answer|mistake)\b|it(?:'s| is| would be)\b|the answer (?:is|would be)\b|[-$]?\d[\d.,]*\s*\w*\W*$)",
    re.IGNORECASE,
)


_LINE_END = re.compile(r"\s*\n\s*")


_TO_STUDENT = re.compile(r"(?<!thank )\byou", re.IGNORECASE)


def students_part(reply: str) -> list[Span]:
    """Where the reply goes on as the student.

    That is all from a student's label on ("Student:", "### User:"), or a line after a question of its own that answers
    as a student does ("Oh, I see. It is 12.") and does not speak to "you".
    """
    if label := STUDENT_LABEL.search(reply):
        return [(label.end() - len(label[0].lstrip()), len(reply))]
    lines = [(start, end) for start, end in pieces(_LINE_END, reply) if reply[start:end].strip()]
    return [
        (start, end)
        for (asked_start, asked_end), (start, end) in pairwise(lines)
        if reply[asked_start:asked_end].rstrip(" \"”’'*)").endswith("?")
        and _STUDENT_VOICE.match(line := reply[start:end].replace("’", "'"))
        and not _TO_STUDENT.search(line)
    ]


def speaks_for_student(reply: str) -> bool:
    """Whether the reply goes on as the student, as ``students_part`` finds it."""
    return bool(students_part(reply))


def repeated_turn(reply: str, earlier: Sequence[str]) -> int | None:
    """Which earlier teacher turn, from 0, the reply says again, up to small changes of wording; None if none.

    At least nine tenths of the words are the same and in order, and the numbers are the same: "What is 3 × 4?" does not
    repeat "What is 3 × 5?".

    Args:
        reply: The teacher's reply.
        earlier: The earlier teacher turns.
    """
    return next((index for index, turn in enumerate(earlier) if _repeats(reply, turn)), None)


def repeats_turn(reply: str, earlier: Sequence[str]) -> bool:
    """Whether the reply says an earlier teacher turn again, as ``repeated_turn`` finds it."""
    return repeated_turn(reply, earlier) is not None


@lru_cache(maxsize=1 << 10)
def _repeats(reply: str, turn: str) -> bool:
    words, other = _words(reply), _words(turn)
    if words == other:
        return True
    # what takes longer to find out goes last
    same_words = sum(map(set(other).__contains__, words))
    return (
        2 * min(same_words, len(other)) >= 0.9 * (len(words) + len(other))
        and values(reply) == values(turn)
        and SequenceMatcher(None, words, other, False).ratio() >= 0.9
    )


def _words(text: str) -> list[str]:
    plain = text.replace("’", "'").replace("**", "").casefold()
    return re.findall(r"\w+(?:'\w+)?|[-+*/=×÷]", plain)


def word_count(reply: str) -> int:
    """How many words the reply has, split at white space."""
    return len(reply.split())
