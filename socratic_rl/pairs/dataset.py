"""Preference data sets that training and evaluation read."""

from abc import abstractmethod
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from socratic_rl.core.component import Component, Count, ExistingFile
from socratic_rl.core.dialogue import PreferencePair, Problem
from socratic_rl.core.errors import UserError, shell_command
from socratic_rl.core.files import read_json, write_json, write_jsonl
from socratic_rl.core.records import read_records

if TYPE_CHECKING:
    from socratic_rl.core.generator import Generator
    from socratic_rl.pairs.cases import Rejection


class Prepared(NamedTuple):
    """A data set as a file of pairs, which the adapter's record can name and ``evaluate.py`` can read."""

    dataset: "SocraticPairs"
    facts: Mapping[str, object]
    """What the closing table says of how the file was made."""


class DataSet(Component):
    """What pairs are read or made from."""

    @abstractmethod
    def prepare(self, folder: Path, rejection: Any, generator: "Generator | None", seed: int) -> Prepared:
        """Its pairs in a file.

        A run that was killed goes on where it was; pairs that were made from something else are made anew.

        Args:
            folder: Where the file goes.
            rejection: A ``Rejection`` that gives the rejected replies that are missing; None where none can be.
            generator: What writes text, where the rejection needs it.
            seed: Everything that is drawn comes from it.

        Raises:
            UserError: The data cannot be read, or no pair comes out.
        """


def share_mistakes(validation: float, test: float) -> list[str]:
    """What is wrong with the shares held back, if they leave nothing to train on."""
    total = validation + test
    return [f"test: with validation {total:g} together; must be less than 1"] if total >= 1 else []


def go_on_from(folder: Path, made_from: Mapping[str, object], unfinished: str) -> None:
    """Keep the pairs that an earlier run began in a folder only where they were made from the same.

    Args:
        folder: Where the pairs go.
        made_from: Everything that they depend on; written to ``pairs_made_from.json``.
        unfinished: Which files hold the unfinished work, as a pattern.
    """
    recipe = folder / "pairs_made_from.json"
    if not recipe.exists() or read_json(recipe) != made_from:
        for old in (recipe, folder / "pairs.jsonl", *folder.glob(unfinished)):
            old.unlink(missing_ok=True)
        write_json(recipe, made_from)


class SocraticPairs(DataSet):
    """The pairs that ``generate.py`` left, with their problems beside them."""

    path: ExistingFile
    problems: ExistingFile | None = None
    limit: Count | None = None

    def mistakes(self) -> list[str]:
        """Paths that do not exist."""
        return [f"{mistake}; {self._made_by()}" for mistake in super().mistakes()]

    def _made_by(self) -> str:
        return f"{shell_command('generate')} makes one"

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
    ) -> Prepared:
        """The same, since it is a file of pairs already."""
        return Prepared(self, {})

    def read(self) -> list[PreferencePair]:
        """All pairs in the order of the file, of the training split the first ``limit``.

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
    facts: dict[str, object] = {}
    for name, used in (("rows left out", False), ("rows mended", True)):
        reasons = Counter(row.why for row in flawed if row.used == used)
        if reasons:
            facts[name] = f"{reasons.total()} ({', '.join(f'{why}: {n}' for why, n in reasons.most_common())})"
    return facts | {"each is named in": path}


def counts(values: Iterable[str]) -> str:
    """``train 230, test 50``: how often each value comes, the most frequent first."""
    return ", ".join(f"{value} {count}" for value, count in Counter(values).most_common())


def told_counts(reasons: Counter[str], total: int) -> str:
    """``3 of 9 (does not ask 2, duplicate 1)``: how many of so many, and how often for which reason."""
    some = counts(reasons.elements())
    return f"{reasons.total()} of {total}" + (f" ({some})" if some else "")
