"""Schemas of our own keys, and one check that reports every mistake of a config at once."""

import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from omegaconf import DictConfig, OmegaConf
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    GetPydanticSchema,
    ValidationInfo,
    field_validator,
)
from typing_extensions import TypedDict

from socratic_rl.core.files import IS_POINTER, POINTER
from socratic_rl.core.provenance import MADE_FROM


def _no_truth_value(value: Any) -> Any:
    if isinstance(value, bool):
        raise ValueError(f"must be a number, not {str(value).lower()}")
    return value


Whole = Annotated[int, BeforeValidator(_no_truth_value)]
"""A whole number of a config; Python's ``True`` is none."""


Real = Annotated[float, Field(allow_inf_nan=False), BeforeValidator(_no_truth_value)]
"""A finite number of a config."""


Count = Annotated[Whole, Field(ge=1, le=10**9)]
"""How many of something there are at most."""


Tokens = Annotated[Whole, Field(ge=1, le=2**20)]
"""The most tokens of a text; no model is trained to write more at once."""


Seed = Annotated[Whole, Field(ge=0, le=2**31 - 1)]
"""What all that is drawn comes from; every library takes these."""


def tutor_folder(folder: str) -> str:
    """The folder, if it is one that ``train.py`` left.

    Raises:
        ValueError: It is missing or was not made by ``train.py``.
    """
    if not (Path(folder) / MADE_FROM).exists():
        what = f"no {MADE_FROM} in it" if Path(folder).is_dir() else "no such folder"
        what = "is a file, and a folder is needed" if Path(folder).is_file() else what
        raise ValueError(f"{folder}: {what}; train.py leaves one at <output_dir>/adapter")
    return folder


def gguf_file(path: str) -> str:
    """The path, if a GGUF file lies there.

    Raises:
        ValueError: It does not.
    """
    try:
        with Path(path).expanduser().open("rb") as file:
            magic = file.read(4)
    except OSError as error:
        raise ValueError(f"{path}: {(error.strerror or str(error)).lower()}; a GGUF file is needed") from error
    if magic == POINTER[:4]:
        raise ValueError(f"{path}: not a GGUF file: {IS_POINTER}")
    if magic != b"GGUF":
        raise ValueError(f"{path}: not a GGUF file (it begins with {magic!r})")
    return path


TutorFolder = Annotated[str, AfterValidator(tutor_folder)]
"""A folder that ``train.py`` left."""


GgufFile = Annotated[str, AfterValidator(gguf_file)]
"""The path of a GGUF file."""


@dataclass(frozen=True)
class MustExist:
    """Marks a path of a component that ``Component.mistakes`` looks for."""

    expands_home: bool = False
    """Whether ``~`` is the user's folder."""


ExistingFile = Annotated[str, MustExist()]
"""The path of a file that is looked for when a config is checked, not when the component is made."""


