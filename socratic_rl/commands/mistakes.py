"""What is wrong with a command line that Hydra could not compose, every mistake in one line."""

import difflib
import errno
import re
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from hydra import compose, initialize_config_dir
from hydra._internal.utils import get_args_parser
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import ConfigCompositionException, HydraException, MissingConfigException, OverrideParseException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from socratic_rl.core.errors import UserError, missing_value, secret_in_url

THIRD_PARTY = {"dpo": "trl.DPOConfig", "lora": "peft.LoraConfig"}
"""Nodes that take any field of the class that they describe."""


FOR_SEED_ROWS = ("rejection", "generator")
"""Groups of train.py and evaluate.py that one data set brings with it."""


CONF = next(folder / "conf" for folder in Path(__file__).parents[1:3] if (folder / "conf").is_dir())
"""The configs: inside an installed package, at the top of a clone."""


def explain_composition(error: HydraException, name: str) -> str:
    """All mistakes of this process's command line, in its order; what Hydra said where it is about something else.

    Every override is composed alone to find the bad ones, those that alone are bad once more with the good ones, since
    some options bring groups of their own, then what the good ones give is checked as usual.

    Args:
        error: What Hydra raised.
        name: The primary config: ``train`` for ``train.yaml``.
    """
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        options, _ = get_args_parser().parse_known_args(sys.argv[1:])
        arguments = options.overrides
        # a folder of the user's own configs
        users = [f"hydra.searchpath=[{Path(options.config_dir).absolute()}]"] if options.config_dir else []
        # a lone one is what Hydra has just refused
        composed = {text: _compose(name, text, users) if arguments[1:] else ("", error) for text in arguments}
        good = [*users, *(override for override, mistake in composed.values() if mistake is None)]
        # options before the keys that they bring
        for text in sorted(arguments, key=lambda text: "." in text.partition("=")[0]):
            if good and composed[text][1] is not None:
                composed[text] = _compose(name, text, good)
                good += [composed[text][0]] if composed[text][1] is None else []
        config = (None if arguments[1:] else _composed(error)) or compose(name, overrides=good)
        lines = [_explain(text, mistake, name, config) for text, (_, mistake) in composed.items() if mistake]
        if not lines:
            return _first_line(error)
        try:
            # beside a lone mistake there is what is shipped, of which something is missing at most
            if arguments[1:] or OmegaConf.missing_keys(config):
                from socratic_rl.commands import settings

                settings.parse(getattr(settings, f"{name.capitalize()}Settings"), config)
        except UserError as more:
            lines += str(more).splitlines()
        except OmegaConfBaseException as more:
            # other keys are made from what is missing, so nothing more can be checked
            lines.append(missing_value(more) or _first_line(more))
    return "\n".join(lines)


def _compose(name: str, text: str, others: Sequence[str]) -> tuple[str, BaseException | None]:
    """An override as one that can be composed, and what is wrong with it beside some others."""
    override = ""
    try:
        override = _without_sweep(OverridesParser.create().parse_override(text))
        compose(name, overrides=[*others, override])
    except (HydraException, OmegaConfBaseException) as error:
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
    key, _, value = text.partition("=")
    if isinstance(error, OverrideParseException):
        return f"{text}: cannot be read as key=value; quote what holds spaces, commas or braces"
    if isinstance(error, MissingConfigException) and error.options is not None:
        options = ", ".join(error.options)
        return f"{key}: there is no option {value!r}{did_you_mean(value, error.options)}; the options are {options}"
    if (group := key.partition(".")[0]) in FOR_SEED_ROWS and group not in config:
        return f"{key}: is there only with dataset=seed_csv, whose empty bad answers it fills"
    if group == "web" and group not in config:
        return f"{key}: is there only with ui=web"
    if isinstance(error, ConfigCompositionException) and "Key '" in str(error.__cause__ or error):
        parent, _, last = key.rpartition(".")
        node = OmegaConf.select(config, parent) if parent else config
        keys = sorted(map(str, node.keys())) if isinstance(node, DictConfig) else []
        keys = [k for k in keys if not k.startswith("_")]
        key_list = f"; the keys of {parent or f'conf/{name}.yaml'} are {', '.join(keys)}" if keys else ""
        plus = f"; any other field of {THIRD_PARTY[parent]} is added by +{text}" if parent in THIRD_PARTY else ""
        return f"{key}: there is no such key{did_you_mean(last, keys) or key_list}{plus}"
    return f"{text}: {_first_line(error)}"


def did_you_mean(word: str, choices: Iterable[str]) -> str:
    """The choice that was probably meant, in brackets; nothing where none is close."""
    close = difflib.get_close_matches(word, list(choices), n=1)
    return f" (did you mean {close[0]!r}?)" if close else ""


def _first_line(error: BaseException) -> str:
    return (str(error.__cause__ or error) or repr(error)).strip().splitlines()[0]


def explain(error: BaseException, command: str = "") -> str:
    """What went wrong and what would be right, one line a mistake."""
    if isinstance(error, HydraException):
        return explain_composition(error, command)
    if missing := missing_value(error):
        return missing
    if isinstance(error, OSError):
        where = f"{error.filename}: " if error.filename else ""
        match error.errno:
            case errno.ENOSPC | errno.EDQUOT:
                return f"{where}no room left on the disk; what was finished is kept, and the same command goes on"
            case errno.EACCES | errno.EPERM | errno.EROFS:
                return f"{where}cannot be written; give another folder with output_dir=…"
            case errno.ENOTDIR | errno.EEXIST:
                return f"{where}is in the way of a folder; give another one with output_dir=…"
        return f"{where}{error.strerror or error}"
    return str(error).splitlines()[0] if isinstance(error, OmegaConfBaseException) else str(error)


def refuse_secrets(arguments: Iterable[str]) -> None:
    """Refuse a password in an address before anything is written down.

    Raises:
        UserError: There is one; names its key.
    """
    for text in arguments:
        key, _, url = text.partition("=")
        if key.endswith("base_url") and (mistake := secret_in_url(url)):
            raise UserError(f"{key.lstrip('+')}: {mistake}")


EXTRAS = {"hydra_submitit_launcher": "slurm", "hydra_ray_launcher": "ray", "hydra_optuna_sweeper": "optuna"}
"""Hydra's plugins, and the extra that brings each."""


def explain_missing_extra(error: Exception) -> str | None:
    """What to install where Hydra does not find the plugin of a config; None where that is not what is wrong."""
    plugin = re.fullmatch(r"Unknown plugin class : 'hydra_plugins\.(\w+)\..*'", str(error))
    if plugin is None or plugin[1] not in EXTRAS:
        return None
    kind = plugin[1].rpartition("_")[2]
    return f"hydra/{kind}: needs an extra that is not installed: pip install -e '.[{EXTRAS[plugin[1]]}]'"
