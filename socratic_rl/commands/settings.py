"""Schemas of our own keys, and one check that reports every mistake of a config at once."""

import functools
import re
from collections.abc import Iterable
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf
from pydantic import Field, ValidationError, ValidationInfo, field_validator

from socratic_rl.commands.mistakes import did_you_mean
from socratic_rl.core.component import (
    Backend,
    Component,
    Count,
    GgufFile,
    HubSettings,
    ModelSettings,
    Seed,
    TutorFolder,
    WandbSettings,
    WebSettings,
    Whole,
)
from socratic_rl.core.errors import UserError, in_short, reasons, shell_command
from socratic_rl.core.files import LOCK
from socratic_rl.core.generator import Sampling
from socratic_rl.core.provenance import copied_from
from socratic_rl.training.settings import UNREAD_BY_ESTIMATES, DpoSettings, EstimateSettings, LoraSettings


class Settings(Component):
    """What every entry point has."""

    seed: Seed
    output_dir: Annotated[str, Field(min_length=1)]
    wandb: WandbSettings


class GenerateSettings(Settings):
    """``conf/generate.yaml``."""

    splits: Count | None
    stop_after: Literal["problems", "conversations", "pairs"]
    problems: Any
    conversations: Any
    generator: Any
    rejection: Any
    pairs: Any
    csv: bool
    num_shards: Annotated[Whole, Field(ge=1, le=100_000)]
    shard: Annotated[Whole, Field(ge=0)] | None

    @field_validator("shard")
    @classmethod
    def _one_of_them(cls, shard: int | None, info: ValidationInfo) -> int | None:
        count = info.data.get("num_shards")
        if shard is not None and count is not None and shard >= count:
            raise ValueError(f"there are {count} shards (num_shards), counted from 0")
        return shard

    @property
    def last_stage(self) -> str:
        """Where this job ends: pairs look across all conversations, so no shard makes them."""
        return "conversations" if self.shard is not None and self.stop_after == "pairs" else self.stop_after


class TrainSettings(Settings):
    """``conf/train.yaml``."""

    checkpoint: str | None
    sweep: str | None
    adapter: TutorFolder | None
    model: Annotated[ModelSettings | None, Field(validate_default=True)] = None
    dataset: Any
    rejection: Any = None
    """Only where the data set has bad answers to fill, and so for the generator."""
    generator: Any = None
    dpo: DpoSettings
    lora: Annotated[LoraSettings | None, Field(validate_default=True)] = None
    forest: Literal["auto", True, False]
    estimate: EstimateSettings
    overwrite: bool
    samples: Annotated[Whole, Field(ge=0, le=10_000)]
    sampling: Sampling
    hub: HubSettings

    @field_validator("adapter")
    @classmethod
    def _keeps_the_tutor(cls, adapter: str | None, info: ValidationInfo) -> str | None:
        if adapter and Path(adapter).resolve() == (Path(info.data.get("output_dir", "")) / "adapter").resolve():
            raise ValueError(f"{adapter}: would be written over; give another output_dir")
        return adapter

    @field_validator("model")
    @classmethod
    def _one_to_train(cls, model: ModelSettings | None, info: ValidationInfo) -> ModelSettings | None:
        # a folder that is wrong is told by itself
        adapter = info.data.get("adapter", "")
        if model is None and adapter is None:
            raise ValueError("nothing to train: a base model, such as model=smollm2_135m, or adapter=FOLDER to go on")
        if model is not None and adapter:
            raise ValueError("an adapter brings its own base; leave this one out (model=null)")
        return model

    @field_validator("lora")
    @classmethod
    def _trains_what_can_be(cls, lora: LoraSettings | None, info: ValidationInfo) -> LoraSettings | None:
        model = info.data.get("model")
        if lora and info.data.get("adapter"):
            raise ValueError("the tutor is trained further as it is, its adapter if it has one: lora=none")
        if lora is None and model and model.quantization:
            raise ValueError(f"{model.name} is quantised, so only an adapter can be trained: lora=default")
        return lora


class EvaluateSettings(Settings, Backend):
    """``conf/evaluate.yaml``."""

    adapter: TutorFolder | None
    """None only where the suite asks no tutor anything."""
    suite: Any = None
    judge: Any = None
    prompt: Annotated[str, Field(min_length=1)] | None
    dataset: Any
    rejection: Any = None
    """Only where the data set has bad answers to fill, and so for the generator."""
    generator: Any = None
    split: Literal["train", "validation", "test"]
    limit: Count | None
    sampling: Sampling
    resamples: Annotated[Whole, Field(ge=100, le=10**6)]
    fixed: Annotated[str, Field(min_length=1)]
    sft: TutorFolder | None
    hub: HubSettings


