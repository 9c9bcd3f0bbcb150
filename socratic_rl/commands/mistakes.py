"""What is wrong with a command line that Hydra could not compose, every mistake in one line."""

import difflib
import errno
import os
import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn

from hydra import compose
from hydra._internal.hydra import Hydra
from hydra._internal.utils import create_config_search_path, get_args_parser
from hydra.core.config_search_path import SearchPathQuery
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, Quote, QuotedString
from hydra.errors import ConfigCompositionException, HydraException, MissingConfigException, OverrideParseException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import MarkedYAMLError, YAMLError  # type: ignore[import-untyped]

from socratic_rl.core.errors import UserError, missing_value, secret_in_url

THIRD_PARTY = {"dpo": "trl.DPOConfig", "lora": "peft.LoraConfig"}
"""Nodes that take any field of the class that they describe."""


FOR_SEED_ROWS = ("rejection", "generator")
"""Groups of train.py and evaluate.py that one data set brings with it."""


CONF = next(folder / "conf" for folder in Path(__file__).parents[1:3] if (folder / "conf").is_dir())
"""The configs: inside an installed package, at the top of a clone."""


KEY = re.compile(r"(\+{1,2}|~)?[\w$-]+([./@:][\w$-]+)*")
"""The left side of an override."""


MULTIRUN = {"-m", "--multirun", "hydra.mode=MULTIRUN"}


def readable(arguments: Sequence[str]) -> list[str]:
    """The command line as Hydra reads it: options first, and values that are text as it stands in quotes.

    Raises:
        UserError: There is no such option, or a folder or file that one names.
        OverrideParseException: An argument is no ``key=value``.
    """
    parser = get_args_parser()
    parser.error = _refuse_option  # type: ignore[method-assign]
    options = parser.parse_intermixed_args(list(arguments))
    for name, folder in (("--config-dir", options.config_dir), ("--config-path", options.config_path)):
        if folder and not Path(folder).is_dir():
            raise UserError(f"{name}: {folder}: no such folder")
    flags, overrides = list(arguments), list(options.overrides)
    for text in overrides:
        flags.remove(text)
    for number, text in enumerate(overrides):
        if text.startswith("=") and number:
            parts = overrides[max(0, number - 1) : number + 1 + (text == "=")]
            raise UserError(f"{' '.join(parts)}: no spaces around the equals sign: {''.join(parts)}")
    several = bool(MULTIRUN.intersection(arguments))
    read = [_override(text, several, options.config_dir) for text in overrides]
    for number, text in enumerate(read):
        if text.startswith("hydra.sweeper.params={"):
            # Hydra would add these to the preset's, and take no key that the preset lacks
            read[number : number + 1] = ["~hydra.sweeper.params", f"+{text}"]
    return [*flags, *read]


def _refuse_option(message: str) -> NoReturn:
    _, is_unknown, unknown = message.partition("unrecognized arguments: ")
    if not is_unknown:
        raise UserError(message.removeprefix("argument "))
    option = unknown.split()[0]
    meant = f"; a key is given without dashes: {option.lstrip('-')}" if "=" in option else ""
    raise UserError(f"{option}: there is no such option{meant or '; --help and --hydra-help list them'}")


def _override(text: str, several: bool, config_dir: str | None) -> str:
    """An override whose value Hydra can read, or understands as it is meant."""
    key, equals, value = text.partition("=")
    folders = [folder / key.lstrip("~") for folder in (CONF, Path(config_dir or CONF))]
    is_group = any(folder.is_dir() for folder in folders)
    if is_group and ((text.startswith("~") and not equals) or value == "null"):
        # Hydra takes no null for a group
        none = any((folder / "none.yaml").is_file() for folder in folders)
        return f"{key.lstrip('~')}=none" if none else f"~{key.lstrip('~')}"
    if not equals or not KEY.fullmatch(key):
        return text
    try:
        override = OverridesParser.create().parse_override(text)
        meant = [] if override.is_sweep_override() else override.value()
    except (HydraException, ValueError):
        parts = value.split(",") if several and not Path(value).exists() else [value]
        return f"{key}={','.join(map(quoted, parts))}"
    if is_group and not isinstance(meant, str | list | dict):
        return f"{key}={quoted(value)}"
    # a path may hold what Hydra reads as a list, a sweep, a number or an escape
    return f"{key}={quoted(value)}" if meant != value and _exists(value) else text


def _exists(path: str) -> bool:
    try:
        return Path(path).exists() and path not in ("", ".")
    except (OSError, ValueError):
        return False


def quoted(value: str) -> str:
    """A value that Hydra takes as it stands, whatever is in it."""
    # ${ would be read as an interpolation
    escaped = re.sub(r"(\\*)\$\{", lambda match: match[1] * 2 + r"\${", value)
    return QuotedString(escaped, Quote.single).with_quotes()


def as_text(override: str) -> str:
    """An override whose value Hydra takes as it stands; one that is quoted already, and ``null``, stay as they are."""
    key, _, value = override.partition("=")
    if value == "null" or (len(value) > 1 and value[0] == value[-1] and value[0] in "'\""):
        return override
    return f"{key}={quoted(value)}"


