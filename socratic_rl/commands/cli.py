"""What the entry points share: the console command, one clear line for a mistake, and a sweep's closing table."""

import importlib
import logging
import os
import re
import shutil
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, NoReturn

import hydra
from hydra.core.config_store import ConfigStore
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError  # type: ignore[import-untyped]

from socratic_rl.commands import sweeps
from socratic_rl.commands.mistakes import (
    CONF,
    as_text,
    did_you_mean,
    explain,
    readable,
    refuse_secrets,
)
from socratic_rl.core import provenance
from socratic_rl.core.component import wandb_from_environment
from socratic_rl.core.errors import UserError, explain_full_disk, explain_memory, shell_command
from socratic_rl.core.files import LOCK
from socratic_rl.core.text import PlainRecord, plain, tell
from socratic_rl.models import processes
from socratic_rl.pages import console, sweep_jobs

OmegaConf.register_new_resolver(
    "parent_folder", lambda path: str(Path(str(path)).parent if path else "outputs"), replace=True
)
OmegaConf.register_new_resolver("shell_command", shell_command, replace=True)


COMMANDS = {
    "generate": "problems become conversations, conversations become preference pairs",
    "train": "train a base model on preference pairs with DPO",
    "evaluate": "compare a trained tutor with the base it came from",
    "chat": "talk to a tutor, in the terminal or on a page",
    "export": "write a tutor as a file for llama.cpp or as merged weights",
}


TEXT = {"evaluate": "prompt"}
"""Keys whose value on the command line is text as it stands, with its commas, quotes and brackets."""


TELLS_FIRST = 5.0
"""Seconds in which the launcher ends this process, where another one has told what went wrong."""


ONE_OF_SEVERAL = ("hydra.run.dir=.", "hydra.output_subdir=null", "hydra/job_logging=none")
"""Overrides by which a process beside the main one leaves Hydra's files to it."""


def main() -> None:
    """Run ``socratic-rl COMMAND …``, which does what ``python COMMAND.py …`` does in a clone."""
    command, *arguments = sys.argv[1:] or ["--help"]
    if command in ("-h", "--help"):
        tell("Usage: socratic-rl COMMAND [KEY=VALUE …]\n\nCommands:")
        tell("\n".join(f"  {name:10}{what}" for name, what in COMMANDS.items()))
        tell("\nThe keys of a command: socratic-rl COMMAND --help\nYour own configs: --config-dir FOLDER")
        return
    if command not in COMMANDS:
        _exit(f"{command}: there is no such command{did_you_mean(command, COMMANDS)}; they are {', '.join(COMMANDS)}")
    sys.argv[1:] = arguments

    @hydra.main(version_base="1.3", config_path=str(CONF), config_name=command)
    def start(cfg: DictConfig) -> float | None:
        return job(command, cfg)

    run(start, command, program=[sys.argv[0], command])


def job(command: str, cfg: DictConfig) -> float | None:
    """Run a job: check its config, then do what ``socratic_rl.commands.<command>`` says; returns the job's score.

    A single run's mistake ends the process at once, a multirun's is kept for its closing table.
    """
    # a launcher's job runs in a process that did not begin in `run`
    prepare()
    # hydra.job.chdir=true has moved it, and paths are those of where the command was started
    os.chdir(HydraConfig.get().runtime.cwd)
    try:
        if in_multirun() and (finished := _begin(cfg)):
            return finished.score
        from socratic_rl.commands import settings

        read_environment(cfg, HydraConfig.get().overrides.task)
        experiment = HydraConfig.get().runtime.choices.get("experiment")
        parsed = settings.parse(settings.of(command), cfg, experiment)
        # the heavy imports wait until the config is known to be right
        story = importlib.import_module(f"socratic_rl.commands.{command}")
        with _held(command, cfg):
            outcome: float | None = story.run(parsed, cfg)
        if OmegaConf.select(cfg, "estimate.only") and not in_multirun():
            _remove_if_bare(Path(HydraConfig.get().runtime.output_dir))
    except (UserError, OSError, OmegaConfBaseException) as error:
        if in_multirun():
            raise
        _remove_if_bare(Path(HydraConfig.get().runtime.output_dir))
        _exit(explain(error))
    except Exception as error:
        if advice := explain_full_disk(error) or explain_memory(error, command):
            if in_multirun():
                raise UserError(advice) from error
            _exit(advice)
        if processes.count() > 1:
            # perhaps no more than the echo of another process's end
            time.sleep(TELLS_FIRST)
        raise
    return outcome