class ChatSettings(Backend):
    """``conf/chat.yaml``."""

    ui: Literal["terminal", "web"]
    web: WebSettings | None = None
    """Only of the page."""

    adapter: TutorFolder | None
    model: Annotated[ModelSettings | None, Field(validate_default=True)] = None
    with_base: bool
    problems: Any = None
    sampling: Sampling
    seed: Seed
    output_dir: Annotated[str, Field(min_length=1)]

    @field_validator("ui")
    @classmethod
    def _has_its_extra(cls, ui: str) -> str:
        if ui == "web" and not find_spec("nicegui"):
            raise ValueError("the page needs an extra that is not installed: pip install -e '.[web]'")
        return ui

    @field_validator("model")
    @classmethod
    def _one_to_talk_to(cls, model: ModelSettings | None, info: ValidationInfo) -> ModelSettings | None:
        # a folder that is wrong is told by itself
        adapter = info.data.get("adapter", "")
        if model is None and adapter is None:
            raise ValueError("nobody to talk to: adapter=FOLDER, or a base model alone, such as model=smollm2_135m")
        if model is not None and adapter is not None:
            raise ValueError("an adapter brings its own base; leave one of the two out")
        return model

    @field_validator("with_base")
    @classmethod
    def _has_a_base(cls, with_base: bool, info: ValidationInfo) -> bool:
        if with_base and info.data.get("adapter", "") is None:
            raise ValueError("there is no tutor to put beside the base: adapter=FOLDER")
        if with_base and info.data.get("ui") == "web":
            raise ValueError("is of the terminal; on the page both reply anyway")
        return with_base


class ExportSettings(Component):
    """``conf/export.yaml``."""

    adapter: TutorFolder
    format: Literal["gguf", "merged_gguf", "merged"]
    dtype: Literal["auto", "float32", "float16", "bfloat16"]
    base_gguf: GgufFile | None
    check: bool
    check_turns: Annotated[Whole, Field(ge=1, le=10_000)]
    output_dir: Annotated[str, Field(min_length=1)]

    @field_validator("base_gguf")
    @classmethod
    def _is_read(cls, base_gguf: str | None, info: ValidationInfo) -> str | None:
        if base_gguf and info.data.get("format") == "merged":
            raise ValueError("format=merged has nothing to do with a GGUF file; leave it out")
        return base_gguf

    @field_validator("output_dir")
    @classmethod
    def _keeps_what_is_there(cls, output_dir: str, info: ValidationInfo) -> str:
        folder = Path(output_dir)
        if folder.resolve() == Path(info.data.get("adapter", "")).resolve():
            raise ValueError(f"{output_dir}: is the tutor's own folder; give another one")
        if (
            info.data.get("format") == "merged"
            and folder.is_dir()
            and any(path.name != LOCK for path in folder.iterdir())
        ):
            raise ValueError(f"{output_dir}: is not empty, and a model needs a folder of its own; give another one")
        return output_dir


S = TypeVar("S", bound=Component)


COMMANDS = ("generate", "train", "evaluate", "chat", "export")


def of(command: str) -> type[Component]:
    """The schema of a command."""
    return globals()[f"{command.capitalize()}Settings"]  # type: ignore[no-any-return]


