"""Problems that are variants of one: equal but for their numbers, or alike once names are masked too."""

import re
from array import array
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from functools import cache, lru_cache
from typing import NamedTuple

from socratic_rl.conversations.human_dialogues import UNSTATED
from socratic_rl.core.dialogue import Problem, text_id
from socratic_rl.core.records import Index
from socratic_rl.pairs.duplicates import min_hash_bands, shared_bands, shingles

ALIKE = 0.6
"""Two problems are variants from this Jaccard similarity of their word pairs on, numbers and names masked."""


BANDS, BAND = 20, 3
"""Bands of a MinHash and values in each: problems that are just ``ALIKE`` share a band 99 times in 100."""


MOST = 32
"""With so many problems of a band each new one is compared: the others of a large family are variants of these."""


_NUMBER_WORDS = (
    "one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen "
    "eighteen nineteen twenty thirty forty fifty sixty seventy eighty ninety hundred thousand million dozen half"
).replace(" ", "|")


_NUMBER = re.compile(
    r"\d+(?:[.,/:]\d+)*(?: ?\d+/\d+| ?[½⅓⅔¼¾⅕⅛])?|[½⅓⅔¼¾⅕⅛]"
    rf"|\b(?:{_NUMBER_WORDS})(?:[- ](?:and )?(?:{_NUMBER_WORDS}))*\b",
    re.IGNORECASE,
)


def without_numbers(text: str) -> str:
    """The text with every number, in digits or words, as ``#``; marks, case and white space aside."""
    return " ".join(re.findall(r"\w+|[-+*/=×÷%#@]", _NUMBER.sub("#", text).casefold()))


def without_names(text: str) -> str:
    """The text with every number as ``#`` and every capitalised word that is no common one as ``@``."""

    def masked(match: re.Match[str]) -> str:
        return "@" if match[0][0].isupper() and match[0].casefold() not in _common_words() else match[0]

    return without_numbers(re.sub(r"\b[^\W\d_]\w*", masked, text))


@cache
def _common_words() -> frozenset[str]:
    from sklearn.feature_extraction.text import ENGLISH_STOP_WORDS

    return frozenset(ENGLISH_STOP_WORDS)


class Variants(NamedTuple):
    """Groups of problems that are variants of one."""

    leaders: Index
    """The group of every problem that is not alone, by the problem's id."""
    first_ids: Sequence[str]
    """The first id of each group in the order of the alphabet, which stands for it."""
    equal: int
    """Problems that are equal to another but for their numbers."""
    alike: int
    """Problems that are in a group for their likeness alone."""
    majority: str | None
    """The group that has more than half of all problems, which is trained on; None where there is none."""

    def group_of(self, problem_id: str) -> str:
        """The id that stands for a problem's group: its own where it is alone."""
        group = self.leaders.get(problem_id)
        return problem_id if group is None else self.first_ids[group]

    def __str__(self) -> str:
        return (
            f"{self.equal + self.alike} problems are variants of {len(self.first_ids)}, kept on one side of the split: "
            f"{self.equal} equal to another but for numbers, {self.alike} more alike"
            + ("; more than half of all problems are variants of one, which is trained on" if self.majority else "")
        )


def find_variants(problems: Sequence[Problem]) -> Variants:
    """The groups of all problems that are equal with numbers masked, or alike with numbers and names masked.

    Likeness is found by MinHash with banding and then measured (``ALIKE``); groups join where one problem is like both.

    Args:
        problems: They are asked for here and there, so they may be in a file.
    """
    import numpy as np

    groups = _Groups(len(problems))
    equal = _join_equal(groups, problems, without_numbers)
    _join_equal(groups, problems, without_names)
    firsts = np.array([number for number in groups.firsts() if _is_stated(problems[number])], np.int64)
    bands = np.empty((len(firsts), BANDS), np.int64)
    for row, number in enumerate(firsts.tolist()):
        bands[row] = min_hash_bands((" ".join(two) for two in _pairs_of_words(problems[number])), BANDS, BAND)
    shared = shared_bands(bands)
    index: dict[int, list[int]] = defaultdict(list)
    for row in np.flatnonzero(shared.any(axis=1)).tolist():
        number = int(firsts[row])
        words = _pairs_of_words(problems[number])
        for band in bands[row][shared[row]].tolist():
            for candidate in index[band]:
                if groups.first(candidate) != groups.first(number):
                    other = _pairs_of_words(problems[candidate])
                    if len(words & other) >= ALIKE * len(words | other):
                        groups.join(candidate, number)
            if len(index[band]) < MOST:
                index[band].append(number)
    return _named(groups, problems, equal)


def _join_equal(groups: "_Groups", problems: Sequence[Problem], mask: Callable[[str], str]) -> int:
    """Join the problems whose masked questions are equal; returns how many are equal to another."""
    import numpy as np

    # what opens with a lesson's topic states no problem
    texts = (mask(problem.question) if _is_stated(problem) else problem.id for problem in problems)
    hashes = np.fromiter((int(text_id(text), 16) for text in texts), np.uint64, len(problems))
    _, first, group, sizes = np.unique(hashes, return_index=True, return_inverse=True, return_counts=True)
    several = np.flatnonzero(sizes[group] > 1).tolist()
    for number in several:
        groups.join(int(first[group[number]]), number)
    return len(several)


def _is_stated(problem: Problem) -> bool:
    return not problem.question.startswith(UNSTATED)


def _pairs_of_words(problem: Problem) -> frozenset[tuple[str, str]]:
    return _pairs_in(problem.question)


@lru_cache(maxsize=1 << 12)
def _pairs_in(question: str) -> frozenset[tuple[str, str]]:
    return frozenset(shingles(without_names(question)))


def _named(groups: "_Groups", problems: Sequence[Problem], equal: int) -> Variants:
    first_ids: dict[int, str] = {}
    for number, problem in enumerate(problems):
        if groups.has_others(number):
            first = groups.first(number)
            first_ids[first] = min(first_ids.get(first, problem.id), problem.id)
    places = {first: place for place, first in enumerate(first_ids)}
    leaders, sizes = Index(), Counter[int]()
    for number, problem in enumerate(problems):
        if groups.has_others(number):
            first = groups.first(number)
            leaders[problem.id] = places[first]
            sizes[first] += 1
    largest = sizes.most_common(1)
    majority = first_ids[largest[0][0]] if largest and 2 * largest[0][1] > len(problems) else None
    return Variants(leaders, list(first_ids.values()), equal, len(leaders) - equal, majority)


class _Groups:
    """Numbers in groups that join (a union-find structure), 8 bytes each."""

    def __init__(self, count: int) -> None:
        self._parents = array("I", range(count))
        self._sizes = array("I", [1]) * count

    def first(self, number: int) -> int:
        """The lowest number of a number's group."""
        while self._parents[number] != number:
            self._parents[number] = number = self._parents[self._parents[number]]
        return number

    def join(self, one: int, other: int) -> None:
        """Make the groups of two numbers one."""
        low, high = sorted((self.first(one), self.first(other)))
        if low != high:
            self._parents[high] = low
            self._sizes[low] += self._sizes[high]

    def has_others(self, number: int) -> bool:
        """Whether a number is not alone in its group."""
        return self._sizes[self.first(number)] > 1

    def firsts(self) -> list[int]:
        """The lowest number of each group."""
        return [number for number, parent in enumerate(self._parents) if number == parent]
