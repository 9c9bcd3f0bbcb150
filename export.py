"""Take a trained tutor home, as a file for llama.cpp or as merged weights: ``python export.py --help``."""

from dataclasses import asdict
from pathlib import Path

import hydra
from omegaconf import DictConfig

from socratic_rl import cli
from socratic_rl.errors import UserError


@hydra.main(version_base="1.3", config_path="conf", config_name="export")
@cli.task
def main(cfg: DictConfig) -> None:
    """Check the config, write the files, and hold what reads them against the tutor."""
    from socratic_rl.config import ExportSettings, parse

    settings = parse(ExportSettings, cfg)
    if cli.in_multirun():
        raise UserError("-m: one export at a time; leave it out")
    # the heavy imports wait until the config is known to be right
    from socratic_rl import exporting, parity
    from socratic_rl.record import write_json
    from socratic_rl.tutors import Tutor

    adapter, folder = Path(settings.adapter), Path(settings.output_dir)
    kind = exporting.kind_of(adapter, settings.format)
    # an adapter goes on weights of any precision; to be merged it needs them as they come
    tutor = Tutor(adapter, quantised=kind == "adapter")
    base = exporting.base_file(tutor.settings, settings.base_gguf)
    if settings.check and kind == "adapter" and base is None:
        raise UserError(
            f"base_gguf: the adapter is checked on a GGUF file of its base, {tutor.settings.name}: give one,"
            " or leave the check out by check=false, for tested architectures only"
        )
    if not settings.check and kind != "folder":
        exporting.refuse_untested(tutor)
    passages = parity.passages(tutor, settings.check_turns) if settings.check else []
    wanted = parity.expected(tutor, passages) if passages else {}
    files = exporting.write(tutor, kind, folder, settings.dtype, base)
    told: dict[str, object] = {**files, kind: _sized(files[kind])}
    if todo := exporting.not_measured(tutor, folder):
        told["measured"] = todo
    mistake = None
    if wanted:
        read = parity.found(tutor, kind, files[kind], base, passages)
        apart, shown = parity.gaps(wanted, read), parity.share(wanted, read, kind)
        mistake = parity.mistake(apart, shown, kind, settings.dtype, wanted["tutor"].bfloat16)
        told["parity"] = folder / "parity.json"
        write_json(
            folder / "parity.json",
            {side: asdict(one) for side, one in apart.items()} | {"share": asdict(shown) if shown else None},
        )
        parity.print_table(apart, shown, len(passages))
        if not (shown and shown.tells):
            told["check"] = "cannot tell whether training is in it: training changed too little beside rounding"
    cli.closing_table("Export", told | {"next": exporting.next_command(tutor, kind, files[kind], settings.base_gguf)})
    if mistake:
        raise UserError(f"check: what was exported {mistake}; it is kept")


def _sized(path: Path) -> str:
    """A file with its size, a folder with that of its files."""
    files = [path] if path.is_file() else path.rglob("*")
    return f"{path} ({sum(file.stat().st_size for file in files) / 1e6:,.1f} MB)"


if __name__ == "__main__":
    cli.run(main, "ExportSettings")