def parse(schema: type[S], cfg: DictConfig, experiment: str | None = None) -> S:
    """The config as plain values, its components made.

    Args:
        schema: What the command has.
        cfg: Its config.
        experiment: The experiment that was chosen, if one was.

    Raises:
        UserError: One line for every mistake in it, ``key: what is wrong``.
    """
    values: dict[str, Any] = OmegaConf.to_container(cfg, resolve=True)  # type: ignore[assignment]
    estimates = OmegaConf.select(cfg, "estimate.only") is True
    if estimates:
        values |= dict.fromkeys(values.keys() & UNREAD_BY_ESTIMATES)
    missing = [str(key) for key in OmegaConf.missing_keys(cfg) if values[str(key).partition(".")[0]] is not None]
    mistakes = dict.fromkeys(sorted(missing), "is needed and not set")
    plain = {key: _bare(value) for key, value in values.items()}
    for key, field in schema.model_fields.items():
        if field.annotation is Any and isinstance(plain.get(key), dict) and not _is_component(values[key]):
            mistakes[key] = (
                f"has no class of ours in _target_ (got {values[key].get('_target_')!r}); {key}=… chooses one"
            )
    validate = functools.partial(schema.model_validate, context={"estimates": estimates})
    try:
        if _has_one_override():
            # the components then are as they are shipped, and to import them takes a while
            validate(plain)
        components = {key: _make(cfg[key], key, mistakes) for key, value in values.items() if _is_component(value)}
        settings = validate(plain | components)
    except ValidationError as error:
        mistakes = _worded(error, schema.model_fields, experiment) | mistakes
    if "experiment" in mistakes:
        # it has added keys to what the command does not have
        mistakes = {key: what for key, what in mistakes.items() if not what.startswith("has no class")}
    if mistakes:
        own_mistakes = {key: what for key, what in mistakes.items() if copied_from(cfg, key) not in mistakes}
        raise UserError("\n".join(f"{key}: {what}" for key, what in own_mistakes.items()))
    return settings


WORDS = {
    "extra_forbidden": "there is no such key",
    "missing": "is needed and not set",
    "list_type": "must be a list, such as [a, b]",
    "tuple_type": "must be a list, such as [a, b]",
    "string_type": "must be text",
    "model_type": "must hold keys with values",
}
"""What pydantic's kinds of mistakes are in a config."""


def _worded(error: ValidationError, fields: Iterable[str] = (), experiment: str | None = None) -> dict[str, str]:
    """The mistakes by dotted key; keys that an experiment for another command brings are one mistake."""
    mistakes, strangers = dict(reasons(error)), []
    for item in error.errors(include_url=False):
        key = ".".join(map(str, item["loc"]))
        if item["type"] in WORDS:
            has_value = item["type"] not in ("extra_forbidden", "missing")
            mistakes[key] = WORDS[item["type"]] + f" (got {in_short(repr(item['input']))})" * has_value
        if item["type"] == "extra_forbidden" and "." not in key:
            strangers.append(key)
            mistakes[key] += did_you_mean(key, fields)
    owners = [name for name in COMMANDS if not set(strangers) - set(of(name).model_fields)]
    if experiment and strangers and owners:
        mistakes = {key: what for key, what in mistakes.items() if key not in strangers}
        mistakes["experiment"] = f"{experiment} sets {', '.join(strangers)}: it is for {shell_command(owners[0])}"
    return mistakes


def _has_one_override() -> bool:
    """Whether the command line changes one key alone."""
    return HydraConfig.initialized() and len(HydraConfig.get().overrides.task) == 1


def _is_component(value: Any) -> bool:
    return isinstance(value, dict) and str(value.get("_target_", "")).startswith("socratic_rl.")


def _make(node: Any, key: str, mistakes: dict[str, str]) -> Any:
    """The component that a node describes; what is wrong with it goes into ``mistakes``."""
    from hydra.errors import InstantiationException
    from hydra.utils import instantiate

    if OmegaConf.missing_keys(node):
        return None
    try:
        component = instantiate(node, _convert_="all")
    except InstantiationException as error:
        invalid = _cause(error, ValidationError)
        if invalid is None:
            mistakes[key] = " ".join(str(error.__cause__ or error).splitlines()[:2])
        else:
            # Hydra names the node, which may be one inside, at the end of its message
            where = (re.findall(r"full_key: (\S+)$", str(error)) or [key])[0]
            messages = {f"{where}.{inner}".rstrip("."): what for inner, what in _worded(invalid).items()}
            mistakes.update({k: what for k, what in messages.items() if mistakes.get(k) is None})
        return None
    for mistake in component.mistakes() if hasattr(component, "mistakes") else ():
        inner, _, what = mistake.partition(": ")
        mistakes.setdefault(inner if inner.startswith(key) else f"{key}.{inner}", what)
    return component


def _cause(error: BaseException | None, kind: type[ValidationError]) -> ValidationError | None:
    while error is not None and not isinstance(error, kind):
        error = error.__cause__
    return error


def _bare(value: Any) -> Any:
    """Without Hydra's own keys; a node that holds nothing is None."""
    if not isinstance(value, dict):
        return value
    return {k: v for k, v in value.items() if not str(k).startswith("_")} or None
