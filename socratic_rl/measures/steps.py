"""Where a dialogue stands in the worked solution, and what a reply gives away of it or gets wrong about it."""

import re
from collections.abc import Iterable, Sequence
from fractions import Fraction
from functools import lru_cache

from socratic_rl.core.dialogue import Step
from socratic_rl.measures.asking import SENTENCE_END
from socratic_rl.measures.operations import operations
from socratic_rl.measures.pointing import covered, problem_question, stems
from socratic_rl.notation import answers
from socratic_rl.notation.digits import _NUMBER, _plain
from socratic_rl.notation.quantities import read, read_placed
from socratic_rl.notation.spans import Span, pieces

STATED = ("number", "fraction")
"""The forms of a quantity that somebody states, and does not only work with."""


@lru_cache(maxsize=1 << 12)
def result(work: str) -> Fraction | None:
    """What a step comes to: the first number behind its last "=", else its last number; None without a number."""
    _, equals, end = work.rpartition("=")
    stated = [quantity.value for quantity in read(end)[0] if quantity.form in (*STATED, "rank")]
    if equals and stated:
        return stated[0]
    stated = [quantity.value for quantity in read(work)[0] if quantity.form in (*STATED, "rank")]
    return stated[-1] if stated else None


@lru_cache(maxsize=1 << 12)
def _values(text: str) -> frozenset[Fraction]:
    """Every value in a text, worked with or stated."""
    quantities = read(text)[0]
    return frozenset(value for quantity in quantities for value in (quantity.parts or (quantity.value,)))


def own_words(student_turns: Sequence[str], problem: str) -> list[str]:
    """What the student says, without the problem's text at the head of the first turn."""
    return [turn.replace(problem, "") if number == 0 else turn for number, turn in enumerate(student_turns)]


def due_step(steps: Sequence[Step], problem: str, student_turns: Sequence[str]) -> int | None:
    """The first step whose result the student has not stated, from 0.

    None where every result is stated, and where the student's last value is right but in no worked step: another way
    to the answer, on which nothing is known to come next. A step without a number is nobody's next.

    Args:
        steps: Of the worked solution.
        problem: The problem's text.
        student_turns: What the student said, the problem first.
    """
    turns = own_words(student_turns, problem)
    results = [result(step.work) for step in steps]
    stated = stated_by_student(student_turns, problem)
    stated_values = _values(problem)
    if steps and results[-1] in stated and results[-1] not in stated_values:
        return None
    if values := [value for turn in turns[1:] for value in answers.values(turn)]:
        last = values[-1]
        if last not in stated_values and last not in results and any(last in _worked_out(turn) for turn in turns[1:]):
            return None
    open_steps = (index for index, value in enumerate(results) if value is not None and value not in stated)
    return next(open_steps, None)


def stated_by_student(student_turns: Sequence[str], problem: str) -> frozenset[Fraction]:
    """The values that the student stated or worked with, without the problem's text."""
    return frozenset(value for turn in own_words(student_turns, problem) for value in _values(turn))


def _worked_out(text: str) -> set[Fraction]:
    """The values that a text works out rightly: 12 in "3 × 4 = 12"."""
    stated = set(answers.values(text))
    return {value for _, value in operations(text) if value in stated}


def _unstated(steps: Iterable[Step], before: Iterable[str]) -> set[Fraction]:
    """The results of the worked solution that nobody has stated."""
    stated = frozenset(value for text in before for value in _values(text))
    return {value for step in steps if (value := result(step.work)) is not None} - stated


def tells_step(reply: str, steps: Sequence[Step], before: Sequence[str], asked: Sequence[Span]) -> list[Span]:
    """Where a reply states a result of the worked solution that nobody has stated, or does a step in words.

    "That makes 84", "take 84 and subtract 4", "double 40"; what it asks the student to work out it does not tell.

    Args:
        reply: The teacher's reply.
        steps: Of the worked solution.
        before: The problem's text, then every earlier turn.
        asked: Where the reply asks something.
    """
    open_results = _unstated(steps, before)
    results = [
        span
        for span, quantity in read_placed(reply)
        if quantity.form in STATED and quantity.value in open_results and not _is_counting_word(reply, span)
    ]
    done = (span for span, value in operations(reply) if value in open_results and not _is_asked(reply, span, asked))
    return [*results, *done]


def hands_over(reply: str, steps: Sequence[Step], before: Sequence[str], asked: Sequence[Span]) -> list[Span]:
    """Where a reply asks for no more than the result of an operation that it gives with all its operands.

    "What is 4 × 2.75?", where that is a result of the worked solution that nobody has stated. Arguments as in
    ``tells_step``.
    """
    open_results = _unstated(steps, before)
    return [span for span, value in operations(reply) if value in open_results and _is_asked(reply, span, asked)]


_TO_WORK_OUT = re.compile(
    r"\b(?:calculat(?:e|ing)|compute|computing|work(?:ing)? (?:it |this |that )?out|check|evaluate|solve"
    r"|use (?:a|your|the) calculator)\b[^.?!=]{0,30}$",
    re.IGNORECASE,
)


def _is_asked(reply: str, span: Span, asked: Iterable[Span]) -> bool:
    """Whether the student is to do the operation: "What is 3 × 4?", "Work out 3 × 4"."""
    return _within(span, asked) or bool(_TO_WORK_OUT.search(reply, 0, span[0]))


def _within(span: Span, spans: Iterable[Span]) -> bool:
    return any(start <= span[0] < end for start, end in spans)


