"""Quantities in text: the exact values that a text states, with their units, in whatever notation.

A text is first rewritten to plain digits (from words, Unicode fractions, LaTeX), then read. The grammar is our own,
because the libraries misread what tutors write: text2num makes "1.5 million" two numbers and "one second" an ordinal,
word2number finds one number a text.
"""

import re
import unicodedata
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import lru_cache
from typing import Any, NamedTuple

from socratic_rl.spans import Origins, Replacement, Span

# ---- names ----

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
        "1000": "kilometers kilometres kilometer kilometre kms km kmph",
    },
    "foot": {"1/12": "inches inch", "1": "feet foot ft", "3": "yards yard", "5280": "miles mile mph"},
    "gram": {"1/1000": "milligrams mg", "1": "grams gram g", "1000": "kilograms kilogram kilos kilo kgs kg"},
    "pound": {"1/16": "ounces ounce oz", "1": "pounds pound lbs lb £"},  # weight and sterling share the word
    "litre": {"1/1000": "milliliters millilitres milliliter millilitre ml", "1": "liters litres liter litre l"},
    "gallon": {"1/16": "cups cup", "1/8": "pints pint", "1/4": "quarts quart", "1": "gallons gallon"},
    "byte": {"1": "mb", "1000": "gb"},
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
_ONES = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve"]
_ONES += ["thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen"]
_TENS = ["twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"]
_ORDINALS = ["fourth", "fifth", "sixth", "seventh", "eighth", "ninth", "tenth", "eleventh", "twelfth"]
_SMALL = {name: n for n, name in enumerate(_ONES)} | {name: 10 * n for n, name in enumerate(_TENS, 2)}
_SCALES = {"hundred": 100, "thousand": 10**3, "million": 10**6, "billion": 10**9, "trillion": 10**12}
_PARTS = {"half": 2, "halves": 2, "quarter": 4, "quarters": 4, "third": 3, "thirds": 3} | {
    name + plural: n for n, name in enumerate(_ORDINALS, 4) for plural in ("", "s")
}
_INTEGERS = frozenset((*_SMALL, *_SCALES))
_FRACTIONS = frozenset((*_PARTS, "dozen"))
_NAMES = _INTEGERS | _FRACTIONS


def _any(names: Collection[str]) -> str:
    return "|".join(re.escape(name) for name in sorted(names, key=len, reverse=True))


# ---- any notation → plain digits ----

_CHARACTERS = str.maketrans("−–‐‑⁄÷∶’\t\u00a0\u202f\u2009", "----//:'    ")
_BULLET = re.compile(r"^[ *(]*(\d{1,2})[.):]\**(?= +\S)", re.MULTILINE)
_TO_99 = rf"(?:(?:{_any(_TENS)})(?:[\s-](?:{_any(_ONES[1:10])}))?|{_any(_ONES)})"
_TO_999 = rf"(?:(?:{_TO_99}|an?)\s+hundred(?:\s+(?:and\s+)?{_TO_99})?|{_TO_99})"
_SCALED = rf"(?:{_TO_999}|an?)\s+(?:thousand|million|billion|trillion)"
_MONTHS = "January|February|March|April|May|June|July|August|September|October|November|December"
_MONTH = f"(?:{_MONTHS})"
_DAY = r"\d{1,2}(?:st|nd|rd|th)?"
# at most 40 digits, since Python refuses to read thousands of them
_NUMBER = r"(?:(?:\d{1,3}(?:,\d{3}){1,12}|\d{1,2}(?:,\d\d){1,12},\d{3}|\d{1,40})(?:\.\d{1,40})?|\.\d{1,40})"


def _fraction(digits: str) -> Fraction:
    digits = digits.replace(",", "")
    # reading it as an integer first takes a third of the time
    return Fraction(int(digits) if digits.isdecimal() else digits)


