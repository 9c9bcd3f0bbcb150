"""A session: what a person says, and what base and tutor reply, on a terminal or on a page."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from socratic_rl.chat.partners import Partners
from socratic_rl.conversations.own_problems import Starter
from socratic_rl.conversations.problems import Source
from socratic_rl.core.dialogue import Message, Problem, Turn, text_id, to_messages
from socratic_rl.core.errors import UserError
from socratic_rl.core.generator import Reply, Request
from socratic_rl.generators.tutors import prompt_room
from socratic_rl.models.tokens import fit_prompt
from socratic_rl.models.tutor import Tutor


@dataclass
class Talk:
    """One conversation in the making."""

    id: str
    problem: Problem
    turns: list[Turn] = field(default_factory=list)
    cut_off: set[Turn] = field(default_factory=set)
    """Those of the teacher's that are not whole."""

    def add_reply(self, reply: Reply) -> None:
        """Add what the teacher says."""
        turn = Turn(speaker="teacher", text=reply.text)
        self.turns.append(turn)
        self.cut_off.discard(turn)
        if reply.finish == "length":
            self.cut_off.add(turn)


class Session:
    """Who can be talked to, and what about.

    Args:
        partners: Who answers.
        seed: Everything that is drawn for replies comes from it.
        problems: What a problem can be taken from; None takes what the tutor's data set held out, or the starter set.
    """

    def __init__(self, partners: Partners, seed: int, problems: Source | None = None) -> None:
        self.partners = partners
        self.seed = seed
        self.problems, self.problems_from = problems_for(problems, partners.tutor)

    def load(self, names: Sequence[str]) -> None:
        """Load these partners' weights, and work out how long a dialogue may be.

        Raises:
            UserError: The weights cannot be loaded, or leave no room for a reply.
        """
        self.room = min(prompt_room(self.partners.generators[name]) for name in names)

    def prompt(self, talk: Talk) -> list[Message]:
        """The dialogue as far as the models read it: the oldest exchanges after the problem go first.

        Raises:
            UserError: Problem and last exchange alone are too long.
        """
        prompt = fit_prompt(to_messages(talk.turns), self.partners.tokenizer, self.room)
        if prompt is None:
            raise UserError(f"that is too long: problem and last exchange must fit into {self.room} tokens")
        return prompt

    def reply(self, name: str, prompt: Sequence[Message], seed: int, write: Callable[[str], None]) -> Reply:
        """What a partner says next.

        Args:
            name: The partner.
            prompt: What ``prompt`` gives.
            seed: Of this reply.
            write: Takes each piece of text as it is drawn; what it raises ends the reply.
        """
        request = Request(seed=seed, messages=tuple(prompt), write=write)
        ((_, reply),) = self.partners.generators[name].generate([request])
        return reply

    def cut_off_note(self, reply: Reply) -> str:
        """The note beside a reply that was cut off; empty for one that was not."""
        return f"(cut off after {self.partners.sampling.max_tokens} tokens)" if reply.finish == "length" else ""


def problems_for(source: Source | None, tutor: Tutor | None) -> tuple[Iterator[Problem], str]:
    """The problems that a person can take, and a line about where they come from."""
    if source:
        return source.read(), f"problems of {source.name}"
    if tutor and (held_out := tutor.held_out_problems()):
        return iter(held_out), f"{len(held_out)} problems held out from training"
    return Starter(name="starter").read(), "problems of the starter set"


def stated_problem(question: str) -> Problem:
    """A problem that a person stated, without an answer."""
    return Problem(id=text_id(question), question=question, solution="", answer="", source="chat")
