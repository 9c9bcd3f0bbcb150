"""Answers that are formulas: whether a text has the same expression, relation or interval, in its own notation.

Two formulas are the same when they differ in notation or in the order of terms and factors only. What is equal once it
has been worked out is another formula: where (x + 1)(x - 4) is asked for, x² - 3x - 4 is what the problem states.
"""

import logging
import re
from collections.abc import Iterator, Sequence
from fractions import Fraction
from functools import lru_cache
from string import ascii_letters
from typing import Any

from socratic_rl.notation.digits import _NUMBER, _fraction, _plain
from socratic_rl.notation.spans import Origins, Rewrite, Span, Sub, pieces, rewrite, rewritten
from socratic_rl.notation.wordings import find_words

_WORDS: list[Rewrite] = [
    rewrite("<= | =<", r"<=|=<", "≤"),
    rewrite(">=", r">=", "≥"),
    rewrite("!=", r"!=", "≠"),
    rewrite("or equal | at most", r"\b(?:is )?(?:(?:less|smaller) than or equal to|at most)\b", "≤"),
    rewrite("or equal | at least", r"\b(?:is )?(?:(?:greater|larger|more) than or equal to|at least)\b", "≥"),
    rewrite("less than | smaller than", r"\b(?:is )?(?:less|smaller) than\b", "<"),
    rewrite("greater than | larger than | more than", r"\b(?:is )?(?:greater|larger|more) than\b", ">"),
    rewrite("equal", r"\b(?:is not|does not|not) equal(?: to)?\b", "≠"),
    rewrite("equal", r"\b(?:is equal to|equals?)\b", "="),
    rewrite("square root | sqrt", r"\b(?:the )?square root of\b|\bsqrt\b", "√"),
    rewrite("squared", r" ?\bsquared\b", "^2"),
    rewrite("cubed", r" ?\bcubed\b", "^3"),
    rewrite("power", r" to the power(?: of)?\b", "^"),
    rewrite("plus", r"\bplus\b", "+"),
    rewrite("minus | negative", r"\b(?:minus|negative)\b", "-"),
    rewrite("times | multiplied", r"\b(?:times|multiplied by)\b", "*"),
    rewrite("divided | over", r"\b(?:divided by|over)\b", "/"),
    rewrite("infinity", r"\binfinity\b", "∞"),
    rewrite("union | u", r"\bunion\b|(?<=[)\]] )U(?= [(\[])", "∪"),
    rewrite("pi", r"(?<![A-Za-z])pi(?![A-Za-z])", "π"),
    rewrite("**", r"\*\*", "^"),
    Rewrite(("×", "·", "⋅", "∙", "•"), re.compile("[×·⋅∙•]"), "*"),
]


_TOKEN = re.compile(rf"\s*({_NUMBER}|[A-Za-zα-ω]+|[-+*/^()\[\]{{}}|,=<>≤≥≠±√∞∪∩∈])")


_RELATIONS = {"=": "=", "≠": "≠", "<": ">", ">": "<", "≤": "≥", "≥": "≤"}
"""Each relation with what it is when the sides change places."""


_FUNCTIONS = {"sin", "cos", "tan", "log", "ln", "√"}


_Token = tuple[str, int, int]


def _written(text: str, sub: Sub = re.Pattern.sub) -> str:
    """The text in the notation that formulas are read in."""
    return rewritten(_plain(text, sub), _WORDS, sub)