def _digits(match: re.Match[str]) -> str:
    """A number in words as digits."""
    words, _, after = match[0].lower().partition(" point ")
    total = current = 0
    for word in re.findall("[a-z]+", words):
        if word == "hundred":
            current = (current or 1) * 100
        elif word in _SCALES:
            total, current = total + (current or 1) * _SCALES[word], 0
        else:
            current += _SMALL.get(word, 0)
    return f"{total + current}" + ("." + "".join(str(_SMALL[word]) for word in after.split()) if after else "")


def _scaled(match: re.Match[str]) -> str:
    """``1.5 million`` or ``1.5 × 10^6`` as digits."""
    scale = match[2].lower()
    value = _fraction(match[1]) * (10 ** int(scale) if scale.isdecimal() else _SCALES[scale])
    return str(value if value.denominator == 1 else float(value))


def _part(match: re.Match[str]) -> str:
    """``two thirds``, ``a quarter``, ``half`` as a fraction; "the third box" and "8 quarters" stay as they are."""
    article, count, name = match[1], match[2], match[3].lower()
    if count is None:
        return f"1/{_PARTS[name]}" if name == "half" or (article and not name.endswith("s")) else match[0]
    is_fraction = count == "1" if not name.endswith("s") else 1 < int(count) < _PARTS[name] or name == "halves"
    return f"{count}/{_PARTS[name]}" if is_fraction else match[0]


class Rewrite(NamedTuple):
    """What is written in another way; searching for it takes long, so the text is first looked at for what it needs."""

    needs: tuple[str, ...]
    """The text in lower case has one of these."""
    pattern: re.Pattern[str]
    replacement: Replacement


def _rewrite(needs: str, pattern: str, replacement: Replacement) -> Rewrite:
    return Rewrite(tuple(needs.split(" | ")), re.compile(pattern, re.IGNORECASE), replacement)