def _is_counting_word(text: str, span: Span) -> bool:
    """Whether a number is one of the small ones in words, which count other things: "these two steps"."""
    return text[slice(*span)].strip().lower() in ("one", "two", "three", "once", "twice", "half", "a", "both")


CONSTANTS = frozenset(map(Fraction, (0, 1, 7, 12, 16, 24, 30, 52, 60, 100, 365, 366, 1000, 3600)))
"""Numbers that no problem need state: days, months, ounces, hours, weeks, minutes, cents, metres."""


_SUPPOSED = re.compile(
    r"\b(?:suppose|imagine|pretend|say (?:it|there|you|we|he|she|they)\b|let's say|for example|for instance|what if"
    r"|if (?:it|there|you|we|he|she|they|i|an?|some\w*) (?:were|was|had|have|has|only)|e\.g\.)",
    re.IGNORECASE,
)


def invents(reply: str, steps: Sequence[Step], answer: str, before: Sequence[str]) -> list[Span]:
    """Where a reply has a number that neither problem, dialogue nor worked solution has.

    Not counted: constants of units, ordinals, years, what is only supposed ("say it were 10"), "these two steps".

    Args:
        reply: The teacher's reply.
        steps: Of the worked solution.
        answer: The gold answer.
        before: The problem's text, then every earlier turn.
    """
    worked = [text for step in steps for text in (step.work, step.question, step.reply) if text]
    backed = CONSTANTS.union(*(_written(text) for text in [*before, *worked, answer]))
    supposed = [span for span in pieces(SENTENCE_END, reply) if _SUPPOSED.search(reply[slice(*span)])]
    return [
        span
        for span, quantity in read_placed(reply)
        if quantity.form != "rank"
        and not _written(reply[slice(*span)]) <= backed
        and not _is_year(quantity.value, reply[slice(*span)])
        and not _is_counting_word(reply, span)
        and not _within(span, supposed)
    ]


@lru_cache(maxsize=1 << 12)
def _written(text: str) -> frozenset[Fraction]:
    """Every value in a text, and the numbers that it writes it with: 12 and 2 in "12/2"."""
    plain = _plain(text)
    return _values(text) | frozenset(Fraction(number.replace(",", "")) for number in re.findall(_NUMBER, plain))


def _is_year(value: Fraction, text: str) -> bool:
    return 1500 <= value <= 2100 and bool(re.fullmatch(r"\d{4}", text.strip()))


_ASKS_VALUE = re.compile(
    r"\b(?:how (?:many|much|long|far|old|tall|fast|heavy)|what(?:'s| is| was| are| were))\b", re.IGNORECASE
)


_STUCK = re.compile(
    r"\b(?:stuck|no idea|not sure|unsure|confused|lost|don['’]?t (?:know|understand|get|see)|do not (?:know|understand)"
    r"|can['’]?t|cannot|help me|i need help|give up|\?\?)",
    re.IGNORECASE,
)


_EXPLAIN = re.compile(
    r"\b(?:how did|how do you know|why|explain|check|sure|mean|represent|stand for|tell me about|in your own words)\b",
    re.IGNORECASE,
)


SAME = 0.8
"""Which share of a question's content words a sentence must have to answer it."""


def asks_known(
    reply: str, problem: str, student_turns: Sequence[str], asked: Sequence[Span], *, is_known_step: bool, is_last: bool
) -> list[Span]:
    """Where a reply asks for a value that the problem or the student has just stated, or the problem's own question.

    Not counted: requests to explain or to check, the teacher's first turn, a student who is stuck, a question with
    numbers of its own, and the problem's own question where its last step is due.

    Args:
        reply: The teacher's reply.
        problem: The problem's text.
        student_turns: What the student said, the problem first.
        asked: Where the reply asks something.
        is_known_step: Whether the reply points at a step whose result the student's last turn states.
        is_last: Whether the last step is due.
    """
    turns = own_words(student_turns, problem)
    if len(turns) < 2 or _STUCK.search(turns[-1]):
        return []
    own_question = stems(problem_question(problem))
    spans = []
    for start, end in asked:
        sentence = reply[start:end]
        content = stems(sentence)
        if not _ASKS_VALUE.search(sentence) or _EXPLAIN.search(sentence) or len(content) < 2 or _values(sentence):
            continue
        is_own = not is_last and min(covered(content, own_question), covered(own_question, content)) >= SAME
        if is_known_step or is_own or any(_answers(stated, sentence) for stated in _stating_sentences(problem)):
            spans.append((start, end))
    return spans


def _answers(stated: str, question: str) -> bool:
    """Whether a sentence that states a number states what a question asks for."""
    asked = _ASKED.search(question.lower())
    if covered(stems(question), stems(stated)) < SAME:
        return False
    # "how many eggs" wants a number of eggs
    return not asked or any(
        stems(asked[1]) & stems(stated[end : end + 24])
        for (_, end), quantity in read_placed(stated)
        if quantity.form in STATED
    )


_ASKED = re.compile(r"how (?:many|much) (\w+)")


@lru_cache(maxsize=1 << 10)
def _stating_sentences(text: str) -> tuple[str, ...]:
    """The sentences of a text that state a number and ask nothing."""
    sentences = (text[start:end].strip() for start, end in pieces(SENTENCE_END, text))
    return tuple(sentence for sentence in sentences if not sentence.endswith("?") and _values(sentence))
