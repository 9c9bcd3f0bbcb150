"""Undoing what MathQA's making did to its texts: mis-decoding, lower-casing, splitting into tokens, option letters.

A MathQA text is one line of lower-cased tokens with a space between any two. The functions here take such texts; all
rules are about the notation and none about single rows.
"""

import contextlib
import itertools
import re
from collections.abc import Callable


def _bytes_behind() -> dict[str, list[int]]:
    """The UTF-8 bytes 0x80–0xF4 that a character may stand for once read as cp1252 or latin-1 and lower-cased."""
    behind: dict[str, list[int]] = {}
    for byte, codec in itertools.product(range(0x80, 0xF5), ("cp1252", "latin-1")):
        char = bytes([byte]).decode(codec, errors="ignore")
        for seen in {char, char.lower()} - {""}:
            if byte not in behind.setdefault(seen, []):
                behind[seen].insert(0 if seen == char else len(behind[seen]), byte)
    return behind


_BYTES = _bytes_behind()


_LEAD = "".join(char for char, codes in _BYTES.items() if max(codes) >= 0xC2)


_NEXT = "".join(char for char, codes in _BYTES.items() if min(codes) < 0xC0 and not char.isspace())


_MISREAD = re.compile(rf"([{re.escape(_LEAD)}])\s?([{re.escape(_NEXT)}])(?:(\s?)([{re.escape(_NEXT)}]))?")


_PLAUSIBLE = re.compile(
    "[\u2010-\u27bf\uf020-\uf0ff\ufb00-\ufb06"  # punctuation to dingbats, private use, ligatures
    "\u00a1-\u00ff\u0152-\u0192\u019e-\u01ab\u02c6\u02dc\u0391-\u03c9]"  # Latin, what cp1252 itself holds, Greek
)


_LOST_BYTE = {"â €": '"', "â „": "/", "â ‰": "≠", "â ˆ": "∠", "â": " "}
"""Sequences whose last byte has no cp1252 character, or one that counts as a space."""


_SYMBOL_FONT = {
    0x2B: "+", 0x2D: "-", 0x3C: "<", 0x3D: "=", 0x3E: ">", 0x5C: "∴", 0x61: "α", 0x62: "β", 0x70: "π", 0x71: "θ",
    0xA2: "'", 0xA3: "≤", 0xAE: "→", 0xB0: "°", 0xB1: "±", 0xB3: "≥", 0xB4: "×", 0xB8: "÷", 0xB9: "≠", 0xBB: "≈",
    0xD0: "∠", 0xD6: "√", 0xD7: "⋅", 0xDB: "⇔", 0xDE: "⇒", 0xE0: "→", 0xE8: "⇒", 0xF0: "⇒", 0xF3: "⇔",
}  # fmt: skip
"""What word processors left in the private use area, U+F000 and the code in the Symbol or Wingdings font."""


_PDF_LIGATURES = {"ƫ": "tti", "ɵ": "ti", "ʃ": "tt", "ō": "ft", "ƞ": "tf"}
"""Letters that some fonts' ligatures turn into when text is copied from a PDF, lower-cased."""


_PLAIN = str.maketrans(
    dict.fromkeys("’‘‛´`ˋ", "'")
    | dict.fromkeys("“”„‟", '"')
    | dict.fromkeys("−–‒‐‑", "-")
    | dict.fromkeys("⁄∕", "/")
    | dict.fromkeys("\u00a0\u2009\u202f", " ")
    | dict.fromkeys("\u200b\u200c\u200d\ufeff", "")
    | {"∗": "*", "…": "..."}
)


def _redecode(match: re.Match[str]) -> str:
    lead, second, gap, third = match.groups()
    three = _readings(lead + second + third) if third else []
    if three:
        return min(three, key=lambda text: text > "\u22ff")  # lower-casing made ⊥ and ⚥ one: rather the mathematics
    two = _readings(lead + second)
    return two[0] + (gap or "") + (third or "") if two else match[0]


def _readings(chars: str) -> list[str]:
    decoded = []
    for data in itertools.product(*(_BYTES[char] for char in chars)):
        with contextlib.suppress(UnicodeDecodeError):
            decoded.append(bytes(data).decode("utf-8"))
    return [text for text in decoded if _PLAUSIBLE.fullmatch(text)]


def repair(text: str) -> str:
    """Put right UTF-8 that was read as cp1252 or latin-1, lower-cased and split: ``â ˆ ’`` is a minus.

    What was mis-read twice is repaired twice. Quotes, dashes and slashes become the plain ones.
    """
    for _ in range(3):
        text = _MISREAD.sub(_redecode, text)
    for broken, meant in _LOST_BYTE.items():
        text = re.sub(rf"(?<!\S){broken}(?!\S)", meant, text)
    text = re.sub("[\uf000-\uf0ff]", lambda m: _SYMBOL_FONT.get(ord(m[0]) - 0xF000, " "), text)
    text = re.sub(f"(?<=[a-z]) ([{''.join(_PDF_LIGATURES)}]) (?=[a-z])", lambda m: _PDF_LIGATURES[m[1]], text)
    text = re.sub(r"[‹<] = [›>]", "⇔", text.translate(_PLAIN))
    return " ".join(text.split())


