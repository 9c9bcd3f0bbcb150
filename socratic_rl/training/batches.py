"""Which pairs a step takes, and which of them go into a batch together."""

import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import repeat

from transformers import TrainingArguments
from transformers.trainer_pt_utils import BatchRebalanceSampler

LOOK_AHEAD = 64
"""Conversations among which one is sought that still fits into a batch."""


class StepSampler(BatchRebalanceSampler):  # type: ignore[misc]
    """One process's batches of pair numbers, every pair once an epoch.

    Which pairs a step takes depends on the seed, the epoch and the size of a step alone: they are the same for padded
    rows and for forests, and however many batches and processes share a step. By ``dpo.train_sampling_strategy`` they
    are whole conversations in a random order (``group_by_length``), pairs in a random order, or pairs as they lie in
    their file (``sequential``). The last step of an epoch may be smaller; where processes cannot share it evenly, some
    of its pairs come twice.

    It is a ``BatchRebalanceSampler`` since of that class alone transformers takes batches that are shared out already.
    """

    def __init__(
        self,
        conversations: Sequence[str],
        args: TrainingArguments,
        lengths: Sequence[int] | None = None,
        epoch: Callable[[], int] = lambda: 0,
    ):
        """For n pairs.

        Args:
            conversations: Each pair's conversation, n ids.
            args: The sizes of a batch and a step, the seed and the order.
            lengths: Each pair's tokens, for padded rows: those of like length go into a batch together. None for
                forests: those of a conversation do.
            epoch: Which epoch it is; transformers does not always reach ``set_epoch`` when it goes on.
        """
        self.conversations = conversations
        self.row_lengths = lengths
        self.batch = args.train_batch_size
        self.accumulation = args.gradient_accumulation_steps
        self.processes = args.world_size
        self.rank = args.process_index
        self.strategy = args.train_sampling_strategy
        self.seed = args.seed if args.data_seed is None else args.data_seed
        self.drop_last = args.dataloader_drop_last
        self.current_epoch = epoch

    def __len__(self) -> int:
        full, rest = divmod(len(self.conversations), self.batch * self.accumulation * self.processes)
        last = 0 if self.drop_last else -(-rest // (self.batch * self.processes))
        return int(full * self.accumulation + last)

    def __iter__(self) -> Iterator[list[int]]:
        for step in self.steps(self.current_epoch()):
            yield from (slot[self.rank] for slot in step)

    def steps(self, epoch: int) -> Iterator[list[list[list[int]]]]:
        """Each step's batches: ``step[i][p]`` is the i-th of process p, those of one i have one size."""
        size = self.batch * self.accumulation * self.processes
        for groups in _packs(self._order(epoch), repeat(size)):
            pairs = [pair for group in groups for pair in group]
            if len(pairs) == size or not self.drop_last:
                yield self._batches(groups, pairs)

    def _order(self, epoch: int) -> list[list[int]]:
        """The pairs in groups that a step holds whole where it can."""
        numbers = range(len(self.conversations))
        groups = (
            [[number] for number in numbers] if self.strategy != "group_by_length" else self._by_conversation(numbers)
        )
        if self.strategy != "sequential":
            random.Random(f"{self.seed}/{epoch}").shuffle(groups)
        return groups[::-1] if self.strategy == "group_by_length" else groups

    def _by_conversation(self, pairs: Iterable[int]) -> list[list[int]]:
        members: dict[str, list[int]] = {}
        for pair in pairs:
            members.setdefault(self.conversations[pair], []).append(pair)
        return list(members.values())

    def _batches(self, groups: list[list[int]], pairs: list[int]) -> list[list[list[int]]]:
        short = -len(pairs) % self.processes
        again = (pairs * short)[:short]
        share = (len(pairs) + short) // self.processes
        sizes = [min(self.batch, share - first) for first in range(0, share, self.batch)]
        each = [size for size in sizes for _ in range(self.processes)]
        if self.row_lengths is None:
            if self.strategy != "group_by_length":
                groups = self._by_conversation(pairs)
            batches = [[pair for group in pack for pair in group] for pack in _packs([*groups, again], iter(each))]
        else:
            ordered = pairs + again
            if self.strategy == "group_by_length":
                ordered.sort(key=self.row_lengths.__getitem__, reverse=True)
            rows = iter(ordered)
            batches = [[next(rows) for _ in range(size)] for size in each]
        return [batches[first : first + self.processes] for first in range(0, len(batches), self.processes)]


def _packs(groups: Sequence[list[int]], sizes: Iterator[int]) -> Iterator[list[list[int]]]:
    """Groups in packs of so many pairs, the last perhaps of fewer; a group is cut only where none fits whole."""
    # the next one stands last, where taking it out is cheap
    waiting = [group for group in groups if group][::-1]
    while waiting:
        pack: list[list[int]] = []
        room = next(sizes)
        while room and waiting:
            ahead = range(1, 1 + min(LOOK_AHEAD, len(waiting)))
            group = waiting.pop(-next((i for i in ahead if len(waiting[-i]) <= room), 1))
            pack.append(group[:room])
            if group[room:]:
                waiting.append(group[room:])
            room -= len(pack[-1])
        yield pack
