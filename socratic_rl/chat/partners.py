"""Talking to a tutor in the terminal: its reply beside the base's, or a chat with one or both."""

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from transformers import PreTrainedTokenizerBase

from socratic_rl.conversations.problems import Source, Starter
from socratic_rl.core.component import ModelSettings, SamplingSettings
from socratic_rl.core.dialogue import Message, Problem, Turn, text_id
from socratic_rl.core.errors import UserError
from socratic_rl.core.provenance import in_a_line
from socratic_rl.generators.tutors import InLlamaCpp, InTransformers, Speaker, room_for
from socratic_rl.models import weights
from socratic_rl.models.tokens import fit_prompt
from socratic_rl.models.tutor import Tutor
from socratic_rl.pages import console
from socratic_rl.sharing.exports import Exported


def show_replies(tutor: Tutor, prompt: str, sampling: SamplingSettings, seed: int) -> None:
    """Print what base and tutor reply to a prompt, side by side.

    Raises:
        UserError: The prompt leaves no room for a reply in what the model reads.
    """
    messages: list[Message] = [{"role": "user", "content": prompt}]
    replies, notes = {}, {}
    who = {"base": tutor.settings.name, "tutor": tutor.folder}
    for side, speaker in tutor_and_base(tutor).speakers.items():
        name = f"{side}: {who[side]}"
        room = room_for(speaker.context(), sampling)
        if fit_prompt(messages, tutor.tokenizer, room) is None:
            raise UserError(f"prompt: is longer than the {room} tokens that the model reads beside its reply")
        (reply,) = speaker.replies([messages], sampling, [seed], name)
        replies[name] = reply.text
        notes[name] = f"cut off after {sampling.max_new_tokens} tokens" if reply.finish == "length" else ""
    console.side_by_side(prompt, replies, notes, {"sampling": drawn(sampling, seed)})


def drawn(sampling: SamplingSettings, seed: int) -> str:
    """How replies are drawn one at a time, in a line."""
    return in_a_line(sampling.model_dump(exclude={"batch_size"}) | {"seed": seed})


@dataclass(frozen=True)
class Partners:
    """Who can be talked to."""

    names: str
    """What they are called to the person."""
    speakers: Mapping[str, Speaker]
    """In the order in which they speak; the dialogue goes on from what the last one says."""
    tokenizer: PreTrainedTokenizerBase
    base: str
    """The base model."""
    tutor: Tutor | None = None


def tutor_and_base(tutor: Tutor, exported: Exported | None = None) -> Partners:
    """A trained tutor and the base that it came from.

    Args:
        tutor: The tutor.
        exported: Its files for llama.cpp; None replies in transformers.
    """
    speakers: dict[str, Speaker]
    if exported:
        speakers = {"tutor": InLlamaCpp(exported.model, exported.adapter, tutor.tokenizer)}
        if exported.base:
            speakers = {"base": InLlamaCpp(exported.base, None, tutor.tokenizer), **speakers}
    else:
        speakers = {
            "base": InTransformers(tutor.base, tutor.tokenizer),
            "tutor": InTransformers(tutor.tutor, tutor.tokenizer),
        }
    return Partners(
        f"{tutor.folder}, trained from {tutor.settings.name}", speakers, tutor.tokenizer, tutor.settings.name, tutor
    )


def base_alone(settings: ModelSettings, file: Path | None = None) -> Partners:
    """A base model as it comes.

    Args:
        settings: The base.
        file: A GGUF file of it for llama.cpp; None replies in transformers.
    """
    tokenizer = weights.load_tokenizer(settings)
    speaker: Speaker
    if file:
        speaker = InLlamaCpp(file, None, tokenizer)
    else:
        model = weights.load_base(settings).eval()
        speaker = InTransformers(lambda: contextlib.nullcontext(model), tokenizer)
    return Partners(settings.name, {settings.name: speaker}, tokenizer, settings.name)


@dataclass
class Talk:
    """One conversation in the making."""

    id: str
    problem: Problem
    turns: list[Turn] = field(default_factory=list)
    cut_off: set[Turn] = field(default_factory=set)
    """Those of the teacher's that are not whole."""


def problems_for(source: Source | None, tutor: Tutor | None) -> tuple[Iterator[Problem], str]:
    """What ``/problem`` takes from, and what to tell of it."""
    if source:
        return source.read(), f"problems of {source.name}"
    if tutor and (held_out := tutor.held_out_problems()):
        return iter(held_out), f"{len(held_out)} problems held out from training"
    return Starter(name="starter").read(), "problems of the starter set"


def own_problem(question: str) -> Problem:
    """A problem that a person stated, without an answer."""
    return Problem(id=text_id(question), question=question, solution="", answer="", source="chat")
