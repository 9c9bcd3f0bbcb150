"""A multirun's folder: what it was started with, how each job ended, and how to go on after a kill."""

import re
import shutil
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from datetime import datetime
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra._internal.utils import get_args_parser
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.utils import JobReturn, JobStatus
from hydra.errors import OverrideParseException
from hydra.experimental.callback import Callback
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from socratic_rl.commands.mistakes import explain
from socratic_rl.core import provenance
from socratic_rl.core.errors import UserError, shell_command
from socratic_rl.core.files import read_json, read_model, whole_file, write_json
from socratic_rl.core.rows import read_rows
from socratic_rl.pages import sweep_jobs
from socratic_rl.pages.sweep_jobs import FIGURES, RESULT, START, Job, Outcome, Start, key_of, written

if TYPE_CHECKING:
    from socratic_rl.pages.sweep_page import Sweep

OPTUNA = {"hydra/sweeper=optuna": "hydra/sweeper=optuna_tpe"}
"""Hydra lets no file of ours bear the plugin's name, and the plugin's own defaults minimise, anew after each stop."""


LONGEST_NAME = 100
"""Characters of a job's choices in its run's name; W&B takes 128 in all."""


started: DictConfig | None = None
"""The config of the multirun that this process started."""


_holding = ExitStack()
"""The folder that this process writes into."""


let_go = _holding.close


class RefusedError(BaseException):
    """A command may not write where it was to; the message is the mistake's line.

    Hydra turns an Exception of a callback into a warning and goes on.
    """


@contextmanager
def _told() -> Iterator[None]:
    try:
        yield
    except (UserError, OSError, OmegaConfBaseException) as error:
        raise RefusedError(explain(error)) from error


class SweepJobs(Callback):
    """Hydra callback: leaves files in the folders of a sweep and its jobs, to be read wherever they ran.

    Jobs may run in other processes and on other machines; what is shared is the folder alone.
    """

    @_told()
    def on_run_start(self, config: DictConfig, **_: Any) -> None:
        """Hold the folder before Hydra writes into it, and keep a finished tutor of another config."""
        if config.hydra.output_subdir is None:
            # Hydra leaves nothing there, and the command holds its folder itself
            return
        folder = Path(config.hydra.run.dir)
        _holding.enter_context(provenance.hold(folder))
        if "dpo" in config and not OmegaConf.select(config, "estimate.only"):
            provenance.is_trained(folder, OmegaConf.masked_copy(config, [str(key) for key in config if key != "hydra"]))

    @_told()
    def on_multirun_start(self, config: DictConfig, **_: Any) -> None:
        """Write down what the sweep is started with; results of an earlier one in its folder go, unless it goes on."""
        global started
        folder = Path(config.hydra.sweep.dir)
        _check_storage(config)
        _holding.enter_context(provenance.hold(folder))
        if not config.get("sweep"):
            for path in sweep_jobs.results(folder):
                path.unlink()
        arguments = [*config.hydra.overrides.hydra, *config.hydra.overrides.task]
        overrides = [text for text in arguments if key_of(text) not in ("hydra.mode", "sweep", "output_dir")]
        options = config_options(sys.argv[1:])
        write_json(folder / START, {"overrides": overrides, "choices": swept_keys(config), "options": options})
        started = config

    def on_job_end(self, config: DictConfig, job_return: JobReturn, **_: Any) -> None:
        """Write down how a job of a multirun ended."""
        if config.hydra.mode != RunMode.MULTIRUN:
            return
        folder = Path(config.hydra.runtime.output_dir)
        done = job_return.status == JobStatus.COMPLETED
        value = job_return._return_value
        made_from = folder / "adapter" / provenance.MADE_FROM
        result = {
            "overrides": list(job_return.overrides or ()),
            "status": "finished" if done else "failed",
            "score": value if done else None,
            "held_out": read_json(made_from)["held_out"] if done and made_from.exists() else {},
            "error": None if done else (str(value) or type(value).__name__).splitlines()[0],
        }
        write_json(folder / RESULT, result)


def _check_storage(config: DictConfig) -> None:
    """Refuse a database of trials where it cannot be, or where it would count them beside the folder.

    Raises:
        UserError: It is given with ``sweep``, or SQLAlchemy is too new for the plugin's Optuna.
    """
    if not config.hydra.sweeper.get("storage"):
        return
    if config.get("sweep"):
        raise UserError(
            "hydra.sweeper.storage: with sweep=FOLDER the folder keeps the trials, and a database that counts on would"
            " write over its jobs; leave one of the two out"
        )
    version = metadata.version("sqlalchemy")
    if not version.startswith("1."):
        raise UserError(
            f"hydra.sweeper.storage: the plugin's Optuna needs SQLAlchemy below 2, and here is {version}: pip install"
            " 'sqlalchemy<2', or leave it out and let sweep=FOLDER keep the trials"
        )


