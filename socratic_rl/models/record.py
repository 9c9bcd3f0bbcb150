"""What a tutor was made from: the record in its folder, ``socratic_rl.json``."""

from functools import partial
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from socratic_rl.core.component import ModelSettings
from socratic_rl.core.errors import UserError, reason
from socratic_rl.core.files import read_model
from socratic_rl.core.provenance import MADE_FROM
from socratic_rl.pairs.dataset import SocraticPairs

VERSION = 1


class _Dpo(BaseModel):
    """What is read of TRL's arguments again."""

    max_length: int
    beta: float | None = None
    learning_rate: float | None = None
    loss_type: str | list[str] | None = None
    lr_scheduler_type: str | None = None
    max_steps: int | None = None
    num_train_epochs: float | None = None
    per_device_train_batch_size: int | None = None
    gradient_accumulation_steps: int | None = None


class _Lora(BaseModel):
    """What is read of PEFT's settings again."""

    r: int | None = None
    lora_alpha: float | None = None
    lora_dropout: float | None = None
    target_modules: str | list[str] | None = None


def _read_as(kind: type[BaseModel], values: dict[str, Any]) -> dict[str, Any]:
    """The values as they are, if those that are read again are what they should be."""
    try:
        kind.model_validate(values)
    except ValidationError as error:
        raise ValueError(reason(error)) from error
    return values


class TrainedOn(BaseModel):
    """How much a tutor was trained on."""

    model_config = ConfigDict(frozen=True, populate_by_name=True)

    pairs: int
    problems: int
    rejected_by: str | None = Field(default=None, alias="rejected by")
    """How often each kind of rejection came."""


class Previous(BaseModel):
    """The tutor that another one was trained on top of."""

    model_config = ConfigDict(frozen=True)

    adapter: str
    sha256: str


class TutorRecord(BaseModel):
    """Which base, data and settings a tutor was made from; what has a default was not kept by every version."""

    model_config = ConfigDict(frozen=True)

    version: int = VERSION
    """Of the record's form; records without one are read as the first."""
    model: ModelSettings
    """The base."""
    dataset: SocraticPairs = SocraticPairs(path="")
    """The pairs."""
    data_source: dict[str, Any] | None = None
    """The settings of the data set that the pairs were made from."""
    dataset_artifact: str = ""
    dpo: Annotated[dict[str, Any], AfterValidator(partial(_read_as, _Dpo))]
    """The arguments of TRL, by its own names."""
    lora: Annotated[dict[str, Any], AfterValidator(partial(_read_as, _Lora))] | None = None
    """The settings of PEFT, by its own names; None where all weights were trained."""
    previous: Previous | None = None
    seed: int = 0
    trained_on: TrainedOn | None = None
    held_out: dict[str, float | int] = {}
    """What the held-out pairs gave, by TRL's names."""
    versions: dict[str, str] = {}
    """Of what shapes a result."""

    @classmethod
    def read(cls, folder: Path) -> Self:
        """The record of a tutor's folder.

        Raises:
            UserError: It is not one that ``train.py`` wrote.
        """
        try:
            return read_model(cls, folder / MADE_FROM)
        except UserError as error:
            raise UserError(f"adapter: {error}") from error

    @property
    def pairs_made_from(self) -> str:
        """The path of what the pairs were made from, the pairs' own where they were not made from anything."""
        return str((self.data_source or {}).get("path") or self.dataset.path)

    def to_record(self) -> dict[str, Any]:
        """The record as JSON values; what was not set is left out, the version is not."""
        values = self.model_dump(mode="json", by_alias=True)
        return {key: value for key, value in values.items() if key in {"version", *self.model_fields_set}}
