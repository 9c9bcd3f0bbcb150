"""Who can be talked to: a trained tutor and its base, or a base alone."""

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from transformers import PreTrainedTokenizerBase

from socratic_rl.core.component import ModelSettings
from socratic_rl.core.dialogue import Message
from socratic_rl.core.errors import UserError
from socratic_rl.core.generator import Sampling, in_order
from socratic_rl.core.provenance import in_a_line
from socratic_rl.generators.tutors import ByLlamaCpp, ByTransformers, TutorGenerator, chat_requests, prompt_room
from socratic_rl.models import weights
from socratic_rl.models.tokens import fit_prompt
from socratic_rl.models.tutor import Tutor
from socratic_rl.pages import console
from socratic_rl.sharing.exports import Exported


def show_replies(tutor: Tutor, prompt: str, sampling: Sampling, seed: int) -> None:
    """Print what base and tutor reply to a prompt, side by side.

    Raises:
        UserError: The prompt leaves no room for a reply in what the model reads.
    """
    messages: list[Message] = [{"role": "user", "content": prompt}]
    replies, notes = {}, {}
    sources = {"base": tutor.settings.name, "tutor": tutor.folder}
    for side, generator in tutor_and_base(tutor, sampling).generators.items():
        name = f"{side}: {sources[side]}"
        room = prompt_room(generator)
        if fit_prompt(messages, tutor.tokenizer, room) is None:
            raise UserError(f"prompt: is longer than the {room} tokens that the model reads beside its reply")
        (reply,) = in_order(generator.generate(chat_requests([messages], [seed])), 1, name)
        replies[name] = reply.text
        notes[name] = f"cut off after {sampling.max_tokens} tokens" if reply.finish == "length" else ""
    console.side_by_side(prompt, replies, notes, {"sampling": drawn(sampling, seed)})


def drawn(sampling: Sampling, seed: int) -> str:
    """The settings with which single replies are drawn, in a line."""
    keys = sampling.as_config()
    del keys["batch_size"]
    return in_a_line(keys | {"seed": seed})


@dataclass(frozen=True)
class Partners:
    """Who can be talked to."""

    names: str
    """What they are called to the person."""
    generators: Mapping[str, TutorGenerator]
    """In the order in which they speak; the dialogue goes on from what the last one says."""
    tokenizer: PreTrainedTokenizerBase
    base: str
    """The base model."""
    sampling: Sampling
    """How all of them draw their replies."""
    tutor: Tutor | None = None


def tutor_and_base(tutor: Tutor, sampling: Sampling, exported: Exported | None = None) -> Partners:
    """A trained tutor and the base that it came from.

    Args:
        tutor: The tutor.
        sampling: How replies are drawn.
        exported: Its files for llama.cpp; None replies in transformers.
    """
    generators: dict[str, TutorGenerator]
    if exported:
        generators = {"tutor": ByLlamaCpp(exported.model, exported.adapter, tutor.tokenizer, sampling)}
        if exported.base:
            generators = {"base": ByLlamaCpp(exported.base, None, tutor.tokenizer, sampling), **generators}
    else:
        generators = {
            "base": ByTransformers(tutor.base, tutor.tokenizer, sampling),
            "tutor": ByTransformers(tutor.tutor, tutor.tokenizer, sampling),
        }
    base = tutor.settings.name
    return Partners(f"{tutor.folder}, trained from {base}", generators, tutor.tokenizer, base, sampling, tutor)


def base_alone(settings: ModelSettings, sampling: Sampling, file: Path | None = None) -> Partners:
    """A base model as it comes.

    Args:
        settings: The base.
        sampling: How replies are drawn.
        file: A GGUF file of it for llama.cpp; None replies in transformers.
    """
    tokenizer = weights.load_tokenizer(settings)
    generator: TutorGenerator
    if file:
        generator = ByLlamaCpp(file, None, tokenizer, sampling)
    else:
        model = weights.load_base(settings).eval()
        generator = ByTransformers(lambda: contextlib.nullcontext(model), tokenizer, sampling)
    return Partners(settings.name, {settings.name: generator}, tokenizer, settings.name, sampling)
