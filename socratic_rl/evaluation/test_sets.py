"""Outside test sets: pairs that people made, on which base and tutor are scored and which no tutor is trained on."""

from collections.abc import Collection, Iterator, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, ClassVar

from socratic_rl.conversations import human_dialogues
from socratic_rl.conversations.annotated import annotated
from socratic_rl.core.component import Component, ExistingFile
from socratic_rl.core.dialogue import PreferencePair, Problem, Turn, merge_turns, teacher_turns, text_id
from socratic_rl.core.errors import UserError
from socratic_rl.evaluation import mrbench
from socratic_rl.evaluation.suites import Options, Result, suite_result
from socratic_rl.pairs import trl_pairs
from socratic_rl.pairs.dataset import SocraticPairs

if TYPE_CHECKING:
    from socratic_rl.models.tutor import Tutor

GUIDING = {"focus", "probing"}
"""What MathDial's teachers call a turn that guides."""


class RankedPairs(Component):
    """A suite of pairs, on which base and tutor are scored."""

    asks_tutor: ClassVar[bool] = True

    name: str
    """What its figures are called: ``suites/<name>.json``."""
    path: str

    def pairs(self) -> Iterator[PreferencePair]:
        """The pairs, in the order of the data; their splits are not read."""
        raise NotImplementedError

    def run(self, tutor: "Tutor", options: Options) -> Result:
        """Score base and tutor on the pairs about problems that the tutor was not trained on; see ``Suite``.

        Raises:
            UserError: There are none.
        """
        # they load torch, which a mistake in the config need not wait for
        from socratic_rl.evaluation.preferences import compare_preferences
        from socratic_rl.models.tokens import fit_pairs
        from socratic_rl.pairs.audit import audit_rows

        source = f"suite: {self.name}"
        fresh, trained_on = not_trained_on(list(self.pairs()), tutor, source)
        alike, authors = authors_alike(fresh)
        options.begin()
        fitted = fit_pairs(alike[: options.limit], tutor.tokenizer, tutor.max_length, trained_in=source)
        figures = compare_preferences(
            {"base": tutor.base, "tutor": tutor.tutor},
            tutor.tokenizer,
            fitted.pairs,
            {},
            options.sampling.width,
            seed=options.seed,
            resamples=options.resamples,
        )
        lines: dict[str, object] = {
            "pairs": f"{len(fitted.pairs)} about {len({pair.problem_id for pair in fitted.pairs})} problems",
            "too long": len(fitted.dropped),
            "trained on": trained_on,
            **({"authors": authors} if authors else {}),
        }
        # its warnings are about what one may train on
        audited, _ = audit_rows(fitted.pairs, options.seed)
        lines |= {rule: auc for rule, auc in audited.items() if rule != "warning"}
        facts = {"suite": self.path, "tutor": options.adapter, "base": tutor.settings.name, **lines}
        title = f"{self.name}: tutor against base, {len(fitted.pairs)} pairs"
        return suite_result(self.name, title, figures, facts, lines, score=figures[0].tutor)


class Bridge(human_dialogues.Bridge, RankedPairs):
    """Bridge: an expert's revision is chosen over the novice's reply that stood at the same place."""

    key: ClassVar[str] = "suite"

    def pairs(self) -> Iterator[PreferencePair]:
        """The pairs, in the order of the data."""
        for problem, number, turns in _dialogues(self.read()):
            for index, turn in enumerate(turns):
                if turn.worse:
                    sides = {"author": ("expert", "novice")}
                    conversation = f"{problem.id}/{number}"
                    yield _pair(problem.id, conversation, turns[:index], turn.text, turn.worse, "novice", sides)


class MathDial(human_dialogues.MathDial, RankedPairs):
    """MathDial: where a teacher guided and, one exchange later, told, the first turn is chosen over the second.

    Guided is what the teachers themselves call focus or probing, told what they call telling. The two stand one
    exchange apart, since nobody wrote both for one place.
    """

    key: ClassVar[str] = "suite"

    def pairs(self) -> Iterator[PreferencePair]:
        """The pairs, in the order of the data."""
        for problem, number, turns in _dialogues(self.read()):
            taught = [index for index, turn in enumerate(turns) if turn.speaker == "teacher" and index]
            for index, later in pairwise(taught):
                guiding, telling = turns[index], turns[later]
                if telling.act == "telling" and guiding.act and GUIDING.issuperset(guiding.act.split("+")):
                    conversation = f"{problem.id}/{number}"
                    yield _pair(problem.id, conversation, turns[:index], guiding.text, telling.text, "telling")


class MRBench(RankedPairs):
    """MRBench: a reply that people call guiding and not revealing is chosen over each that they call revealing.

    Both replied to the same dialogue. A reply that reveals a wrong answer is revealing too. A dialogue in which the
    student does not speak last gives none. Who wrote a reply tells much of which it is, so ``run`` scores as many pairs
    in which one author is chosen over another as the other way round.
    """

    path: ExistingFile

    def pairs(self) -> Iterator[PreferencePair]:
        """The pairs, in the order of the data."""
        for _, dialogue in mrbench.read(self.path):
            question, turns = _question(dialogue), dialogue.turns
            # with a gold answer the tutor's first turn states the problem, else nobody does
            before = merge_turns([Turn(speaker="student", text=question), *turns[1 if dialogue.answer else 0 :]])
            if before[-1].speaker != "student":
                continue
            problem_id = text_id(question) if dialogue.answer else dialogue.session
            replies = dialogue.replies.items()
            guiding = [(who, r.text) for who, r in replies if r.labels.guides == "Yes" and r.labels.reveals == "No"]
            for other, revealing in ((who, r.text) for who, r in replies if r.labels.reveals != "No"):
                for author, chosen in guiding:
                    sides = {"author": (author, other), "source": (dialogue.source, dialogue.source)}
                    yield _pair(problem_id, dialogue.id, before, chosen, revealing, "reveals", sides)


