"""The dialogues that seed rows were cut from, put together again from prompts that grow row by row."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from socratic_rl.core.dialogue import Conversation, Turn, text_id
from socratic_rl.pairs.variants import without_numbers


class SeedRow(NamedTuple):
    """A row that can be used."""

    turns: tuple[Turn, ...]
    """The dialogue, student and teacher in turn; the last turn is the good answer."""
    bad: str
    """The bad answer; empty where the row has none."""


@dataclass
class _Dialogue:
    """A dialogue in the making."""

    turns: tuple[Turn, ...]
    first: int
    """The number of its first row."""
    bad: dict[int, str] = field(default_factory=dict)
    """The bad answer of each turn that a row has, by the turn's index; empty where the row has none."""


def put_together(rows: Sequence[SeedRow]) -> tuple[list[Conversation], list[list[int]]]:
    """The conversations that the rows were cut from, in the order of the file, and the turns that each one's rows have.

    A row whose dialogue is the beginning of another row's belongs to that one's conversation. Conversations are about
    the same problem, and so on the same side of the split, where they open with the same words or where the student
    states a number in the same long sentence.

    Returns:
        The conversations and, for each, the indices of its rows' good answers in its turns.
    """
    by_beginning: dict[tuple[str, ...], _Dialogue] = {}
    dialogues: dict[str, _Dialogue] = {}
    # the longest first, so that a row's own dialogue is known when its beginnings come
    for number, row in sorted(enumerate(rows), key=lambda item: -len(item[1].turns)):
        ids = tuple(text_id(turn.text) for turn in row.turns)
        turn_index = len(ids) - 1
        dialogue = by_beginning.get(ids)
        earlier_bad = dialogue.bad.get(turn_index) if dialogue else None
        if dialogue is None or (earlier_bad and row.bad and text_id(earlier_bad) != text_id(row.bad)):
            # a second bad answer to the same turn makes a conversation of its own
            key = text_id(*ids) if dialogue is None else text_id(*ids, row.bad)
            dialogue = dialogues.setdefault(key, _Dialogue(row.turns, number))
            for length in range(2, len(ids) + 1, 2):
                by_beginning.setdefault(ids[:length], dialogue)
        dialogue.first = min(dialogue.first, number)
        dialogue.bad[turn_index] = dialogue.bad.get(turn_index) or row.bad
    ordered = sorted(dialogues.items(), key=lambda item: item[1].first)
    problem_ids = _problem_ids([dialogue.turns for _, dialogue in ordered])
    conversations = [
        Conversation(
            id=key,
            problem_id=problem_id,
            turns=tuple(
                turn.model_copy(update={"worse": dialogue.bad.get(n) or None}) for n, turn in enumerate(dialogue.turns)
            ),
            accepted=True,
            provenance={"writer": "seed_csv"},
        )
        for (key, dialogue), problem_id in zip(ordered, problem_ids, strict=True)
    ]
    return conversations, [sorted(dialogue.bad) for _, dialogue in ordered]


def _problem_ids(dialogues: Sequence[Sequence[Turn]]) -> list[str]:
    """An id for each dialogue, the same where they are about the same problem."""
    from scipy.cluster.hierarchy import DisjointSet

    same = DisjointSet()
    openings = []
    for turns in dialogues:
        # many open with no more than "Professor, can you help me?" and state the problem later
        first, *sentences = [text_id(turns[0].text), *(text_id(s) for turn in turns[:5:2] for s in _statements(turn))]
        openings.append(first)
        for key in (first, *sentences):
            same.add(key)
            same.merge(first, key)
    ids = {key: min(group) for group in same.subsets() for key in group}
    return [ids[opening] for opening in openings]


def variants(conversations: Sequence[Conversation]) -> dict[str, str]:
    """The group of each problem by its id: an id of one of those whose statements are equal but for numbers."""
    from scipy.cluster.hierarchy import DisjointSet

    same = DisjointSet(conversation.problem_id for conversation in conversations)
    first_with: dict[str, str] = {}
    for conversation in conversations:
        stated = (s for turn in conversation.turns[:5:2] for s in _statements(turn))
        for text in map(without_numbers, (conversation.turns[0].text, *stated)):
            same.merge(first_with.setdefault(text, conversation.problem_id), conversation.problem_id)
    return {problem_id: min(group) for group in same.subsets() for problem_id in group}


def _statements(turn: Turn) -> Iterator[str]:
    """The sentences that are long enough to be a problem's and state a number."""
    for sentence in re.split(r"(?<=[.?!])\s+", turn.text):
        words = re.findall(r"\w+", sentence)
        if len(words) >= 10 and any(map(str.isdigit, sentence)):
            yield " ".join(words)
