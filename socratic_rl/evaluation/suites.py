"""What ``evaluate.py`` asks of every suite: what it is run with, and what it gives back."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, Protocol

from socratic_rl.core.files import write_json, write_jsonl
from socratic_rl.core.generator import Sampling
from socratic_rl.measures.figures import Figure
from socratic_rl.pages import console

if TYPE_CHECKING:
    from socratic_rl.core.dialogue import PreferencePair
    from socratic_rl.evaluation.judge import Judge
    from socratic_rl.generators.tutors import TutorGenerator
    from socratic_rl.models.tutor import Tutor
    from socratic_rl.pairs.dataset import SocraticPairs


class Repliers(NamedTuple):
    """Who replies to the held-out turns."""

    generators: "Mapping[str, TutorGenerator]"
    """``base`` and ``tutor``."""
    facts: Mapping[str, str]
    """What the report says of them."""
    no_rounds: str | None = None
    """Why earlier rounds cannot reply; None where they can."""


@dataclass(frozen=True)
class Options:
    """What a suite is run with, beside the tutor."""

    folder: Path
    """Where the files go."""
    adapter: str
    """The tutor's folder as it was given."""
    sampling: Sampling
    seed: int
    """Of the sampling and of the bootstrap."""
    resamples: int
    """Of the bootstrap."""
    split: str
    limit: int | None
    """The first so many pairs; None is all."""
    judge: "Judge | None"
    repliers: Callable[[], Repliers]
    other_dataset: "Callable[[Path], SocraticPairs] | None"
    """Makes another data set's pairs in a folder; None where the tutor's own is evaluated on."""
    fixed: str
    """The sentence of the speaker who always says the same."""
    sft: str | None
    """The folder of a tutor trained by SFT alone, as one more speaker."""
    begin: Callable[[], None]
    """Called once the input is known to be right, before models are loaded."""

    def held_out(self, tutor: "Tutor") -> "tuple[SocraticPairs, list[PreferencePair]]":
        """The data set to evaluate on, the tutor's or another one, and its pairs of the split."""
        dataset = self.other_dataset(self.folder / "evaluated_on") if self.other_dataset else tutor.dataset
        return dataset, [pair for pair in dataset.read() if pair.split == self.split]


class File(NamedTuple):
    """A file that a suite leaves."""

    name: str
    """Its path in the folder."""
    content: Mapping[str, Any] | Sequence[Mapping[str, Any]] | None
    """Rows where the name ends in ``.jsonl``; None for the report, which is made from the other files."""


class Conditions(NamedTuple):
    """How figures came about that the model card shows."""

    on: str
    """How many pairs, turns and problems of what."""
    sampling: str
    """How replies were drawn."""
    judge: str
    """Whose scores are among the figures; empty where no judge was asked."""


@dataclass(frozen=True)
class Result:
    """What a suite found."""

    title: str
    """Of the closing table."""
    files: Mapping[str, File]
    """By what the closing table calls them."""
    show: Callable[[], None]
    """Prints the figures."""
    closing: Mapping[str, object]
    """The first rows of the closing table."""
    figures: Sequence[Figure] = ()
    score: float | None = None
    """What a sweep ranks by."""
    name: str = ""
    """Stands before the figures in a run's summary."""
    conditions: Conditions | None = None
    """Of the comparison on held-out turns, which the model card shows too; None for any other suite."""

    def write(self, folder: Path) -> dict[str, Path]:
        """Write the files; returns where each lies, by what the closing table calls it."""
        paths = {label: folder / file.name for label, file in self.files.items()}
        for path, (name, content) in zip(paths.values(), self.files.values(), strict=True):
            if content is None:
                continue
            if name.endswith(".jsonl"):
                write_jsonl(path, content)  # type: ignore[arg-type]
                # where a judge's answers were kept as they came
                path.with_name(f"{path.name}.partial").unlink(missing_ok=True)
            else:
                write_json(path, content)
        return paths


class Suite(Protocol):
    """One way to evaluate."""

    asks_tutor: ClassVar[bool]
    """Whether it needs a tutor."""

    def run(self, tutor: Any, options: Options) -> Result:
        """Evaluate; the files are written by the caller.

        Args:
            tutor: A ``Tutor``; None where the suite asks none.
            options: What else it is run with.

        Raises:
            UserError: Something in the input is wrong.
        """
        ...


def suite_result(
    name: str,
    title: str,
    figures: Sequence[Figure],
    facts: Mapping[str, object],
    closing: Mapping[str, object],
    *,
    score: float | None,
    dialogues: Sequence[Mapping[str, Any]] | None = None,
) -> Result:
    """The result of a suite whose figures go into ``suites/<name>.json``.

    Args:
        name: The suite's.
        title: Of the table of figures.
        figures: Base against tutor.
        facts: What the file and the report say of them.
        closing: The first rows of the closing table.
        score: What a sweep ranks by.
        dialogues: The rows of ``suites/<name>.jsonl``; None leaves no such file.
    """
    content = {"name": name, "metrics": [figure.to_record() for figure in figures], "facts": facts}
    files = {"figures": File(f"suites/{name}.json", content)}
    if dialogues is not None:
        files["dialogues"] = File(f"suites/{name}.jsonl", dialogues)
    show = partial(console.metrics_table, title, figures)
    return Result("Suite", files, show, closing, figures, score, f"{name}/")
