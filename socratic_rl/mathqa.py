"""Undoing what MathQA's making did to its texts: mis-decoding, lower-casing, splitting into tokens, option letters.

A MathQA text is one line of lower-cased tokens with a space between any two. The functions here take such texts; all
rules are about the notation and none about single rows.
"""

import contextlib
import itertools
import re
from collections.abc import Callable, Sequence

# --- mis-decoded characters ---------------------------------------------------------------------------------------


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
_LEAD = "".join(char for char, found in _BYTES.items() if max(found) >= 0xC2)
_NEXT = "".join(char for char, found in _BYTES.items() if min(found) < 0xC0 and not char.isspace())
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
    found = []
    for data in itertools.product(*(_BYTES[char] for char in chars)):
        with contextlib.suppress(UnicodeDecodeError):
            found.append(bytes(data).decode("utf-8"))
    return [text for text in found if _PLAUSIBLE.fullmatch(text)]


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


# --- spaces ---------------------------------------------------------------------------------------------------------

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


# --- options ----------------------------------------------------------------------------------------------------------

_OPTIONS = [
    re.compile(
        r"^\W*a ?\)(?P<a>.*?)"
        + "".join(rf"{gap} ?\(? ?{letter} ?\)(?P<{letter}>.*?)" for letter in "bcd")
        + rf"(?:{gap} ?\(? ?e ?\)(?P<e>.*))?$",
        re.IGNORECASE,
    )
    for gap in (",", r"[,;\s]")
]  # commas first, since "( a + b )" is no option b

_NO_VALUE = re.compile(
    r"(?:it )?(?:"
    r"(?:none|neither|all|any|both|either|not?)(?: of)? (?:these|them|(?:the )?above|the others?)"
    r"|none|neither|n ?\.? ?o ?\.? ?t ?\.? ?a|n / a|na|others?|no answer|no solution|unknown"
    r"|(?:the )?(?:data|information)?(?: (?:is|are|given|provided))* ?(?:inadequate|insufficient"
    r"|not (?:sufficient|enough|adequate))(?: (?:data|information))?"
    r"|(?:can|could) ?(?:not|n't|n ' t) be (?:determined|found|calculated|said|inferred)"
    r"|not (?:determinable|possible|known)|undetermined|indeterminate"
    r")(?: (?:from|with|by) .*)?"
)
_NUMBER_WORDS = {"one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"}


def options(text: str) -> dict[str, str]:
    """The options by letter, as tokens; empty where they cannot be told apart.

    Args:
        text: ``a ) 38 , b ) 27.675 , c ) 9,000 , …``, or a list in Python's notation with such options.
    """
    text = text.strip()
    if text.startswith("["):
        text = " , ".join(re.findall(r"(?<=['\"]) *([a-e] *\).*?)(?=['\"] *(?:,|\]))", text, re.IGNORECASE))
    text = repair(text)
    for pattern in _OPTIONS:
        if match := pattern.match(text):
            found = {letter: option for letter, option in match.groupdict().items() if option is not None}
            # some rows name the letter twice: "a ) a ) 8"
            return {
                letter: re.sub(rf"^ ?{letter} ?\)", "", option, flags=re.IGNORECASE).strip(" ,;")
                for letter, option in found.items()
            }
    return {}


def value(option: str, others: Sequence[str]) -> str | None:
    """The value that an option names, with its sign, decimals, fraction, unit and thousands separators.

    Args:
        option: One of the options, as tokens.
        others: All options of the row: "none" beside "one" and "two" is a number.

    Returns:
        The value, or None where the option names none ("none of these", "can not be determined").
    """
    text = option.strip(" .,;'\"")
    if text.lower() == "none" and _NUMBER_WORDS & set(others):
        return "0"
    if not re.search(r"\w", text) or _NO_VALUE.fullmatch(text.lower()):
        return None
    text = re.sub(r"^(?:(?:rs|re) ?[.:]?|s ?[.:]) ?(?=[\d.])", "Rs. ", text)  # the letter of the option ate an r
    text = re.sub(r"^[a-z] = (?=[-\d])", "", text)
    text = re.sub(r"(?<=\d) v (?=\d)", "√", text)  # 10 v 2 is what was left of 10√2
    return re.sub(r"(?<![\w.])\.(?=\d)", "0.", detokenise(text))


# --- rationales -------------------------------------------------------------------------------------------------------


def _word(words: str) -> str:
    return rf"\b(?:{'|'.join(words.split())})\b"


