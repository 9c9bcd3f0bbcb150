"""Quantities in text: the exact values that a text states, with their units, in whatever notation.

A text is first rewritten to plain digits (from words, Unicode fractions, LaTeX), then read. The grammar is our own,
because the libraries misread what tutors write: text2num makes "1.5 million" two numbers and "one second" an ordinal,
word2number finds one number a text.
"""

import re
import unicodedata
from collections.abc import Callable, Collection, Iterable
from fractions import Fraction
from typing import NamedTuple

from socratic_rl.measures.spans import Replacement

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
