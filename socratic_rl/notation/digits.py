"""Quantities in text: the exact values that a text states, with their units, in whatever notation.

A text is first rewritten to plain digits (from words, Unicode fractions, LaTeX), then read. The grammar is our own,
because the libraries misread what tutors write: text2num makes "1.5 million" two numbers and "one second" an ordinal,
word2number finds one number a text.
"""

import re
import unicodedata
from collections.abc import Collection
from decimal import Decimal
from fractions import Fraction

from socratic_rl.notation.latex import LATEX
from socratic_rl.notation.spans import Rewrite, Sub, rewrite, rewritten

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


_RANKS = {name: n for n, name in enumerate(_ORDINALS, 4)} | {f"{name}th": n for n, name in enumerate(_ONES[13:], 13)}


_RANKS["twentieth"] = 20


_NAMES = _INTEGERS | _FRACTIONS | _RANKS.keys() | {"noon", "midday", "midnight"}


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


_LETTERS = {"k": 10**3, "m": 10**6, "mn": 10**6, "b": 10**9, "bn": 10**9}


def _scaled(match: re.Match[str]) -> str:
    """``1.5 million``, ``1.5k``, ``1.5 × 10^6`` or ``1.5e6`` as digits."""
    scale = match[2].lower()
    power = _SCALES.get(scale) or _LETTERS.get(scale)
    zeros = len(str(power)) - 1 if power else int(scale)
    digits = f"{Decimal(match[1].replace(',', '')).scaleb(zeros):f}"
    return digits.rstrip("0").rstrip(".") if "." in digits else digits


def _part(match: re.Match[str]) -> str:
    """``two thirds``, ``a quarter``, ``half`` as a fraction; "the third box" and "8 quarters" stay as they are."""
    article, count, name = match[1], match[2], match[3].lower()
    if count is None:
        return f"1/{_PARTS[name]}" if name == "half" or (article and not name.endswith("s")) else match[0]
    is_fraction = count == "1" if not name.endswith("s") else 1 < int(count) < _PARTS[name] or name == "halves"
    return f"{count}/{_PARTS[name]}" if is_fraction else match[0]


_MARKS = [
    *LATEX,
    # Markdown
    rewrite("** | __", r"(?<!\w)(\*\*|__)(?=\S)(.+?)(?<=\S)\1(?!\w)", r"\2"),
    # single characters
    rewrite("", r"\s*[¼-¾⅐-⅞]", lambda m: " " + unicodedata.normalize("NFKC", m[0].strip()).replace("⁄", "/")),
    rewrite("", r"[⁰¹²³⁴-⁹]+", lambda m: "^" + unicodedata.normalize("NFKC", m[0])),
    rewrite("**", r"(?<=\d)\s?\*\*\s?(?=\d)", "^"),
]


_HAS_MARKS = re.compile(r"[\\{$*_¼-¾⅐-⅞⁰¹²³⁴-⁹]")


# what is numbered in order: "the 18th floor" is floor 18, as "the 3rd box" and "7th grade" are not
_COUNTED = ["floor", "storey", "story", "level", "day", "week", "month", "year", "birthday", "place", "position"]


_COUNTED += ["row", "seat", "lap", "house", "anniversary"]


def _rank(match: re.Match[str]) -> str:
    """The number of "18th floor", with a mark, since it is no number of floors."""
    return f"{match[1] or _RANKS[match[2].lower()]}№ "


_SIGNS = [
    rewrite(
        " | ".join(f"{ending} {noun}" for noun in _COUNTED for ending in ("th", "st", "nd", "rd")),
        rf"\b(?:(\d+)(?:st|nd|rd|th)|({_any(_RANKS)})) (?=(?:{_any(_COUNTED)})\b)",
        _rank,
    ),
    rewrite("x | × | \\", r"(?<=[\d)%])\s*[x×]\s*(?=\.?\d|[($])", " × "),
    rewrite("per cent | percentage", r"\bper cent\b|\bpercentage points?\b", "percent"),
]


_ONE = [
    # "one" that stands for a noun ("this one", "one of them") or opens a phrase ("one more") is no number
    rewrite(
        "",
        r"\b(this|that|the|which|each|every|another|any|no|a|first|last|next|other|right|wrong|good|at|by) one\b",
        r"\1",
    ),
    rewrite(
        "",
        r"\bone(?= (?:of|more|another|thing|way|step|by|at|idea|that|who|last|could|might|can|would)\b)",
        "",
    ),
]


_CARDINALS = [
    rewrite(
        "",
        # the first letters of what may follow, since the rest takes long to rule out
        rf"\b(?=[aefnostz])(?:{_SCALED}(?:,?\s+(?:and\s+)?{_SCALED})*(?:,?\s+(?:and\s+)?{_TO_999})?|{_TO_999})"
        rf"(?: point(?: (?:{_any(_ONES[:10])}))+)?(?!\w|-(?:step|digit|sided|way)\b)",
        _digits,
    ),
    rewrite(" | ".join(_SCALES), rf"(?<![\d,.])({_NUMBER}) ({_any(_SCALES)})\b", _scaled),
]