_LETTER = r"[(\[]? ?['\"]* ?(?P<letter>[a-e])\b"
_CLOSE = r"[\s.,;:!\\'\"`)\]*?-]*$"
_LABEL = r"\b(?:or|and)?(?:answers?|anser|ans|options?|choice|oa)"
_LEADING_TO = _word(
    "so hence thus therefore and then imo our my the this is must be"
    " final correct cor+ect right best required only possible actual"
)
_CONNECT = rf"(?:{_LEADING_TO} [,:.]? ?|∴ |⇒ |= ?> )*"
_LINKING = _word(
    "is are was will would must should can be to the above question option choice answer correct definitely therefore"
    " clearly hence only"
)
_LINK = rf"(?:\s*(?:{_LINKING}|[:=.,>\"'-])){{0,10}}"
_TAILS = [
    # "so the correct answer is : option ( d ) ."
    re.compile(rf"{_CONNECT}{_LABEL}{_LINK}\s*{_LETTER}{_CLOSE}"),
    # "option d is correct", "d is the answer ."
    re.compile(
        rf"{_CONNECT}(?:{_LABEL} )?{_LETTER} ?\)? (?:is|should be|must be|would be|will be) {_CONNECT}"
        rf"(?:{_LABEL}|\b(?:correct|right))(?: {_LABEL})?{_CLOSE}"
    ),
]
# "hence d .", "that is definitely e ."
_CONCLUDED = re.compile(
    r"(?:\b(?:hence|so|thus|therefore|imo|that is|which is|definitely|(?<=, )or|(?:we )?(?:can )?(?:only )?choose)\b"
    rf" ?,? ?(?:is |it is )?)+{_LETTER}{_CLOSE}"
)
_LONE_LETTER = re.compile(rf"(?<!\S){_LETTER}{_CLOSE}")
_NAMES_IT = _word(
    "of by and or to than for from with is be at on in the let when if call say find get gives? between value mr"
    " pipe tap pump train car machine man person vessel container bag box part event point angle side type brand alloy"
    " mixture team set town city class a b c d e x y"
)
"""Words before a letter that is something's name, not an option's."""
_NO_LONE_LETTER_AFTER = re.compile(rf"(?:[=+*/:^,(<>×÷√-]|{_NAMES_IT})\s*$")
_MIDDLE = re.compile(rf"(?: \.)? {_CONNECT}\b(?:answer|ans|option) ?(?:is|must be|:|=) {_LETTER} ?\)? \.(?= \S)")
_FORUM = re.compile(r"(?:\s*(?:view answer|discuss(?: it)?(?: in forum)?|workspace report|report error))+\s*$")
_NUMBER_TAIL = re.compile(r"(?:(?:\$|rs|re|s) ?[.:]? ?)?[-.]? ?\d[\d ,./:%$]*(?:[a-z]+ ){0,2}[a-z]*[\s.;]*$")

_MARK = r"[\s\"'.,:;=-]*"
_KIND_OF = r"(?:(?:detailed|official|explanatory|800 score|easy|quick|short|complete|alternate) )*"
# "solution x is 20 % …" and "answer is 5 since …" begin a sentence
_NO_HEAD_BEFORE = r"(?!(?:of|with|set|mixture|to|and|in|for|that|which)\b|[a-z] (?:is|are|contains?|has|was|will)\b)"
_NO_ANSWER_HEAD_BEFORE = r"(?!(?:is|are|choices?|options?|will|must|should|to)\b)"
_HEAD = re.compile(
    rf"^{_MARK}{_KIND_OF}(?:(?:explanation|explanatory answer|solution|soln?|expl)(?: ?[:.;=-]+ ?| {_NO_HEAD_BEFORE})"
    rf"|(?:answer|ans)(?: ?[:;=-]+ ?| {_NO_ANSWER_HEAD_BEFORE}))"
)
_HEAD_LETTER = re.compile(
    rf"^{_MARK}(?:the |correct |final )*(?:answer|ans|option|choice){_LINK} {_LETTER} ?(?P<close>[)\].:=,'\"]*)\s*"
)


def rationale(text: str, letter: str, option: str) -> str:
    """The worked solution in a rationale, without quotes, heads ("explanation :") and the letter that it closes with.

    Args:
        text: The rationale as tokens.
        letter: The correct option's letter.
        option: The correct option, as tokens.

    Returns:
        The solution; empty where the rationale holds nothing but the answer.
    """
    text = repair(text).strip(" \"'")
    text = _without_tail(_without_head(text, letter, option), letter, option)
    text = _MIDDLE.sub(lambda m: " ." if m["letter"] == letter or ":" in m[0] else m[0], text)
    return detokenise(_STRAY.sub("", text).rstrip(" ,;:\\\"'-([{"))


