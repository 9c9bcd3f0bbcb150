"""Held-out turns, what a model says at each, and its marks."""

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from socratic_rl.core.dialogue import Message, PreferencePair, Problem, Step, seed_from, turn_key
from socratic_rl.core.generator import Generator, Sampling, in_order
from socratic_rl.generators.tutors import ByTransformers, chat_requests
from socratic_rl.measures import registry
from socratic_rl.measures.figures import MarkedText, Marks
from socratic_rl.measures.measured_reply import MeasuredReply


@dataclass(frozen=True)
class HeldOutTurn:
    """A place in a held-out dialogue where the teacher speaks next."""

    problem_id: str
    conversation_id: str
    turn: int
    prompt: list[Message]
    reference: str
    """What the dialogue's own teacher says here."""
    question: str
    answer: str
    """The gold answer; empty where it is not known."""
    topic: str
    steps: tuple[Step, ...] = ()
    """Of the worked solution; empty where it is not known."""


def held_out_turns(pairs: Sequence[PreferencePair], problems: Mapping[str, Problem]) -> list[HeldOutTurn]:
    """Every distinct turn of the pairs, in their order.

    Args:
        pairs: Of the split to evaluate on; one turn may have several pairs.
        problems: By id. A problem that is not there has no gold answer, so that revealing is not measured on it.
    """
    turns: dict[tuple[str, int], HeldOutTurn] = {}
    for pair in pairs:
        problem = problems.get(pair.problem_id)
        turns.setdefault(
            turn_key(pair),
            HeldOutTurn(
                problem_id=pair.problem_id,
                conversation_id=pair.conversation_id,
                turn=pair.turn,
                prompt=pair.prompt,
                reference=pair.chosen[-1]["content"],
                question=problem.question if problem else "",
                answer=problem.answer if problem else "",
                topic=problem.topic if problem else "",
                steps=problem.steps if problem else (),
            ),
        )
    return list(turns.values())


def replies(
    generator: Generator, turns: Sequence[HeldOutTurn], seed: int, label: str, prompt: Sequence[Message] = ()
) -> list[MarkedText]:
    """What a model says at each turn, and its marks.

    The seed of each reply comes from its turn, so that base and tutor draw alike. ``prompt`` stands before every
    dialogue, and no measure reads it.

    Returns:
        For each turn ``text`` and ``marks``, the measures by name.
    """
    seeds = [seed_from(seed, turn.conversation_id, turn.turn) for turn in turns]
    requests = chat_requests([[*prompt, *turn.prompt] for turn in turns], seeds)
    return [
        MarkedText(text=reply.text, marks=marks(reply.text, reply.finish == "length", turn))
        for turn, reply in zip(turns, in_order(generator.generate(requests), len(turns), label), strict=True)
    ]


def marks(reply: str, cut_off: bool, turn: HeldOutTurn) -> Marks:
    """The judge-free measures of one reply; ``None`` where a measure is not defined."""
    return registry.marks_of(MeasuredReply.of(reply, turn.answer, turn.question, turn.prompt, cut_off, turn.steps))


def sample_replies(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    pairs: Sequence[PreferencePair],
    sampling: Sampling,
    seed: int,
) -> list[dict[str, Any]]:
    """A few replies beside what the dialogue's own teacher says: ``prompt`` (chat messages), its last turn as
    ``student``, ``reply`` and ``teacher``.
    """
    turns = held_out_turns(pairs, {})
    generator = ByTransformers(lambda: nullcontext(model), tokenizer, sampling)
    sampled = replies(generator, turns, seed, "sample replies")
    return [
        {
            "prompt": turn.prompt,
            "student": turn.prompt[-1]["content"],
            "reply": reply["text"],
            "teacher": turn.reference,
        }
        for turn, reply in zip(turns, sampled, strict=True)
    ]