class RankedReplies(trl_pairs.TrlPairs, RankedPairs):
    """Any preference data set in TRL's forms; UltraFeedback in ``conf/suite/ultrafeedback.yaml``."""

    key: ClassVar[str] = "suite"

    def pairs(self) -> Iterator[PreferencePair]:
        """The pairs, in the order of the data."""
        yield from self.read()[0]


def _question(dialogue: mrbench.Dialogue) -> str:
    if dialogue.answer:
        first = dialogue.turns[0].text
        return first.partition("The question is:")[2].strip() or first
    return human_dialogues.topic_sentence("" if dialogue.topic == mrbench.UNKNOWN else dialogue.topic)


def _dialogues(source: Iterator[Problem]) -> Iterator[tuple[Problem, int, list[Turn]]]:
    """Every human dialogue with its problem and number, after a student's turn that states the problem."""
    for problem in source:
        for number, (_, turns) in enumerate(annotated(problem)):
            yield problem, number, turns


def _pair(
    problem: str,
    conversation: str,
    before: Sequence[Turn],
    chosen: str,
    rejected: str,
    kind: str,
    labels: dict[str, tuple[str, str]] | None = None,
) -> PreferencePair:
    turn = teacher_turns(before)
    return PreferencePair.of(
        before,
        chosen,
        rejected,
        conversation_id=conversation,
        problem_id=problem,
        turn=turn,
        rejection=kind,
        split="test",
        labels=labels,
    )


def authors_alike(pairs: Sequence[PreferencePair]) -> tuple[list[PreferencePair], str]:
    """As many pairs in which one author is chosen over another as in which the other is chosen over the one.

    So who wrote a reply tells nothing. Which pairs stay depends on their texts alone.

    Returns:
        Those pairs, in their order, and what to say of it; all pairs where they carry no author, and where no two
        authors are each chosen over the other, which is said.
    """
    rows: dict[tuple[str, str], list[int]] = {}
    for number, pair in enumerate(pairs):
        if pair.labels and "author" in pair.labels:
            rows.setdefault(pair.labels["author"], []).append(number)
    if not rows:
        return list(pairs), ""
    stay: list[int] = []
    for (chosen, rejected), numbers in rows.items():
        drawn = sorted(numbers, key=lambda n: text_id(pairs[n].conversation_id, pairs[n].chosen_text))
        stay += drawn[: len(rows.get((rejected, chosen), ()))]
    if not stay:
        return list(pairs), "not weighed alike: no two of them are each chosen over the other, so they alone tell"
    note = f"weighed alike: {len(stay)} of {len(pairs)} pairs, in which of two each is chosen as often as the other"
    return [pairs[number] for number in sorted(stay)], note


def trained_problems(dataset: SocraticPairs) -> set[str] | None:
    """The problems that a tutor was trained on, by id and by the id of their texts; None where it is not known."""
    if dataset.mistakes():
        return None
    trained = [pair for pair in dataset.read() if pair.split == "train"]
    ids = {pair.problem_id for pair in trained}
    questions = [problem.question for key, problem in dataset.read_problems().items() if key in ids]
    return ids | {
        text_id(text) for text in (*questions, *map(_opening, trained)) if not text.startswith(human_dialogues.UNSTATED)
    }


def unseen(pairs: Sequence[PreferencePair], trained: Collection[str]) -> list[PreferencePair]:
    """The pairs about problems that the tutor was not trained on.

    Two that open with no more than a lesson's topic are the same by their id alone.
    """
    return [pair for pair in pairs if pair.problem_id not in trained and text_id(_opening(pair)) not in trained]


def not_trained_on(pairs: Sequence[PreferencePair], tutor: "Tutor", source: str) -> tuple[list[PreferencePair], str]:
    """The pairs about problems that neither a tutor nor an earlier round was trained on, and what to say of it.

    Args:
        pairs: To be evaluated on.
        tutor: The tutor.
        source: Where the pairs come from, as a mistake names it.

    Raises:
        UserError: There are none.
    """
    earlier, missing = tutor.earlier()
    by_round = [trained_problems(one_round.dataset) for one_round in (tutor, *earlier)]
    trained = [problems for problems in by_round if problems is not None]
    if missing or len(trained) < len(by_round):
        return list(pairs), "not known: a data set or an earlier round is gone, so pairs trained on may be among them"
    fresh = unseen(pairs, set().union(*trained))
    if not fresh:
        raise UserError(f"{source}: has no pair about a problem that {tutor.folder} was not trained on")
    return fresh, f"{len(pairs) - len(fresh)} of {len(pairs)} pairs left out, whose problems were"


def _opening(pair: PreferencePair) -> str:
    return next(message["content"] for message in pair.prompt if message["role"] == "user")
