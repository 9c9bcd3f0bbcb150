"""Problems that are variants of one: equal but for their numbers, or alike once names are masked too."""

import re
from array import array
from collections import defaultdict
from collections.abc import Sequence
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
    texts, masked, stated = array("Q"), array("Q"), bytearray()
    for problem in problems:
        # what opens with a lesson's topic states no problem
        stated.append(not problem.question.startswith(UNSTATED))
        for keys, mask in ((texts, without_numbers), (masked, without_names)):
            keys.append(int(text_id(mask(problem.question) if stated[-1] else problem.id), 16))
    equal = groups.join_equal(texts)
    groups.join_equal(masked)
    firsts = np.array([number for number in groups.firsts() if stated[number]], np.int64)
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


def _pairs_of_words(problem: Problem) -> frozenset[tuple[str, str]]:
    return _pairs_in(problem.question)


@lru_cache(maxsize=1 << 12)
def _pairs_in(question: str) -> frozenset[tuple[str, str]]:
    return frozenset(shingles(without_names(question)))


def _named(groups: "_Groups", problems: Sequence[Problem], equal: int) -> Variants:
    places: dict[int, int] = {}
    first_ids: list[str] = []
    leaders = Index()
    for number, problem in enumerate(problems):
        if groups.size(number) == 1:
            continue
        position = places.setdefault(groups.first(number), len(places))
        if position == len(first_ids):
            first_ids.append(problem.id)
        first_ids[position] = min(first_ids[position], problem.id)
        leaders[problem.id] = position
    largest = max(places, key=groups.size, default=None)
    is_majority = largest is not None and 2 * groups.size(largest) > len(problems)
    majority = first_ids[places[largest]] if largest is not None and is_majority else None
    return Variants(leaders, first_ids, equal, len(leaders) - equal, majority)


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

    def join(self, first: int, other: int) -> None:
        """Make the groups of two numbers one."""
        low, high = sorted((self.first(first), self.first(other)))
        if low != high:
            self._parents[high] = low
            self._sizes[low] += self._sizes[high]

    def join_equal(self, keys: Sequence[int]) -> int:
        """Join the numbers whose keys are equal; returns how many have the key of another."""
        import numpy as np

        _, first, group, sizes = np.unique(
            np.asarray(keys, np.uint64), return_index=True, return_inverse=True, return_counts=True
        )
        several = np.flatnonzero(sizes[group] > 1).tolist()
        for number in several:
            self.join(int(first[group[number]]), number)
        return len(several)

    def size(self, number: int) -> int:
        """How many are in a number's group."""
        return self._sizes[self.first(number)]

    def firsts(self) -> list[int]:
        """The lowest number of each group."""
        return [number for number, parent in enumerate(self._parents) if number == parent]
