"""What all writers of conversations share."""

from collections.abc import Container, Iterable, Iterator, Sequence
from typing import Any, Protocol

from socratic_rl.dialogue import Conversation, Problem, Turn
from socratic_rl.generators import Generator
from socratic_rl.quality import Flaw


class Writer(Protocol):
    """Makes conversations about problems."""

    def ids(self, problems: Iterable[Problem]) -> Iterator[str]:
        """Every conversation that it would write, in order: ``<problem id>/<number>``."""
        ...

    def write(
        self, problems: Iterable[Problem], generator: Generator | None, seed: int, done: Container[str]
    ) -> Iterator[Conversation]:
        """The conversations as they finish, without those in ``done``."""
        ...


def conversation(
    key: str, problem: Problem, turns: Sequence[Turn], flaws: Iterable[Flaw], provenance: dict[str, Any]
) -> Conversation:
    """The record of a conversation; with a flaw it is kept, but not accepted."""
    where: dict[str, list[int]] = {}
    for flaw in flaws:
        where.setdefault(flaw.reason, []).append(flaw.turn)
    return Conversation(
        id=key,
        problem_id=problem.id,
        turns=tuple(turns),
        accepted=not where,
        reasons=tuple(where),
        provenance=provenance | ({"flaws": where} if where else {}),
    )
