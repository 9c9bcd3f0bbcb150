"""Which step of a worked solution a reply points at, by the words that the two share.

A reply is compared with each step's material: its work without the result, and the question that the annotation asks
there. The eight ways in which they are compared are weighed by a conditional logit that was fitted to half of 652
problems of GSM8K's Socratic subset (Cobbe et al., 2021, https://arxiv.org/abs/2110.14168, MIT licence);
``benchmarks/cards/pointer.py`` fits and measures it.
"""

import math
import re
from collections.abc import Collection, Sequence
from functools import lru_cache

from socratic_rl.core.dialogue import Step

WEIGHTS = {
    "letters": 8.42,
    "asked": 1.38,
    "operands": 0.67,
    "total": -2.65,
    "words": 3.08,
    "problem_question": -4.09,
    "last": -2.23,
    "result_clause": 0.73,
}
"""What each comparison of ``features`` weighs, in nats."""


SHARE = 0.5
"""A step whose probability is at least this share of the likeliest one's is pointed at beside it."""


CONTACT = 0.15
"""The least ``words`` with which a reply speaks of a step at all; ``letters`` are also shared by "What is the …"."""


_FUNCTION_WORDS = frozenset(
    re.findall(
        "[a-z]+",
        "a an the of to in on at is are was were be been it its they them their he she his her him this that these "
        "those and or so if then there as for with by from do does did has have had how many much what which who total "
        "will would can could each per all i you we our your not no than more most one first second third new",
    )
)


_TOTAL = frozenset(("total", "altogether", "combined", "all", "sum", "together"))


_RESULT = re.compile(r"^[\s$€£]*-?[\d,./]*\d")


_NUMBER = re.compile(r"\d[\d,]*(?:\.\d+)?")


_CLAUSE_END = re.compile(r"(?<=[.?!;])\s+|,\s+(?=\D)|\b(?:and|but|then)\b")


_ASKED = re.compile(r"how (?:many|much)((?: \w+){1,3})")


@lru_cache(maxsize=1 << 12)
def stems(text: str) -> frozenset[str]:
    """The content words of a text, without their endings."""
    return frozenset(_stem(word) for word in re.findall(r"[a-z]+", text.lower()) if word not in _FUNCTION_WORDS)


def _stem(word: str) -> str:
    for ending in ("ing", "ed", "es", "s"):
        if word.endswith(ending) and len(word) - len(ending) >= 3:
            return word[: -len(ending)]
    return word


@lru_cache(maxsize=1 << 12)
def _letters(text: str) -> frozenset[str]:
    """Every four neighbouring characters."""
    lower = text.lower()
    return frozenset(lower[start : start + 4] for start in range(len(lower) - 3))


@lru_cache(maxsize=1 << 12)
def numbers(text: str) -> frozenset[str]:
    """The numbers in a text as they are written, without thousands separators."""
    return frozenset(number.replace(",", "") for number in _NUMBER.findall(text))


def cosine(first: Collection[str], second: Collection[str]) -> float:
    """The cosine of two sets, from 0 to 1."""
    if not first or not second:
        return 0.0
    return len(set(first) & set(second)) / math.sqrt(len(first) * len(second))


def covered(part: Collection[str], other: Collection[str]) -> float:
    """Which share of the first set is in the second."""
    return len(set(part) & set(other)) / len(part) if part else 0.0


def working(work: str) -> str:
    """A step up to its last "="; all of it where it has none."""
    return work.rpartition("=")[0] or work


def after_result(work: str) -> str:
    """What stands behind a step's result, such as its unit; all of it where it has no "="."""
    _, equals, end = work.rpartition("=")
    return _RESULT.sub("", end) if equals else work


def masked(work: str) -> str:
    """A step without its result."""
    return f"{working(work)} {after_result(work)}" if "=" in work else work


def _result_clause(work: str) -> str:
    """The clause of a step that holds its result."""
    before = work.rpartition("=")[0]
    if not before:
        return work
    start = max(before.rfind(mark) for mark in (",", ";", " so ", " because ", ". "))
    return f"{before[start + 1 :] if start > 0 else before} {after_result(work)}"


def features(reply: str, problem: str, steps: Sequence[Step], index: int) -> dict[str, float]:
    """How a reply compares with one step.

    Args:
        reply: What the teacher says.
        problem: The problem's text.
        steps: Of the worked solution.
        index: Of the step.

    Returns:
        ``letters``: cosine of every four characters with the material. ``words``: cosine of content words with it.
        ``asked``: of what stands behind "how many" with what stands behind the result. ``operands``: which share of
        the reply's words the clauses of the problem have that state the step's numbers. ``total``: whether it asks for
        a total where the step adds nothing. ``problem_question``: of a step that is not the last one, the cosine with
        the problem's own question. ``last``: whether it is the last one. ``result_clause``: cosine with the clause
        that holds the result.
    """
    step = steps[index]
    content = stems(reply)
    material = masked(step.work)
    questions = [step.question] if step.question else []
    operands = numbers(working(step.work))
    context = frozenset[str]().union(*(stems(clause) for clause in _clauses(problem) if numbers(clause) & operands))
    asked = _ASKED.search(reply.lower())
    is_last = index == len(steps) - 1
    return {
        "letters": max(cosine(_letters(reply), _letters(text)) for text in [material, *questions]),
        "asked": cosine(stems(asked[1]), stems(after_result(step.work))) if asked else 0.0,
        "operands": covered(content, context),
        "total": float("+" not in step.work and not _TOTAL.isdisjoint(re.findall(r"[a-z]+", reply.lower()))),
        "words": max(cosine(content, stems(text)) for text in [material, *questions]),
        "problem_question": 0.0 if is_last else cosine(content, stems(problem_question(problem))),
        "last": float(is_last),
        "result_clause": cosine(content, stems(_result_clause(step.work))),
    }


@lru_cache(maxsize=1 << 10)
def _clauses(problem: str) -> tuple[str, ...]:
    return tuple(clause for clause in _CLAUSE_END.split(problem) if clause)


def problem_question(problem: str) -> str:
    """The last sentence of a problem, which is mostly what it asks."""
    return re.split(r"(?<=[.!?])\s+", problem.strip())[-1]


@lru_cache(maxsize=1 << 12)
def probabilities(reply: str, problem: str, steps: tuple[Step, ...]) -> tuple[float, ...]:
    """For each step how likely it is the one that the reply points at, if it points at one.

    Args:
        reply: What the teacher says.
        problem: The problem's text.
        steps: Of the worked solution.

    Returns:
        Numbers from 0 to 1 whose sum is 1; none where there are no steps.
    """
    scores = [
        sum(WEIGHTS[name] * value for name, value in features(reply, problem, steps, index).items())
        for index in range(len(steps))
    ]
    most = max(scores, default=0.0)
    powers = [math.exp(score - most) for score in scores]
    return tuple(power / sum(powers) for power in powers)


def points_at(reply: str, problem: str, steps: tuple[Step, ...]) -> tuple[int, ...]:
    """The steps that the reply points at, from 0: mostly one; none, or several, where it is unclear.

    Args:
        reply: What the teacher says.
        problem: The problem's text.
        steps: Of the worked solution.
    """
    likely = probabilities(reply, problem, steps)
    return tuple(
        index
        for index, probability in enumerate(likely)
        if probability >= SHARE * max(likely) and features(reply, problem, steps, index)["words"] >= CONTACT
    )
