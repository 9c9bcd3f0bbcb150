"""Every config key that a message names is one that a config has."""

import ast
import re
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import yaml
from peft import LoraConfig
from trl import DPOConfig

from socratic_rl.core.provenance import RETIRED

ROOT = Path(__file__).parents[2]
CONF = ROOT / "conf"


def dotted(value: Any, prefix: str) -> Iterator[str]:
    """The keys of a mapping and of those in it, below a prefix."""
    for key, item in value.items() if isinstance(value, dict) else ():
        if key != "defaults":
            yield f"{prefix}{key}"
            yield from dotted(item, f"{prefix}{key}.")


def keys_of(file: Path, prefix: str) -> Iterator[str]:
    """The keys that an option file has, with those of what it is made of."""
    text = file.read_text()
    content = yaml.safe_load(text) or {}
    if "@package _global_" in text:
        prefix = ""
    yield from dotted(content, prefix)
    for entry in content.get("defaults", ()):
        name, option = next(iter(entry.items())) if isinstance(entry, dict) else (entry, None)
        group, _, package = name.removeprefix("override ").partition("@")
        if package == "_here_":
            yield from keys_of(CONF / group.strip("/") / f"{option}.yaml", prefix)
        elif package.startswith("_global_"):
            yield package.removeprefix("_global_.")
        elif package:
            yield f"{prefix}{package}"
        elif option is None and name != "_self_" and prefix:
            yield from keys_of(file.with_name(f"{name}.yaml"), prefix)


GROUPS = {str(folder.relative_to(CONF)) for folder in CONF.rglob("*") if folder.is_dir()}


def every_key() -> set[str]:
    keys = set(GROUPS) | set(RETIRED)
    for file in CONF.rglob("*.yaml"):
        group = str(file.parent.relative_to(CONF))
        keys |= set(keys_of(file, "" if group == "." else f"{group}."))
    # what TRL and PEFT have beside is given with a plus
    keys |= {f"dpo.{field.name}" for field in fields(DPOConfig)} | {
        f"lora.{field.name}" for field in fields(LoraConfig)
    }
    return keys


KEYS = every_key()
FIRST = {key.partition(".")[0] for key in KEYS if "." in key}


def shown(part: ast.expr) -> str:
    """A part of an f-string: its text, ``{}`` for the group that a component stands under, else a mark."""
    if isinstance(part, ast.Constant):
        return str(part.value)
    return "{}" if "self.key" in ast.unparse(part) else "…"


def messages() -> Iterator[tuple[str, str]]:
    """The strings of the package that are no docstrings, with where each stands."""
    for file in sorted((ROOT / "socratic_rl").rglob("*.py")):
        tree = ast.parse(file.read_text())
        passed: set[int] = set()
        for node in ast.walk(tree):
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and ast.get_docstring(node, clean=False):
                passed.add(id(node.body[0].value))  # type: ignore[attr-defined]
        for node in ast.walk(tree):
            if isinstance(node, ast.JoinedStr):
                passed |= set(map(id, node.values))
                text = "".join(map(shown, node.values))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in passed:
                text = node.value
            else:
                continue
            yield f"{file.relative_to(ROOT)}:{node.lineno}", text


NAME = r"(?:[a-z][a-z_]*|\{\})"
ASSIGNED = re.compile(rf"(?<![\w./…{{}}(<-])({NAME}(?:\.[a-z_]+)*)=(?=[\w{{\[….])")
DOTTED = re.compile(rf"(?<![\w./…\\-])({NAME}(?:\.[a-z_]+)+)(?![\w(/])")
# endings of files, and what is no key although it looks like one
FILES = re.compile(r"\.(py|jsonl?|csv|html|yaml|txt|md|jinja|css|gguf|safetensors|lock|partial|cpp|h)$")
NO_KEYS = re.compile(
    r"(e\.g|hydra\..*|.*\._target_|tokenizer\.\w+|key|r|alpha|id|x|align|width|height"
    r"|return_dict|return_tensors|skip_special_tokens|add_generation_prompt|max_new_tokens)"
)


def named_keys(text: str) -> set[str]:
    """The config keys that a message names: in an override, or dotted and below a group."""
    found = {key for key in ASSIGNED.findall(text) if key != "{}"}
    found |= {key for key in DOTTED.findall(text) if key.partition(".")[0] in FIRST | {"{}"}}
    return {key for key in found if not FILES.search(key) and not NO_KEYS.fullmatch(key)}


def exists(key: str) -> bool:
    """Whether a config has the key; a group that is filled in may be any."""
    return key in KEYS or (key.startswith("{}") and any(known.endswith(key[2:]) for known in KEYS))


CLAIMS = sorted({(where.partition(":")[0], key) for where, text in messages() for key in named_keys(text)})


@pytest.mark.parametrize(("file", "key"), CLAIMS)
def test_a_key_that_a_message_names_exists(file: str, key: str) -> None:
    assert exists(key), f"{file} names {key}, which no config has"


def test_messages_and_keys_are_found() -> None:
    assert len(CLAIMS) > 80
    assert {"dataset.encoding", "problems.encoding", "suite.encoding", "dataset.judge", "rejection"} <= KEYS


@pytest.mark.parametrize(
    "text", ["give its encoding, e.g. encoding=latin-1", "set dataset.encodng", "{}.max_flaws: 3 rows", "dpo.bta=1"]
)
def test_a_key_that_is_not_there_is_noticed(text: str) -> None:
    assert not all(map(exists, named_keys(text)))