class Component(BaseModel):
    """What a user swaps by ``_target_``: immutable, its fields are the YAML keys, an unknown key is an error.

    Making one is cheap: weights and files are opened when they are first needed, so that a config can be checked whole.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)

    def mistakes(self) -> list[str]:
        """What can be told to be wrong without reading data or weights: ``key: what is wrong`` each."""
        mistakes = []
        for key, field in type(self).model_fields.items():
            # of an optional path the mark is in the union
            marks = [*field.metadata, *(mark for kind in get_args(field.annotation) for mark in _metadata(kind))]
            path = getattr(self, key)
            for mark in marks:
                if isinstance(mark, MustExist) and path:
                    file = Path(path).expanduser() if mark.expands_home else Path(path)
                    what = "is a folder; a file is needed" if file.is_dir() else "no such file"
                    mistakes += [] if file.is_file() else [f"{key}: {path}: {what}"]
        return mistakes


def _metadata(kind: Any) -> tuple[Any, ...]:
    return getattr(kind, "__metadata__", ())


WandbName = Annotated[str, Field(min_length=1, max_length=128)]
"""What W&B takes as the name of a run or a group."""


class WandbSettings(Component):
    """How a run is tracked in Weights & Biases."""

    mode: Literal["offline", "online", "disabled"]
    project: WandbName
    entity: str | None
    name: WandbName | None
    group: WandbName | None
    tags: tuple[Annotated[str, Field(min_length=1, max_length=64)], ...]

    @field_validator("project")
    @classmethod
    def _can_be_in_an_address(cls, project: str) -> str:
        if unfit := set("/\\#?%:") & set(project):
            raise ValueError(f"may not hold {' '.join(sorted(unfit))} (got {project!r})")
        return project


WANDB_VARIABLES = {
    "WANDB_MODE": "mode",
    "WANDB_PROJECT": "project",
    "WANDB_ENTITY": "entity",
    "WANDB_NAME": "name",
    "WANDB_RUN_GROUP": "group",
    "WANDB_TAGS": "tags",
}
"""Variables of the environment, and the key of the group ``wandb`` that each stands for."""


def wandb_from_environment(overrides: Iterable[str], environment: Mapping[str, str] = os.environ) -> dict[str, Any]:
    """Keys of the group ``wandb`` that the environment sets: it goes before presets, the command line before it.

    Args:
        overrides: The command line's, such as ``wandb=online`` or ``wandb.tags=[a]``.
        environment: Its variables; an empty one sets nothing.
    """
    chosen = {text.lstrip("+~").partition("=")[0] for text in overrides}
    values: dict[str, Any] = {}
    if environment.get("WANDB_DISABLED", "").lower() in ("1", "true", "yes", "on"):
        values["mode"] = "disabled"
    for variable, key in WANDB_VARIABLES.items():
        if text := environment.get(variable, ""):
            values[key] = [tag.strip() for tag in text.split(",") if tag.strip()] if key == "tags" else text
    # a preset that is chosen there, such as wandb=online, says the mode
    chosen |= {"wandb.mode"} & {f"{key}.mode" for key in chosen}
    return {key: value for key, value in values.items() if f"wandb.{key}" not in chosen}


class HubSettings(Component):
    """Whether and where a trained tutor goes on the Hugging Face hub; the token is the environment's."""

    push: bool
    private: bool
    repo_id: str | None

    @property
    def target(self) -> str | None:
        """The repository to push to; None where nothing is pushed."""
        return self.repo_id if self.push else None

    @field_validator("repo_id")
    @classmethod
    def _names_a_repository(cls, repo_id: str | None, info: ValidationInfo) -> str | None:
        if repo_id is None and info.data.get("push"):
            raise ValueError("is needed with hub.push=true: hub.repo_id=OWNER/NAME")
        if repo_id is not None and not re.fullmatch(r"[\w.-]+/[\w.-]{1,96}", repo_id, re.ASCII):
            raise ValueError(f"must be OWNER/NAME, of letters, digits, '-', '_' and '.' (got {repo_id!r})")
        return repo_id


UNITS = {"MB": 10**6, "GB": 10**9, "TB": 10**12, "MIB": 2**20, "GIB": 2**30, "TIB": 2**40}
"""Bytes."""


def bytes_of(size: str) -> int:
    """A size such as ``16GB`` or ``79.5 GiB`` in bytes.

    Raises:
        ValueError: It is none.
    """
    match = re.fullmatch(r"(\d+(?:\.\d+)?) *([MGT]I?B)", size.strip().upper(), re.ASCII)
    if match is None or not float(match[1]):
        raise ValueError(f"must be a size such as 16GB, in MB, GB, TB, MiB, GiB or TiB (got {size!r})")
    return int(float(match[1]) * UNITS[match[2]])


EMBEDDED = "embedded"
"""The value of ``model.pretrained`` that stands for the model that comes with the installation."""