def explain_composition(error: BaseException, command: str) -> str:
    """All mistakes of this process's command line, in its order; what Hydra said where it is about something else.

    Every override is composed alone to find the bad ones, those that alone are bad once more with the good ones, since
    some options bring groups of their own, then what the good ones give is checked as usual.

    Args:
        error: What Hydra raised.
        command: ``train``, ``generate``, …
    """
    GlobalHydra.instance().clear()
    options, _ = get_args_parser().parse_known_args(sys.argv[1:])
    name, folder = options.config_name or command, Path(options.config_path or CONF).absolute()
    with _configs(folder, options.config_dir):
        arguments = options.overrides
        users = [text for text in arguments if text.startswith("hydra.searchpath=")]
        if shipped := _compose(name, "", users)[1]:
            return f"--config-name: {name}: {_first_line(shipped)}"
        # a lone one is what Hydra has just refused
        alone = not arguments[1:] and not _sweep_without_flag("".join(arguments))
        composed = {text: ("", error) if alone else _compose(name, text, users) for text in arguments}
        good = [*users, *(override for override, mistake in composed.values() if mistake is None)]
        # options before the keys that they bring
        for text in sorted(arguments, key=lambda text: "." in text.partition("=")[0]):
            if good and composed[text][1] is not None:
                composed[text] = _compose(name, text, good)
                good += [composed[text][0]] if composed[text][1] is None else []
        config = (_composed(error) if alone else None) or _config(name, good)
        lines = []
        for text, (_, mistake) in composed.items():
            if line := _sweep_without_flag(text) or (mistake and _explain(text, mistake, name, config)):
                lines.append(line)
        if not lines:
            return _first_line(error)
        try:
            # beside a lone mistake there is what is shipped, of which something is missing at most
            if not alone or OmegaConf.missing_keys(config):
                from socratic_rl.commands import settings

                experiment = next((text for text in arguments if text.startswith("experiment=")), "").partition("=")[2]
                settings.parse(settings.of(command), config, experiment)
        except UserError as more:
            # a sweep is checked by its first value, and one line on it, and what follows from it, is enough
            keys = "|".join(re.escape(line.partition(":")[0]) for line in lines)
            lines += [line for line in str(more).splitlines() if not re.search(rf"(?<![\w.])({keys})(?![\w.])", line)]
        except OmegaConfBaseException as more:
            # other keys are made from what is missing, so nothing more can be checked
            lines.append(missing_value(more) or explain(more))
    return "\n".join(lines)


@contextmanager
def _configs(folder: Path, users: str | None) -> Iterator[None]:
    """Lets ``compose`` find the configs of a folder, and those of the user's own."""
    path = create_config_search_path(str(folder))
    if users:
        path.prepend("command-line", str(Path(users).absolute()), SearchPathQuery(provider="schema"))
    Hydra.create_main_hydra2("mistakes", path)
    try:
        yield
    finally:
        GlobalHydra.instance().clear()


def _config(name: str, overrides: Sequence[str]) -> DictConfig:
    """What the overrides compose; without them where Hydra still refuses, since they are told by themselves."""
    try:
        return compose(name, overrides=list(overrides))
    except (HydraException, OmegaConfBaseException):
        return compose(name)


def _sweep_without_flag(text: str) -> str | None:
    try:
        override = OverridesParser.create().parse_override(text)
    except HydraException:
        return None
    if not override.is_sweep_override() or MULTIRUN.intersection(sys.argv[1:]):
        return None
    key, _, value = text.partition("=")
    return f"{key}: {value}: several values are a sweep, which needs -m; one that has commas is quoted: \"{key}='…'\""


def _compose(name: str, text: str, others: Sequence[str]) -> tuple[str, BaseException | None]:
    """An override as one that can be composed, and what is wrong with it beside some others."""
    override = ""
    try:
        override = _without_sweep(OverridesParser.create().parse_override(text)) if text else ""
        compose(name, overrides=[*others, *([override] if override else [])])
    except (HydraException, OmegaConfBaseException, YAMLError, ValueError) as error:
        return override, error
    return override, None


def _composed(error: BaseException) -> DictConfig | None:
    """The config in which Hydra did not find a key; None where it did not come so far."""
    node = getattr(error.__cause__, "parent_node", None)
    if node is None:
        return None
    config: DictConfig = node._get_root()
    OmegaConf.set_struct(config, False)
    config.pop("hydra", None)
    return config


def _without_sweep(override: Override) -> str:
    """A sweep over values as its first value, since each job is composed by itself."""
    if not override.is_sweep_override():
        return override.input_line or ""
    first = next(iter(override.sweep_string_iterator()))
    return f"{override.get_key_element()}={first}"


