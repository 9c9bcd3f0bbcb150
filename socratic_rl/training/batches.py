"""Which pairs go into a batch together."""

import random
from collections.abc import Iterator, Sequence

from torch.utils.data import Sampler

LOOK_AHEAD = 64
"""Conversations among which one is sought that still fits into a batch."""


class ConversationSampler(Sampler[int]):
    """Indices in an order whose batches hold whole conversations: every pair once an epoch, shuffled anew for each.

    Cut into batches of ``batch_size``, a conversation's pairs stand in one batch wherever they fit into one. Every
    batch but the last is full, so that a step weighs all pairs alike and gradient accumulation, resuming and several
    processes work as with any other order. Which pairs a step holds depends on the seed, the epoch and the size of a
    step alone: it is the same however many batches and processes share a step.
    """

    def __init__(self, conversations: Sequence[str], batch_size: int, step_size: int, seed: int):
        """For pairs of ``conversations``: the conversation's id for each pair of the dataset.

        Args:
            conversations: A conversation's id for each pair.
            batch_size: Pairs in a batch.
            step_size: Pairs in a step, over all its batches on all processes.
            seed: Of the shuffling.
        """
        self.batch_size = batch_size
        self.step_size = step_size
        self.seed = seed
        self.epoch = 0
        members: dict[str, list[int]] = {}
        for index, conversation in enumerate(conversations):
            members.setdefault(conversation, []).append(index)
        self.conversations = list(members.values())
        self.size = len(conversations)

    def set_epoch(self, epoch: int) -> None:
        """What transformers calls before each epoch."""
        self.epoch = epoch

    def __len__(self) -> int:
        return self.size

    def __iter__(self) -> Iterator[int]:
        shuffled = list(self.conversations)
        random.Random(f"{self.seed}/{self.epoch}").shuffle(shuffled)
        for step in _packs(shuffled[::-1], self.step_size):
            for batch in _packs(step, self.batch_size):
                for pairs in batch:
                    yield from pairs


def _packs(groups: Sequence[list[int]], size: int) -> Iterator[list[list[int]]]:
    """Groups in packs of ``size`` indices, the last perhaps of fewer; a group is cut only where none fits whole."""
    # the next one stands last, where taking it out is cheap
    waiting = list(groups)[::-1]
    pack: list[list[int]] = []
    room = size
    while waiting:
        ahead = range(1, 1 + min(LOOK_AHEAD, len(waiting)))
        group = waiting.pop(-next((i for i in ahead if len(waiting[-i]) <= room), 1))
        pack.append(group[:room])
        if group[room:]:
            waiting.append(group[room:])
        room -= len(pack[-1])
        if not room:
            yield pack
            pack, room = [], size
    if pack:
        yield pack