def model_name(pretrained: str | None, preset: str, name: str) -> str:
    """What a model is called: as its preset calls it, or by its own name where it is another one.

    Args:
        pretrained: The model: a hub id, a folder, a .gguf file or ``embedded``.
        preset: The model of the preset.
        name: What the preset calls that.
    """
    if pretrained is None or str(pretrained) == preset:
        return name
    if pretrained == EMBEDDED:
        return "smollm2-135m"
    path = Path(str(pretrained)).expanduser()
    # a path such as `.` or `..` has no name of its own
    return path.stem if path.suffix == ".gguf" else path.name.strip(".") or path.resolve().name


class Quantization(TypedDict, total=False):
    """What is checked of transformers' settings of quantised weights; their other fields pass through."""

    __pydantic_config__ = ConfigDict(extra="allow")  # type: ignore[misc]

    llm_int8_threshold: Annotated[Real, Field(ge=0, le=10**6)]
    bits: Annotated[Whole, Field(ge=2, le=8)]


_Size = Annotated[Whole, Field(ge=1, le=10**8)]


class Shape(TypedDict, total=False):
    """The numbers of a model's shape, by keys of ``config.json``; what else it says passes through."""

    __pydantic_config__ = ConfigDict(extra="allow")  # type: ignore[misc]

    num_hidden_layers: _Size
    hidden_size: _Size
    intermediate_size: _Size
    num_attention_heads: _Size
    num_key_value_heads: _Size
    head_dim: _Size
    sliding_window: _Size
    vocab_size: _Size
    max_position_embeddings: _Size


def _like(form: type) -> GetPydanticSchema:
    """Checks a dict as a typed one."""
    return GetPydanticSchema(lambda _, handler: handler.generate_schema(form))


def _model_name(name: str, *, _parent_: DictConfig) -> str:
    """Of a ``model`` node: the preset's name for it, where it is still the preset's model."""
    # one that is missing is told as such
    pretrained = None if OmegaConf.is_missing(_parent_, "pretrained") else _parent_.pretrained
    return model_name(pretrained, _parent_.shape.of, name)


OmegaConf.register_new_resolver("model_name", _model_name, replace=True)


class ModelSettings(Component):
    """A base model."""

    name: str
    pretrained: str
    revision: str | None
    dtype: Literal["auto", "float32", "bfloat16", "float16"]
    attn_implementation: str
    quantization: Annotated[dict[str, Any], _like(Quantization)] | None = None
    """The node of transformers' settings; None for weights that are not quantised."""
    shape: Annotated[dict[str, Any], _like(Shape)] | None = Field(default=None, exclude=True, repr=False)
    """Of the preset's model, which ``of`` names: layers, widths, heads and words by the keys of ``config.json``."""
    template_kwargs: dict[str, Any] | None = Field(default=None, exclude_if=lambda arguments: arguments is None)
    """What the chat template takes beside messages, such as Qwen 3's ``enable_thinking``."""

    @field_validator("quantization")
    @classmethod
    def _has_its_extra(cls, node: dict[str, Any] | None, info: ValidationInfo) -> dict[str, Any] | None:
        if (info.context or {}).get("estimates"):
            # weights that are not read need nothing to read them
            return node
        packages = ("gptqmodel", "optimum")
        if node and node.get("_target_") == "transformers.GPTQConfig" and not all(map(find_spec, packages)):
            raise ValueError("a GPTQ checkpoint needs an extra that is not installed: pip install -e '.[gptq]'")
        return node


class WebSettings(Component):
    """Where a page is served."""

    host: Annotated[str, Field(min_length=1)]
    port: Annotated[Whole, Field(ge=0, le=65535)]
    open_browser: bool


class Backend(Component):
    """What computes the replies of base and tutor."""

    backend: Literal["transformers", "llama_cpp"]
    gguf: GgufFile | None
    base_gguf: GgufFile | None

    @field_validator("gguf", "base_gguf")
    @classmethod
    def _is_used(cls, path: str | None, info: ValidationInfo) -> str | None:
        if path is not None and info.data.get("backend") == "transformers":
            raise ValueError("is not read by transformers; backend=llama_cpp does so")
        return path
