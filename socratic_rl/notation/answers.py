"""Whether a text states the gold answer of a problem."""

import re
from collections.abc import Iterable, Iterator
from fractions import Fraction
from functools import lru_cache
from typing import Literal

from socratic_rl.notation.formulas import formula, looks_like_formula, points
from socratic_rl.notation.quantities import Quantity, read, read_placed
from socratic_rl.notation.spans import Span, pieces
from socratic_rl.notation.wordings import find_words, is_choice, is_code, is_truth


def values(text: str) -> list[Fraction]:
    """The exact values of the numbers that a text states, in their own units, in order.

    Ratios are left out, and so are divisions and powers that are not carried out.
    """
    return [q.value for q in read(text)[0] if q.form in ("number", "fraction")]


def _agree(first: Quantity, second: Quantity) -> bool:
    """Whether two quantities may measure the same thing; a number without a unit may measure anything."""
    if first.dimension and second.dimension:
        return first.dimension == second.dimension
    return not ((first.dimension and second.noun) or (second.dimension and first.noun))


def _near(gold: Quantity, value: Fraction, stated: Quantity) -> bool:
    """Equal, or rounded: a gold answer with decimals may be a rounded one, a whole number is taken as exact."""
    if value == gold.value:
        return True
    gap = abs(value - gold.value)
    finer = stated.decimals > gold.decimals or stated.form == "fraction"
    if finer and gold.decimals >= (1 if stated.form == "fraction" else 2):
        return 2 * gap <= Fraction(1, 10**gold.decimals)
    if 2 <= stated.decimals < gold.decimals:
        return 2 * gap <= Fraction(1, 10**stated.decimals)
    return False


def _in_unit_of(gold: Quantity, stated: Quantity) -> Iterator[Fraction]:
    """The values that ``stated`` may have in the unit of ``gold``."""
    if gold.dimension == stated.dimension:
        yield stated.value if stated.factor == gold.factor else stated.value * stated.factor / gold.factor
    if not (gold.dimension and stated.dimension):
        yield stated.value
    if gold.dimension == "percent" and not stated.dimension and (stated.decimals or stated.form == "fraction"):
        yield stated.value * 100
    if stated.dimension == "percent" and not gold.dimension and (gold.decimals or gold.form == "fraction"):
        yield stated.value / 100
    if stated.dimension == "dollar" and not gold.dimension:  # a bare 0.45 is 45 cents, a bare 45 is $0.45
        if gold.decimals:
            yield stated.value * stated.factor
        elif 0 < stated.value < 1:
            yield stated.value * 100


def _hours(time: Quantity) -> set[Fraction]:
    """The hours of the day, from 0 to 23, that a time may mean: 3:00 is 3 am or 3 pm, 15:00 is 3 pm."""
    hour = time.parts[0] if time.parts else time.value
    if hour > 12 or hour == 0:
        return {hour % 24}
    return {hour % 12 + 12 * (day_part == "pm") for day_part in ("am", "pm") if time.dimension in ("", day_part)}


def _same_time(gold: Quantity, stated: Quantity) -> bool:
    """Whether two say the same where one is a time of day, or looks like one (1:15 may be a ratio)."""
    times = [quantity for quantity in (gold, stated) if quantity.form == "clock"]
    if len(times) == 2:
        return gold.parts[1] == stated.parts[1] and bool(_hours(gold) & _hours(stated))
    time, other = times[0], stated if gold.form == "clock" else gold
    if other.form == "number":  # "at 8", "8 am"
        is_hour = other.dimension in ("", "am", "pm") and not other.noun and 0 <= other.value <= 24
        return is_hour and other.value.denominator == 1 and time.parts[1] == 0 and bool(_hours(time) & _hours(other))
    if time.dimension or not time.parts[0] or not time.parts[1]:
        return False
    return len(other.parts) in (0, 2) and other.form in ("ratio", "fraction", "quotient") and time.value == other.value


