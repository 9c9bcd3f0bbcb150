"""``chat.py``: load who is talked to, and answer until the person leaves."""

from pathlib import Path
from typing import TYPE_CHECKING

from omegaconf import DictConfig

from socratic_rl.commands import cli
from socratic_rl.core.errors import UserError

if TYPE_CHECKING:
    from socratic_rl.commands.settings import ChatSettings


def run(settings: "ChatSettings", _: DictConfig) -> None:
    """Check the config, load who is talked to, and answer until the person leaves."""
    if cli.in_multirun():
        raise UserError("-m: a chat is one at a time; leave it out")
    # the heavy imports wait until the config is known to be right
    from socratic_rl.chat import partners as partners_module
    from socratic_rl.chat import terminal
    from socratic_rl.chat.session import Session
    from socratic_rl.models.tutor import Tutor
    from socratic_rl.sharing import exports

    in_llama_cpp = settings.backend == "llama_cpp"
    if settings.model is None:
        tutor = Tutor(Path(str(settings.adapter)))
        files = exports.exported(tutor, settings.gguf, settings.base_gguf) if in_llama_cpp else None
        partners = partners_module.tutor_and_base(tutor, settings.sampling, files)
        if settings.with_base and len(partners.generators) == 1:
            raise UserError(f"with_base: there is no GGUF file of the base, {tutor.settings.name}: base_gguf=FILE")
    else:
        base = exports.base_file(settings.model, settings.base_gguf)
        if in_llama_cpp and base is None:
            raise UserError(f"base_gguf: {settings.model.name} is no GGUF file; llama.cpp needs one of it")
        partners = partners_module.base_alone(settings.model, settings.sampling, base if in_llama_cpp else None)
    session, folder = Session(partners, settings.seed, settings.problems), Path(settings.output_dir)
    if settings.web:
        from socratic_rl.chat import server

        server.serve(session, folder, settings.web)
    else:
        chat = terminal.Chat(session, folder, with_base=settings.with_base)
        chat.run(terminal.lines(list(terminal.COMMANDS)))