_MARKS = [
    # LaTeX and Markdown
    _rewrite("frac", r"\s*\\[dt]?frac\s*\{([^{}]*)\}\s*\{([^{}]*)\}", r" \1/\2"),
    _rewrite("\\", r"\\(?:boxed|text|textbf|mathrm|mathbf)\s*\{([^{}]*)\}", r"\1"),
    _rewrite("\\", r"\\(?:times|cdot)\b", "×"),
    _rewrite("\\", r"\\div\b", "/"),
    _rewrite("\\ | {,}", r"(?<=\d)(?:\\[,;!]|\{,\})(?=\d{3})", ","),
    _rewrite("\\", r"\\(?:left|right)\b|\\[()\[\]]", " "),
    _rewrite("\\", r"\\(?=[$%])", ""),
    _rewrite("$", r"(?<!\d)\$(-?[\d.,]+)\$(?!\d)", r"\1"),
    _rewrite("** | __", r"(?<!\w)(\*\*|__)(?=\S)(.+?)(?<=\S)\1(?!\w)", r"\2"),
    # single characters
    _rewrite("", r"[¼-¾⅐-⅞]", lambda m: " " + unicodedata.normalize("NFKC", m[0]).replace("⁄", "/")),
    _rewrite("", r"[⁰¹²³⁴-⁹]+", lambda m: "^" + unicodedata.normalize("NFKC", m[0])),
    _rewrite("** | ^{", r"(?<=\d)\s?\*\*\s?(?=\d)|\^\{(?=-?\d+\})", "^"),
]
_HAS_MARKS = re.compile(r"[\\{$*_¼-¾⅐-⅞⁰¹²³⁴-⁹]")
_SIGNS = [
    _rewrite("x | × | \\", r"(?<=[\d)%])\s*[x×]\s*(?=[\d($.])", " × "),
    _rewrite(":00", r"(?<=\d):00(?= ?[ap]\.?m\b)", ""),
    _rewrite("per cent | percentage", r"\bper cent\b|\bpercentage points?\b", "percent"),
]
_ONE = [
    # "one" that stands for a noun ("this one", "one of them") or opens a phrase ("one more") is no number
    _rewrite(
        "",
        r"\b(this|that|the|which|each|every|another|any|no|a|first|last|next|other|right|wrong|good|at|by) one\b",
        r"\1",
    ),
    _rewrite(
        "",
        r"\bone(?= (?:of|more|another|thing|way|step|by|at|idea|that|who|last|could|might|can|would)\b)",
        "",
    ),
]
_CARDINALS = [
    _rewrite(
        "",
        # the first letters of what may follow, since the rest takes long to rule out
        rf"\b(?=[aefnostz])(?:{_SCALED}(?:,?\s+(?:and\s+)?{_SCALED})*(?:,?\s+(?:and\s+)?{_TO_999})?|{_TO_999})"
        rf"(?: point(?: (?:{_any(_ONES[:10])}))+)?(?!\w|-(?:step|digit|sided|way)\b)",
        _digits,
    ),
    _rewrite(" | ".join(_SCALES), rf"(?<![\d,.])({_NUMBER}) ({_any(_SCALES)})\b", _scaled),
]
_SHARES = [
    _rewrite("half", r"\b(?:an?|(\d+)) ([a-z]+) and (?:a )?half\b", lambda m: f"{m[1] or 1} 1/2 {m[2]}"),
    _rewrite("half", r"\bhalf an? (?=[a-z])", "1/2 "),
    _rewrite("dozen", r"\ban? (?=dozen)", "1 "),
    _rewrite(
        "",
        rf"(?:\b(an? )?|(?<![\d.,/])(\d{{1,3}})[ -])\b({_any(_PARTS)})\b(?![ -](?:time|step|one|grade)|-)",
        _part,
    ),
]
_NO_VALUES = [
    # "step 2", "#5"
    Rewrite(
        ("step", "question", "problem", "part", "example", "exercise", "hint", "grade", "equation", "#"),
        re.compile(
            r"\b(?i:steps?|questions?|problem|parts?|examples?|exercises?|hints?|grades?|equations?)"
            r" \d+(?: (?:and|to) \d+)?\b(?! ?[/=+*×^%]|\.\d)|(?<!#)#\d+"
        ),
        " ",
    ),
    # dates
    Rewrite(
        ("/", "-", *_MONTHS.lower().split("|")),
        re.compile(
            rf"(?:\b(?=[JFMASOND]){_MONTH} {_DAY}|\b{_DAY} (?:of )?{_MONTH})\b(?:,? \d{{4}}\b)?"
            r"|\b\d{1,4}/\d{1,2}/\d{2,4}\b|\b\d{4}-\d\d-\d\d\b"
        ),
        " ",
    ),
]
_NUMBERS = [
    _rewrite(" and ", r"(?<=\d) and (?=\d+ ?/ ?\d)", " "),
    _rewrite("×", rf"(?<![\d.,])({_NUMBER}) × 10\^(\d{{1,2}})(?!\d)", _scaled),
    _rewrite(
        "negative | minus",
        r"\b(?:negative|minus(?:(?<=^minus)|(?<=is minus)|(?<=equals minus)|(?<=[.,:] minus))) (?=[.$\d])",
        "-",
    ),
    _rewrite("- ", r"([=(] ?)- (?=[\d.$])|^- (?=[\d.$]+$)", r"\1-"),
    # 1 250 and 120 000, but not a row of three-digit numbers
    _rewrite("", r"(?<![\d.,])(?:\d{1,2}(?: \d{3})+|\d{3}(?: \d{3})* 000)(?![.,]?\d)", lambda m: m[0].replace(" ", "")),
]
_DIGIT = re.compile(r"[\d¼-¾⅐-⅞⁰¹²³⁴-⁹]")


def _names(text: str) -> frozenset[str]:
    """The words of a text that name a number."""
    return _NAMES.intersection(re.findall("[a-z]+", text.lower()))


