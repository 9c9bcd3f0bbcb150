"""Compare a trained tutor with the base it came from: ``python evaluate.py --help``."""

import hydra
from omegaconf import DictConfig

from socratic_rl.commands import cli


@hydra.main(version_base="1.3", config_path="conf", config_name="evaluate")
def main(cfg: DictConfig) -> float | None:
    """Compare, and write the figures, the replies and the report."""
    return cli.job("evaluate", cfg)


if __name__ == "__main__":
    cli.run(main, "evaluate")
