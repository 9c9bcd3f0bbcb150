"""A judge's scores of the replies of base, earlier rounds and tutor."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from socratic_rl.core.dialogue import from_messages, render_transcript
from socratic_rl.evaluation.judge import Case, Judge, Verdict, alike
from socratic_rl.measures.figures import Figure, ReplyRow
from socratic_rl.measures.intervals import compare_sides


@dataclass(frozen=True)
class JudgedReplies:
    """What a judge says of the replies of an evaluation."""

    figures: list[Figure]
    """With ``agreement``: the judge's κ against people, None where it is not known."""
    answers: list[dict[str, Any]]
    """The rows of ``judge.jsonl``: what it wrote, and what was read of it."""
    facts: dict[str, str]


def judge_replies(
    judge: Judge,
    dialogues: Sequence[ReplyRow],
    *,
    seed: int,
    resamples: int,
    answers_path: Path | None = None,
) -> JudgedReplies:
    """Scores of a judge that sees each reply of the tutor beside its base's, in both orders, and so an earlier round's.

    With earlier rounds the base is shown beside each of them, and its score is the mean.

    Args:
        judge: The judge.
        dialogues: The rows of ``replies.jsonl``.
        seed: Of the judge's sampling and of the bootstrap.
        resamples: Of the bootstrap.
        answers_path: Keeps the judge's answers as they come.

    Raises:
        UserError: The judge's calibration is another judge's, or its generator fails.
    """
    agreement = judge.agreement()
    past = [reply["name"] for reply in dialogues[0]["earlier"]]
    # a turn, who speaks beside the base, and what they say
    shown_replies = [
        (row, name, text)
        for row in dialogues
        for name, text in zip(
            (*past, "tutor"), (*(reply["text"] for reply in row["earlier"]), row["tutor"]), strict=True
        )
    ]
    cases = [
        Case(render_transcript(from_messages(row["prompt"])), (row["base"], text), row["answer"])
        for row, _, text in shown_replies
    ]
    verdicts = judge.judge(cases, seed, answers_path)
    groups = [row["problem_id"] for row in dialogues]
    figures = []
    for criterion in judge.criteria:
        base, *others = _scores(judge, verdicts, criterion, len(dialogues))
        earlier = dict(zip(past, others[:-1], strict=True))
        figure = compare_sides(
            f"judge/{criterion}", "all", base, others[-1], groups, seed=seed, resamples=resamples, earlier=earlier
        )
        figures.append(figure.model_copy(update={"agreement": agreement.get(criterion)}))
    answers = _answer_rows(shown_replies, verdicts)
    same, twice = alike(verdicts, judge.criteria)
    facts = judge.facts() | {
        "judge's answers": f"{len(answers)}, of which {sum(verdict.unreadable for verdict in verdicts)} unreadable; "
        f"{same} of {twice} labels are the same in both orders",
    }
    return JudgedReplies(figures, answers, facts)


def _answer_rows(
    shown_replies: Sequence[tuple[ReplyRow, str, str]], verdicts: Sequence[Verdict]
) -> list[dict[str, Any]]:
    """The rows of ``judge.jsonl``."""
    return [
        {
            "conversation_id": row["conversation_id"],
            "turn": row["turn"],
            "shown": [("base", name)[reply] for reply in answer.shown],
            "raw": answer.raw,
            "labels": answer.labels,
        }
        for (row, name, _), verdict in zip(shown_replies, verdicts, strict=True)
        for answer in verdict.answers
    ]


def _scores(judge: Judge, verdicts: Sequence[Verdict], criterion: str, turns: int) -> list[list[float | None]]:
    """The scores of base, earlier rounds and tutor, each turn by turn; NaN where an answer could not be read."""
    by_reply = [[judge.score(verdict, reply, criterion) for verdict in verdicts] for reply in (0, 1)]
    of_base, of_others = (np.array(scores, dtype=float).reshape(turns, -1).T for scores in by_reply)
    return [scores.tolist() for scores in (of_base.mean(0), *of_others)]
