"""Conversations that the problems bring: by their steps' questions, or as human dialogues."""

from collections.abc import Container, Iterable, Iterator, Sequence

from socratic_rl.conversations.transcripts import said_once
from socratic_rl.conversations.writer import conversation, gate
from socratic_rl.core.component import Component
from socratic_rl.core.dialogue import Conversation, Problem, Turn, merge_turns, text_id
from socratic_rl.core.generator import Generator


class Annotated(Component):
    """No model at all: from the steps' questions and replies, or from the human dialogues that a problem brings."""

    def ids(self, problems: Iterable[Problem]) -> Iterator[str]:
        """Every conversation that it would write, in order; a problem without annotations has none."""
        return (f"{problem.id}/{number}" for problem in problems for number in range(brought(problem)))

    def write(
        self,
        problems: Iterable[Problem],
        generator: Generator | None,  # noqa: ARG002
        seed: int,  # noqa: ARG002
        done: Container[str],
    ) -> Iterator[Conversation]:
        """The conversations in order, without those in ``done``."""
        for problem in problems:
            for number, (origin, turns) in enumerate(annotated(problem)):
                if (key := f"{problem.id}/{number}") not in done:
                    provenance = {"writer": "annotated", "from": origin}
                    yield conversation(key, problem, turns, gate(turns, problem), provenance)


def brought(problem: Problem) -> int:
    """How many conversations a problem brings."""
    return len(problem.dialogues or ()) + _asks(problem)


def annotated(problem: Problem) -> list[tuple[str, list[Turn]]]:
    """The conversations that a problem brings, each with what it comes from."""
    dialogues = [("dialogue", _from_dialogue(problem, dialogue)) for dialogue in problem.dialogues or ()]
    return [("steps", _from_steps(problem)), *dialogues] if _asks(problem) else dialogues


def _asks(problem: Problem) -> bool:
    return any(step.question for step in problem.steps)


def _from_steps(problem: Problem) -> list[Turn]:
    """The teacher asks each step's question, the student replies.

    A step without a question, or with the same as the step before it, goes with its neighbour.
    """
    turns = [Turn(speaker="student", text=problem.question)]
    early: list[Turn] = []
    asked = ""
    for step in problem.steps:
        reply = Turn(speaker="student", text=step.reply or step.work)
        if step.question and text_id(step.question) != asked:
            turns += [Turn(speaker="teacher", text=step.question), *early, reply]
            early, asked = [], text_id(step.question)
        else:
            (turns if asked else early).append(reply)
    return merge_turns(turns)


def _from_dialogue(problem: Problem, dialogue: Sequence[Turn]) -> list[Turn]:
    """The dialogue after a statement of the problem, unless it begins with one; what a teacher says is said once."""
    begun = bool(dialogue) and dialogue[0].speaker == "student"
    stated = begun and text_id(dialogue[0].text) == text_id(problem.question)
    return [
        turn.model_copy(update={"text": said_once(turn.text), "worse": turn.worse and said_once(turn.worse)})
        if turn.speaker == "teacher"
        else turn
        for turn in merge_turns([Turn(speaker="student", text=problem.question), *dialogue[int(stated) :]])
    ]
