"""The stages of ``generate.py``: each reads the file before it and leaves its own, and goes on where it was stopped."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tqdm import tqdm

from socratic_rl.conversations import Writer
from socratic_rl.dialogue import Conversation, Problem
from socratic_rl.generators import Generator
from socratic_rl.storage import StageFile, read_records, write_jsonl


def make_problems(source: Any, path: Path) -> list[Problem]:
    """Read the problems of a source into ``problems.jsonl``, or back from it where it is whole."""
    if not path.exists():
        write_jsonl(
            path, (problem.to_record() for problem in tqdm(source.read(), "problems", unit=" problems", delay=2))
        )
    return list(read_records(Problem, path))


def make_conversations(
    writer: Writer, generator: Generator | None, problems: Sequence[Problem], path: Path, seed: int
) -> list[Conversation]:
    """Write the conversations about all problems into ``conversations.jsonl``."""
    file = StageFile(path, key=lambda row: row["id"])
    if not file.finished:
        ids = list(writer.ids(problems))
        with tqdm(total=len(ids), initial=len(file.records), desc="conversations", unit=" conv", delay=2) as bar:
            for conversation in writer.write(problems, generator, seed, done=file):
                file.append(conversation)
                bar.update()
        file.finish(ids)
    return list(read_records(Conversation, path))


def gate_summary(conversations: Sequence[Conversation]) -> str:
    """How many conversations the quality gate let pass, and why it did not let others."""
    passed = sum(conversation.accepted for conversation in conversations)
    reasons = Counter(reason for conversation in conversations for reason in set(conversation.reasons))
    told = ", ".join(f"{reason} {count}" for reason, count in reasons.most_common())
    return f"{passed} of {len(conversations)} accepted" + (f" ({told})" if told else "")