def _explain(text: str, error: BaseException, name: str, config: DictConfig) -> str:
    key, equals, value = text.partition("=")
    bare = key.lstrip("+~")
    if isinstance(error, YAMLError):
        return explain(error)
    if not equals and not key.startswith("~"):
        return f"{text}: is no key=value; {text}=… gives it a value"
    if isinstance(error, OverrideParseException) or not KEY.fullmatch(key):
        return f"{text}: cannot be read as key=value; quote what holds spaces, commas or braces"
    if isinstance(error, MissingConfigException) and error.options is not None:
        options = ", ".join(error.options)
        file = str(error.missing_cfg_file)
        group, _, option = file.rpartition("/")
        if group.split("/")[0] != bare.partition("@")[0].split("/")[0]:
            # the option that was chosen names another one
            return f"{text}: {group or file}: there is no option {option!r}; the options are {options}"
        return f"{key}: there is no option {option!r}{did_you_mean(option, error.options)}; the options are {options}"
    if (group := bare.partition(".")[0]) in FOR_SEED_ROWS and group not in config:
        return f"{key}: is there only with dataset=seed_csv, whose empty bad answers it fills"
    if group == "web" and group not in config:
        return f"{key}: is there only with ui=web"
    reason = str(error.__cause__ or error)
    if "An item is already at" in reason or "Multiple values for" in reason:
        return f"{key}: is there already; leave the plus out: {bare}={value}"
    if key.startswith("~") or (isinstance(error, ConfigCompositionException) and "Key '" in reason):
        return _explain_unknown(bare, text, name, config)
    return f"{bare}: {_first_line(error)}"


def _explain_unknown(key: str, text: str, name: str, config: DictConfig) -> str:
    """That there is no such key, and which one may have been meant."""
    parent, _, last = key.rpartition(".")
    node = OmegaConf.select(config, parent) if parent and not key.startswith("hydra") else config
    keys = sorted(map(str, node.keys())) if isinstance(node, DictConfig) else []
    keys = [k for k in keys if not k.startswith("_") and not key.startswith("hydra")]
    meant = did_you_mean(last, keys) if keys else did_you_mean(key, dotted_keys(config))
    key_list = f"; the keys of {parent or f'conf/{name}.yaml'} are {', '.join(keys)}" if keys else ""
    plus = f"; any other field of {THIRD_PARTY[parent]} is added by +{text}" if parent in THIRD_PARTY else ""
    return f"{key}: there is no such key{meant or key_list}{plus}"


def dotted_keys(node: DictConfig, prefix: str = "") -> list[str]:
    """Every key of a config, those inside of nodes with dots."""
    keys = []
    for key in map(str, node):
        keys.append(prefix + key)
        if isinstance(inner := node._get_node(key), DictConfig) and not inner._is_none() and not inner._is_missing():
            keys += dotted_keys(inner, f"{prefix}{key}.")
    return [key for key in keys if not key.rpartition(".")[2].startswith("_")]


def did_you_mean(word: str, choices: Iterable[str]) -> str:
    """The choice that was probably meant, in brackets; nothing where none is close."""
    names = {name.lower(): name for name in choices}
    close = difflib.get_close_matches(word.lower(), names, n=1)
    return f" (did you mean {names[close[0]]!r}?)" if close else ""


def _first_line(error: BaseException) -> str:
    return (str(error.__cause__ or error) or repr(error)).strip().splitlines()[0]


def explain(error: BaseException, command: str = "") -> str:
    """What went wrong and what would be right, one line a mistake."""
    if isinstance(error, HydraException):
        return explain_composition(error, command)
    if missing := missing_value(error):
        return missing
    if isinstance(error, OSError):
        return _explain_system(error)
    if isinstance(error, OmegaConfBaseException):
        if copied := re.search(r"interpolation '\$\{([\w.]+)\}': Incompatible value '(.*)' for field", str(error)):
            return f"{copied[1]}: must be text (got {copied[2]})"
        key = getattr(error, "full_key", None)
        return f"{key}: {_first_line(error)}" if key else _first_line(error)
    if isinstance(error, MarkedYAMLError):
        mark = error.problem_mark
        where = f"{mark.name}:{mark.line + 1}: " if mark else ""
        return f"{where}cannot be read as YAML: {error.problem or error.context}"
    return str(error)


def _explain_system(error: OSError) -> str:
    where = f"{error.filename}: " if error.filename else ""
    match error.errno:
        case errno.ENOSPC | errno.EDQUOT:
            return f"{where}no room left on the disk; what was finished is kept, and the same command goes on"
        case errno.EACCES | errno.EPERM | errno.EROFS:
            path = Path(os.fsdecode(error.filename)) if isinstance(error.filename, str | bytes) else Path()
            if error.filename and path.is_file() and not os.access(path, os.R_OK):
                return f"{where}cannot be read: {error.strerror}; change its permissions, or give another file"
            return f"{where}cannot be written; give another folder with output_dir=…"
        case errno.ENOTDIR | errno.EEXIST:
            return f"{where}is in the way of a folder; give another one with output_dir=…"
        case errno.EISDIR:
            return f"{where}is a folder; a file is needed"
    return f"{where}{error.strerror or error}"


def refuse_secrets(arguments: Iterable[str]) -> None:
    """Refuse a password in an address before anything is written down.

    Raises:
        UserError: There is one; names its key.
    """
    for text in arguments:
        key, _, url = text.partition("=")
        if key.endswith("base_url") and (mistake := secret_in_url(url)):
            raise UserError(f"{key.lstrip('+')}: {mistake}")
