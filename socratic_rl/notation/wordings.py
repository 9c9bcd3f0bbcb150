"""Answers that are words: whether a text gives them as the answer, or only says "yes", "A" or "no" on its way."""

import re
from collections.abc import Iterator
from functools import lru_cache

from socratic_rl.notation.latex import LATEX
from socratic_rl.notation.spans import Origins, Span, rewritten

_TRUTHS = {"yes", "no", "true", "false"}


_AROUND = "()[]. \"'*"


_OPEN = r"[\s,:*(\[\"“'‘]*"


_ENDS = (
    r"(?=(?: here| then| too| in this case)?\s*(?:$|[.;!?](?:\W|$)|,"
    r"|\b(?:because|since|as|and not|rather)\b|[-–—] |\())"
)


_IS = r"(?:is|are|was|were|does|do|did|can|could|will|would|has|have)"


# "Yes, it is.", "No, they are not.", where "Yes, that is right" only praises
_VERDICT = re.compile(
    r"(?:^|[.!?]\s+)[\"“*]*(yes|no)[\"”*]*,? (?:(?:it|they|he|she|there|we|both|all|this|the \w+)"
    rf" {_IS}(?: not|n['’]t)?[\"”*]*(?:[.!;]|$)|(?:because|since)\b)",
    re.IGNORECASE,
)


_ASSERTS = (
    r"(?:\b(?:answer|conclusion|verdict|solution|statement|claim)\b[^.;!?]{0,30}?(?:\b(?:is|be|was)\b|:)"
    r"|\b(?:i|we|you) (?:(?:would|should|can|will) )?(?:just |simply )?(?:think|say|believe|guess|conclude|answer)"
    r"|\b(?:it|that|this)(?: is|['’]s| (?:must|would|should|has to) be)"
    r"|\b(?:so|thus|hence|therefore|then|simply|just|which is))"
)


# "No, she cannot afford it.", which only goes on where it asks something, too
_LONG_VERDICT = re.compile(
    rf"^[\"“*]*(yes|no)[\"”*]*,? (?:it|they|he|she|there|both|all|the \w+) {_IS}(?: ?not|n['’]t)?\b"
    r"(?![^.!]*\b(?:right|correct|good|great|true|exactly|well|fine|close|need|worr\w+|problem)\b)(?! it\b)[^?]*$",
    re.IGNORECASE,
)


# "I think yes.", "So the answer is no", where "It is no problem" says something else
_ASSERTED = re.compile(
    rf"{_ASSERTS}{_OPEN}(?:(?:just|simply|clearly|definitely|an?|it is|it's) ){{0,3}}{_OPEN}(yes|no|true|false)"
    rf"(?! or\b)[*\"”'’)\]]*{_ENDS}",
    re.IGNORECASE,
)


_WHOLE = re.compile(r"\W*(yes|no|true|false)\W*", re.IGNORECASE)


def _truths(text: str) -> Iterator[re.Match[str]]:
    """Where "yes", "no", "true" or "false" is the answer, and no praise, courtesy or part of speech."""
    if match := _WHOLE.fullmatch(text):
        yield match
        return
    for pattern in (_VERDICT, _ASSERTED, _LONG_VERDICT):
        yield from pattern.finditer(text)


_NAMES_CHOICE = (
    r"(?i:\b(?:(?<!what )(?<!which )(?<!where )(?<!who )(?:is|be|was)|(?:it|that)['’]s|answer|choose|chose|picks?"
    r"|select|gets?|got|think|say|means|so|thus|hence|therefore|with)\b|[=:])"
)


_RATHER = r"the|your|my|correct|right|final|best|option|choice|answer|letter|is|be|it is|it's|just|simply|clearly"


# "It is B.", "so the answer is (B) because", "choose option B", "It is B) 12"
_CHOSEN = re.compile(
    rf"{_NAMES_CHOICE}{_OPEN}(?:(?i:{_RATHER}|definitely)[\s:]+)*{_OPEN}\b([A-Za-z])\b"
    rf"(?:\)(?= ?\w)|[)\]*\"”'’]*{_ENDS})"
)