def _held(command: str, cfg: DictConfig) -> AbstractContextManager[None]:
    """Keeps other commands out of the folder that this one writes into."""
    if command == "chat" or not processes.is_main() or (command == "evaluate" and cfg.prompt is not None):
        # several chats may share a file of votes
        return nullcontext()
    return provenance.hold(Path(cfg.output_dir) if command == "export" else job_folder(cfg))


def read_environment(cfg: DictConfig, overrides: Iterable[str]) -> None:
    """Put into a config what the environment says of W&B, but for what the command line's overrides say themselves."""
    if "wandb" in cfg:
        cfg.wandb.update(wandb_from_environment(overrides))


def _remove_if_bare(folder: Path) -> None:
    """Remove the folder of a job that made a mistake before it did anything; or the config that it wrote there alone.

    A folder that holds a config belongs to that config, and would refuse the command that puts the mistake right.
    """
    notes = folder / ".hydra"
    if not notes.is_dir():
        # Hydra leaves nothing here, such as where the folder is the one that the command runs in
        return
    tracked = folder / "wandb"
    others = [path for path in folder.iterdir() if path not in (notes, tracked, folder / LOCK)]
    configs = [path for path in others if path.name in CONFIGS]
    if any(not path.is_file() or path.stat().st_size for path in others if path not in configs):
        return
    if tracked.exists():
        for path in configs:
            path.unlink()
    else:
        shutil.rmtree(folder)


CONFIGS = ("train_config.json", "generate_config.json")
"""The files by which a folder is bound to a config."""


def run(main: Callable[[], Any], command: str, program: Sequence[str] = ()) -> None:
    """Run a Hydra entry point; a mistake ends in its lines on stderr and exit code 2, a bug in a traceback and 1.

    Args:
        main: The function that ``hydra.main`` made.
        command: ``train``, ``generate``, …: the name of its primary config.
        program: What starts this command again, without its overrides; the script that runs where it is left out.
    """
    try:
        _run(main, command, program or sys.argv[:1])
    finally:
        sweeps.let_go()


def _run(main: Callable[[], Any], command: str, program: Sequence[str]) -> None:
    text = TEXT.get(command)
    sys.argv[1:] = [as_text(argument) if argument.startswith(f"{text}=") else argument for argument in sys.argv[1:]]
    # Hydra then hands exceptions on instead of printing them
    os.environ.setdefault("HYDRA_FULL_ERROR", "1")
    prepare()
    if processes.count() > 1:
        _join(command)
    try:
        refuse_secrets(sys.argv[1:])
        sys.argv[1:] = sweeps.command_line(readable(sys.argv[1:]))
        try:
            main()
        finally:
            if ray := sys.modules.get("ray"):
                # it passes on what its jobs said with a delay, and the closing table comes last
                ray.shutdown()
    except (UserError, OSError, HydraException, OmegaConfBaseException, YAMLError) as error:
        _close_sweep()
        _exit(explain(error, command))
    except sweeps.RefusedError as error:
        _exit(str(error))
    except KeyboardInterrupt:
        _exit(f"stopped; {_how_to_go_on()}", 130)
    except Exception as error:
        if advice := explain_missing_extra(error):
            _exit(advice)
        if str(error).startswith("Unable to configure handler") and isinstance(error.__cause__, OSError):
            _exit(f"{error.__cause__.filename}: cannot be written; give another folder with output_dir=…")
        _close_sweep()
        if str(error) == "No trials are completed yet.":  # Optuna's last word where every job failed
            first = sweep_jobs.read_jobs(Path(sweeps.started.hydra.sweep.dir))[0] if sweeps.started else None
            _exit(f"every job failed, the first by {first.error if first else error}", 1)
        raise
    if failed := _close_sweep():
        # Optuna goes on past them
        _exit(f"{failed} job{'s' if failed > 1 else ''} failed", 1)
    sweeps.let_go()
    if code := pair_shards(program, sys.argv[1:]):
        sys.exit(code)