def _same(gold: Quantity, stated: Quantity) -> bool:
    """Whether ``stated`` states the value of ``gold``."""
    if "clock" in (gold.form, stated.form):
        return _same_time(gold, stated)
    if gold.parts and stated.parts:
        return len(gold.parts) == len(stated.parts) and all(
            g * stated.parts[0] == s * gold.parts[0] for g, s in zip(gold.parts, stated.parts, strict=True)
        )
    if gold.parts or stated.parts:
        ratio, other = (gold, stated) if gold.parts else (stated, gold)
        is_ratio = ratio.form == "ratio" and len(ratio.parts) == 2 and other.form in ("fraction", "quotient")
        return is_ratio and ratio.value == other.value
    if stated.form in ("operand", "interval"):
        return False
    if "rank" in (gold.form, stated.form) and (gold.dimension or stated.dimension or gold.noun or stated.noun):
        return False
    if stated.form in ("quotient", "power") and gold.form not in ("fraction", "quotient", "power"):
        return False
    return _agree(gold, stated) and any(_near(gold, value, stated) for value in _in_unit_of(gold, stated))


@lru_cache(maxsize=1 << 12)
def _gold(answer: str) -> tuple[Quantity, ...]:
    """The quantities of a gold answer; none where it is words or a formula ("5√2", "5 - x"), which are not in it."""
    quantities, rest = read(answer)
    if (
        is_code(answer)
        or looks_like_formula(rest)
        or re.search(r"\b(?:except|other than)\b", rest)
        or any(quantity.form == "interval" for quantity in quantities)
    ):
        return ()
    ranges = tuple(quantity for quantity in quantities if quantity.form == "range")
    return ranges or tuple(quantity for quantity in quantities if quantity.form != "operand")


def is_answer(answer: str) -> bool:
    """Whether a gold answer is one, and neither empty nor what a table has for nothing, "None" or "nan"."""
    return answer.strip().strip("<>.").lower() not in ("", "none", "nan", "nat", "null", "n/a", "na", "not available")


@lru_cache(maxsize=1 << 12)
def _in_words(text: str, answer: str) -> tuple[Span, ...]:
    """Where a text has a gold answer that is a formula or words."""
    is_words = is_code(answer) or is_choice(answer)
    if not is_words and looks_like_formula(read(answer)[1]) and formula(answer):
        return tuple(formula(answer).find(text))
    return tuple(find_words(text, answer))


Kind = Literal["number", "choice", "truth", "name", "sentence", "expression", "code"]


def kind(answer: str) -> Kind:
    """What a gold answer is, so that it can be spoken of: one gets 12 apples, chooses B and writes code."""
    if is_code(answer):
        return "code"
    if is_truth(answer) or is_choice(answer):
        return "truth" if is_truth(answer) else "choice"
    quantities, rest = read(answer)
    forms = {quantity.form for quantity in quantities}
    is_formula = looks_like_formula(rest) and (formula(answer) or not re.search(r"[^\W\d_]{4}", rest))
    if "interval" in forms or points(answer) or "=" in rest or is_formula:
        return "expression"
    if _gold(answer) and "clock" not in forms and len(re.findall(r"[^\W\d_]+", rest)) <= 4:
        return "number"
    return "name" if len(answer.split()) <= 4 else "sentence"


def stated_at(text: str, answer: str) -> list[Span]:
    """Where a text states the gold answer, or one of its numbers if it has several."""
    if not (gold := _gold(answer)):
        return list(_in_words(text, answer))
    return [span for span, quantity in read_placed(text) if any(_same(part, quantity) for part in gold)]