_NOON = [
    rewrite(
        "noon | midday", r"(?<!after)(?<!\d )(?<!\d:00 )(?<!at )\b(?:noon|midday)\b|\bat (?:noon|midday)\b", "12:00 pm"
    ),
    rewrite("midnight", r"\bmidnight\b", "12:00 am"),
]


_SHARES = [
    rewrite("half past", r"\bhalf past (?=\d)", "1/2 past "),
    rewrite("quarter", r"\b(?:a )?quarter (past|after|to|before) (?=\d)", r"1/4 \1 "),
    rewrite("half", r"\b(?:an?|(\d+)) ([a-z]+) and (?:a )?half\b", lambda m: f"{m[1] or 1} 1/2 {m[2]}"),
    rewrite("quarter", r"\b(?:an?|(\d+)) ([a-z]+) and a quarter\b", lambda m: f"{m[1] or 1} 1/4 {m[2]}"),
    rewrite("half", r"\bhalf an? (?=[a-z])", "1/2 "),
    rewrite("quarter of", r"(?<!\ba )(?<!one )(?<!\d )(?<!three[ -])\bquarter (?=of an? )", "1/4 "),
    rewrite("dozen", r"\ban? (?=dozen)", "1 "),
    rewrite(
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


def _clock(match: re.Match[str]) -> str:
    """``1/2 past 2`` as 2:30, ``1/4 to 3`` as 2:45."""
    minutes = {"1/2": 30, "1/4": 15}[match[1]]
    hour = int(match[3])
    if match[2] in ("past", "after"):
        return f"{hour}:{minutes}"
    return f"{hour - 1 or 12}:{60 - minutes}"


_DAY_PARTS = {"morning": "am", "afternoon": "pm", "evening": "pm", "night": "pm", "noon": "pm", "midday": "pm"}


_NUMBERS = [
    rewrite(" and ", r"(?<=\d) and (?=\d+ ?/ ?\d)", " "),
    rewrite("(", r"(?<![\d.,/*×^+] )(?<![\d.,/*×^+(])(\d{1,9}) \((\d{1,9} ?/ ?\d{1,9})\)(?! ?[\w(*/×^])", r"\1 \2"),
    rewrite("×", rf"(?<![\d.,])({_NUMBER}) × 10\^\(?(-?\d{{1,2}})\)?(?!\d)", _scaled),
    rewrite("e", rf"(?<![\w.,])({_NUMBER})e([+-]?\d{{1,2}})(?![\w.]*\d)(?!\w)", _scaled),
    # 1.5k and $3m, but not 5k + 3
    rewrite("k", rf"(?<![\w.,])({_NUMBER})(k)\b(?! ?[-+*/=^(])", _scaled),
    rewrite("$ | € | £ | ₹", rf"(?<=[$€£₹])({_NUMBER}) ?(mn?|bn?)\b", _scaled),
    rewrite(
        "negative | minus",
        r"\b(?:negative|minus(?:(?<=^minus)|(?<=is minus)|(?<=equals minus)|(?<=[.,:] minus))) (?=[.$\d])",
        "-",
    ),
    rewrite("- ", r"([=(] ?)- (?=[\d.$])|^- (?=[\d.,/$%°^]+$)", r"\1-"),
    # 1 250 and 120 000, but not a row of three-digit numbers
    rewrite("", r"(?<![\d.,])(?:\d{1,2}(?: \d{3})+|\d{3}(?: \d{3})* 000)(?![.,]?\d)", lambda m: m[0].replace(" ", "")),
    # a quarter of an hour
    rewrite(
        " of a", r"(?<=\d/\d) of an? (?=(?:hour|minute|day|week|month|year|mile|foot|pound|cup|gallon|dollar)\b)", " "
    ),
    # times of day
    rewrite("past", r"(?<![\d.,/:])(\d{1,2}) (?:minutes )?past (\d{1,2})(?![\d:.]*\d)", lambda m: f"{m[2]}:{m[1]:0>2}"),
    rewrite(":", r"(?<=\d:\d\d) ?- ?(?=\d{1,2}:\d\d)", " to "),
    rewrite("past | to | after | before", r"\b(1/[24]) (past|after|to|before) (\d{1,2})(?![\d:.])", _clock),
    rewrite("clock", r"(?<=\d)(?<!:\d\d) ?o'clock\b", ":00"),
    rewrite(
        " | ".join(_DAY_PARTS),
        r"(?<![\d.])(\d{1,2}:\d\d) (?:in the (morning|afternoon|evening)|at (night|noon|midday)|(noon))\b",
        lambda m: f"{m[1]} {_DAY_PARTS[(m[2] or m[3] or m[4]).lower()]}",
    ),
]


_DIGIT = re.compile(r"[\d¼-¾⅐-⅞⁰¹²³⁴-⁹]")


def _names(text: str) -> frozenset[str]:
    """The words of a text that name a number."""
    return _NAMES.intersection(re.findall("[a-z]+", text.lower()))


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
    if not names.isdisjoint(("noon", "midday", "midnight")):
        rewrites = _NOON + rewrites
    text = rewritten(text, rewrites, sub)
    return rewritten(text, _NUMBERS + _NO_VALUES, sub) if _DIGIT.search(text) else text
