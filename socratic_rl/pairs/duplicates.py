"""Conversations become preference pairs: which turns, on which side of the split, and none twice."""

import re
from array import array
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cache, lru_cache
from itertools import compress, groupby, pairwise
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Self

from tqdm import tqdm

from socratic_rl.core.dialogue import PreferencePair, text_id, turn_key
from socratic_rl.core.files import write_lines
from socratic_rl.core.records import RecordFile, RecordWriter
from socratic_rl.notation.quantities import read

if TYPE_CHECKING:
    import numpy as np
    from datasketch import MinHash
    from numpy.typing import NDArray

NEAR = 0.8
"""Two texts are near duplicates from this Jaccard similarity of their word pairs on: one word in about 17 differs."""


FEW = 16
"""Up to so many pairs that state the same numbers are compared each with each."""


BANDS, BAND = 10, 6
"""Bands of a MinHash and values in each: rows that share ``NEAR`` of their word pairs share a band 95 times in 100,
those that share 0.9 of them 999 times in 1000."""


class _Row(NamedTuple):
    """What is compared of a pair."""

    conversation_id: str
    parts: tuple[str, str, str]
    """The student's last turn, the chosen turn and the rejected one."""

    @classmethod
    def of(cls, pair: PreferencePair) -> Self:
        return cls(
            pair.conversation_id,
            (pair.student_text, pair.chosen_text, pair.rejected_text),
        )

    def repeats(self, other: Self) -> bool:
        """Whether it is a near duplicate of an earlier row with the same numbers."""
        if self.conversation_id == other.conversation_id:
            return False
        sides = ((shingles(left), shingles(two)) for left, two in zip(self.parts, other.parts, strict=True))
        return all(len(left & two) >= NEAR * len(left | two) for left, two in sides)


def shingles(text: str) -> set[tuple[str, str]]:
    """Every two neighbouring words, and the first and last with the edge of the text."""
    return set(pairwise(["", *re.findall(r"\w+|[-+*/=×÷#@]", text.casefold()), ""]))


class Keys:
    """What duplicates are found by: hashes of a pair's text and of the numbers that it states, 16 bytes a pair."""

    def __init__(self, pairs: Iterable[PreferencePair] = ()) -> None:
        self.texts = array("Q")
        self.numbers = array("Q")
        for pair in pairs:
            self.add(pair)

    def __len__(self) -> int:
        return len(self.texts)

    def add(self, pair: PreferencePair) -> None:
        """One more pair."""
        texts = (message["content"] for message in (*pair.prompt, *pair.chosen, *pair.rejected))
        self.texts.append(int(text_id(*texts), 16))
        stated = (number for text in (pair.prompt[0]["content"], *_Row.of(pair).parts) for number in _stated(text))
        self.numbers.append(int(text_id(*stated), 16))


@lru_cache(maxsize=1 << 10)
def _stated(text: str) -> tuple[str, ...]:
    """The numbers that a text states, in order."""
    return tuple(str(quantity.parts or quantity.value) for quantity in read(text)[0])