def _without_head(text: str, letter: str, option: str) -> str:
    for _ in range(3):  # "solution : explanation : …"
        if (match := _HEAD_LETTER.match(text)) and (match["letter"] == letter or set(match["close"]) & set(").:")):
            text = _without_value(text[match.end() :], option)
        elif match := _HEAD.match(text):
            text = text[match.end() :]
    if not re.search(r"\( [a-e] \)", text[5:]):  # else it is the first of several cases
        text = re.sub(rf"^\( {letter} \) (?=[a-z]{{2}})", "", text)
    # "d 6 days the day after …": the letter and the option before the solution
    for shown in (option, _number(option)):
        if shown and text.startswith(f"{letter} {shown} "):
            text = _without_value(text[len(letter) + 1 :], shown)
    return text


def _number(option: str) -> str:
    match = re.search(r"\d[\d.,]*", option)
    return match[0] if match else ""


def _without_value(text: str, shown: str) -> str:
    rest = text.removeprefix(shown)
    # "2 * 3 = …" is work that begins with the same number
    return text if rest == text or re.match(r"\s*[-+*/x×÷=^%:.\d]", rest) else rest.strip()


def _without_tail(text: str, letter: str, option: str) -> str:
    shown = option.strip(" .;")
    labelled = False
    while True:
        text = _FORUM.sub("", text.rstrip(" \\\"';,"))
        # the value may follow the letter: "answer : b ) 28000"
        bodies = [text]
        if shown and text.rstrip(" .;)").endswith(" " + shown):
            bodies.append(text.rstrip(" .;)").removesuffix(shown))
        elif match := _NUMBER_TAIL.search(text):
            bodies.append(text[: match.start()])
        for body, pattern in itertools.product(bodies, _TAILS):
            found = pattern.search(body)
            if found and (body is text or found["letter"] == letter):
                text, labelled = body[: found.start()], True
                break
        else:
            cut = _unlabelled_tail(text, letter, shown, lone=not labelled)
            if cut is None:
                break
            text = cut
    text = re.sub(rf"\s*{_CONNECT}\b(?:answer|ans)(?: is)?[\s.:=-]*$", "", text)
    stated = re.search(rf"{_CONNECT}\b(?:answer|ans) [:=-] {re.escape(shown)}$", text)
    if stated and re.search(rf"(?<!\S){re.escape(shown)}(?!\S)", text[: stated.start()]):
        text = text[: stated.start()]  # "answer : 4 : 5" after the work has come to 4 : 5
    return text


def _unlabelled_tail(text: str, letter: str, shown: str, *, lone: bool) -> str | None:
    """The text without a closing letter that no "answer" announces; None where there is no such letter.

    Args:
        text: The solution so far.
        letter: The correct option's letter.
        shown: The correct option.
        lone: Whether a letter by itself may go, too; after "answer : b" went, a "b" before it belongs to the work.
    """
    match = _CONCLUDED.search(text)
    if not match and lone:
        match = _LONE_LETTER.search(text)
        match = match if match and not _NO_LONE_LETTER_AFTER.search(text[: match.start()]) else None
    if match and match["letter"] == letter:
        return text[: match.start()]
    if lone and shown:
        if match := re.search(
            rf"(?<!\S){re.escape(_number(shown) or shown)}(?: [a-z]+)?(?P<tail> = {letter}[\s.]*)$", text
        ):
            return text[: match.start("tail")]
        if match := re.search(rf"(?<!\S){letter} ?[).] ?{re.escape(shown)}(?: [a-z]+)?[\s.]*$", text):
            return text[: match.start()]
    return None


# --- steps ------------------------------------------------------------------------------------------------------------

_SENTENCE_END = re.compile(
    r"(?<=[a-z0-9)%\]²³°]{2}[.;?!])(?<!\brs\.)(?<!\bno\.)(?<!\bsq\.)(?<!\bapprox\.)(?<!\bvs\.)(?<!\bie\.)(?<!\beg\.)\s+(?=[a-z(∴])"
)
_ARROW = re.compile(r"(\s*(?:=+>|⇒|∴|-+>|⇔)\s*)")


def split_steps(solution: str) -> list[str]:
    """The sentences of a solution and the links of its chains (``=>``), split only where each part can stand alone."""
    links = (link.strip(" ,;") for sentence in _SENTENCE_END.split(solution) for link in _links(sentence))
    return [link for link in links if link]


def _links(sentence: str) -> list[str]:
    first, *rest = _ARROW.split(sentence)
    links = [first]
    for arrow, part in zip(rest[::2], rest[1::2], strict=True):
        stands_alone = re.match(r"[\w(√$-]", part) and re.search(r"\w.*[=<>≤≥].*\w|(?:[a-z]{2,}\W+){2}", part)
        balanced = all(links[-1].count(opening) == links[-1].count(closing) for opening, closing in ("()", "[]"))
        if stands_alone and balanced and re.search(r"\w", links[-1]):
            links.append(part)
        else:
            links[-1] += arrow + part
    return links