def _begin(cfg: DictConfig) -> sweep_jobs.Outcome | None:
    """Note that a job of a multirun begins; its result where it finished before the sweep was stopped."""
    hydra = HydraConfig.get()
    finished = sweeps.begin(job_folder(cfg), hydra.overrides.task, goes_on=cfg.get("sweep") is not None)
    if finished:
        tell(f"job {hydra.job.num} finished before; its result stands")
    return finished


def _close_sweep() -> int:
    """The table of the multirun that this process ran, if it ran one, and its page; how many jobs failed."""
    config = sweeps.started
    folder = Path(config.hydra.sweep.dir) if config else Path()
    jobs = sweep_jobs.read_jobs(folder) if config else []
    if config is None or not jobs:
        return 0
    console.print_closing_table(jobs)
    if any((job.folder / sweep_jobs.TRAINING_LOG).exists() for job in jobs):
        try:
            tell(f"page: {sweeps.leave(folder, jobs, config)}")
        except OSError as error:
            tell(f"no page: {explain(error)}")
    if any(job.status != "finished" for job in jobs):
        tell(f"not all jobs finished; {_how_to_go_on()}")
    return sum(job.status == "failed" for job in jobs)


def _how_to_go_on() -> str:
    config = sweeps.started
    if config and "sweep" in config:
        return f"go on with it by {shell_command(config.hydra.job.name, '-m', f'sweep={config.hydra.sweep.dir}')}"
    return "the same command goes on where it was"


def prepare() -> None:
    """Set what must be set before libraries load: what they need not say, and how their threads wait."""
    # Hydra copies its store of configs again for every group that --help lists, and changes no copy; CPU time of
    # `train.py --help` against a hello-world Hydra app: 3.9 times with the copies, 1.2 times without
    ConfigStore.__deepcopy__ = lambda store, _: store  # type: ignore[attr-defined]
    # what a log tells of a file or a server is text too
    logging.setLogRecordFactory(PlainRecord)
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


def _join(command: str) -> None:
    """Be one of several processes: what only one can do is refused, and the main one speaks for all."""
    if command != "train":
        _exit("only train.py runs in several processes; start this command by python, without a launcher")
    if {"-m", "--multirun", "hydra.mode=MULTIRUN"} & set(sys.argv):
        _exit(
            "-m: the processes of one launch train one job; leave the launcher out, or start it once for each choice"
            f" ({shell_command('train')} -m … hydra/launcher=submitit_slurm gives each job a machine of its own)"
        )
    if not processes.is_main():
        processes.keep_quiet()
        sys.argv += ONE_OF_SEVERAL


def _exit(message: str, code: int = 2) -> NoReturn:
    if not processes.is_main():
        # the main process mostly makes the same mistake; once it has told, the launcher ends this one
        time.sleep(TELLS_FIRST)
    sys.stdout.flush()
    for line in plain(message).split("\n"):
        tell(f"error: {line}", error=True)
    sys.exit(code)


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


def pair_shards(program: Sequence[str], arguments: Sequence[str]) -> int:
    """After a multirun of shards, make the pairs of their conversations in one more job; returns its exit code.

    Args:
        program: What starts the command again: a script, or the console command and its sub-command.
        arguments: Those of the multirun.
    """
    if sweeps.started is None or not any(sweep_jobs.key_of(text) == "shard" for text in arguments):
        return 0
    of_one_job = [text for text in arguments if text not in ("-m", "--multirun") and sweep_jobs.key_of(text) != "shard"]
    return subprocess.run([sys.executable, *program, *of_one_job], check=False).returncode  # noqa: S603


EXTRAS = {"hydra_submitit_launcher": "slurm", "hydra_ray_launcher": "ray", "hydra_optuna_sweeper": "optuna"}
"""Hydra's plugins, and the extra that brings each."""


def explain_missing_extra(error: Exception) -> str | None:
    """What to install where Hydra does not find the plugin of a config; None where that is not what is wrong."""
    plugin = re.fullmatch(r"Unknown plugin class : 'hydra_plugins\.(\w+)\..*'", str(error))
    if plugin is None or plugin[1] not in EXTRAS:
        return None
    kind = plugin[1].rpartition("_")[2]
    return f"hydra/{kind}: needs an extra that is not installed: pip install -e '.[{EXTRAS[plugin[1]]}]'"