def swept_keys(config: DictConfig) -> list[str]:
    """The keys that the jobs of a multirun differ in: swept on the command line or by the sweeper's ``params``."""
    overrides = OverridesParser.create().parse_overrides(list(config.hydra.overrides.task))
    swept = [override.get_key_element() for override in overrides if override.is_sweep_override()]
    fixed = {override.get_key_element() for override in overrides} - set(swept)
    params = [str(key) for key in config.hydra.sweeper.get("params") or {}]
    return list(dict.fromkeys([*(key for key in params if key not in fixed), *swept]))


def command_line(arguments: Sequence[str]) -> list[str]:
    """The command line with what ``sweep=FOLDER`` stands for: the overrides that the sweep there was started with.

    Optuna's sweeper becomes our preset of it.

    Args:
        arguments: As given, without the script's name.

    Raises:
        UserError: There is no ``-m``, no sweep to go on with, or the choices are not those of the first start.
    """
    arguments = [OPTUNA.get(text, text) for text in arguments]
    overrides = {key_of(text): text for text in arguments if _is_override(text)}
    flags = [text for text in arguments if not _is_override(text)]
    if "sweep" not in overrides or {"-h", "--help", "--hydra-help", "-c", "--cfg", "-i", "--info"} & set(flags):
        return arguments
    sweep = overrides.pop("sweep").partition("=")[2]
    folder = Path(_value(sweep))
    if not {"-m", "--multirun"} & set(flags) and overrides.get("hydra.mode") != "hydra.mode=MULTIRUN":
        raise UserError(f"sweep: is for a multirun; add -m: {shell_command('train', '-m', f'sweep={folder}')}")
    other = overrides.pop("output_dir", "").partition("=")[2]
    if other and Path(_value(other)) != folder:
        raise UserError(f"output_dir: {other} is not the folder of sweep={sweep}; leave output_dir out")
    choices = {key: text for key, text in overrides.items() if _tells(key)}
    if not sweep_jobs.results(folder):
        # where no job has begun, nothing binds yet: the choices may have been mistaken
        if not choices:
            raise UserError(f"sweep: {folder}: no sweep was begun there; its choices are needed too")
        return [*flags, *overrides.values(), f"sweep={sweep}", f"output_dir={sweep}"]
    start = read_model(Start, folder / START)
    if (options := config_options(arguments)) and options != start.options:
        then = " ".join(start.options) or "the shipped configs"
        raise UserError(f"sweep: {folder} was begun with {then}, not {' '.join(options)}; leave these out")
    flags += [] if options else start.options
    first = {key_of(text): text for text in start.overrides}
    before = {key: text.partition("=")[2] for key, text in first.items() if _tells(key)}
    now = {key: text.partition("=")[2] for key, text in choices.items()}
    changed = [
        f"{key}: {before.get(key, 'not given')} → {now.get(key, 'not given')}"
        for key in dict.fromkeys([*before, *now])
        if before.get(key) != now.get(key)
    ]
    if now and changed:
        raise UserError(
            f"sweep: {folder} was begun with other choices ({'; '.join(changed)}); "
            f"go on with those of then by `-m sweep={sweep}` alone, or give another folder"
        )
    if "hydra/launcher" in overrides:
        first = {key: text for key, text in first.items() if not key.startswith("hydra.launcher.")}
    goes_on = {**first, **overrides, "sweep": f"sweep={sweep}", "output_dir": f"output_dir={sweep}"}
    return [*flags, *goes_on.values()]


def config_options(arguments: Sequence[str]) -> tuple[str, ...]:
    """The options of a command line that say where configs are and which is composed, folders from the root."""
    options, _ = get_args_parser().parse_known_args(list(arguments))
    folders = {"--config-dir": options.config_dir, "--config-path": options.config_path}
    named = {option: str(Path(folder).absolute()) for option, folder in folders.items() if folder}
    named |= {"--config-name": options.config_name} if options.config_name else {}
    return tuple(text for option in named.items() for text in option)


def _is_override(text: str) -> bool:
    return text.startswith("~") or ("=" in text and not text.startswith("-"))


def _value(text: str) -> str:
    """What Hydra makes of the right side of an override, without its quotes."""
    try:
        return str(OverridesParser.create().parse_override(f"x={text}").value())
    except OverrideParseException:
        return text


def _tells(key: str) -> bool:
    """Whether an override of this key tells what the jobs do, and not only where or how they run."""
    if key.startswith("hydra"):
        # more trials go on after those that there are
        return key.startswith(("hydra/sweeper", "hydra.sweeper")) and key != "hydra.sweeper.n_trials"
    return key.lstrip("+~").split(".")[0] not in provenance.ELSEWHERE


def begin(folder: Path, overrides: Sequence[str], goes_on: bool) -> Outcome | None:
    """Note that a job begins; its result where it finished before, so that it need not run again.

    Args:
        folder: The job's.
        overrides: The job's.
        goes_on: Whether the sweep goes on after a stop; else every job begins anew.
    """
    path = folder / RESULT
    if goes_on and path.exists():
        before = read_model(Outcome, path)
        same = _choices(before.overrides) == _choices(overrides)
        if same and before.status == "finished":
            return before
        if not same:
            # Optuna chooses otherwise once a job that failed before has succeeded
            _clear(folder)
    write_json(path, {"overrides": list(overrides), "status": "stopped", "score": None, "held_out": {}, "error": None})
    return None


