"""The stages of ``generate.py``: each leaves a file, and goes on where it was stopped."""

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import compress, islice
from pathlib import Path
from typing import Any, Self

from tqdm import tqdm

from socratic_rl import audit
from socratic_rl.config import GenerateSettings
from socratic_rl.dialogue import Conversation, PreferencePair, Problem
from socratic_rl.errors import UserError
from socratic_rl.preferences import Keys, distinct, pairs_at
from socratic_rl.record import read_json
from socratic_rl.storage import ById, Index, RecordFile, StageFile, write_csv, write_jsonl, write_lines

STAGES = ("problems", "conversations", "pairs")


@dataclass
class Summary:
    """What the stages made: rows of the closing table, figures and samples for W&B."""

    rows: dict[str, object] = field(default_factory=dict)
    figures: dict[str, float] = field(default_factory=dict)
    samples: list[dict[str, str]] = field(default_factory=list)


@dataclass(frozen=True)
class Gate:
    """How many conversations the quality gate let pass, and how often it did not let one for which reason."""

    total: int
    accepted: int
    reasons: Counter[str]

    @classmethod
    def of(cls, conversations: Collection[Conversation]) -> Self:
        """Of all these conversations."""
        accepted, reasons = 0, Counter[str]()
        for conversation in conversations:
            accepted += conversation.accepted
            reasons.update(set(conversation.reasons))
        return cls(len(conversations), accepted, reasons)

    def __str__(self) -> str:
        return f"{self.accepted} of {self.total} accepted" + (f" ({counts(self.reasons)})" if self.reasons else "")


