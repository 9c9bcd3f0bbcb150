"""What the entry points share: one clear line for a mistake, and the closing table."""

import errno
import functools
import gc
import logging
import os
import re
import shlex
import shutil
import sys
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from hydra.core.config_store import ConfigStore
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.types import Quote, QuotedString
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from socratic_rl import processes, ranking, sweeps, terminal
from socratic_rl.errors import UserError, missing_value

OmegaConf.register_new_resolver(
    "parent_folder", lambda path: str(Path(path).parent if path else "outputs"), replace=True
)

TELLS_FIRST = 5.0
"""Seconds in which the launcher ends this process, where another one has told what went wrong."""

ONE_OF_SEVERAL = ("hydra.run.dir=.", "hydra.output_subdir=null", "hydra/job_logging=none")
"""Overrides by which a process beside the main one leaves Hydra's files to it."""


def task(main: Callable[[DictConfig], Any]) -> Callable[[DictConfig], Any]:
    """Around a job: a single run's mistake ends the process at once, a multirun's is kept for its closing table."""

    @functools.wraps(main)
    def job(cfg: DictConfig) -> Any:
        # a launcher's job runs in a process that did not begin in `run`
        _prepare()
        gc.freeze()
        gc.enable()
        try:
            if in_multirun() and (finished := _begin(cfg)):
                return finished["score"]
            return main(cfg)
        except (UserError, OSError, OmegaConfBaseException) as error:
            if in_multirun():
                raise
            _remove_if_bare(Path(HydraConfig.get().runtime.output_dir))
            _exit(explain(error))
        except Exception:
            if processes.count() > 1:
                # perhaps no more than the echo of another process's end
                time.sleep(TELLS_FIRST)
            raise

    return job


def _remove_if_bare(folder: Path) -> None:
    """Remove the folder of a job that made a mistake before it did anything: Hydra's notes and an empty log are all."""
    notes = folder / ".hydra"
    if not notes.is_dir():
        # Hydra leaves nothing here, such as where the folder is the one that the command runs in
        return
    others = (path for path in folder.iterdir() if path != notes)
    if all(path.suffix == ".log" and path.is_file() and not path.stat().st_size for path in others):
        shutil.rmtree(folder)


def run(main: Callable[[], Any], schema: str, text: str | None = None) -> None:
    """Run a Hydra entry point; a mistake ends in its lines on stderr and exit code 2, a bug in a traceback and 1.

    Args:
        main: The function that ``hydra.main`` made.
        schema: The name of the settings in ``socratic_rl.config``, for reporting all mistakes when composing fails.
        text: A key whose value on the command line is text as it stands, with its commas, quotes and brackets.
    """
    sys.argv[1:] = [as_text(argument) if argument.startswith(f"{text}=") else argument for argument in sys.argv[1:]]
    # Hydra then hands exceptions on instead of printing them
    os.environ.setdefault("HYDRA_FULL_ERROR", "1")
    _prepare()
    # until a job begins there is next to no garbage, and looking for it takes a tenth of the time
    gc.disable()
    if processes.count() > 1:
        _join(schema)
    try:
        sys.argv[1:] = sweeps.command_line(sys.argv[1:])
        try:
            main()
        finally:
            if ray := sys.modules.get("ray"):
                # it passes on what its jobs said with a delay, and the closing table comes last
                ray.shutdown()
    except (UserError, OSError, HydraException, OmegaConfBaseException) as error:
        _close_sweep()
        _exit(explain(error, schema))
    except KeyboardInterrupt:
        _exit(f"stopped; {_how_to_go_on()}", 130)
    except Exception as error:
        if told := explain_missing_extra(error):
            _exit(told)
        _close_sweep()
        if str(error) == "No trials are completed yet.":  # Optuna's last word where every job failed
            first = ranking.read_jobs(Path(sweeps.started.hydra.sweep.dir))[0] if sweeps.started else None
            _exit(f"every job failed, the first by {first.error if first else error}", 1)
        raise
    if failed := _close_sweep():
        # Optuna goes on past them
        _exit(f"{failed} job{'s' if failed > 1 else ''} failed", 1)


def _begin(cfg: DictConfig) -> dict[str, Any] | None:
    """Note that a job of a multirun begins; its result where it finished before the sweep was stopped."""
    hydra = HydraConfig.get()
    finished = sweeps.begin(job_folder(cfg), hydra.overrides.task, goes_on=cfg.get("sweep") is not None)
    if finished:
        print(f"job {hydra.job.num} finished before; its result stands")
    return finished