def _choices(overrides: Iterable[str]) -> set[str]:
    return {text for text in overrides if _tells(key_of(text))}


def _clear(folder: Path) -> None:
    """Remove what an earlier job left, but not what Hydra has already written for this one."""
    for path in folder.iterdir():
        if path.is_dir() and path.name != ".hydra":
            shutil.rmtree(path)
        elif path.is_file() and path.suffix != ".log":
            path.unlink()


def job_name(folder: Path, overrides: Sequence[str], number: int) -> str:
    """What tells a job from the others of its sweep, short enough for the name of a W&B run.

    Args:
        folder: The sweep's.
        overrides: The job's.
        number: The job's; stands for what is left out of a path or of a long name.
    """
    keys = read_model(Start, folder / START).choices
    choices = ",".join(text for text in overrides if key_of(text) in keys)
    name = re.sub(r"=[^,=]*/(?=[^,/])", "=", choices)
    return name if name == choices and 0 < len(name) <= LONGEST_NAME else f"{name[:LONGEST_NAME]} job {number}".strip()


def leave(folder: Path, jobs: Sequence[Job], config: DictConfig) -> Path:
    """Write ``sweep.html`` into a sweep's folder and log it as a W&B run of the sweep's group.

    Args:
        folder: The sweep's.
        jobs: Its jobs.
        config: What the multirun was started with, ``hydra`` included.
    """
    # the page is made at the end of a sweep alone, and every command would load what draws it
    from socratic_rl.pages.sweep_page import Sweep, best_job, render

    start = read_model(Start, folder / sweep_jobs.START)
    logs = {job.folder: job.folder / sweep_jobs.TRAINING_LOG for job in jobs if job.status == "finished"}
    best = best_job(jobs)
    samples = best.folder / "samples.jsonl" if best else Path()
    sweep = Sweep(
        title=f"Socratic RL: sweep {folder.name}",
        facts={
            "started by": shell_command(config.hydra.job.name, "-m", *start.overrides),
            "jobs": ", ".join(f"{sum(job.status == s for job in jobs)} {s}" for s in ("finished", "failed", "stopped")),
            "best job": str(best.folder) if best else "none",
            "date": datetime.now().strftime("%Y-%m-%d %H:%M"),
            "versions": ", ".join(f"{name} {version}" for name, version in provenance.versions().items()),
        },
        jobs=jobs,
        curves={job: [row for _, row in read_rows(str(log))] for job, log in logs.items() if log.exists()},
        samples=[row for _, row in read_rows(str(samples))] if samples.is_file() and samples.stat().st_size else [],
    )
    path = folder / "sweep.html"
    with whole_file(path) as temporary:
        temporary.write_text(render(sweep), encoding="utf-8")
    if best:
        _track(path, sweep, best, start, config)
    return path


def _track(path: Path, sweep: "Sweep", best: Job, start: Start, config: DictConfig) -> None:
    """The page, its table and its pictures as a run of the sweep's group."""
    from socratic_rl.commands import tracking
    from socratic_rl.core import provenance
    from socratic_rl.core.component import WandbSettings, wandb_from_environment
    from socratic_rl.pages.page import fill

    kept: dict[str, Any] = OmegaConf.to_container(config.wandb, resolve=True)  # type: ignore[assignment]
    settings = WandbSettings.model_validate(kept | wandb_from_environment(config.hydra.overrides.task))
    if settings.mode == "disabled":
        return
    import wandb

    folder = path.parent
    jobs = [job for group in sweep.groups for job in group.jobs]
    keys = start.choices
    with tracking.track(
        settings, "sweep", {"sweep": start.model_dump(mode="json")}, folder, group=folder.name, name=folder.name
    ) as run:
        rows = [
            {
                "job": job.folder.name,
                **{key: job.choices.get(key) for key in keys},
                "status": job.status,
                **{name: job.figure(name) for name in FIGURES},
                "error": job.error,
            }
            for job in jobs
        ]
        tracking.log_table(run, "jobs", rows)
        plots = {plot.title: plot for plot in [*sweep.heat_maps, *sweep.curve_plots]}
        pictures = {f"pictures/{name}": fill("picture.html.j2", title=name, plot=plot) for name, plot in plots.items()}
        pages = {"page": path.read_text(encoding="utf-8"), **pictures}
        run.log({name: wandb.Html(page, inject=False) for name, page in pages.items()})
        run.summary.update({"best/job": best.folder.name, "best/choices": written(best.choices), **best.held_out})
        adapter = provenance.artifact_name("adapter", [best.folder / "adapter"])
        tracking.log_artifact(run, provenance.artifact_name("sweep", [path]), "sweep", [path], inputs=[adapter])
