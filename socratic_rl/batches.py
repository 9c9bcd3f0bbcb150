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
    processes work as with any other order. The order depends on the seed and the epoch alone.
    """

    def __init__(self, conversations: Sequence[str], batch_size: int, seed: int):
        """For pairs of ``conversations``: the conversation's id for each pair of the dataset."""
        self.batch_size = batch_size
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
        # the next one stands last, where taking it out is cheap
        waiting = list(self.conversations)
        random.Random(f"{self.seed}/{self.epoch}").shuffle(waiting)
        room = self.batch_size
        while waiting:
            ahead = range(1, 1 + min(LOOK_AHEAD, len(waiting)))
            pairs = waiting.pop(-next((i for i in ahead if len(waiting[-i]) <= room), 1))
            yield from pairs[:room]
            if pairs[room:]:
                waiting.append(pairs[room:])
            room = (room - len(pairs[:room])) or self.batch_size
