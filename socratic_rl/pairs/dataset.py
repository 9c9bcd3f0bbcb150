"""Preference data sets that training and evaluation read."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NamedTuple

from pydantic import Field

from socratic_rl.core.component import Component
from socratic_rl.core.dialogue import PreferencePair, Problem
from socratic_rl.core.errors import UserError, shell_command
from socratic_rl.core.files import write_jsonl
from socratic_rl.core.records import read_records

if TYPE_CHECKING:
    from socratic_rl.core.generator import Generator
    from socratic_rl.pairs.cases import Rejection


class SocraticPairs(Component):
    """The pairs that ``generate.py`` left, with their problems beside them."""

    path: str
    problems: str | None = None
    limit: Annotated[int, Field(ge=1)] | None = None

    def mistakes(self) -> list[str]:
        """Paths that do not exist."""
        named = {"path": self.path} | ({"problems": self.problems} if self.problems else {})
        return [
            f"{key}: {path}: no such file; {shell_command('generate')} makes one"
            for key, path in named.items()
            if not Path(path).is_file()
        ]

    @property
    def file(self) -> Path:
        """The file that tells one version of the data from another."""
        return Path(self.path)

    def prepare(
        self,
        folder: Path,  # noqa: ARG002
        rejection: "Rejection | None",  # noqa: ARG002
        generator: "Generator | None",  # noqa: ARG002
        seed: int,  # noqa: ARG002
    ) -> "Prepared":
        """The same, since it is a file of pairs already."""
        return Prepared(self, {})

    def read(self) -> list[PreferencePair]:
        """All pairs, of the training split at most ``limit``: whole problems, in the order of the file.

        Raises:
            UserError: A record cannot be read; names the file and the line.
        """
        training = count(1)
        return [
            pair
            for pair in read_records(PreferencePair, self.path)
            if pair.split != "train" or self.limit is None or next(training) <= self.limit
        ]

    def read_problems(self) -> dict[str, Problem]:
        """The problems by id; none where the file does not lie beside the pairs."""
        path = Path(self.problems) if self.problems else Path(self.path).with_name("problems.jsonl")
        return {problem.id: problem for problem in read_records(Problem, path)} if path.exists() else {}


class Prepared(NamedTuple):
    """A data set as a file of pairs, which the adapter's record can name and ``evaluate.py`` can read."""

    dataset: SocraticPairs
    told: Mapping[str, object]
    """What the closing table says of how the file was made."""


class Flawed(NamedTuple):
    """A row of a data set in which something is wrong."""

    where: str
    """``file:line``, or ``data set[split]:row``."""
    why: str
    used: bool = False
    """Whether it was mended and is used; else it was left out."""


class UnusableError(Exception):
    """Why a row of a data set cannot be used."""


def own_file(folder: Path) -> Path:
    """Where a data set that has to be made puts its pairs.

    Raises:
        UserError: The folder is one that ``generate.py`` filled, whose pairs would be lost.
    """
    if (folder / "generate_config.json").exists():
        raise UserError(f"output_dir: {folder} holds the pairs of generate.py; give another folder")
    return folder / "pairs.jsonl"


def name_flawed(flawed: Sequence[Flawed], path: Path) -> dict[str, object]:
    """Name every flawed row in a file, and count them for the closing table: nothing where there is none."""
    path.unlink(missing_ok=True)
    if not flawed:
        return {}
    write_jsonl(path, (row._asdict() for row in flawed))
    told: dict[str, object] = {}
    for name, used in (("rows left out", False), ("rows mended", True)):
        reasons = Counter(row.why for row in flawed if row.used == used)
        if reasons:
            told[name] = f"{reasons.total()} ({', '.join(f'{why}: {n}' for why, n in reasons.most_common())})"
    return told | {"each is named in": path}


def counts(values: Iterable[str]) -> str:
    """``train 230, test 50``: how often each value comes, the most frequent first."""
    return ", ".join(f"{value} {count}" for value, count in Counter(values).most_common())
