"""Problems become conversations, conversations become preference pairs: ``python generate.py --help``."""

import hydra
from omegaconf import DictConfig

from socratic_rl.commands import cli


@hydra.main(version_base="1.3", config_path="conf", config_name="generate")
def main(cfg: DictConfig) -> float | None:
    """Run the stages; each leaves a file, and goes on where a killed run stopped."""
    return cli.job("generate", cfg)


if __name__ == "__main__":
    cli.run(main, "generate")
