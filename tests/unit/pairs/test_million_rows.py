"""What the benchmark of a million rows measures is right at a few thousand, and nothing holds the records."""

import gc
import importlib
import json
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from socratic_rl.core.dialogue import Conversation, PreferencePair, Problem, Record
from socratic_rl.pairs import audit, cases, duplicates

ROWS = 3000


@pytest.fixture(scope="module")
def benchmark() -> Iterator[ModuleType]:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(Path(__file__).parents[3] / "benchmarks"))
        yield importlib.import_module("million_rows")


@pytest.fixture(scope="module")
def most() -> Counter[type]:
    """The most records of each kind that were alive at once."""
    return Counter()


@pytest.fixture(scope="module")
def made(benchmark: ModuleType, most: Counter[type], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which all stages ran, the last of them as it goes on after a kill."""
    calls = 0

    def count(*_: object) -> None:
        nonlocal calls
        calls += 1
        if calls % 250 == 0:
            alive = Counter(type(found) for found in gc.get_objects() if issubclass(type(found), Record))
            most.update({kind: max(0, number - most[kind]) for kind, number in alive.items()})

    folder = tmp_path_factory.mktemp("rows")
    benchmark.write_rows(folder, ROWS)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(audit, "MOST", 100)
        for place, name in ((duplicates._Row, "of"), (duplicates.Keys, "add"), (cases.Case, "repeats_chosen")):
            watch(patch, place, name, count)
        benchmark.pair_up(folder, csv=True)
    return folder


def watch(patch: pytest.MonkeyPatch, place: Any, name: str, look: Any) -> None:
    inner = getattr(place, name)

    def outer(*arguments: Any) -> Any:
        look()
        return inner(*arguments)

    patch.setattr(place, name, outer)


def rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def plainly_distinct(benchmark: ModuleType, pairs: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Each pair compared with all that are kept before it and state the same numbers."""
    kept: dict[str, list[dict[str, Any]]] = {}
    distinct = []
    for pair in pairs:
        alike = kept.setdefault(" ".join(benchmark.numbers(pair)), [])
        if not any(benchmark.is_duplicate(pair, other) for other in alike):
            alike.append(pair)
            distinct.append(pair)
    return distinct


def test_what_is_left_out_are_the_duplicates_of_the_plain_definition(benchmark: ModuleType, made: Path) -> None:
    pairs = rows(made / "all_pairs.jsonl")
    kept = rows(made / "pairs.jsonl")
    assert kept == plainly_distinct(benchmark, pairs)
    # the benchmark looks at what it made as copies alone
    assert len(pairs) - len(kept) == benchmark.plain_duplicates(made) > ROWS // 50


def test_nothing_holds_the_records(made: Path, most: Counter[type]) -> None:
    assert len(rows(made / "conversations.jsonl")) == ROWS // 3
    assert set(most) >= {Conversation, Problem, PreferencePair}
    assert max(most[Conversation], most[Problem], most[PreferencePair]) < 100


def test_a_run_that_goes_on_and_one_that_begins_with_pairs_made_end_with_the_same(
    benchmark: ModuleType, made: Path, tmp_path: Path
) -> None:
    for name in ("problems.jsonl", "conversations.jsonl"):
        (tmp_path / name).write_bytes((made / name).read_bytes())
    whole = (made / "all_pairs.jsonl").read_bytes()
    partial = tmp_path / "all_pairs.jsonl.partial"
    partial.write_bytes(whole[: len(whole) // 2])
    for _ in range(2):
        benchmark.pair_up(tmp_path, csv=True)
        for name in ("all_pairs.jsonl", "pairs.jsonl", "pairs.csv"):
            assert (tmp_path / name).read_bytes() == (made / name).read_bytes(), name
    assert not partial.exists()
