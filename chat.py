"""Talk to a trained tutor, in the terminal or on a page: ``python chat.py --help``."""

from pathlib import Path

import hydra
from omegaconf import DictConfig

from socratic_rl import cli
from socratic_rl.errors import UserError


@hydra.main(version_base="1.3", config_path="conf", config_name="chat")
@cli.task
def main(cfg: DictConfig) -> None:
    """Check the config, load who is talked to, and answer until the person leaves."""
    from socratic_rl.config import ChatSettings, parse

    settings = parse(ChatSettings, cfg)
    if cli.in_multirun():
        raise UserError("-m: a chat is one at a time; leave it out")
    # the heavy imports wait until the config is known to be right
    from socratic_rl import exporting, talking, terminal
    from socratic_rl.tutors import Tutor

    in_llama_cpp = settings.backend == "llama_cpp"
    if settings.model is None:
        tutor = Tutor(Path(str(settings.adapter)))
        files = exporting.exported(tutor, settings.gguf, settings.base_gguf) if in_llama_cpp else None
        partners = talking.tutor_and_base(tutor, files)
        if settings.with_base and len(partners.speakers) == 1:
            raise UserError(f"with_base: there is no GGUF file of the base, {tutor.settings.name}: base_gguf=FILE")
    else:
        base = exporting.base_file(settings.model, settings.base_gguf)
        if in_llama_cpp and base is None:
            raise UserError(f"base_gguf: {settings.model.name} is no GGUF file; llama.cpp needs one of it")
        partners = talking.base_alone(settings.model, base if in_llama_cpp else None)
    how = {"seed": settings.seed, "problems": settings.problems, "folder": Path(settings.output_dir)}
    if settings.web:
        from socratic_rl import web

        web.serve(partners, settings.sampling, **how, web=settings.web)
    else:
        session = talking.Chat(partners, settings.sampling, **how, with_base=settings.with_base)
        session.run(terminal.lines(list(talking.COMMANDS)))


if __name__ == "__main__":
    cli.run(main, "ChatSettings")