@lru_cache(maxsize=1 << 12)
def states(text: str, answer: str) -> bool:
    """Whether a text states the value of the gold answer, in any usual notation.

    Counted: digits with or without thousands separators, decimals, fractions, mixed numbers, percent, ratios, dollars
    and cents, words, powers of ten, units of one dimension ("90 minutes" for "1.5 hours"), LaTeX. A percentage equals
    its fraction or decimal (25% = 1/4 = 0.25), but a bare whole number is never multiplied or divided by 100.

    Not counted: part of a larger number, a date, a list number, "step 2", a coefficient (5x), a number with another
    kind of unit ("12 apples" for "12 km"), a division or power that is not carried out (72/8 for 9).

    A gold answer with several numbers is stated when all are; one without numbers when its words stand in the text.

    Args:
        text: What somebody says.
        answer: The gold answer, with its unit if it has one.
    """
    gold = _gold(answer)
    if not gold:
        return is_answer(answer) and bool(_in_words(text, answer))
    if len(gold) > 1 and points(answer) and points(text):
        return bool(formula(answer).find(text))
    stated = read(text)[0]
    return all(any(_same(part, quantity) for quantity in stated) for part in gold)


def _makes_known(before: Quantity, new: Quantity) -> bool:
    """Whether the value of ``new`` is known from ``before``: "$20" is not known from "20 candles" or "20 cents".

    Nor is it from the 20th day.
    """
    if before.form == "rank" and new.form != "rank":
        return False
    if before.dimension and before.dimension == new.dimension:
        return before.value * before.factor == new.value * new.factor
    return not (new.dimension and (before.dimension or before.noun))


def first_stated(text: str, answer: str, before: Iterable[str]) -> list[Span]:
    """Where a text states the gold answer; nowhere if a text before states it already.

    Args:
        text: What somebody says.
        answer: The gold answer.
        before: The texts that came before. A number with another unit does not make the answer known.
    """
    if not states(text, answer):
        return []
    stated = [earlier for earlier in before if states(earlier, answer)]
    gold = _gold(answer)
    if len(gold) != 1 and stated:
        return []
    if not gold:
        return list(_in_words(text, answer))
    old = [quantity for earlier in stated for quantity in read(earlier)[0] if _same(gold[0], quantity)]
    return [
        span
        for span, new in read_placed(text)
        if any(_same(part, new) for part in gold) and not any(_makes_known(before, new) for before in old)
    ]


_CLAUSE = re.compile(r"(?<=[.;!?])\s+|\n|, but ")


_NO_CONCLUSION = re.compile(r"\?\W*$|\b(?:how|what|why|you (?:said|say|stated|found|know))\b", re.IGNORECASE)


_CONTRAST = re.compile(r",? \b(?:not|instead of|rather than)\b.*")


_LOOKED_FOR = r"\bis (?:exactly |just )?what (?:we|you|the \w+) (?:\w+ ){0,2}(?:look|want|ask|need)"


_CONCLUSION = re.compile(
    rf"{_LOOKED_FOR}"
    r"|\bis (?:our|the|your|his|her|their)(?: \w+){0,2} (?:answer|solution|result)\b"
    r"|\bas (?:our|the|your|his|her|their)(?: \w+){0,2} (?:answer|solution|result)\b|\banswer: "
    r"|\b(?:so|therefore|thus|hence|means?|meaning|making(?! sure)|giving|leaving|which (?:is|gives|leaves)"
    r"|(?:should|would|must|will)(?: actually| simply| only| just)? be|must have"
    r"|i(?: am|'m) telling you|should(?: have|'ve)? (?:get|got|gotten|be|been|come to|equal)"
    r"|(?:answer|total|sum|result|difference|profit)\b.*\b(?:is|be|was|equals))\b",
    re.IGNORECASE,
)


def concluded(text: str, answer: str) -> list[Span]:
    """Where a text presents the gold answer as what follows: "so the total is 12", "that should be 12, not 10".

    A clause does that when it has a word of conclusion and its last number is the gold answer, unless it asks or
    repeats what the student said.
    """
    conclusions = []
    for start, end in pieces(_CLAUSE, text):
        if _NO_CONCLUSION.search(re.sub(_LOOKED_FOR, "", text[start:end])):
            continue
        clause = _CONTRAST.sub("", text[start:end])
        if _CONCLUSION.search(clause) and ends_in(clause, answer):
            # the last number is the answer, so the last place that states it is the last number
            *_, (first, last) = (span for span, quantity in read_placed(clause) if _same(_gold(answer)[0], quantity))
            conclusions.append((start + first, start + last))
    return conclusions