# "B is right", "option B is the answer"
_CONFIRMED = re.compile(
    r"(?:^|(?<=[\s(\"“*]))([A-Za-z])\)?[*\"”]* (?:is|was|(?:must|has to|would|should) be)"
    r"(?: (?:the|your|our|my|only|one))* (?:right|correct|answer|true|best|required)\b"
)


_REASONED = re.compile(r"^[\"“*(]*([A-Za-z])[)*\"”]*, (?:because|since)\b")


_ALONE = re.compile(r"(?:\W*\b(?:option|choice|answer|letter)\b)?[^\w]*([A-Za-z])\W*", re.IGNORECASE)


_OFFERED = re.compile(r"\b[A-Za-z]\)?,? or\b|\bor \(?[A-Za-z]\b")


def _choices(text: str) -> Iterator[re.Match[str]]:
    """Where a single letter is the answer: neither the article nor the pronoun, nor one that is only spoken of."""
    if match := _ALONE.fullmatch(text):
        yield match
        return
    for pattern in (_CHOSEN, _CONFIRMED, _REASONED):
        for match in pattern.finditer(text):
            if not _OFFERED.search(text, max(0, match.start() - 12), match.end() + 12):
                yield match


@lru_cache(maxsize=1 << 12)
def _wording(answer: str) -> re.Pattern[str]:
    """A gold answer that is words, as a pattern: its words in order, group 1."""
    tokens = re.findall(r"\w+|[^\w\s]", answer)
    words = r"\s*".join(map(re.escape, tokens))
    is_name = answer.isupper() and len(answer) < 4  # AB is no "ab", IT no "it"
    return re.compile(rf"(?<!\w)({words})(?!\w)", 0 if is_name else re.IGNORECASE)


# a fence, a statement's first word, a call, an_identifier, an operator of code, a tag
_CODE = re.compile(
    r"```|^\s*`[^`]+`\s*$|^import \w+$|^\s*(?:def|class|import|return|from|function|const|let|var|public|for|while"
    r"|if)\b[^.?]*[(){};=:\[\]]"
    r"|\w\.[A-Za-z_]\w*\(|\b(?!(?:sin|cos|tan|log\w*|sqrt|frac|text)\b)[A-Za-z]\w{2,}\((?!s\))[^()]*\)"
    r"|\b(?!log_)[a-z]{2,}_[a-z]\w*|==|\+=|-=|&&|\|\||=>|;\s*$|\b[a-z]\w*\[\w+\]|</?[a-z]\w*>",
    re.MULTILINE,
)


def is_code(answer: str) -> bool:
    """Whether a gold answer is code: "print(x)", "a[i] += 1", lines of a program."""
    return "\\" not in answer and bool(_CODE.search(answer))


def is_truth(answer: str) -> bool:
    """Whether a gold answer is "yes", "no", "true" or "false"."""
    return _bare(answer).lower() in _TRUTHS


def is_choice(answer: str) -> bool:
    """Whether a gold answer is the letter of a choice: "B", "(B)"."""
    return bool(re.fullmatch(r"[A-Za-z]", _bare(answer)))


def _bare(answer: str) -> str:
    return rewritten(answer, LATEX).strip(_AROUND)


def find_words(text: str, answer: str) -> list[Span]:
    """Where a text has a gold answer in words. "Yes" and "B" count only where they are an answer.

    Args:
        text: What somebody says.
        answer: The gold answer.
    """
    origins = Origins(text)
    text = rewritten(text, LATEX, origins.sub) if re.search(r"[\\${]", text) else text
    answer = rewritten(answer, LATEX).strip().rstrip(".")
    bare = _bare(answer)
    if is_truth(answer):
        matches = [match for match in _truths(text) if match[1].lower() == bare.lower()]
    elif is_choice(answer):
        matches = [match for match in _choices(text) if match[1] == bare]
    else:
        matches = [*_wording(answer).finditer(text)] if answer else []
    return [origins.span(*match.span(1)) for match in matches]