Sub = Callable[[re.Pattern[str], Replacement, str], str]
"""``re.Pattern.sub``, or one that keeps where things stood."""


def _plain(text: str, sub: Sub = re.Pattern.sub) -> str:
    """The text with its numbers in plain digits, without dates, list numbers and "step 2"."""
    if not text.isascii() or "\t" in text:
        text = text.translate(_CHARACTERS)
    bullets = {int(match[1]) for match in _BULLET.finditer(text)}
    # a lone "12. Well done" is an answer, "1." or one of "2." and "3." is a list number
    text = sub(_BULLET, lambda m: " " if m[1] == "1" or bullets & {int(m[1]) - 1, int(m[1]) + 1} else m[0], text)
    names = _names(text)
    rewrites = _MARKS + _SIGNS if _HAS_MARKS.search(text) else _SIGNS
    if "one" in names:
        rewrites = rewrites + _ONE
    if not names.isdisjoint(_INTEGERS):
        rewrites = rewrites + _CARDINALS
    if not names.isdisjoint(_FRACTIONS):
        rewrites = rewrites + _SHARES
    text = _rewritten(text, rewrites, sub)
    return _rewritten(text, _NUMBERS + _NO_VALUES, sub) if _DIGIT.search(text) else text


def _rewritten(text: str, rewrites: Iterable[Rewrite], sub: Sub) -> str:
    lower = text.lower()
    for needs, pattern, replacement in rewrites:
        for need in needs:
            if need in lower:
                text = sub(pattern, replacement, text)
                break
    return text


# ---- plain digits → quantities ----


@dataclass(frozen=True, slots=True)
class Quantity:
    """A number in a text.

    Attributes:
        value: Its exact value in the unit that it is written in (of a ratio, the first part over the second).
        form: How it is written: ``number``, ``fraction`` (3/4, 1 1/2), ``quotient`` (72/8: a division that is not
            carried out), ``power`` (2^3), ``ratio`` (2:3), ``range`` (2 to 3), ``operand`` (5 and 3 in 5 + 3 = 8).
        decimals: How many digits stand after the decimal point.
        dimension: What is measured; empty for a bare number.
        factor: What the unit is of its dimension's own unit.
        noun: The plural noun right after a number without a unit, such as "apples".
        parts: The parts of a ratio or range.
    """

    value: Fraction
    form: str = "number"
    decimals: int = 0
    dimension: str = ""
    factor: Fraction = Fraction(1)
    noun: str = ""
    parts: tuple[Fraction, ...] = ()


