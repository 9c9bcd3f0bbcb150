"""Take a trained tutor home, as a file for llama.cpp or as merged weights: ``python export.py --help``."""

import hydra
from omegaconf import DictConfig

from socratic_rl.commands import cli


@hydra.main(version_base="1.3", config_path="conf", config_name="export")
def main(cfg: DictConfig) -> float | None:
    """Write the files, and hold what reads them against the tutor."""
    return cli.job("export", cfg)


if __name__ == "__main__":
    cli.run(main, "export")