def run(settings: GenerateSettings, folder: Path) -> Summary:
    """Run the stages up to ``settings.stop_after`` in a folder.

    Raises:
        UserError: A file or the generator fails, or no pair comes out.
    """
    summary = Summary()
    problems = make_problems(settings.problems, folder / "problems.jsonl", settings.shard, settings.num_shards)
    summary.rows["problems"] = _problems_row(problems, settings.problems.skipped)
    summary.figures["problems"] = len(problems)
    if settings.last_stage == "problems":
        return summary
    if settings.shard is None and settings.num_shards > 1:
        summary.rows["shards"] = gather(settings, problems, folder / "conversations.jsonl")
    conversations = make_conversations(settings, problems, folder / "conversations.jsonl")
    gate = Gate.of(conversations)
    summary.rows["conversations"] = str(gate)
    summary.figures["conversations"] = len(conversations)
    summary.figures["accepted"] = gate.accepted
    if settings.last_stage == "conversations":
        return summary
    pairs, duplicates = make_pairs(settings, problems, conversations, folder / "pairs.jsonl")
    if settings.csv:
        write_csv(folder / "pairs.csv", pairs)
        summary.rows["csv"] = folder / "pairs.csv"
    kinds, sides = Counter[str](), Counter[str]()
    about = Index()
    for pair in pairs:
        kinds[pair.rejection] += 1
        sides[pair.split] += 1
        about[pair.problem_id] = 1
    summary.rows["pairs"] = f"{len(pairs)} about {len(about)} problems ({duplicates} duplicates left out)"
    summary.rows["rejected by"] = counts(kinds)
    summary.rows["split"] = counts(sides)
    told, figures = audit_rows(pairs, settings.seed)
    summary.rows |= told
    summary.figures |= figures
    summary.figures["pairs"] = len(pairs)
    for number in range(0, len(pairs), max(1, len(pairs) // 20)):
        pair = pairs[number]
        summary.samples.append(
            {
                "student": pair.prompt[-1]["content"],
                "chosen": pair.chosen[0]["content"],
                "rejected": pair.rejected[0]["content"],
                "rejection": pair.rejection,
            }
        )
    return summary


def audit_rows(pairs: Sequence[PreferencePair], seed: int) -> tuple[dict[str, object], dict[str, float]]:
    """What the shortcut audit found, for the closing table and as figures."""
    shortcuts = audit.audit(pairs, seed)
    rows: dict[str, object] = {}
    figures = {}
    for shortcut in shortcuts:
        if shortcut.kind == "all":
            told = f"AUC {shortcut.auc:.2f}" if shortcut.auc is not None else "not measured"
            note = f" ({shortcut.note})" if shortcut.note else ""
            rows[f"{shortcut.rule.replace('_', ' ')} alone"] = told + note
            figures[f"audit/{shortcut.rule}"] = shortcut.strength
    if warnings := list(audit.warnings(shortcuts)):
        rows["warning"] = "\n".join(warnings)
    return rows, figures


def make_problems(source: Any, path: Path, shard: int | None, num_shards: int) -> RecordFile[Problem]:
    """The problems of a source, or every ``num_shards``-th of them, in ``problems.jsonl``."""
    if not path.exists():
        dealt = source.read() if shard is None else islice(source.read(), shard, None, num_shards)
        bar = tqdm(dealt, "problems", unit=" problems", delay=2)
        write_jsonl(path, (problem.to_record() for problem in bar))
    return RecordFile(Problem, path)


def gather(settings: GenerateSettings, problems: Iterable[Problem], path: Path) -> str:
    """Put the conversations of all shards, which lie in folders beside ``path``, together in the order of one job.

    Returns:
        How many came from each shard's folder.

    Raises:
        UserError: A shard's conversations are not there, or not all.
    """
    parts: dict[int, RecordFile[Conversation]] = {}
    for config in sorted(path.parent.glob("*/generate_config.json")):
        begun = read_json(config)
        own = config.with_name(path.name)
        if begun["num_shards"] == settings.num_shards and begun["shard"] is not None and own.exists():
            parts[begun["shard"]] = RecordFile(Conversation, own)
    found = Index()
    for shard, part in parts.items():
        for number, conversation in enumerate(part):
            found[conversation.id] = number * settings.num_shards + shard
    missing = [number for number in range(settings.num_shards) if number not in parts]
    lost = Counter(key not in found for key in settings.conversations.ids(problems))
    if missing or lost[True]:
        what = f"shard {', '.join(map(str, missing))}" if missing else f"{lost[True]} of {lost.total()} conversations"
        every = ",".join(map(str, range(settings.num_shards)))
        raise UserError(
            f"{path}: {what} not finished in the folders of {path.parent}; "
            f"python generate.py shard={every} num_shards={settings.num_shards} -m goes on"
        )
    places = (divmod(place, settings.num_shards) for place in found.of(settings.conversations.ids(problems)))
    write_lines(path, (parts[shard].line(number) for number, shard in places))
    return ", ".join(f"{part.path.parent.name}: {len(part)} conversations" for _, part in sorted(parts.items()))


def make_conversations(settings: GenerateSettings, problems: Iterable[Problem], path: Path) -> RecordFile[Conversation]:
    """The conversations about all problems, in ``conversations.jsonl``."""
    file = StageFile(path, key=lambda row: row["id"])
    if not file.finished:
        total = sum(1 for _ in settings.conversations.ids(problems))
        written = settings.conversations.write(problems, settings.generator, settings.seed, done=file)
        for conversation in tqdm(written, "conversations", total, initial=len(file), unit=" conversations", delay=2):
            file.append(conversation)
        file.finish(settings.conversations.ids(problems))
    return RecordFile(Conversation, path)


def make_pairs(
    settings: GenerateSettings, problems: RecordFile[Problem], conversations: RecordFile[Conversation], path: Path
) -> tuple[RecordFile[PreferencePair], int]:
    """The pairs of all accepted conversations, in ``pairs.jsonl``, and how many duplicates were left out."""
    places = settings.pairs.places(conversations)

    def make(done: StageFile) -> Iterator[PreferencePair]:
        return pairs_at(
            places,
            settings.pairs.split_of,
            ById(problems),
            settings.rejection,
            settings.generator,
            settings.seed,
            done,
        )

    made = write_pairs(path, make, len(places))
    if made is None:
        raise UserError(f"{path}: no usable pair: {_why_none(Gate.of(conversations), len(places))}")
    return made


def write_pairs(
    path: Path, make: Callable[[StageFile], Iterator[PreferencePair]], places: int
) -> tuple[RecordFile[PreferencePair], int] | None:
    """Pairs without duplicates in a file, and how many duplicates were left out; None, and no file, without a pair.

    All pairs are kept in ``all_pairs.jsonl`` until the duplicates are gone, since writing them may take a model's time.

    Args:
        path: The file to make.
        make: The pairs as they finish, without those that were made before, by conversation id and turn.
        places: For how many turns a pair is tried.
    """
    file = StageFile(path.with_name("all_pairs.jsonl"), key=lambda row: (row["conversation_id"], row["turn"]))
    keys = Keys()
    if not file.finished:
        for pair in tqdm(make(file), "pairs", places, initial=len(file), unit=" pairs", delay=2):
            file.append(pair)
            keys.add(pair)
        if not len(file) and not len(keys):
            return None
        file.finish()
    pairs = RecordFile(PreferencePair, file.path)
    if len(keys) < len(pairs):
        # some are an earlier run's
        keys = Keys(pairs)
    write_lines(path, (pairs.line(number) for number in compress(range(len(pairs)), distinct(pairs, keys))))
    kept = RecordFile(PreferencePair, path)
    return kept, len(pairs) - len(kept)


def _why_none(gate: Gate, places: int) -> str:
    if not gate.accepted:
        return f"the quality gate accepted none of {gate.total} conversations; {gate}"
    if not places:
        return "no teacher turn may be chosen; see pairs.must_ask and pairs.skip_acts"
    return f"the rejection had nothing to say at any of {places} turns; try rejection=mixed"


def _problems_row(problems: Sequence[Problem], skipped: Mapping[str, int]) -> str:
    left_out = ", ".join(f"{reason} {count}" for reason, count in skipped.items())
    return str(len(problems)) + (f" (left out: {left_out})" if left_out else "")


def counts(values: Iterable[str]) -> str:
    """``train 230, test 50``: how often each value comes, the most frequent first."""
    return ", ".join(f"{value} {count}" for value, count in Counter(values).most_common())
