"""Preference data sets that training reads."""

from pathlib import Path
from typing import Annotated

from pydantic import Field

from socratic_rl.config import Component
from socratic_rl.dialogue import PreferencePair, Problem
from socratic_rl.storage import read_records


class SocraticPairs(Component):
    """The pairs that ``generate.py`` left, with their problems beside them."""

    path: str
    problems: str | None = None
    limit: Annotated[int, Field(ge=1)] | None = None

    def mistakes(self) -> list[str]:
        """Paths that do not exist."""
        named = {"path": self.path} | ({"problems": self.problems} if self.problems else {})
        return [
            f"{key}: {path}: no such file; python generate.py makes one"
            for key, path in named.items()
            if not Path(path).is_file()
        ]

    @property
    def file(self) -> Path:
        """The file that tells one version of the data from another."""
        return Path(self.path)

    def read(self) -> list[PreferencePair]:
        """All pairs, of the training split at most ``limit``: whole problems, in the order of the file.

        Raises:
            UserError: A record cannot be read; names the file and the line.
        """
        pairs = list(read_records(PreferencePair, self.path))
        if self.limit is None:
            return pairs
        train = [pair for pair in pairs if pair.split == "train"]
        return train[: self.limit] + [pair for pair in pairs if pair.split != "train"]

    def read_problems(self) -> dict[str, Problem]:
        """The problems by id; none where the file does not lie beside the pairs."""
        path = Path(self.problems) if self.problems else Path(self.path).with_name("problems.jsonl")
        return {problem.id: problem for problem in read_records(Problem, path)} if path.exists() else {}