def distinct(pairs: Sequence[PreferencePair], keys: Keys) -> "NDArray[np.bool]":
    """For every pair whether it stays when exact and near duplicates go; the first of each stays.

    Exact duplicates are equal up to case and white space. Near duplicates come from different conversations, state the
    same numbers in the same order, and in each of the student's last turn, the chosen and the rejected turn share at
    least ``NEAR`` of their word pairs. So a template with other numbers is no duplicate, and neither are the turns of
    one conversation.

    Pairs are compared with those that state the same numbers. Where these are more than ``FEW``, candidates are found
    by MinHash with banding (Leskovec, Rajaraman and Ullman, Mining of Massive Datasets, chapter 3), so time grows with
    the number of pairs; of each of them ``8 * BANDS`` bytes are kept, and texts are read again where they are compared.

    Args:
        pairs: They are asked for here and there, so they may be in a file.
        keys: Of these pairs, in their order.
    """
    import numpy as np

    stays = np.zeros(len(pairs), bool)
    stays[np.unique(keys.texts, return_index=True)[1]] = True
    left = np.flatnonzero(stays)
    _, group, sizes = np.unique(np.asarray(keys.numbers)[left], return_inverse=True, return_counts=True)
    together = np.argsort(group, kind="stable")
    few = together[(sizes[group] > 1)[together] & (sizes[group] <= FEW)[together]]
    for _, same in groupby(left[few].tolist(), key=keys.numbers.__getitem__):
        earlier: list[_Row] = []
        for number in same:
            row = _Row.of(pairs[number])
            if any(map(row.repeats, earlier)):
                stays[number] = False
            else:
                earlier.append(row)
    many = left[sizes[group] > FEW]
    bands = np.empty((len(many), BANDS), np.int64)
    for row_index, number in enumerate(many.tolist()):
        bands[row_index] = _bands(_Row.of(pairs[number]), keys.numbers[number])
    shared = shared_bands(bands)
    index: dict[int, list[int]] = defaultdict(list)
    for row_index in np.flatnonzero(shared.any(axis=1)).tolist():
        number = int(many[row_index])
        row = _Row.of(pairs[number])
        own_bands = bands[row_index][shared[row_index]].tolist()
        candidates = {candidate for band in own_bands for candidate in index[band]}
        if any(row.repeats(_Row.of(pairs[candidate])) for candidate in candidates):
            stays[number] = False
        else:
            for band in own_bands:
                index[band].append(number)
    return stays


def shared_bands(bands: "NDArray[np.int64]") -> "NDArray[np.bool]":
    """For every row and band whether another row has the same."""
    import numpy as np

    shared = np.empty(bands.shape, bool)
    for band in range(bands.shape[1]):
        _, group, sizes = np.unique(bands[:, band], return_inverse=True, return_counts=True)
        shared[:, band] = sizes[group] > 1
    return shared


def _bands(row: _Row, numbers: int) -> list[int]:
    """A hash of each band of a row's MinHash; rows with other numbers share none."""
    words = (f"{numbers:016x} {n} {left} {right}" for n, part in enumerate(row.parts) for left, right in shingles(part))
    return min_hash_bands(words, BANDS, BAND)


def min_hash_bands(parts: Iterable[str], bands: int, band: int) -> list[int]:
    """A hash of each band of the MinHash of a set of strings."""
    sketch = _empty_sketch().copy()
    sketch.update_batch(part.encode() for part in parts)
    values = sketch.hashvalues[: bands * band].reshape(bands, band)
    return [hash((n, one.tobytes())) for n, one in enumerate(values)]


@cache
def _empty_sketch() -> "MinHash":
    from datasketch import MinHash

    return MinHash(num_perm=64)


def write_pairs(
    path: Path, make: Callable[[RecordWriter[PreferencePair]], Iterator[PreferencePair]], places: int
) -> tuple[RecordFile[PreferencePair], int] | None:
    """Pairs without duplicates in a file, and how many duplicates were left out; None, and no file, without a pair.

    All pairs are kept in ``all_pairs.jsonl`` until the duplicates are gone, since writing them may take a model's time.

    Args:
        path: The file to make.
        make: The pairs as they finish, without those that were made before, by conversation id and turn.
        places: For how many turns a pair is tried.
    """
    file = RecordWriter(PreferencePair, path.with_name("all_pairs.jsonl"), turn_key)
    keys = Keys()
    if not file.finished:
        for pair in tqdm(make(file), "pairs", places, initial=len(file), unit=" pairs", delay=2):
            file.append(pair)
            keys.add(pair)
        if not len(file) and not len(keys):
            return None
        file.finish()
    pairs = RecordFile(PreferencePair, file.path)
    if len(keys) < len(pairs):
        # some are an earlier run's
        keys = Keys(pairs)
    write_lines(path, (pairs.line(number) for number in compress(range(len(pairs)), distinct(pairs, keys))))
    distinct_pairs = RecordFile(PreferencePair, path)
    return distinct_pairs, len(pairs) - len(distinct_pairs)
