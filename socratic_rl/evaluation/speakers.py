"""Who speaks at a held-out turn beside base and tutor, and what each of them does."""

import json
from collections.abc import Mapping, Sequence
from functools import partial
from importlib import resources
from pathlib import Path
from typing import Any

from socratic_rl.conversations.prompting import prompt_text, split_prompt
from socratic_rl.core.dialogue import Message, Problem, text_id, to_messages
from socratic_rl.core.errors import UserError
from socratic_rl.evaluation.held_out import HeldOutTurn, marks, replies
from socratic_rl.evaluation.preferences import by_topic
from socratic_rl.evaluation.suites import Options, Repliers
from socratic_rl.generators.tutors import ByTransformers, prompt_room
from socratic_rl.measures.comparisons import speaker_comparison, speaker_figure, with_verdicts
from socratic_rl.measures.figures import Figure, MarkedText, SpeakerComparison, SpeakerFigure
from socratic_rl.measures.registry import MEASURES, OF_REPLIES
from socratic_rl.models.tokens import token_ids
from socratic_rl.models.tutor import Tutor

HEADLINE = "helps"
"""The measure of the one comparison that is tested alone."""


PROMPTED = "prompted"
"""The base with a few-shot prompt: what somebody would do instead of training."""


FIXED, TEACHER = "fixed", "teacher"
"""A sentence that never changes, and the dialogue's own teacher."""


def few_shot() -> list[Message]:
    """The messages that stand before a dialogue where the base is prompted to teach by asking."""
    system, examples = split_prompt(prompt_text(resources.files("socratic_rl.evaluation") / "prompts" / "prompted.txt"))
    return [{"role": "system", "content": system}, *to_messages(examples)]


VALIDATED = "a, b (of a, b, c: it disagrees with people's labels of guidance)"
"""Which conditions the pointer behind ``helps`` meets; see ``docs/measures.md``."""


def sft_tutor(folder: str | None, tutor: Tutor) -> Tutor | None:
    """The tutor that was trained by SFT alone; None where none is given.

    Raises:
        UserError: It has another base than the tutor.
    """
    if folder is None:
        return None
    by_sft = Tutor(Path(folder))
    if by_sft.settings.pretrained != tutor.settings.pretrained:
        raise UserError(f"sft: {folder}: its base is {by_sft.settings.pretrained}, not the tutor's")
    return by_sft


def other_speakers(
    tutor: Tutor, by_sft: Tutor | None, repliers: Repliers, turns: Sequence[HeldOutTurn], options: Options
) -> tuple[dict[str, Sequence[MarkedText]], dict[str, str]]:
    """What the other speakers say at each turn, by speaker, and what to know of them: why one is left out, which it is.

    They are the prompted base, the tutor by SFT alone where there is one, the fixed sentence, and the dialogue's
    teacher.

    Args:
        tutor: Whose base is prompted.
        by_sft: The tutor by SFT alone; None where there is none.
        repliers: Who replies.
        turns: What they reply to.
        options: Of the evaluation.
    """
    base, prompt = repliers.generators["base"], few_shot()
    longest = max(len(token_ids(tutor.tokenizer, [*prompt, *turn.prompt], prompt=True)) for turn in turns)
    spoken: dict[str, Sequence[MarkedText]] = {}
    notes = {}
    if longest <= prompt_room(base):
        spoken[PROMPTED] = replies(base, turns, options.seed, f"{PROMPTED} replies", prompt)
    else:
        notes[PROMPTED] = f"left out: {longest} tokens of prompt do not fit beside the reply"
    if by_sft:
        # whoever reads the figures sees which losses it was trained with
        notes["sft"] = f"{by_sft.folder}: {by_sft.settings_line()}"
        opened = partial(tutor.round, by_sft)
        generator = ByTransformers(opened, tutor.tokenizer, options.sampling)
        spoken["sft"] = replies(generator, turns, options.seed, "sft replies")
    for name, text_of in ((FIXED, lambda _: options.fixed), (TEACHER, lambda turn: turn.reference)):
        spoken[name] = [MarkedText(text=text_of(turn), marks=marks(text_of(turn), False, turn)) for turn in turns]
    return spoken, notes


