"""The stages of ``generate.py``: each leaves a file, and goes on where it was stopped."""

import csv
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from operator import attrgetter
from pathlib import Path
from typing import Any, Self

from omegaconf import DictConfig
from pydantic import BaseModel
from tqdm import tqdm

from socratic_rl.commands import cli, tracking
from socratic_rl.commands.settings import GenerateSettings
from socratic_rl.core import provenance
from socratic_rl.core.dialogue import Conversation, PreferencePair, Problem
from socratic_rl.core.errors import UserError, shell_command
from socratic_rl.core.files import read_model, whole_file, write_jsonl, write_lines
from socratic_rl.core.records import ById, Index, RecordFile, RecordWriter
from socratic_rl.pages import console
from socratic_rl.pairs.audit import audit_rows
from socratic_rl.pairs.dataset import counts, told_counts
from socratic_rl.pairs.duplicates import write_pairs
from socratic_rl.pairs.pairing import Places, Split, pairs_at
from socratic_rl.pairs.variants import Variants, find_variants

STAGES = ("problems", "conversations", "pairs")


NO_REJECTION, DUPLICATE = "no rejection", "duplicate"
"""Why a turn that may be chosen is in no pair."""


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


def run_stages(settings: GenerateSettings, folder: Path) -> Summary:
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
    pairs, passed_over, variants = make_pairs(settings, problems, conversations, folder / "pairs.jsonl")
    if settings.csv:
        write_csv(folder / "pairs.csv", pairs)
        summary.rows["csv"] = folder / "pairs.csv"
    kinds, sides = Counter[str](), Counter[str]()
    about = Index()
    for pair in pairs:
        kinds[pair.rejection] += 1
        sides[pair.split] += 1
        about[pair.problem_id] = 1
    summary.rows["pairs"] = f"{len(pairs)} about {len(about)} problems ({passed_over[DUPLICATE]} duplicates left out)"
    summary.rows["turns passed over"] = told_counts(passed_over, len(pairs) + passed_over.total())
    summary.rows["rejected by"] = counts(kinds)
    summary.rows["split"] = counts(sides)
    if variants.first_ids:
        summary.rows["variants"] = str(variants)
    audit, figures = audit_rows(pairs, settings.seed, settings.rejection.against_shortcut)
    summary.rows |= audit
    summary.figures |= figures
    summary.figures["pairs"] = len(pairs)
    for number in range(0, len(pairs), max(1, len(pairs) // 20)):
        pair = pairs[number]
        summary.samples.append(
            {
                "student": pair.student_text,
                "chosen": pair.chosen_text,
                "rejected": pair.rejected_text,
                "rejection": pair.rejection,
            }
        )
    return summary


def make_problems(source: Any, path: Path, shard: int | None, num_shards: int) -> RecordFile[Problem]:
    """The problems of a source, or every ``num_shards``-th of them, in ``problems.jsonl``."""
    if not path.exists():
        dealt = source.read() if shard is None else islice(source.read(), shard, None, num_shards)
        bar = tqdm(dealt, "problems", unit=" problems", delay=2)
        write_jsonl(path, (problem.to_record() for problem in bar))
    return RecordFile(Problem, path)


class Shard(BaseModel):
    """What a folder's config says of the share of conversations that it holds."""

    num_shards: int
    shard: int | None


def gather(settings: GenerateSettings, problems: Iterable[Problem], path: Path) -> str:
    """Put the conversations of all shards, which lie in folders beside ``path``, together in the order of one job.

    Returns:
        How many came from each shard's folder.

    Raises:
        UserError: A shard's conversations are not there, or not all.
    """
    parts: dict[int, RecordFile[Conversation]] = {}
    for config in sorted(path.parent.glob("*/generate_config.json")):
        begun = read_model(Shard, config)
        conversations = config.with_name(path.name)
        if begun.num_shards == settings.num_shards and begun.shard is not None and conversations.exists():
            parts[begun.shard] = RecordFile(Conversation, conversations)
    index = Index()
    for shard, part in parts.items():
        for number, conversation in enumerate(part):
            index[conversation.id] = number * settings.num_shards + shard
    missing = [number for number in range(settings.num_shards) if number not in parts]
    lost = Counter(key not in index for key in settings.conversations.ids(problems))
    if missing or lost[True]:
        what = f"shard {', '.join(map(str, missing))}" if missing else f"{lost[True]} of {lost.total()} conversations"
        every = ",".join(map(str, range(settings.num_shards)))
        raise UserError(
            f"{path}: {what} not finished in the folders of {path.parent}; "
            f"{shell_command('generate')} shard={every} num_shards={settings.num_shards} -m goes on"
        )
    places = (divmod(entry, settings.num_shards) for entry in index.of(settings.conversations.ids(problems)))
    write_lines(path, (parts[shard].line(number) for number, shard in places))
    return ", ".join(f"{part.path.parent.name}: {len(part)} conversations" for _, part in sorted(parts.items()))


def make_conversations(settings: GenerateSettings, problems: Iterable[Problem], path: Path) -> RecordFile[Conversation]:
    """The conversations about all problems, in ``conversations.jsonl``."""
    file = RecordWriter(Conversation, path, attrgetter("id"))
    if not file.finished:
        total = sum(1 for _ in settings.conversations.ids(problems))
        written = settings.conversations.write(problems, settings.generator, settings.seed, done=file)
        for conversation in tqdm(written, "conversations", total, initial=len(file), unit=" conversations", delay=2):
            file.append(conversation)
        file.finish(settings.conversations.ids(problems))
    return RecordFile(Conversation, path)


def make_pairs(
    settings: GenerateSettings, problems: RecordFile[Problem], conversations: RecordFile[Conversation], path: Path
) -> tuple[RecordFile[PreferencePair], Counter[str], Variants]:
    """The pairs of all accepted conversations, in ``pairs.jsonl``.

    Returns:
        The pairs; how many teacher turns are in none, by the reason; the problems that are variants of one.
    """
    places = settings.pairs.places(conversations)
    variants = find_variants(problems)

    def side_of(problem_id: str) -> Split:
        group = variants.group_of(problem_id)
        side: Split = "train" if group == variants.majority else settings.pairs.split_of(group)
        return side

    def make(done: RecordWriter[PreferencePair]) -> Iterator[PreferencePair]:
        return pairs_at(places, side_of, ById(problems), settings.rejection, settings.generator, settings.seed, done)

    written = write_pairs(path, make, len(places))
    if written is None:
        raise UserError(f"{path}: no usable pair: {_why_none(Gate.of(conversations), places)}")
    pairs, duplicates = written
    rest = Counter({NO_REJECTION: len(places) - len(pairs) - duplicates, DUPLICATE: duplicates})
    return pairs, places.passed_over + rest, variants


def _why_none(gate: Gate, places: Places) -> str:
    if not gate.accepted:
        return f"the quality gate accepted none of {gate.total} conversations; {gate}"
    if not places:
        why = counts(places.passed_over.elements()) or "there is none"
        return f"no teacher turn may be chosen ({why}); see pairs.must_ask and pairs.skip_acts"
    return f"the rejection had nothing to say at any of {len(places)} turns; try rejection=mixed"


def _problems_row(problems: Sequence[Problem], skipped: Mapping[str, int]) -> str:
    left_out = ", ".join(f"{reason} {count}" for reason, count in skipped.items())
    return str(len(problems)) + (f" (left out: {left_out})" if left_out else "")


def write_csv(path: Path, pairs: Iterable[PreferencePair]) -> None:
    """The pairs as the three-column CSV ``Prompt``, ``Bad answer``, ``Good answer``, transcripts with labels."""
    from socratic_rl.core.dialogue import from_messages, render_transcript

    with whole_file(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["Prompt", "Bad answer", "Good answer"])
        for pair in pairs:
            rows.writerow(
                render_transcript(from_messages(part)) + "\n" for part in (pair.prompt, pair.rejected, pair.chosen)
            )


def run(settings: GenerateSettings, cfg: DictConfig) -> None:
    """Run the stages; each leaves a file, and goes on where a killed run stopped."""
    tracked_as = cli.job_place(cfg)
    folder = tracked_as["folder"]
    if not any(folder.glob("*.jsonl*")):
        # a run that made nothing binds the next one to nothing
        (folder / "generate_config.json").unlink(missing_ok=True)
    provenance.remember(folder / "generate_config.json", cfg)
    with tracking.track(settings.wandb, "generate", provenance.resolved(cfg), **tracked_as) as run:
        files = [folder / f"{stage}.jsonl" for stage in STAGES[: STAGES.index(settings.last_stage) + 1]]
        title = "Data set, finished before" if files[-1].exists() else "Data set"
        summary = run_stages(settings, folder)
        tracking.log_table(run, "replies", summary.samples)
        run.summary.update(summary.figures)
        tracking.log_artifact(run, provenance.artifact_name(settings.last_stage, files[-1:]), "dataset", files)
    console.closing_table(title, summary.rows | {path.name: path for path in files})
