"""Quantities in text: the exact values that a text states, with their units, in whatever notation.

A text is first rewritten to plain digits (from words, Unicode fractions, LaTeX), then read. The grammar is our own,
because the libraries misread what tutors write: text2num makes "1.5 million" two numbers and "one second" an ordinal,
word2number finds one number a text.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import lru_cache
from typing import Any

from socratic_rl.notation.digits import _DIGIT, _NUMBER, _any, _fraction, _names, _plain
from socratic_rl.notation.spans import Origins, Span

_UNITS: dict[str, dict[str, str]] = {  # dimension → factor → names
    "dollar": {"1": "dollars dollar usd $", "1/100": "cents cent ¢"},
    "euro": {"1": "euros euro eur €"},
    "rupee": {"1": "rupees rupee rs inr ₹"},
    "percent": {"1": "percent pct %"},
    "second": {
        "1": "seconds second secs sec",
        "60": "minutes minute mins min",
        "3600": "hours hour hrs hr h",
        "86400": "days day",
        "604800": "weeks week",
    },
    "month": {"1": "months month", "12": "years year yrs yr"},
    "metre": {
        "1/1000": "millimeters millimetres millimeter millimetre mm",
        "1/100": "centimeters centimetres centimeter centimetre cms cm",
        "1": "meters metres meter metre m",
        "1000": "kilometers kilometres kilometer kilometre kms km",
    },
    "foot": {"1/12": "inches inch", "1": "feet foot ft", "3": "yards yard", "5280": "miles mile"},
    "gram": {"1/1000": "milligrams mg", "1": "grams gram g", "1000": "kilograms kilogram kilos kilo kgs kg"},
    "pound": {"1/16": "ounces ounce oz", "1": "pounds pound lbs lb £"},  # weight and sterling share the word
    "litre": {"1/1000": "milliliters millilitres milliliter millilitre ml", "1": "liters litres liter litre l"},
    "gallon": {"1/16": "cups cup", "1/8": "pints pint", "1/4": "quarts quart", "1": "gallons gallon"},
    "byte": {"1": "mb", "1000": "gb"},
    "metre/second": {"5/18": "kmph kph"},
    "foot/second": {"22/15": "mph"},
    "degree": {"1": "degrees degree deg ° °c °f"},
    "": {"12": "dozens dozen"},
    "am": {"1": "am a.m"},
    "pm": {"1": "pm p.m"},
}


_UNIT = {
    name: (dimension, Fraction(factor))
    for dimension, factors in _UNITS.items()
    for factor, names in factors.items()
    for name in names.split()
}


@dataclass(frozen=True, slots=True)
class Quantity:
    """A number in a text.

    Attributes:
        value: Its exact value in the unit that it is written in (of a ratio, the first part over the second).
        form: How it is written: ``number``, ``fraction`` (3/4, 1 1/2), ``quotient`` (72/8: a division that is not
            carried out), ``power`` (2^3), ``ratio`` (2:3), ``clock`` (2:30, which may be a ratio, too), ``range``
            (2 to 3), ``interval`` (0 and 1 in [0, 1)), ``rank`` (18th floor), ``operand`` (5 and 3 in 5 + 3 = 8).
        decimals: How many digits stand after the decimal point.
        dimension: What is measured; empty for a bare number.
        factor: What the unit is of its dimension's own unit.
        noun: The plural noun right after a number without a unit, such as "apples".
        parts: The parts of a ratio or range, hour and minute of a time.
    """

    value: Fraction
    form: str = "number"
    decimals: int = 0
    dimension: str = ""
    factor: Fraction = Fraction(1)
    noun: str = ""
    parts: tuple[Fraction, ...] = ()


_SIZES = ("metre", "foot", "litre", "gallon", "gram", "byte")
"""What may be so much a second or so much a litre, which is another quantity; "$5 a day" is money still."""


_PER = [name for name, (dimension, _) in _UNIT.items() if dimension in (*_SIZES, "second", "month")]


_QUANTITY = re.compile(
    # the first character goes first, since it rules out most places
    rf"""
    (?=[-.\d$€£₹urei])(?<![A-Za-z_\d^√∛])(?<!\d\.)
    (?P<sign>(?<![\w)\]%.])(?<![\d)]\ )(?<!(?<!')\b[a-z]\ )-)?
    (?:(?P<currency>US\$|[$€£₹]|(?:rs|usd|eur|euro|inr)\b\ ?\.?)\s*)?
    (?P<inner_sign>(?<=[$€£₹])-)?
    (?:(?P<whole>\d{{1,9}})[\ -](?P<part>\d{{1,9}})\ ?/\ ?(?P<of>\d{{1,9}})
     | (?P<base>{_NUMBER})\ ?\^\ ?(?P<exponent>-?\d{{1,2}})
     | (?P<over>{_NUMBER})\ ?/\ ?(?P<under>{_NUMBER})
     | (?P<ratio>{_NUMBER}(?::{_NUMBER})+|{_NUMBER}(?:\ :\ {_NUMBER})+)
     | (?P<number>{_NUMBER})(?P<rank>№)?)
    (?!\.?\d|_\d|\ ?[√π])
    (?:[\ -]?(?P<power>square|sq\.?|cubic)?\ ?
       (?P<unit>(?:{_any([name for name in _UNIT if name != "$"])})(?![A-Za-z&])|\$(?!\ ?\d))
       (?P<suffix>\^?[23]\b|\ [23](?=\s*(?:[.,;)]|$)))?
       (?:(?:\ ?/\ ?|\ (?:per|an?|each|every)\ )(?P<per>{_any([*_PER, "s"])})(?![A-Za-z&]))?
     | (?P<ordinal>(?:st|nd|rd|th)s?\b)?(?P<glued>[A-Za-z]+)?(?:\ (?P<noun>[a-z]+s)\b)?)
    """,
    re.VERBOSE | re.IGNORECASE,
)


_NO_NOUNS = {"is", "was", "has", "does", "as", "us", "his", "this", "its", "plus", "less", "minus", "times", "always"}


_NO_NOUNS |= {"equals", "makes", "gives", "means", "gets", "leaves", "goes", "comes", "costs"}


def _unit(match: re.Match[str]) -> dict[str, Any]:
    """What a match says about the unit of its number."""
    if match["currency"]:
        name = re.sub(r"[\s.]|^us(?=\$)", "", match["currency"].lower())
    elif match["unit"]:
        name = match["unit"].lower()
    else:
        noun = match["noun"] or ""
        return {"noun": "" if noun.lower() in _NO_NOUNS else noun}
    dimension, factor = _UNIT[name]
    degree = {"s": 2, "c": 3}.get((match["power"] or "")[:1].lower()) or int((match["suffix"] or "1").strip("^ "))
    if match["per"] and dimension in _SIZES:
        under, divisor = _UNIT.get(match["per"].lower(), _UNIT["second"])
        dimension, factor = f"{dimension}/{under}", factor**degree / divisor
        return {"dimension": dimension, "factor": factor}
    return {"dimension": dimension if degree == 1 else f"{dimension}^{degree}", "factor": factor**degree}


_WORKED = r"(?:[+*×/]|\b(?:plus|minus|times|(?:divided|multiplied) by)\b)"


_VARIABLE = r"\b[b-hj-z]\b(?!')"
"""A letter that stands for a number; "a" and "I" are words."""


_FUNCTION = r"\b(?:sin|cos|tan|log|ln)"


# "5 +", "12 -", "w -", "x <", "sin", "multiply them by"
_BEFORE = re.compile(
    rf"(?:{_WORKED}|{_FUNCTION}(?: ?_?\d{{1,2}}| ?_[a-z])?|(?:[\d)%]|(?<![\w'.-]){_VARIABLE})\ ?-"
    r"|\w [<>] ?|\b[a-z][<>] ?|[≤≥≠])[ ($]*$",
    re.IGNORECASE,
)


_AFTER = re.compile(rf"\)?(?: ?{_WORKED}| ?-) ?[\d($.]", re.IGNORECASE)


_AFTER_BARE = re.compile(
    rf"\)?(?:(?: ?{_WORKED}| ?-) ?{_VARIABLE}| ?{_FUNCTION}(?: *[(\d_θαβ]| +[a-z]\b))", re.IGNORECASE
)
"""After a number without a noun, since "70 apples - b" may go on with an option."""


def _is_operand(plain: str, match: re.Match[str]) -> bool:
    """Whether the number of a match of ``_QUANTITY`` is part of working that is to be done."""
    # <12> is a number in brackets
    if plain[: match.start()].endswith("<") and plain.startswith(">", match.end()):
        return False
    return bool(
        _BEFORE.search(plain, max(0, match.start() - 24), match.start())
        or _AFTER.match(plain, match.end())
        or (not match["noun"] and _AFTER_BARE.match(plain, match.end()))
    )


def _quantities_in(plain: str) -> Iterator[tuple[int, int, Quantity]]:
    """Every quantity with its start and end, a noun after it left out, in a text that went through ``_plain``."""
    at = 0
    intervals = _in_intervals(plain)
    while match := _QUANTITY.search(plain, at):
        start, at = match.start(), match.end()
        if 0 < len(match["glued"] or "") < 3 or (match["ordinal"] and match["number"]):
            continue  # 5x, 3D, 4th
        end = match.start("noun") - 1 if match["noun"] else at
        quantity = _quantity(match)
        if quantity is None:  # two numbers side by side, "20 100/5"
            at = end = match.end("whole")
            quantity = Quantity(Fraction(match["whole"]))
        elif any(first < start < last for first, last in intervals):
            quantity = replace(quantity, form="interval")
        elif _is_operand(plain, match):
            quantity = replace(quantity, form="operand")
        yield start, end, quantity


_CLOCK = re.compile(r"(?:[01]?\d|2[0-4]):[0-5]\d")


_INTERVAL = re.compile(
    rf"[\[(]\s*-?(?:{_NUMBER}(?:/\d+)?|∞|inf\w*)\s*,\s*[-+]?(?:{_NUMBER}(?:/\d+)?|∞|inf\w*)\s*[\])]", re.IGNORECASE
)
"""A pair of ends in brackets; one in round ones alone may be a point as well."""


def _in_intervals(plain: str) -> list[Span]:
    """Where intervals stand that are no points: with a square bracket, or without an end."""
    if "[" not in plain and "∞" not in plain and "∪" not in plain and "inf" not in plain.lower():
        return []
    joined = "∪" in plain
    return [m.span() for m in _INTERVAL.finditer(plain) if joined or re.search(r"[\[\]∞i]", m[0], re.IGNORECASE)]


def _quantity(match: re.Match[str]) -> Quantity | None:
    """The quantity of a match of ``_QUANTITY``; none where it is no mixed number after all."""
    unit = _unit(match)
    sign = -1 if match["sign"] or match["inner_sign"] else 1
    if number := match["number"]:
        value = _fraction(number)
        if match["rank"]:
            return Quantity(value, "rank")
        return Quantity(value if sign > 0 else -value, decimals=len(number.partition(".")[2]), **unit)
    if match["base"]:
        base = _fraction(match["base"])
        power = base ** int(match["exponent"]) if base else base
        return Quantity(sign * power, "number" if base == 10 else "power", **unit)
    if match["ratio"]:
        parts = tuple(_fraction(part) for part in re.split(r"\s?:\s?", match["ratio"]))
        if _CLOCK.fullmatch(match["ratio"]):
            day_part = unit.get("dimension", "")
            if unit.get("factor") == 3600 and day_part == "second":  # 2:30 hours
                return Quantity(parts[0] + parts[1] / 60, decimals=9, **unit)
            return Quantity(
                parts[0] / (parts[1] or 1), "clock", parts=parts, dimension=day_part if day_part in ("am", "pm") else ""
            )
        return Quantity(parts[0] / parts[1] if parts[1] else Fraction(0), "ratio", parts=parts)
    if match["over"]:
        over, under = _fraction(match["over"]), _fraction(match["under"])
        return Quantity(sign * over / (under or 1), "fraction" if over < under else "quotient", **unit)
    units, part, of = (int(match[name]) for name in ("whole", "part", "of"))
    return Quantity(sign * (units + Fraction(part, of)), "fraction", **unit) if part < of else None


_RANGE = re.compile(rf"(?<![\w.:])({_NUMBER}) (?:is )?to ({_NUMBER})(?: to ({_NUMBER}))?(?![\w.:]*\d)", re.IGNORECASE)


_JOINT = re.compile(r",? ?(?:and )?")


def _joined(read: Iterable[tuple[int, int, Quantity]], plain: str) -> Iterator[tuple[int, int, Quantity]]:
    """Joins "2 hours 30 minutes" to 2.5 hours: one dimension, the second less than one unit of the first."""
    held: tuple[int, int, Quantity] | None = None
    for start, end, new in read:
        if held is not None:
            old = held[2]
            smaller = new.value * new.factor / old.factor
            parts = new.dimension and new.dimension == old.dimension and new.factor < old.factor and 0 < smaller < 1
            if parts and _JOINT.fullmatch(plain, held[1], start):
                held = (held[0], end, replace(old, value=old.value + smaller, decimals=9))
                continue
            yield held
        held = (start, end, new)
    if held is not None:
        yield held


def _placed(plain: str) -> Iterator[tuple[int, int, Quantity]]:
    """The quantities of ``read`` with their places in a text that went through ``_plain``."""
    yield from _joined(_quantities_in(plain), plain)
    for match in _RANGE.finditer(plain):
        parts = tuple(_fraction(part) for part in match.groups() if part)
        yield *match.span(), Quantity(Fraction(0), "range", parts=parts)


@lru_cache(maxsize=1 << 14)
def read(text: str) -> tuple[tuple[Quantity, ...], str]:
    """Every quantity that a text states, and what is left of the text, with a "#" for each of them.

    The quantities stand in order; after them come the ranges ("2 to 3"), whose numbers were counted already.
    """
    if not _DIGIT.search(text) and not _names(text):
        return (), text
    rest = plain = _plain(text)
    placed = list(_placed(plain))
    for start, end, quantity in reversed(placed):
        if quantity.form != "range":
            rest = f"{rest[:start]}#{rest[end:]}"
    return tuple(quantity for *_, quantity in placed), rest


def read_placed(text: str) -> list[tuple[Span, Quantity]]:
    """The quantities of ``read``, each with where it stands in the text."""
    origins = Origins(text)
    return [(origins.span(start, end), quantity) for start, end, quantity in _placed(_plain(text, origins.sub))]