_QUANTITY = re.compile(
    # the first character goes first, since it rules out most places
    rf"""
    (?=[-.\d$€£₹urei])(?<![A-Za-z_\d^])(?<!\d\.)
    (?P<sign>(?<![\w)\]%.])(?<![\d)]\ )(?<!(?<!')\b[a-z]\ )-)?
    (?:(?P<currency>US\$|[$€£₹]|(?:rs|usd|eur|euro|inr)\b\ ?\.?)\s*)?
    (?P<inner_sign>(?<=[$€£₹])-)?
    (?:(?P<whole>\d{{1,9}})[\ -](?P<part>\d{{1,9}})\ ?/\ ?(?P<of>\d{{1,9}})
     | (?P<base>{_NUMBER})\ ?\^\ ?(?P<exponent>-?\d{{1,2}})
     | (?P<over>{_NUMBER})\ ?/\ ?(?P<under>{_NUMBER})
     | (?P<ratio>{_NUMBER}(?::{_NUMBER})+|{_NUMBER}(?:\ :\ {_NUMBER})+)
     | (?P<number>{_NUMBER}))
    (?!\.?\d)
    (?:[\ -]?(?P<power>square|sq\.?|cubic)?\ ?
       (?P<unit>(?:{_any([name for name in _UNIT if name != "$"])})(?![A-Za-z&])|\$(?!\ ?\d))
       (?P<suffix>\^?[23]\b|\ [23](?=\s*(?:[.,;)]|$)))?
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
    return {"dimension": dimension if degree == 1 else f"{dimension}^{degree}", "factor": factor**degree}


_WORKED = r"(?:[+*×/]|\b(?:plus|minus|times|(?:divided|multiplied) by)\b)"
_BEFORE = re.compile(rf"(?:{_WORKED}|[\d)%]\ ?-)[ ($]*$", re.IGNORECASE)
_AFTER = re.compile(rf"\)?(?: ?{_WORKED}| ?-) ?[\d($.]", re.IGNORECASE)


def _found(plain: str) -> Iterator[tuple[int, int, Quantity]]:
    """Every quantity with its start and end, a noun after it left out, in a text that went through ``_plain``."""
    at = 0
    while match := _QUANTITY.search(plain, at):
        start, at = match.start(), match.end()
        if 0 < len(match["glued"] or "") < 3 or (match["ordinal"] and match["number"]):
            continue  # 5x, 3D, 4th
        end = match.start("noun") - 1 if match["noun"] else at
        quantity = _quantity(match)
        if quantity is None:  # two numbers side by side, "20 100/5"
            at = end = match.end("whole")
            quantity = Quantity(Fraction(match["whole"]))
        elif _BEFORE.search(plain, max(0, start - 16), start) or _AFTER.match(plain, at):
            quantity = replace(quantity, form="operand")
        yield start, end, quantity


def _quantity(match: re.Match[str]) -> Quantity | None:
    """The quantity of a match of ``_QUANTITY``; none where it is no mixed number after all."""
    unit = _unit(match)
    sign = -1 if match["sign"] or match["inner_sign"] else 1
    if number := match["number"]:
        value = _fraction(number)
        return Quantity(value if sign > 0 else -value, decimals=len(number.partition(".")[2]), **unit)
    if match["base"]:
        base = _fraction(match["base"])
        power = base ** int(match["exponent"]) if base else base
        return Quantity(sign * power, "number" if base == 10 else "power", **unit)
    if match["ratio"]:
        parts = tuple(_fraction(part) for part in re.split(r"\s?:\s?", match["ratio"]))
        return Quantity(parts[0] / parts[1] if parts[1] else Fraction(0), "ratio", parts=parts)
    if match["over"]:
        over, under = _fraction(match["over"]), _fraction(match["under"])
        return Quantity(sign * over / (under or 1), "fraction" if over < under else "quotient", **unit)
    whole, part, of = (int(match[name]) for name in ("whole", "part", "of"))
    return Quantity(sign * (whole + Fraction(part, of)), "fraction", **unit) if part < of else None


_RANGE = re.compile(rf"(?<![\w.])({_NUMBER}) (?:is )?to ({_NUMBER})(?: to ({_NUMBER}))?(?![\w.]*\d)", re.IGNORECASE)
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
    yield from _joined(_found(plain), plain)
    for match in _RANGE.finditer(plain):
        parts = tuple(_fraction(part) for part in match.groups() if part)
        yield *match.span(), Quantity(Fraction(0), "range", parts=parts)


@lru_cache(maxsize=1 << 14)
def read(text: str) -> tuple[tuple[Quantity, ...], str]:
    """Every quantity that a text states, and what is left of the text without them.

    The quantities stand in order; after them come the ranges ("2 to 3"), whose numbers were counted already.
    """
    if not _DIGIT.search(text) and not _names(text):
        return (), text
    rest = plain = _plain(text)
    placed = list(_placed(plain))
    for start, end, quantity in reversed(placed):
        if quantity.form != "range":
            rest = rest[:start] + rest[end:]
    return tuple(quantity for *_, quantity in placed), rest


def read_placed(text: str) -> list[tuple[Span, Quantity]]:
    """The quantities of ``read``, each with where it stands in the text."""
    origins = Origins(text)
    return [(origins.span(start, end), quantity) for start, end, quantity in _placed(_plain(text, origins.sub))]
