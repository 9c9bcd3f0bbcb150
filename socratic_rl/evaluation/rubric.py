"""The questions that a judge answers about a reply."""

from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, ValidationError

from socratic_rl.core.component import Component
from socratic_rl.core.errors import reason

RUBRICS = resources.files("socratic_rl.evaluation") / "rubrics"


class Criterion(Component):
    """A question about a reply."""

    question: str
    scores: Annotated[dict[str, Annotated[float, Field(ge=0, le=1)]], Field(min_length=2)]
    """The labels that answer it, each with its score."""
    better: Literal["more", "less"] = "more"
    """Whether a good reply has a high score."""
    people: str | None = None
    """What human-labelled rows call it; they use the same labels."""


class Rubric(Component):
    """The questions that a judge answers about every reply."""

    name: str
    criteria: Annotated[dict[Annotated[str, Field(pattern=r"^\w+$")], Criterion], Field(min_length=1)]

    @classmethod
    def read(cls, source: str) -> Self:
        """A rubric that comes with the project, by its name, or a YAML file.

        Raises:
            ValueError: There is none, or something in it is wrong.
        """
        import yaml  # type: ignore[import-untyped]

        try:
            # by this loader all values are text: a label may be yes, or 1, without quotation marks
            return cls.model_validate(yaml.load(rubric_file(source).read_text(encoding="utf-8"), yaml.BaseLoader))  # noqa: S506
        except OSError as error:
            raise ValueError(f"{source}: no such file, and no rubric that comes with the project") from error
        except ValidationError as error:
            raise ValueError(f"{source}: {reason(error)}") from error
        except yaml.YAMLError as error:
            raise ValueError(f"{source}: not YAML: {' '.join(str(error).split())}") from error


def rubric_file(rubric: str) -> Any:
    """The file of a rubric that comes with the project, or the path that was given."""
    shipped = RUBRICS / f"{rubric}.yaml"
    return shipped if shipped.is_file() else Path(rubric).expanduser()