class _Reader:
    """Reads a formula from its tokens; what it gives is the same for all notations and orders of terms."""

    def __init__(self, tokens: Sequence[str]) -> None:
        self._tokens = tokens
        self._at = 0

    def formula(self) -> Any:
        """The formula.

        Raises:
            ValueError: The tokens are none.
        """
        # "> 7" has no left side
        sides, relations = ["" if self._next in _RELATIONS else self._union()], []
        while self._next in _RELATIONS:
            relations.append(self._take())
            sides.append(self._union())
        if self._at < len(self._tokens):
            raise ValueError
        if not relations:
            return sides[0]
        turned = [_RELATIONS[relation] for relation in reversed(relations)]
        return ("relation", min((relations, sides), (turned, sides[::-1]), key=repr))

    @property
    def _next(self) -> str:
        return self._tokens[self._at] if self._at < len(self._tokens) else ""

    def _take(self, *wanted: str) -> str:
        token = self._next
        if not token or (wanted and token not in wanted):
            raise ValueError
        self._at += 1
        return token

    def _union(self) -> Any:
        parts = [self._sum()]
        signs = set()
        while self._next in ("∪", "∩"):
            signs.add(self._take())
            parts.append(self._sum())
        return parts[0] if len(parts) == 1 else ("joined", sorted(signs), sorted(parts, key=repr))

    def _sum(self) -> Any:
        terms: list[Any] = []
        while not terms or self._next in ("+", "-", "±"):
            sign = self._take() if self._next in ("+", "-", "±") else "+"
            coefficient, factors = self._product()
            coefficient *= -1 if sign == "-" else 1
            terms.append((coefficient, (*factors, "±") if sign == "±" else factors))
        terms.sort(key=repr)
        return ("sum", tuple(terms)) if len(terms) > 1 else terms[0]

    def _product(self) -> tuple[Fraction, tuple[Any, ...]]:
        coefficient, factors = Fraction(1), []
        first = True
        while first or self._next in ("*", "/") or self._next in _FUNCTIONS | set("([π∞") or self._next.isalpha():
            divides = not first and self._next in ("*", "/") and self._take() == "/"
            first = False
            factor = self._power()
            if isinstance(factor, Fraction):
                if divides and not factor:
                    raise ValueError
                coefficient = coefficient / factor if divides else coefficient * factor
            elif len(factor) == 2 and isinstance(factor[0], Fraction):  # a product of its own
                coefficient = coefficient / factor[0] if divides and factor[0] else coefficient * factor[0]
                factors += [("over", part) if divides else part for part in factor[1]]
            else:
                factors.append(("over", factor) if divides else factor)
        return coefficient, tuple(sorted(factors, key=repr))

    def _power(self) -> Any:
        base = self._atom()
        if self._next != "^":
            return base
        self._take()
        negative = self._next == "-" and bool(self._take())
        return ("power", base, negative, self._atom())

    def _atom(self) -> Any:
        token = self._take()
        if token[0].isdigit() or token[0] == ".":
            return _fraction(token)
        if token in _FUNCTIONS:
            return ("of", token, self._power())
        if token in ("(", "[", "{"):
            return self._bracket(token)
        if token in {"|"}:
            inside = self._sum()
            self._take("|")
            return ("absolute", inside)
        if token in ("∞", "π") or token.isalpha():
            return (Fraction(1), tuple(sorted(token.lower())))
        raise ValueError

    def _bracket(self, opening: str) -> Any:
        parts = [self._sum()]
        while self._next == ",":
            self._take()
            parts.append(self._sum())
        closing = self._take(")", "]", "}")
        if len(parts) > 1:
            return ("bracket", opening, closing, sorted(parts, key=repr) if opening == "{" else parts)
        if (opening, closing) not in (("(", ")"), ("[", "]")):
            raise ValueError
        inside = parts[0]
        return inside[0] if inside[0] != "sum" and not inside[1] else inside


def _formula(tokens: Sequence[str]) -> Any:
    """What the tokens say; None where they are no formula."""
    try:
        return _Reader(tokens).formula()
    except (ValueError, ZeroDivisionError):
        return None


_LETTER = (
    r"(?<![A-Za-z'])(?!(?:kg|cm|mm|km|ml|lb|oz|ft|hr|am|pm|rs|in|of|or|to|by|is|at|on)\b)[a-zα-ωA-Z]{1,2}(?![A-Za-z'])"
)


_IS_FORMULA = re.compile(
    r"[√∛π<>≤≥≠^|±∞∪∩∈\\]|\d|^#!$"
    # "# - x", "x + #", "x(x + #)", but neither "x-axis" nor "T-shirt"
    rf"|{_LETTER}\s*(?:[+*/×·^(]|-(?!\s?[a-z]{{3}}))|(?:[+*/×·)]|(?<![a-z])-)\s*{_LETTER}|#\s*[a-np-z]$"
    r"|\b(?:sqrt|pi|infinity)\b|\b(?:sin|cos|tan|log|ln)(?:_?\w*\(|\s*(?:#|[a-zθ]\b))"
    r"|\b(?:less|greater) than or equal\b"
)


def looks_like_formula(rest: str) -> bool:
    """Whether an answer in which "#" stands for each number is more than these numbers: "# - x", "x ≤ #", "(x + #)"."""
    return bool(_IS_FORMULA.search(re.sub(r"\d+(?:st|nd|rd|th)\b", "", rest.strip(" ."))))