def _close_sweep() -> int:
    """The table of the multirun that this process ran, if it ran one, and its page; how many jobs failed."""
    config = sweeps.started
    folder = Path(config.hydra.sweep.dir) if config else Path()
    jobs = ranking.read_jobs(folder) if config else []
    if config is None or not jobs:
        return 0
    ranking.print_closing_table(jobs)
    if any((job.folder / sweeps.TRAINING_LOG).exists() for job in jobs):
        from socratic_rl import sweep_page

        try:
            print(f"page: {sweep_page.leave(folder, jobs, config)}")
        except OSError as error:
            print(f"no page: {explain(error)}")
    if any(job.status != "finished" for job in jobs):
        print(f"not all jobs finished; {_how_to_go_on()}")
    return sum(job.status == "failed" for job in jobs)


def _how_to_go_on() -> str:
    config = sweeps.started
    if config and "sweep" in config:
        return f"go on with it by python {config.hydra.job.name}.py -m sweep={shlex.quote(config.hydra.sweep.dir)}"
    return "the same command goes on where it was"


def as_text(override: str) -> str:
    """An override whose value Hydra takes as it stands; one that is quoted already, and ``null``, stay as they are."""
    key, _, value = override.partition("=")
    if value == "null" or (len(value) > 1 and value[0] == value[-1] and value[0] in "'\""):
        return override
    # ${ would be read as an interpolation
    escaped = re.sub(r"(\\*)\$\{", lambda found: found[1] * 2 + r"\${", value)
    return f"{key}={QuotedString(escaped, Quote.single).with_quotes()}"


def _prepare() -> None:
    """Set what must be set before libraries load: what they need not say, and how their threads wait."""
    # Hydra copies its store of configs again for every group that --help lists, and changes no copy
    ConfigStore.__deepcopy__ = lambda store, _: store  # type: ignore[attr-defined]
    os.environ.setdefault("WANDB_SILENT", "true")
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_DEDUP_LOGS", "0")
    # threads that spin while they wait take the core from those that work, as soon as anything else runs
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    # bitsandbytes looks for an optional kernel; TRL and PEFT use a name that transformers has given another one
    logging.getLogger("bitsandbytes.backends.cpu.ops").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", message=r".*gradient_checkpointing\w*. is deprecated", category=FutureWarning)
    # our presets bear the names of the launchers that they are for
    warnings.filterwarnings("ignore", message=r"\s*'hydra/launcher/\w+' is validated against ConfigStore schema")


def _join(schema: str) -> None:
    """Be one of several processes: what only one can do is refused, and the main one speaks for all."""
    if schema != "TrainSettings":
        _exit("only train.py runs in several processes; start this command by python, without a launcher")
    if {"-m", "--multirun", "hydra.mode=MULTIRUN"} & set(sys.argv):
        _exit(
            "-m: the processes of one launch train one job; leave the launcher out, or start it once for each choice"
            " (python train.py -m … hydra/launcher=submitit_slurm gives each job a machine of its own)"
        )
    if not processes.is_main():
        processes.keep_quiet()
        sys.argv += ONE_OF_SEVERAL


def _exit(message: str, code: int = 2) -> None:
    if not processes.is_main():
        # the main process mostly makes the same mistake; once it has told, the launcher ends this one
        time.sleep(TELLS_FIRST)
    sys.stdout.flush()
    for line in message.splitlines():
        print(f"error: {line}", file=sys.stderr)
    sys.exit(code)


def explain(error: BaseException, schema: str = "") -> str:
    """What went wrong and what would be right, one line a mistake."""
    if isinstance(error, HydraException):
        from socratic_rl.mistakes import explain_composition

        return explain_composition(error, schema)
    if missing := missing_value(error):
        return missing
    if isinstance(error, OSError):
        where = f"{error.filename}: " if error.filename else ""
        match error.errno:
            case errno.ENOSPC | errno.EDQUOT:
                return f"{where}no room left on the disk; what was finished is kept, and the same command goes on"
            case errno.EACCES | errno.EPERM | errno.EROFS:
                return f"{where}cannot be written; give another folder with output_dir=…"
            case errno.ENOTDIR | errno.EEXIST:
                return f"{where}is in the way of a folder; give another one with output_dir=…"
        return f"{where}{error.strerror or error}"
    return str(error).splitlines()[0] if isinstance(error, OmegaConfBaseException) else str(error)


