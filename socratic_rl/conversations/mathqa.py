"""Undoing what MathQA's making did to its texts: mis-decoding, lower-casing, splitting into tokens, option letters.

A MathQA text is one line of lower-cased tokens with a space between any two. The functions here take such texts; all
rules are about the notation and none about single rows.
"""

import itertools
import re
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from socratic_rl.conversations.mathqa_text import _STRAY, detokenise, repair
from socratic_rl.conversations.problems import Source
from socratic_rl.core.dialogue import Problem, Step, text_id

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
            options_by_letter = {letter: option for letter, option in match.groupdict().items() if option is not None}
            # some rows name the letter twice: "a ) a ) 8"
            return {
                letter: re.sub(rf"^ ?{letter} ?\)", "", option, flags=re.IGNORECASE).strip(" ,;")
                for letter, option in options_by_letter.items()
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
    if re.match(r"\d+\b(?! ?/)", text) and re.match(r"[ ,;'\"]*\.[ .]*\d", option):
        text = f".{text}"  # ". 2" is 0.2
    if text.lower() == "none" and _NUMBER_WORDS & set(others):
        return "0"
    if not re.search(r"\w", text) or _NO_VALUE.fullmatch(text.lower()):
        return None
    text = re.sub(r"^(?:(?:rs|re) ?[.:]?|s ?[.:]) ?(?=[\d.])", "Rs. ", text)  # the letter of the option ate an r
    text = re.sub(r"(?<=\d) \. (?=\d)", ".", text)
    text = re.sub(r"(?<![\w.])(?:(?<!\w )|(?<=\band )|(?<=\bor ))\. ?(?=\d)", "0.", text)
    text = re.sub(r"^[a-z] = (?=[-\d])", "", text)
    text = re.sub(r"(?<=\d) v (?=\d)", "√", text)  # 10 v 2 is what was left of 10√2
    return detokenise(text)


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
    for value in (option, _number(option)):
        if value and text.startswith(f"{letter} {value} "):
            text = _without_value(text[len(letter) + 1 :], value)
    return text


def _number(option: str) -> str:
    match = re.search(r"\d[\d.,]*", option)
    return match[0] if match else ""


def _without_value(text: str, value: str) -> str:
    rest = text.removeprefix(value)
    # "2 * 3 = …" is work that begins with the same number
    return text if rest == text or re.match(r"\s*[-+*/x×÷=^%:.\d]", rest) else rest.strip()


def _without_tail(text: str, letter: str, option: str) -> str:
    value = option.strip(" .;")
    labelled = False
    while True:
        text = _FORUM.sub("", text.rstrip(" \\\"';,"))
        # the value may follow the letter: "answer : b ) 28000"
        bodies = [text]
        if value and text.rstrip(" .;)").endswith(" " + value):
            bodies.append(text.rstrip(" .;)").removesuffix(value))
        elif match := _NUMBER_TAIL.search(text):
            bodies.append(text[: match.start()])
        for body, pattern in itertools.product(bodies, _TAILS):
            tail = pattern.search(body)
            if tail and (body is text or tail["letter"] == letter):
                text, labelled = body[: tail.start()], True
                break
        else:
            cut = _unlabelled_tail(text, letter, value, lone=not labelled)
            if cut is None:
                break
            text = cut
    text = re.sub(rf"\s*{_CONNECT}\b(?:answer|ans)(?: is)?[\s.:=-]*$", "", text)
    stated = re.search(rf"{_CONNECT}\b(?:answer|ans) [:=-] {re.escape(value)}$", text)
    if stated and re.search(rf"(?<!\S){re.escape(value)}(?!\S)", text[: stated.start()]):
        text = text[: stated.start()]  # "answer : 4 : 5" after the work has come to 4 : 5
    return text


def _unlabelled_tail(text: str, letter: str, value: str, *, lone: bool) -> str | None:
    """The text without a closing letter that no "answer" announces; None where there is no such letter.

    Args:
        text: The solution so far.
        letter: The correct option's letter.
        value: The correct option.
        lone: Whether a letter by itself may go, too; after "answer : b" went, a "b" before it belongs to the work.
    """
    match = _CONCLUDED.search(text)
    if not match and lone:
        match = _LONE_LETTER.search(text)
        match = match if match and not _NO_LONE_LETTER_AFTER.search(text[: match.start()]) else None
    if match and match["letter"] == letter:
        return text[: match.start()]
    if lone and value:
        if match := re.search(
            rf"(?<!\S){re.escape(_number(value) or value)}(?: [a-z]+)?(?P<tail> = {letter}[\s.]*)$", text
        ):
            return text[: match.start("tail")]
        if match := re.search(rf"(?<!\S){letter} ?[).] ?{re.escape(value)}(?: [a-z]+)?[\s.]*$", text):
            return text[: match.start()]
    return None


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


class MathQA(Source):
    """MathQA (Amini et al., 2019, https://arxiv.org/abs/1905.13319): multiple-choice problems with a rationale.

    The gold answer is the value of the correct option. A row whose correct option names no value ("none of these") or
    whose rationale holds nothing but the answer gives no problem.
    """

    columns: ClassVar[tuple[str, ...]] = ("Problem", "Rationale", "options", "correct")
    lists: ClassVar[tuple[str, ...]] = ("options",)

    def problem(self, row: Mapping[str, Any]) -> Problem | str:
        """The row without the traces of its tokeniser."""
        # its many patterns take a while to compile
        from socratic_rl.conversations import mathqa_text

        letter = str(row["correct"]).strip(" ().").lower()
        values = options(str(row["options"]))
        if letter not in values:
            return "the correct option is not among the options"
        answer = value(values[letter], list(values.values()))
        if answer is None:
            return "the correct option names no value"
        question = mathqa_text.tidy(str(row["Problem"]))
        if not question:
            return "no question"
        solution = rationale(str(row["Rationale"]), letter, values[letter])
        if not re.search(r"\w", solution):
            return "the rationale holds nothing but the answer"
        return Problem(
            id=text_id(question),
            question=question,
            solution=solution,
            steps=tuple(Step(work=step) for step in split_steps(solution)),
            answer=answer,
            topic=str(row.get("category") or ""),
            source=self.name,
        )
