"""The default: annotated where a problem brings something, generated where not."""

from collections.abc import Container, Iterable, Iterator
from itertools import filterfalse

from socratic_rl.conversations.annotated import Annotated, brought
from socratic_rl.conversations.generated import RolePlay, Script
from socratic_rl.core.component import Component
from socratic_rl.core.dialogue import Conversation, Problem
from socratic_rl.core.generator import Generator


class Auto(Component):
    """Annotated where the problem brings step questions or human dialogues, written by the generator where not."""

    annotated: Annotated
    """Writes what is annotated."""
    generated: RolePlay | Script
    """Writes the rest."""

    def ids(self, problems: Iterable[Problem]) -> Iterator[str]:
        """Every conversation that it would write, in order."""
        for problem in problems:
            writer = self.annotated if brought(problem) else self.generated
            yield from writer.ids([problem])

    def write(
        self, problems: Iterable[Problem], generator: Generator | None, seed: int, done: Container[str]
    ) -> Iterator[Conversation]:
        """The conversations as they finish, without those in ``done``; the annotated ones first.

        Raises:
            UserError: There is no generator where one is needed, or it fails.
        """
        yield from self.annotated.write(filter(brought, problems), generator, seed, done)
        if not all(map(brought, problems)):
            yield from self.generated.write(filterfalse(brought, problems), generator, seed, done)