EXTRAS = {"hydra_submitit_launcher": "slurm", "hydra_ray_launcher": "ray", "hydra_optuna_sweeper": "optuna"}
"""Hydra's plugins, and the extra that brings each."""


def explain_missing_extra(error: Exception) -> str | None:
    """What to install where Hydra does not find the plugin of a config; None where that is not what is wrong."""
    plugin = re.fullmatch(r"Unknown plugin class : 'hydra_plugins\.(\w+)\..*'", str(error))
    if plugin is None or plugin[1] not in EXTRAS:
        return None
    kind = plugin[1].rpartition("_")[2]
    return f"hydra/{kind}: needs an extra that is not installed: pip install -e '.[{EXTRAS[plugin[1]]}]'"


def in_multirun() -> bool:
    """Whether this process runs a job of a multirun."""
    return HydraConfig.initialized() and HydraConfig.get().mode == RunMode.MULTIRUN


def job_folder(cfg: DictConfig) -> Path:
    """The folder of this job: ``output_dir``, or its own below it in a multirun."""
    return Path(HydraConfig.get().runtime.output_dir if in_multirun() else cfg.output_dir)


def job_place(cfg: DictConfig) -> dict[str, Any]:
    """Where W&B puts this job: its folder and, in a multirun, the group and the choices that tell it apart."""
    if not in_multirun():
        return {"folder": job_folder(cfg), "group": None, "name": None}
    hydra = HydraConfig.get()
    sweep = Path(hydra.sweep.dir)
    name = sweeps.job_name(sweep, hydra.overrides.task, hydra.job.num)
    return {"folder": job_folder(cfg), "group": sweep.name, "name": name}


def closing_table(title: str, rows: Mapping[str, object]) -> None:
    """Print what a command made and where it lies."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(title=title, box=box.SIMPLE_HEAD, show_header=False, title_justify="left", title_style="bold")
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in rows.items():
        table.add_row(name, Text(str(value)))
    terminal.console().print(table)


def metrics_table(title: str, metrics: Sequence[Mapping[str, Any]]) -> None:
    """Print an evaluation's figures: base, tutor, the difference with its 95% interval, n; not those by topic.

    Earlier rounds stand between base and tutor, which then is the last round; a second table compares the last two.
    """
    past = [one["name"] for one in metrics[0].get("earlier", ())]
    names = ["base", *past, f"round {len(past) + 1}" if past else "tutor"]
    _print_metrics(title, metrics, names)
    if past:
        steps = [
            {**row, **row["step"], "base": row["earlier"][-1]["value"], "earlier": []}
            for row in metrics
            if row["kind"] == "all"
        ]
        _print_metrics(f"{names[-1].capitalize()} against {names[-2]}", steps, names[-2:])


def _print_metrics(title: str, metrics: Sequence[Mapping[str, Any]], names: Sequence[str]) -> None:
    from rich import box
    from rich.table import Table

    from socratic_rl.metrics import TOPIC
    from socratic_rl.page import in_digits

    table = Table(title=title, box=box.SIMPLE_HEAD, title_justify="left", title_style="bold")
    for column in ("measure", "kind", *names, "difference", "95% interval", "n"):
        table.add_column(column, justify="left" if column in ("measure", "kind") else "right")
    judged = any("agreement" in row for row in metrics)
    if judged:
        table.add_column("κ against people", justify="right")
    for row in metrics:
        if row["kind"].startswith(TOPIC):
            continue
        base, *others = in_digits(row).values()
        rounds = ["–" if one["value"] is None else f"{one['value']:.3f}" for one in row.get("earlier", ())]
        table.add_row(row["name"], row["kind"], base, *rounds, *others, *([_trust(row)] if judged else []))
    terminal.console().print(table)


def _trust(row: Mapping[str, Any]) -> str:
    """How well a judge's score agrees with people; empty for what no judge gave."""
    if "agreement" not in row:
        return ""
    found = row["agreement"]
    if found is None:
        return "not calibrated"
    if found["kappa"] is None:
        return f"– ({found['n']})"
    interval = "" if found["low"] is None else f" [{found['low']:.2f}, {found['high']:.2f}]"
    return f"{found['kappa']:.2f}{interval} ({found['n']})"
