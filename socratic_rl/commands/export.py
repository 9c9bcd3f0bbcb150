"""``export.py``: write a tutor as files for llama.cpp or as merged weights, and check them."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from omegaconf import DictConfig

from socratic_rl.commands import cli
from socratic_rl.core.errors import UserError
from socratic_rl.pages import console

if TYPE_CHECKING:
    from socratic_rl.commands.settings import ExportSettings


def run(settings: "ExportSettings", _: DictConfig) -> None:
    """Check the config, write the files, and hold what reads them against the tutor."""
    if cli.in_multirun():
        raise UserError("-m: one export at a time; leave it out")
    # the heavy imports wait until the config is known to be right
    from socratic_rl.core.files import write_json
    from socratic_rl.models.tutor import Tutor
    from socratic_rl.sharing import export_check, exports

    adapter, folder = Path(settings.adapter), Path(settings.output_dir)
    kind = exports.kind_of(adapter, settings.format)
    # an adapter goes on weights of any precision; to be merged it needs them as they come
    tutor = Tutor(adapter, quantised=kind == "adapter")
    if kind != "adapter":
        exports.refuse_merge(tutor)
    base = exports.base_file(tutor.settings, settings.base_gguf)
    if settings.check and kind == "adapter" and base is None:
        raise UserError(
            f"base_gguf: the adapter is checked on a GGUF file of its base, {tutor.settings.name}: give one,"
            " or leave the check out by check=false, for tested architectures only"
        )
    if not settings.check and kind != "folder":
        exports.refuse_untested(tutor)
    passages = export_check.passages(tutor, settings.check_turns) if settings.check else []
    wanted = export_check.trained_readings(tutor, passages) if passages else {}
    dtype = exports.merged_dtype(tutor, kind) if settings.dtype == "auto" else settings.dtype
    files = exports.write(tutor, kind, folder, dtype, base)
    summary: dict[str, object] = {**files, kind: _sized(files[kind])}
    if todo := exports.not_measured(tutor, folder):
        summary["measured"] = todo
    mistake = None
    if wanted:
        read = export_check.exported_readings(tutor, kind, files[kind], base, passages)
        apart, share = export_check.gaps(wanted, read), export_check.share(wanted, read, kind)
        mistake = export_check.mistake(apart, share, kind, dtype, wanted["tutor"].bfloat16)
        summary["parity"] = folder / "parity.json"
        gaps = {side: asdict(gap) for side, gap in apart.items()}
        write_json(folder / "parity.json", gaps | {"share": asdict(share) if share else None})
        console.parity_table(gaps, (share.value, share.error) if share else None, len(passages))
        if not (share and share.tells):
            summary["check"] = "cannot tell whether training is in it: training changed too little beside rounding"
    if mistake:
        # where chat and others look for it they must not find it
        failed = exports.set_aside(files[kind])
        console.closing_table("Export", summary | {kind: ", ".join(map(str, failed))})
        raise UserError(f"check: what was exported {mistake}; it is set aside as {failed[0]}")
    console.closing_table(
        "Export", summary | {"next": exports.next_command(tutor, kind, files[kind], settings.base_gguf)}
    )


def _sized(path: Path) -> str:
    """A file with its size, a folder with that of its files."""
    files = [path] if path.is_file() else path.rglob("*")
    return f"{path} ({sum(file.stat().st_size for file in files) / 1e6:,.1f} MB)"
