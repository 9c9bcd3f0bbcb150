"""Problems become conversations, conversations become preference pairs: ``python generate.py --help``."""

import subprocess
import sys

import hydra
from omegaconf import DictConfig

from socratic_rl import cli, sweeps


@hydra.main(version_base="1.3", config_path="conf", config_name="generate")
@cli.task
def main(cfg: DictConfig) -> None:
    """Check the config, then run the stages; each leaves a file, and goes on where a killed run stopped."""
    from socratic_rl.config import GenerateSettings, parse

    settings = parse(GenerateSettings, cfg)
    from socratic_rl import record, stages, tracking

    place = cli.job_place(cfg)
    folder = place["folder"]
    record.remember(folder / "generate_config.json", cfg)
    with tracking.track(settings.wandb, "generate", record.resolved(cfg), **place) as run:
        files = [folder / f"{stage}.jsonl" for stage in stages.STAGES[: stages.STAGES.index(settings.last_stage) + 1]]
        summary = stages.run(settings, folder)
        tracking.log_table(run, "replies", summary.samples)
        run.summary.update(summary.figures)
        tracking.log_artifact(run, tracking.artifact_name(settings.last_stage, files[-1:]), "dataset", files)
    cli.closing_table("Data set", summary.rows | {path.name: path for path in files})


def pair_shards(arguments: list[str]) -> int:
    """After a multirun of shards, make the pairs of their conversations in one more job; returns its exit code."""
    left = [each for each in arguments if each not in ("-m", "--multirun") and sweeps.key_of(each) != "shard"]
    if sweeps.started is None or not any(sweeps.key_of(each) == "shard" for each in arguments):
        return 0
    return subprocess.run([sys.executable, __file__, *left], check=False).returncode  # noqa: S603


if __name__ == "__main__":
    cli.run(main, "GenerateSettings")
    sys.exit(pair_shards(sys.argv[1:]))
