"""What ``import socratic_rl`` offers: the commands as functions, over the same configs and the same code."""

from collections.abc import Sequence
from pathlib import Path

from hydra import compose, initialize_config_dir
from omegaconf import DictConfig

from socratic_rl.chat import partners
from socratic_rl.commands import cli, mistakes, settings
from socratic_rl.commands import evaluate as evaluate_command
from socratic_rl.commands import generate as generate_command
from socratic_rl.commands import train as train_command
from socratic_rl.commands.mistakes import CONF
from socratic_rl.core import provenance
from socratic_rl.core.dialogue import Message, PreferencePair
from socratic_rl.core.errors import UserError
from socratic_rl.core.generator import in_order
from socratic_rl.core.records import RecordFile
from socratic_rl.generators.tutors import chat_requests, prompt_room
from socratic_rl.measures.figures import Figure
from socratic_rl.models import tutor as tutor_module
from socratic_rl.models.tokens import fit_prompt


class Tutor(tutor_module.Tutor):
    """A trained tutor and its base, loaded when first opened.

    Args:
        folder: What ``train`` left in ``<output_dir>/adapter``.
    """

    def __init__(self, folder: str | Path) -> None:
        super().__init__(Path(folder))

    def reply(self, prompt: str | Sequence[Message], *overrides: str) -> str:
        """What the tutor replies.

        Args:
            prompt: What the student says, or the messages so far, the student's last.
            overrides: Those of ``chat.py``, such as ``sampling.temperature=0`` or ``seed=1``.

        Raises:
            UserError: An override is wrong, or the prompt leaves no room for a reply.
        """
        chat = settings.parse(settings.ChatSettings, _composed("chat", [f"adapter={_quoted(self.folder)}", *overrides]))
        messages: list[Message] = [{"role": "user", "content": prompt}] if isinstance(prompt, str) else list(prompt)
        generator = partners.tutor_and_base(self, chat.sampling).generators["tutor"]
        room = prompt_room(generator)
        if fit_prompt(messages, self.tokenizer, room) is None:
            raise UserError(f"prompt: is longer than the {room} tokens that the model reads beside its reply")
        (reply,) = in_order(generator.generate(chat_requests([messages], [chat.seed])), 1, str(self.folder))
        return reply.text


def make_pairs(*overrides: str) -> RecordFile[PreferencePair]:
    """The preference pairs of ``generate.py``, in ``<output_dir>/pairs.jsonl``.

    Args:
        overrides: Those of ``generate.py``, such as ``problems=mathqa`` or ``output_dir=FOLDER``.

    Raises:
        UserError: An override is wrong, or no pair comes out.
    """
    cfg = _composed("generate", overrides)
    parsed = settings.parse(settings.GenerateSettings, cfg)
    if parsed.last_stage != "pairs":
        raise UserError("stop_after: pairs are asked for; leave it out, and shard too")
    with provenance.hold(Path(cfg.output_dir)):
        generate_command.run(parsed, cfg)
    return RecordFile(PreferencePair, Path(cfg.output_dir) / "pairs.jsonl")


def train(pairs: RecordFile[PreferencePair] | str | Path, *overrides: str) -> Tutor:
    """A tutor, trained on preference pairs as ``train.py`` does.

    Args:
        pairs: What ``make_pairs`` returned, or a file of pairs.
        overrides: Those of ``train.py``, such as ``dpo.beta=0.2`` or ``output_dir=FOLDER``.

    Raises:
        UserError: An override or the data is wrong.
    """
    file = pairs.path if isinstance(pairs, RecordFile) else Path(pairs)
    cfg = _composed("train", [f"dataset.path={_quoted(file)}", *overrides])
    # the folder's name has the time in it, so that it is resolved once
    cfg.output_dir = cfg.output_dir
    parsed = settings.parse(settings.TrainSettings, cfg)
    with provenance.hold(Path(cfg.output_dir)):
        train_command.run(parsed, cfg)
    return Tutor(Path(cfg.output_dir) / "adapter")


def evaluate(tutor: tutor_module.Tutor | str | Path, *overrides: str) -> Sequence[Figure]:
    """Figures of base against tutor, as ``evaluate.py`` measures them.

    Args:
        tutor: A tutor, or its folder.
        overrides: Those of ``evaluate.py``, such as ``split=validation`` or ``suite=bridge``.

    Raises:
        UserError: An override or the data is wrong.
    """
    folder = tutor.folder if isinstance(tutor, tutor_module.Tutor) else Path(tutor)
    cfg = _composed("evaluate", [f"adapter={_quoted(folder)}", *overrides])
    parsed = settings.parse(settings.EvaluateSettings, cfg)
    with provenance.hold(Path(cfg.output_dir)):
        result = evaluate_command.measure(parsed, cfg)
    return result.figures if result else ()


def _composed(command: str, overrides: Sequence[str]) -> DictConfig:
    cli.prepare()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        readable = mistakes.readable(overrides)
        cfg = compose(command, overrides=readable)
    cli.read_environment(cfg, readable)
    return cfg


def _quoted(path: Path) -> str:
    """A path as the value of an override, whatever is in it."""
    return mistakes.quoted(str(path))
