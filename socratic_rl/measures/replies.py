"""What can be measured of one teacher reply without a judge, and where in the reply it stands."""

import re
from collections.abc import Sequence
from difflib import SequenceMatcher
from functools import lru_cache
from itertools import pairwise

from socratic_rl.measures.answers import concluded, ends_in, first_stated, is_answer, values, without_denials
from socratic_rl.measures.spans import Origins, Span, pieces

# a student's label at the start of a line or sentence: "Student:", "**User**:", "### Human:", "<|user|>"
_STUDENT_LABEL = re.compile(
    r"(?:^|(?<=[.!?\"”)\]])\s+)[^\w\n]{0,5}(?:student|user|human|learner|pupil)(?: ?\d)?[^\w\n:]{0,4}:"
    r"|<\|?(?:user|student|human)\|?>|\[INST\]",
    re.IGNORECASE | re.MULTILINE,
)


_LEAD = r"(?:(?:so|and|now|then|ok|okay|good|great|well|but|next|please|correct|right|alright|yes|no)\b[,.!:]* )*"


_VERB = r"(?:is|are|was|were|do|does|did|can|could|would|will|should)"


_QUESTION = (
    rf"(?:how (?:many|much|long|far|old|often|{_VERB})|(?:what|where|when|why|who|which)(?:'s| {_VERB}| \w+ {_VERB})"
    rf"|(?:{_VERB}|have) (?:you|he|she|it|they|we|this|that|these|there|the))\b"
)


_IS_QUESTION = re.compile(_LEAD + _QUESTION, re.IGNORECASE)


# a request to say something needs no question mark: "Tell me how many.", "Explain how you got 5.", "Could you check."
_IS_REQUEST = re.compile(
    rf"(?:[^,]*, )?{_LEAD}(?:(?:can|could|would|will) you\b|(?:tell|show|give) me\b|(?:walk|talk|take) me through\b"
    r"|let me know (?:how|what|which|why|where|when|your)\b"
    r"|(?:explain|describe)(?: to me)? (?:how|why|what|which|where|your)\b)",
    re.IGNORECASE,
)


_SUBJECT = r"(?:i|you|he|she|it|they|we|this|that|these|those|there|the|an?|your|his|her|their|our|each|one|both)\b"


# the word order of a question, wherever it stands: "She gave 3 away, so how many did she have", "…, what is the sum"
_IS_INVERTED = re.compile(
    rf"\b(?:how|what|which|where|when|why)\b(?: (?!{_SUBJECT})\w+){{0,3}}? "
    rf"(?:do|does|did|can|could|would|should|must|will) {_SUBJECT}"
    rf"|(?:^|[,;:–—-] ?|\b(?:so|and|but|then|now) )"
    rf"(?:(?:what|where|how|why)(?:'s| is| are| was| were) {_SUBJECT}|(?:do|did|can|could|would|have) you\b)",
    re.IGNORECASE,
)


_IS_BLANK = re.compile(r".*(?:[\d)%]\s*=\s*|_{2,})[.…?]*\s*", re.DOTALL)


# courtesies and checks of attention, which ask nothing about the problem
_COURTESY = re.compile(
    r"\W*(?:(?:so|and|now|well|oh|ok|okay)\W+)*(?:"
    r"(?:do|does|did|is) (?:this|that|it|the|any)\b.{0,20}\bmake (?:\w+ )?sense.{0,20}|makes? sense"
    r"|(?:is|was) (?:this|that|it|everything) (?:\w+ )?(?:clear|ok|okay).{0,20}"
    r"|(?:(?:do|did) you )?(?:get|got|understand|understood|see|follow)(?: (?:it|that|this|me|now))*"
    r"|ok|okay|alright|right|yes|clear|ready|correct"
    r"|(?:(?:do|have) you |are there )?(?:have |got )?any (?:\w+ )?(?:questions?|doubts?).{0,40}"
    r"|(?:is there )?anything else.*|(?:do|would) you (?:need|want|like) (?:\w+ )?help.*"
    r"|(?:can|may|could|shall) i (?:help|assist).*"
    r"|(?:(?:hi|hello|hey)\b.{0,20})?how are you(?: (?:doing|feeling|today))*"
    r")\W*",
    re.IGNORECASE,
)


_TAG = re.compile(
    r"(?:[,;.…-]\s*(?:ok|okay|right|yes|alright|correct|got it|(?:does (?:this|that|it) )?make sense"
    rf"|{_VERB} (?:it|that|they|he|she|you|we))|\s\w+n't (?:it|that|they|he|she|you|we))\W*$",
    re.IGNORECASE,
)


_REPORTED = re.compile(
    r"\b(?:you|he|she|they|student|friend|problem|question)(?: \w+)? "
    r"(?:said|say|says|asked|ask|asks|wrote|wondered|thought|meant|reads)\b[^\"“.?!\n]{0,30}[\"“][^\"”\n]*[\"”]",
    re.IGNORECASE,
)


_SENTENCE_END = re.compile(r"(?<=[.?!])[\"”')]*\s+|\n")


def questions(reply: str) -> list[Span]:
    """The sentences in which the reply asks the student something.

    That is a question with its mark, a question typed without one, a request to say something ("Tell me how many."),
    or a blank to fill in ("24 / 4 ="). Not counted: courtesies ("Any questions?", "Does that make sense?"), a tag on a
    statement ("…, okay?"), what the reply quotes from somebody, and a student's turn that it makes up.
    """
    teachers_part = _STUDENT_LABEL.split(reply, maxsplit=1)[0].replace("’", "'")
    origins = Origins(teachers_part)
    unquoted = origins.sub(_REPORTED, "", teachers_part)
    return [
        origins.span(start + len(sentence) - len(sentence.lstrip(" \t,;*_#>-")), end)
        for start, end in pieces(_SENTENCE_END, unquoted)
        if _asks(sentence := unquoted[start:end])
    ]


def asks_question(reply: str) -> bool:
    """Whether the reply asks the student something, as ``questions`` finds it."""
    return bool(questions(reply))


def _asks(sentence: str) -> bool:
    sentence = sentence.strip(" \t*_\"“”'()#>-")
    asked, mark, _ = sentence.rpartition("?")
    if not mark:
        is_open = not sentence.endswith((".", "!", ":"))
        return bool(
            _IS_REQUEST.match(sentence)
            or (is_open and _IS_QUESTION.match(sentence))
            or _IS_INVERTED.search(sentence)
            or _IS_BLANK.fullmatch(sentence)
        )
    if not re.search(r"\w", asked) or _COURTESY.fullmatch(asked):
        return False
    statement = _TAG.sub("", asked)
    return statement == asked or bool(_IS_QUESTION.search(statement))


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


_ANALOGY = re.compile(
    rf"{_LEAD}(?:(?:let's )?(?:suppose|imagine|pretend|say)|for (?:example|instance)|as an example"
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
        if _TO_WORK_WITH.search(sentence, 0, number.start())
    ]


def _is_of_problem(subject: str | None, question: str) -> bool:
    return bool(subject) and bool(re.search(rf"\b{re.escape(str(subject))}", question, re.IGNORECASE))


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
    turns = [without_denials(turn, answer) for turn in turns]
    asides = [span for start, end in pieces(_SENTENCE_END, reply) for span in _asides(reply, start, end, question)]
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
    if label := _STUDENT_LABEL.search(reply):
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