_ABBREVIATION = (
    r"\b(?:i \. e|e \. g|p \. a|[csmg] \. p|[sc] \. i|[ap] \. m|p \. w|[tb] \. [dg]|l \. c \. m|h \. c \. f"
    r"|g \. c \. [df]|k \. m \. p \. h|m \. p \. h)\b(?: \.)?"
)


_LENGTH = r"(?:mm|cm|dm|m|km|in|inch|inches|ft|feet|yd|yards?|mi|miles?|met(?:er|re)s?)"


_AFTER_POWER = r"(?= [.,;=?]| \)(?! [a-z])|$)"  # "170 cm 2 ) the average" goes on with a second point


_UNIT = rf"(?:{_LENGTH}|mph|kms|kg|rs|litres?|liters?|l)"


def _joined(match: re.Match[str]) -> str:
    return match[0].replace(" ", "")


_SPACING: list[tuple[re.Pattern[str], str | Callable[[re.Match[str]], str]]] = [
    (re.compile(pattern), replacement)
    for pattern, replacement in (
        (_ABBREVIATION, _joined),
        # LaTeX: styling goes, the common commands become their signs
        (r"\\ (?:inline|displaystyle|small|large|left|right|fn _ \w+|color { \w+ })(?!\w)", ""),
        (r"\\ therefore\b", "∴"),
        (r"\\ (?:left)?(?:right)?arrow\b", "⇒"),
        (r"\\ times\b", "×"),
        (r"\\ d?frac { ([^{}]*) } { ([^{}]*) }", r"( \1 ) / ( \2 )"),
        (r"\\ sqrt { ([^{}]*) }", r"√ ( \1 )"),
        # arrows, relations, rows of dashes and dots
        (r"(?:- )+>|(?:- ){2,}-|(?:= )+>|[<>!=] =", _joined),
        (r"\.(?: \.){2,}", "..."),
        (r"\. \.", "."),
        # decimals and signs that stand apart from their number
        (r"(^|[-=+*/(\[<>,×÷:$^] |\bof )\. (?=\d)", r"\1."),
        (r"(^|[=+*/(\[<>,×÷:^] |\b(?:from|to|than|is|are|by|and|or|between|equals?) )- (?=\d)", r"\1-"),
        # apostrophes and quotes
        (r"' '", '"'),
        (r"([\w)]) ' (s|t|re|ve|ll|d|m)\b(?! ')", r"\1'\2"),
        (r"\b(o) ' (clock)\b", r"\1'\2"),
        (r"(\w) n't\b", r"\1n't"),
        (r"(?<!s )' ([\w ]{1,30}) '", r"'\1'"),
        (r"(\ws) '(?= \w)", r"\1'"),
        (r'" ([^"]{1,60}) "', r'"\1"'),
        # numbers with what belongs to them
        (r"(\d|\)|\b[a-z]) %", r"\1%"),
        (r"(1) (st)\b|(2) (nd)\b|(3) (rd)\b|(\d) (th)\b", _joined),
        (r"([\w)]) ([²³₀-₉])", r"\1\2"),
        (r"(\d) °", r"\1°"),
        (r"([$€£₹]) (?=[\d.-])", r"\1"),
        (r"(/ [\d.]+) : (?=\d)", r"\1:"),
        (r"(\d) : (?=[\d.,]*\d(?![\d.,])(?! [-+*/×x] ))", r"\1:"),  # "divide by 3 : 63 / 3" is no ratio
        (r"(\d) / (?=\d)", r"\1/"),
        (rf"((?:\d|\bsq) {_LENGTH})(?: \^)? 2{_AFTER_POWER}", r"\1²"),
        (rf"(\d {_LENGTH})(?: \^)? 3{_AFTER_POWER}", r"\1³"),
        (r"([\w)]) \^ (?=[\w(])", r"\1^"),
        (r"(\d|\bn) !", r"\1!"),
        (rf"\b({_UNIT}) / (hr|hrs|hour|h|sec|s|min|minute|day|gallon)\b", r"\1/\2"),
        # punctuation
        (r"([(\[{]) ", r"\1"),
        (r" ([)\]}])", r"\1"),
        (r"(?<=[\w)\].%'\"°²³!]) ([,;])", r"\1"),
        (r"(?<=[\w)\]%'\"°²³]) ([?!])(?= |$)", r"\1"),
        (r"(?<=[\w)\]%'\"°²³!]) \.(?!\S)", "."),
    )
]


def detokenise(text: str) -> str:
    """Take out the spaces that the tokeniser put in, where that is safe: ``5 % of $ 1,000`` is ``5% of $1,000``.

    No digit is added, dropped or moved (a "2" after a length becomes "²"), and the case stays as it is.
    """
    for pattern, replacement in _SPACING:
        text = pattern.sub(replacement, text)
    return " ".join(text.split())


_STRAY = re.compile(r"^(?:[\s,;:\\\"']|\.(?! ?\d)|= > |⇒)+")
"""Punctuation and arrows that a text cannot begin with; a decimal point may."""


# in a question "-" joins words; in a solution it may as well be a minus
_HYPHEN = re.compile(
    r"([a-z]{2}|\d|\b[xyz]) - (?=[a-z]{3,})(?!(?:how|what|which|find|and|the|then|but|who|when|for|its|this|that)\b)"
)


def tidy(text: str) -> str:
    """A question as people write it: repaired, without the quotes around it, detokenised."""
    return _HYPHEN.sub(r"\1-", detokenise(_STRAY.sub("", repair(text).strip(' "'))))