def benchmark_hash(turns: Sequence[HeldOutTurn]) -> str:
    """What tells a set of turns, their problems and the measures from others (16 hex digits of SHA-256)."""
    return text_id(*(json.dumps([turn.prompt, turn.problem_id, turn.answer]) for turn in turns), *OF_REPLIES)


def speaker_rows(
    replies_of: Mapping[str, Sequence[MarkedText]],
    problem_ids: Sequence[str],
    problems: Mapping[str, Problem],
    on_pairs: Sequence[Figure],
    seed: int,
) -> tuple[list[SpeakerFigure], list[SpeakerComparison]]:
    """What each speaker does by every measure of a reply, and the tutor beside each; of all turns and by topic.

    Args:
        replies_of: By speaker; ``tutor`` is one of them.
        problem_ids: The problem of each turn.
        problems: By id, for topics.
        on_pairs: Figures of base and tutor that are no measures of replies, such as ``preference_accuracy``.
        seed: Of the sign flips.
    """
    figures, comparisons = [], []
    for kind, rows in [("all", range(len(problem_ids))), *by_topic(problem_ids, problems)]:
        groups = [problem_ids[row] for row in rows]
        for measure in OF_REPLIES:
            share = MEASURES[measure].share
            values = {name: [texts[row]["marks"].get(measure) for row in rows] for name, texts in replies_of.items()}
            figures += [
                speaker_figure(measure, kind, name, column, groups, share=share) for name, column in values.items()
            ]
            comparisons += [
                speaker_comparison(measure, kind, name, values["tutor"], column, groups, share=share, seed=seed)
                for name, column in values.items()
                if name != "tutor"
            ]
    better = {name: measure.better for name, measure in MEASURES.items()}
    return figures + _of_pairs(on_pairs), with_verdicts(comparisons, better, HEADLINE, PROMPTED)


def _of_pairs(figures: Sequence[Figure]) -> list[SpeakerFigure]:
    """The figures on pairs by speaker; a base's constant half is no measure."""
    rows = []
    for figure in figures:
        sides: list[tuple[str, Any]] = [("tutor", figure.of_tutor), ("base", figure.of_base)]
        for name, estimate in sides:
            constant = name == "base" and figure.name in ("preference_accuracy", "log_ratio_margin")
            value, low, high = (None, None, None) if constant else estimate
            n = 0 if value is None else figure.n
            rows.append(
                SpeakerFigure(figure.name, figure.kind, name, value, low, high, n, figure.problems or 0 if n else 0)
            )
    return rows


def headline(figures: Sequence[SpeakerFigure], comparisons: Sequence[SpeakerComparison]) -> str:
    """The primary comparison in a sentence, with what the instrument behind it is worth."""
    primary = next((row for row in comparisons if row.measure == HEADLINE and row.against == PROMPTED), None)
    of_all = {row.speaker: row for row in figures if row.measure == HEADLINE and row.kind == "all"}
    if of_all["tutor"].value is None:
        return f"{HEADLINE}: not measured, no step is due at any turn: there is no worked solution, or all is said"
    sentence = f"{HEADLINE}: the tutor in {of_all['tutor'].value:.0%} of its replies"
    if primary is None or primary.difference is None:
        return f"{sentence}; the prompted base said nothing to compare with; not validated"
    sentence += f", the prompted base in {of_all[PROMPTED].value:.0%}"
    if primary.low is None or primary.high is None:
        return f"{sentence}; {primary.problems} problems are too few for an interval; not validated"
    reach = (primary.high - primary.low) / 2
    # (1.96 + 0.84) / 1.96: what is seen four times in five
    unseen = f", a difference under {1.43 * reach:.0%} would mostly not have been seen"
    note = unseen if primary.verdict == "unclear" else ""
    return (
        f"{sentence}: {100 * primary.difference:+.0f} points [{100 * primary.low:.0f}, {100 * primary.high:.0f}], "
        f"{primary.verdict}{note} (n {primary.n}, {primary.problems} problems); not validated"
    )
