"""Talk to a trained tutor, in the terminal or on a page: ``python chat.py --help``."""

import hydra
from omegaconf import DictConfig

from socratic_rl.commands import cli


@hydra.main(version_base="1.3", config_path="conf", config_name="chat")
def main(cfg: DictConfig) -> float | None:
    """Load who is talked to, and answer until the person leaves."""
    return cli.job("chat", cfg)


if __name__ == "__main__":
    cli.run(main, "chat")
