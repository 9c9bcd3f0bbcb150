"""Train a base model on preference pairs with DPO: ``python train.py --help``."""

import hydra
from omegaconf import DictConfig

from socratic_rl.commands import cli


@hydra.main(version_base="1.3", config_path="conf", config_name="train")
def main(cfg: DictConfig) -> float | None:
    """Train, score the held-out pairs and return that figure, so that a sweep can rank."""
    return cli.job("train", cfg)


if __name__ == "__main__":
    cli.run(main, "train")
