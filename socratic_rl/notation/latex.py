"""LaTeX in a text, rewritten to the plain notation that the rest is read in."""

import re

from socratic_rl.notation.spans import Rewrite, rewrite

_NUMBER = r"\d[\d,]*(?:\.\d+)?"


_SYMBOLS = {
    "times": "×", "cdot": "×", "div": "/", "pm": "±", "infty": "∞", "pi": "π", "theta": "θ", "cup": "∪", "cap": "∩",
    "le": "≤", "leq": "≤", "leqslant": "≤", "ge": "≥", "geq": "≥", "geqslant": "≥", "ne": "≠", "neq": "≠", "lt": "<",
    "gt": ">", "in": "∈", "approx": "≈", "to": "→", "Rightarrow": "⇒", "implies": "⇒", "circ": "°", "degree": "°",
    "lbrace": "{", "rbrace": "}", "lbrack": "[", "rbrack": "]", "left": "", "right": "", "big": "", "Big": "",
    "displaystyle": "", "quad": " ", "qquad": " ", "sin": "sin ", "cos": "cos ", "tan": "tan ",
    "log": "log ", "ln": "ln ", "alpha": "α", "beta": "β", "ldots": "...", "dots": "...",
}  # fmt: skip
"""What LaTeX commands without arguments stand for."""


_MATH = re.compile(
    r"(?<![\w\\$])(\$\$?)(?P<space> ?)(?P<math>(?=[^\s$])(?:[^$\\\n]|\\.){0,200}?)(?<!\s)(?P=space)\1(?!\$| ?\d)"
)
"""What stands between two dollar signs, unless it is prose between two amounts; see ``_math``."""


def _math(match: re.Match[str]) -> str:
    """The formula in ``$…$``; all as it is where that is "$5, or 6$", in which words stand that no command explains."""
    formula = match["math"]
    words = re.findall(r"[a-z]{2,}", re.sub(r"\\text\w*\s*\{[^{}]*\}|\\mathrm\s*\{[^{}]*\}|\\[A-Za-z]+", "", formula))
    if not set(words) <= {"sin", "cos", "tan", "log", "ln", "sqrt"} and "\\" not in formula:
        return match[0]
    if match["space"] and not re.search(r"[\\=a-z\d]", formula):
        return match[0]
    return re.sub(r"^- +(?=[\d.\\])", "-", formula)


def _grouped(text: str) -> str:
    """A numerator or denominator, in brackets where it is more than a number or a letter."""
    text = text.strip()
    return text if re.fullmatch(rf"{_NUMBER}|\w|√(?:\d+|\w)", text) else f"({text})"


def _quotient(match: re.Match[str]) -> str:
    r"""``\frac{3}{8}`` or ``\frac43`` as 3/8 or 4/3; what stands before it may be the units of a mixed number."""
    parts = [(match[name] or match[f"{name}_digit"]).strip() for name in ("over", "under")]
    negative = [bool(re.fullmatch(rf"- ?{_NUMBER}", part)) for part in parts]
    parts = [part.lstrip("- ") if is_negative else part for part, is_negative in zip(parts, negative, strict=True)]
    gap = "" if match["before"] is None else " "
    return gap + "-" * (negative[0] != negative[1]) + "/".join(map(_grouped, parts))


_ARGUMENT = r"\s*(?:\{{(?P<{0}>[^{{}}]*)\}}|(?P<{0}_digit>\w))"


_FRACTION = re.compile(
    r"(?P<before>(?<=[\w)}])\s*|(?<=[^\s(=+*/×-])\s+)?\\[dtc]?frac(?![a-z])"
    + _ARGUMENT.format("over")
    + _ARGUMENT.format("under")
)


_ROOT = re.compile(r"\\sqrt(?![a-z])\s*(?:\{([^{}]*)\}|(\w))")


_NESTED = [
    Rewrite(("sqrt[",), re.compile(r"\\sqrt\[\w\]\s*(?:\{([^{}]*)\}|(\w))"), lambda m: "∛" + _grouped(m[1] or m[2])),
    Rewrite(("sqrt",), _ROOT, lambda m: "√" + _grouped(m[1] or m[2])),
    rewrite("^{", r"\^\{\s*(-?\d+|[a-z])\s*\}", r"^\1"),
    rewrite("^{", r"\^\{([^{}]*)\}", r"^(\1)"),
    rewrite("_{", r"_\{(\w+)\}", r"_\1"),
    Rewrite(("frac",), _FRACTION, _quotient),
]
"""From the inside to the outside, so it is done as often as they may stand in each other."""


LATEX = [
    Rewrite(("$",), _MATH, _math),
    rewrite("$$", r"\$\$", " "),
    rewrite("\\", r"(?<=\d)(?:,?\\[,;:!]|\{,\}(?:\\!)?)(?=\d{3})", ","),
    rewrite("{,}", r"(?<=\d)\{,\}(?=\d{3})", ","),
    rewrite("\\", r"\\(?:text(?:bf|it|rm|normal)?|mathrm|mathbf|mathit|mbox|emph|operatorname)\s*\{([^{}]*)\}", r"\1"),
    rewrite("\\", r"\^\s*\{?\s*\\(?:circ|degree)\b\s*\}?", "°"),
    *_NESTED * 3,
    rewrite("\\", r"\\(?:boxed|fbox)\s*\{([^{}]*)\}", r"\1"),
    Rewrite(
        ("\\",),
        re.compile(rf"\\({'|'.join(sorted(_SYMBOLS, key=len, reverse=True))})(?![A-Za-z])"),
        lambda m: _SYMBOLS[m[1]],
    ),
    rewrite("\\", r"\\!", ""),
    rewrite("\\", r"\\[,;: ()\[\]]", " "),
    rewrite("\\", r"\\(?=[$%&#{}])", ""),
]