def ends_in(text: str, answer: str) -> bool:
    """Whether the last number of a text is the gold answer."""
    gold = _gold(answer)
    stated = [quantity for quantity in read(text)[0] if quantity.form not in ("operand", "range", "interval")]
    # "11 holes on the fourth day" ends in 11
    stated = [quantity for quantity in stated if quantity.form != "rank"] or stated
    return len(gold) == 1 and bool(stated) and _same(gold[0], stated[-1])


_NAMES_ANSWER = re.compile(r"\banswer is\b", re.IGNORECASE)


_DENIED = re.compile(
    r"(?:\b(?:not|never|cannot|rather than|instead of)\b|n['’]t\b)"
    r".*?(?=,(?!\d)|[.;!?](?!\d)|\bbut\b|\bit(?:['’]s| is)\b|$)",
    re.IGNORECASE,
)


_CLAUSE_ENDS = re.compile(r"[.;!?](?=\W|$)|(?<=[\w%])\s+\(|\b(?:because|since|as|so|if|when|where)\b", re.IGNORECASE)


_BOUND = re.compile(r"\b(?:between|(?:more|less|fewer|greater|larger|smaller) than)\b", re.IGNORECASE)


_WORKED_WITH = re.compile(r" (?:times|plus|minus) \d")


_OR = re.compile(r"\bor\b", re.IGNORECASE)


def solves(text: str, answer: str) -> bool:
    """Whether what a text names as its answer, or else the last number in it, is the gold answer."""
    named = _named_answer(text, answer)
    return _is_answer(named, answer) if named else ends_in(text, answer)


def _named_answer(text: str, answer: str) -> str:
    """The rest of the line after the last "answer is" that a number, or else any word, follows; empty without one."""
    named = [rest.partition("\n")[0].strip(" *:") for rest in _NAMES_ANSWER.split(text)[1:]]
    if not named or not re.search(r"\w", named[-1]):
        return ""
    return next((rest for rest in reversed(named) if _numbers(rest, answer)), " ".join(named))


def _is_answer(named: str, answer: str) -> bool:
    """Whether the first number named is the gold answer; of an answer in words or several numbers, whether all is.

    What is denied is not named, working comes before it, and of several that are offered each must be the answer.
    """
    named = _DENIED.sub("", named)
    if not ends_in(answer, answer):
        return states(named, answer) and (not _OR.search(named) or bool(_OR.search(answer)))
    clause = next((clause for clause in _CLAUSE_ENDS.split(named) if _numbers(clause, answer)), "")
    offered = [part for part in _OR.split(clause) if _numbers(part, answer)]
    return bool(offered) and all(ends_in(_up_to_first(part, answer), answer) for part in offered)


def _numbers(text: str, answer: str) -> list[int]:
    """Where the numbers of a text begin; what is still to be worked out is none, unless the gold answer is that."""
    worked = {"operand", "range", "interval", "quotient", "power"} - {
        quantity.form for _, quantity in read_placed(answer)
    }
    return [
        start
        for (start, end), quantity in read_placed(text)
        if quantity.form not in worked and not _WORKED_WITH.match(text, end)
    ]


def _up_to_first(text: str, answer: str) -> str:
    """A text up to its first number, after the last "=" if there is one, and what belongs to it; empty for a bound."""
    numbers = _numbers(text, answer)
    first = next((start for start in numbers if start > text.rfind("=")), numbers[0])
    placed = read_placed(text)
    if _BOUND.search(text[:first]) or any(
        quantity.form == "range" and start == first for (start, _), quantity in placed
    ):
        return ""
    return text[: min((start for (start, _), _ in placed if start > first), default=len(text))]