class Formula:
    """A formula that texts are searched for.

    Args:
        answer: The gold answer that is one.
    """

    def __init__(self, answer: str) -> None:
        written = re.sub(r"^\s*\$?\s*(?:[A-Za-z]\s*∈\s*)?|(?:\s+[A-Za-z]{3,})*[\s.]*$", "", _written(answer))
        self._tokens = [token for token, *_ in _tokens(written)]
        covers = "".join(self._tokens) == re.sub(r"\s", "", written)
        is_word = not set("".join(self._tokens)) - set(ascii_letters)
        self._value = _formula(self._tokens) if covers and not is_word else None
        self._letters = set("".join(token.lower() for token in self._tokens if token.isalpha()))
        self._latex = answer if self._value is None and "\\" in answer else ""

    def __bool__(self) -> bool:
        return self._value is not None or bool(self._latex and _from_latex(self._latex) is not None)

    def find(self, text: str) -> list[Span]:
        """Where a text has the formula."""
        if self._latex:
            same = [
                (start, end)
                for start, end in _latex_pieces(text)
                if _from_latex(self._latex) in map(_from_latex, (text[start:end], *text[start:end].split("=")))
            ]
            return same or find_words(text, self._latex)
        origins = Origins(text)
        written = _written(text, origins.sub)
        return [
            origins.span(run[first][1], run[last - 1][2])
            for run in self._runs(written)
            for first, last in self._windows([token for token, *_ in run])
        ]

    def _runs(self, written: str) -> Iterator[list[_Token]]:
        """The tokens that follow each other with nothing between but white space, without words."""
        run: list[_Token] = []
        for token, start, end in _tokens(written):
            is_word = token.isalpha() and not self._is_name(token)
            if is_word or (run and written[run[-1][2] : start].strip(" ")):
                if run:
                    yield run
                run = []
            if not is_word:
                run.append((token, start, end))
        if run:
            yield run

    def _is_name(self, word: str) -> bool:
        """Whether a word of a text is a function, or letters that the formula has, too."""
        short = len(word) <= 3 and word not in ("a", "at", "an", "as", "is", "it", "in", "if", "so", "to", "on", "or")
        return word in _FUNCTIONS or ((short or word in self._tokens) and self._letters.issuperset(word.lower()))

    def _windows(self, tokens: list[str]) -> Iterator[Span]:
        """The pieces of a run that are the formula and not a part of a larger one."""
        while tokens and tokens[-1] in set("+-*/^(,=<>≤≥≠±"):
            tokens = tokens[:-1]
        size = len(self._tokens)
        for first in range(len(tokens)):
            for last in range(first + size // 2, min(len(tokens), first + 2 * size + 4) + 1):
                if self._free(tokens, first, last) and _formula(tokens[first:last]) == self._value:
                    yield first, last

    def _free(self, tokens: list[str], first: int, last: int) -> bool:
        before = tokens[first - 1] if first else ""
        after = tokens[last] if last < len(tokens) else ""
        if before == "(" and after == ")":
            return self._free(tokens, first - 1, last + 1)
        is_relation = self._value is not None and self._value[0] == "relation"
        if self._tokens[0] in _RELATIONS and tokens[first] in _RELATIONS and before.isalpha():
            before = ""
        ends = {"", ",", "∈"} if is_relation else {"", ",", "∈", *_RELATIONS}
        return before in ends and after in ends


@lru_cache(maxsize=1 << 12)
def formula(answer: str) -> Formula:
    """The formula that a gold answer is; false where it is none that can be read."""
    return Formula(answer)


def points(text: str) -> bool:
    """Whether a text has numbers in brackets, as a point or an interval has them."""
    return bool(re.search(rf"[\[(]\s*-?{_NUMBER}\s*,\s*-?{_NUMBER}\s*[\])]", text))


_OPENING, _CLOSING = {"(", "["}, {")", "]"}


def _tokens(written: str) -> Iterator[_Token]:
    at = 0
    while at < len(written):
        if match := _TOKEN.match(written, at):
            token, start, at = match[1], match.start(1), match.end()
            if token.count(",") == 1 and written[start - 1 : start] in _OPENING and written[at : at + 1] in _CLOSING:
                comma = token.index(",")  # a pair, (12,102)
                yield token[:comma], start, start + comma
                yield ",", start + comma, start + comma + 1
                token, start = token[comma + 1 :], start + comma + 1
            yield token, start, at
        else:
            at += 1


# ---- LaTeX that has no plain notation ----


_DELIMITER = re.compile(r"\$+|\\[()\[\]]|\\boxed(?=\{)")


def _latex_pieces(text: str) -> list[Span]:
    """The pieces of a text that have a LaTeX command."""
    return [(start, end) for start, end in pieces(_DELIMITER, text) if "\\" in text[start:end] and end - start < 300]


@lru_cache(maxsize=1 << 10)
def _from_latex(text: str) -> Any:
    """What math-verify reads in LaTeX, such as a matrix; None where it reads nothing or but a number."""
    # sympy takes half a second to import, which a text without LaTeX need not wait for
    import sympy
    from math_verify import LatexExtractionConfig, parse

    logging.getLogger("math_verify").setLevel(logging.ERROR)  # it warns that there is no limit of time
    text = re.sub(r"^[\s$]+|[\s$.,]+$", "", text)
    # sympy works out binomials at once, which for large ones takes forever
    if "\\" not in text or re.search(r"binom.*\d{5}", text, re.DOTALL):
        return None
    read = parse(f"${text}$", [LatexExtractionConfig()], parsing_timeout=None, fallback_mode="no_fallback")
    value = next((part for part in read if not isinstance(part, str)), None)
    if isinstance(value, sympy.MatrixBase):
        return value.as_immutable()
    return None if isinstance(value, sympy.Number | sympy.Symbol) else value
