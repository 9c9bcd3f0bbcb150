"""Operations that a text names with all their operands, in signs or in words, and what they come to."""

import re
from collections.abc import Iterator
from fractions import Fraction

from socratic_rl.notation.digits import _NUMBER, _plain
from socratic_rl.notation.spans import Origins, Span

_VALUE = rf"[$€£₹]?({_NUMBER})(?! ?/ ?\d)(%| percent)?"


# up to three words behind a number, such as its unit, but none that says what is done with it
_NOUN = r"(?: (?!(?:and|from|to|by|with|plus|minus|times|is|are|was|equals?|of|or|more|less|fewer|for)\b)[a-z]+){0,3}?"


_SIGN = r"([-+*/×÷]|x|plus|minus|times|multiplied by|divided by|take away)"


_CHAIN = re.compile(rf"{_VALUE}{_NOUN} ?{_SIGN} ?{_VALUE}(?:{_NOUN} ?{_SIGN} ?{_VALUE})*", re.IGNORECASE)


_VERBS: tuple[tuple[re.Pattern[str], str], ...] = tuple(
    (re.compile(pattern.format(A=rf"(?:the |those |her |his |your )?{_VALUE}{_NOUN}"), re.IGNORECASE), sign)
    for pattern, sign in (
        (r"\b(?:add|adding|adds|sum of|combine)\b {A} (?:and|to|with|plus) {A}", "+"),
        (r"\b(?:subtract|subtracting|take|taking|deduct)\b {A} (?:away |off )?from {A}", "swapped -"),
        (r"\b(?:take|start with|from)\b {A},? (?:and |then |you )*(?:subtract|take away|take off|deduct) {A}", "-"),
        (r"\b(?:take|start with)\b {A},? (?:and |then |you )*add {A}", "+"),
        (r"\bdifference (?:between|of) {A} and {A}", "-"),
        (r"\b(?:multiply|multiplying|product of)\b {A} (?:by|and|with|times) {A}", "*"),
        (r"\b(?:divide|dividing|split|splitting|share)\b {A} (?:by|into|among|between) {A}", "/"),
        (r"{A} more than {A}", "+"),
        (r"{A} (?:less|fewer) than {A}", "swapped -"),
        (r"{A} of {A}", "*"),
    )
)


_ONE = re.compile(r"\bone(?= (?:more|less|fewer) than\b)", re.IGNORECASE)
"""A word that is mostly no number."""


_MULTIPLES = {"double": Fraction(2), "doubling": Fraction(2), "twice": Fraction(2), "halve": Fraction(1, 2)}


_MULTIPLES |= {"triple": Fraction(3), "tripling": Fraction(3)}


_MULTIPLE = re.compile(rf"\b({'|'.join(_MULTIPLES)})\b (?:the |those |of )*{_VALUE}", re.IGNORECASE)


_FRACTION_OF = re.compile(rf"\b(\d+)/(\d+) of (?:the |those |her |his )*{_VALUE}", re.IGNORECASE)


def operations(text: str) -> list[tuple[Span, Fraction]]:
    """Where a text names an operation with all its operands, in signs or in words, and what that comes to.

    "3 × 4", "take 84 and subtract 4", "double 40", "one more than 79", "20% of 50".
    """
    origins = Origins(text)
    plain = _plain(origins.sub(_ONE, "1", text), origins.sub)
    return sorted((origins.span(*match.span()), value) for match, value in _operations(plain))


def _operations(plain: str) -> Iterator[tuple[re.Match[str], Fraction]]:
    for match in _CHAIN.finditer(plain):
        value = _computed(match[0])
        if value is not None:
            yield match, value
    for pattern, sign in _VERBS:
        for match in pattern.finditer(plain):
            first, second = _number(match[1], match[2]), _number(match[3], match[4])
            if "swapped" in sign:
                first, second = second, first
            value = _apply(sign[-1], first, second)
            if value is not None and (sign != "*" or " of " not in match[0] or match[2]):
                yield match, value
    for match in _MULTIPLE.finditer(plain):
        yield match, _MULTIPLES[match[1].lower()] * _number(match[2], match[3])
    for match in _FRACTION_OF.finditer(plain):
        if int(match[2]):
            yield match, Fraction(int(match[1]), int(match[2])) * _number(match[3], match[4])


def _number(digits: str, percent: str | None) -> Fraction:
    value = Fraction(digits.replace(",", ""))
    return value / 100 if percent else value


_SIGNS = {"plus": "+", "minus": "-", "take away": "-", "times": "*", "×": "*", "x": "*", "multiplied by": "*"}


_SIGNS |= {"÷": "/", "divided by": "/"}


def _computed(chain: str) -> Fraction | None:
    """What a chain of operations comes to, products first; None where it divides by 0."""
    parts = re.split(rf"(?<=[\d%a-z ]){_SIGN}(?= ?[$€£₹]?[\d.])", chain, flags=re.IGNORECASE)
    numbers = [re.search(_VALUE, part, re.IGNORECASE) for part in parts[::2]]
    terms: list[Fraction] = []
    for sign, number in zip(["+", *(part.lower() for part in parts[1::2])], numbers, strict=True):
        if number is None:
            return None
        value, sign = _number(number[1], number[2]), _SIGNS.get(sign, sign)
        if sign in "+-":
            terms.append(value if sign == "+" else -value)
        else:
            product = _apply(sign, terms[-1], value)
            if product is None:
                return None
            terms[-1] = product
    return sum(terms, Fraction(0))


def _apply(sign: str, first: Fraction, second: Fraction) -> Fraction | None:
    if sign == "/":
        return first / second if second else None
    return first + second if sign == "+" else first - second if sign == "-" else first * second
