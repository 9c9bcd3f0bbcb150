"""The rejected side of a pair: a teacher turn that is worse than the chosen one at the same place."""

import re
from collections.abc import Iterator, Sequence
from fractions import Fraction
from functools import cache, lru_cache
from importlib import resources
from itertools import islice
from math import log
from typing import Annotated as Checked
from typing import ClassVar, Self

from pydantic import Field, model_validator

from socratic_rl.core.component import Real, Tokens
from socratic_rl.core.dialogue import LABEL, Step, Text, Turn, parse_transcript, to_messages
from socratic_rl.core.errors import UserError, under
from socratic_rl.core.generator import Generator, Request
from socratic_rl.measures import replies
from socratic_rl.notation import answers
from socratic_rl.notation.quantities import read
from socratic_rl.pairs.cases import Case, Rejected, Rejection, Simple


class DirectAnswer(Simple):
    """Gives the solution away: the answer alone, with the step that is due, or with all worked steps that are left.

    The wording is drawn from ``direct_answer.txt`` by the kind of answer (one gets 12, but chooses B), so that neither
    a fixed string nor broken English can be learned instead: a third of the time among those that begin as the chosen
    turn does, and of a few drawn ones the nearest in length to the chosen turn. Nothing once the dialogue has stated
    the answer.
    """

    kind: ClassVar[str] = "direct_answer"

    def worse(self, case: Case) -> str | None:
        """The solution in a teacher's words."""
        answer = case.problem.answer.strip().rstrip(".")
        if not answers.is_answer(answer) or any(answers.states(turn.text, answer) for turn in case.before[1:]):
            return None
        kind = answers.kind(answer)
        left = [_sentence(step.work) for step in _steps_left(case)]
        parts = {
            "answer": answer.lower() if kind == "truth" else answer,
            "question": _sentence(case.chosen.text),
            # the question that the answer is the answer to
            "last_question": case.chosen.text if case.step == len(case.problem.steps) - 1 else "",
            "step": left[0] if left else "",
            "solution": " ".join(left) or _sentence(case.problem.solution),
        }
        templates = _templates(frozenset(name for name, part in parts.items() if part), kind)
        rng = case.rng(self.kind)
        if rng.random() < 1 / 3:
            # those that ask the chosen question and answer it themselves are among them
            opening = case.chosen.text.split()[0]
            firsts = ((template, template.partition(" ")[0]) for template in templates)
            templates = [
                template
                for template, first in firsts
                if (first.format_map(parts).split()[0] if "{" in first else first) == opening
            ]
        length = replies.word_count(case.chosen.text)
        texts = (template.format_map(parts) for template in rng.sample(templates, 3))
        return min(texts, key=lambda text: abs(log(replies.word_count(text) / length)))


class Premature(Simple):
    """A later step's question, which builds on a result that the student does not have yet."""

    kind: ClassVar[str] = "premature"

    def worse(self, case: Case) -> str | None:
        """A question that skips ahead."""
        ahead = [text for text in self._ahead(case) if not case.repeats_chosen(text)]
        return case.rng(self.kind).choice(ahead) if ahead else None

    def _ahead(self, case: Case) -> Iterator[str]:
        if case.step is None:
            for turn in case.conversation.turns[case.turn + 2 :: 2]:
                # it speaks of a number that nobody has stated yet
                if replies.asks_question(turn.text) and not case.stated.issuperset(answers.values(turn.text)):
                    yield turn.text
            return
        due, *later = case.problem.steps[case.step :]
        missing = _result(due) - case.stated
        for step in later:
            if missing.intersection(quantity.value for quantity in read(step.work)[0]):
                missing |= _result(step) - case.stated
                if step.question:
                    yield step.question


class Irrelevant(Simple):
    """A teacher turn about another problem, of about the same length.

    It names at least two things or numbers of its own dialogue that this one does not have: a turn such as "What could
    you do next?" would fit anywhere.
    """

    kind: ClassVar[str] = "irrelevant"

    def worse(self, case: Case) -> str | None:
        """A turn that belongs elsewhere."""
        here = _things(*case.before, case.chosen)
        length = replies.word_count(case.chosen.text)
        for other, turn in islice(case.others.draw(length, case.rng(self.kind)), 30):
            if other.problem_id == case.problem.id:
                continue
            own_things = _things(other.turns[turn]) & _things(*other.turns[:turn])
            if len(own_things - here) >= 2:
                return other.turns[turn].text
        return None


class Repeated(Simple):
    """An earlier question again, although the student has answered it."""

    kind: ClassVar[str] = "repeated"

    def worse(self, case: Case) -> str | None:
        """A question that is settled."""
        results = {value for step in case.problem.steps for value in _result(step)}
        turns = case.before
        asked = [
            turn.text
            for number, turn in enumerate(turns)
            if turn.speaker == "teacher" and replies.asks_question(turn.text)
            # the teacher went on from it, or the reply states the result of a step
            if number < case.turn - 2 or results.intersection(answers.values(turns[number + 1].text))
        ]
        return case.rng(self.kind).choice(asked) if asked else None


class WeakModel(Rejection):
    """What a weak model says here: the dialogue as chat messages, without a system message that asks it to teach."""

    max_tokens: Tokens
    """The most tokens of a reply; one that is cut off there ends after its last whole sentence."""

    def reject(self, cases: Sequence[Case], generator: Generator | None) -> list[Rejected | None]:
        """For every case what the generator says, or None where it says nothing.

        Raises:
            UserError: There is no generator, or it fails.
        """
        if generator is None:
            raise UserError("generator: none is set, and rejection=weak_model needs one; e.g. generator=llama_cpp")
        requests = [
            Request(messages=tuple(to_messages(case.before)), seed=case.seed, max_tokens=self.max_tokens, shorten=True)
            for case in cases
        ]
        rejected: list[Rejected | None] = [None] * len(requests)
        with under("generator"):
            replies = list(generator.generate(requests))
        for index, reply in replies:
            text = reply.text.strip()
            turns = parse_transcript(text if LABEL.match(text) else f"Teacher: {text}")
            text = turns[0].text if turns else ""
            if reply.finish == "length":
                text = _whole_sentences(text)
            rejected[index] = Rejected("weak_model", text) if text else None
        return rejected


class Constant(Simple):
    """Always the same sentence. A model learns the sentence rather than to teach; it is there to compare with."""

    kind: ClassVar[str] = "constant"

    text: Text
    """The sentence."""

    def worse(self, case: Case) -> str:  # noqa: ARG002
        """The sentence."""
        return self.text


class Annotated(Simple):
    """The worse turn that a person gave at this place (Bridge: the novice's reply that an expert revised)."""

    kind: ClassVar[str] = "annotated"

    def worse(self, case: Case) -> str | None:
        """The worse turn of the data set."""
        return case.chosen.worse


class Mixed(Rejection):
    """Several kinds, drawn by weight for every turn; where one has nothing to say, the next one drawn is tried."""

    kinds: dict[str, Rejection]
    """The kinds by name."""
    weights: dict[str, Checked[Real, Field(ge=0, le=10**9)]]
    """How often each kind is drawn, relative to the others; 0 is never."""

    @model_validator(mode="after")
    def _fit(self) -> Self:
        if self.kinds.keys() != self.weights.keys():
            raise ValueError(f"weights are for {', '.join(self.weights)}, but the kinds are {', '.join(self.kinds)}")
        if not any(self.weights.values()):
            raise ValueError("all weights are 0; at least one kind is needed")
        return self

    def mistakes(self) -> list[str]:
        """Those of its kinds."""
        return [f"kinds.{name}.{mistake}" for name, kind in self.kinds.items() for mistake in kind.mistakes()]

    def reject(self, cases: Sequence[Case], generator: Generator | None) -> list[Rejected | None]:
        """For every case a worse turn of the kind drawn for it; None where no kind has anything to say."""
        worse: list[Rejected | None] = [None] * len(cases)
        orders = [self._order(case) for case in cases]
        for choice in range(len(orders[0]) if orders else 0):
            for name, kind in self.kinds.items():
                asked = [n for n, order in enumerate(orders) if worse[n] is None and order[choice] == name]
                if not asked:
                    continue
                for n, rejected in zip(asked, kind.reject([cases[n] for n in asked], generator), strict=True):
                    if rejected and not cases[n].repeats_chosen(rejected.text):
                        worse[n] = rejected
        return worse

    def against_shortcut(self, kinds: Sequence[str]) -> str:
        """Other weights: lower ones of those kinds."""
        weighed = [kind for kind in kinds if self.weights.get(kind)]
        return " or ".join(f"a lower rejection.weights.{kind}" for kind in weighed) or "other rejection.weights"

    def _order(self, case: Case) -> list[str]:
        """The kinds in an order drawn by weight (Efraimidis and Spirakis, 2006)."""
        rng = case.rng("mixed")
        drawn = {name: rng.expovariate(weight) for name, weight in self.weights.items() if weight}
        return sorted(drawn, key=lambda name: drawn[name])


@cache
def _templates(names: frozenset[str], kind: answers.Kind = "number") -> list[str]:
    """How a direct answer of a kind may be worded with nothing but these filled in; ``{answer}`` is in each."""
    text = (resources.files("socratic_rl.pairs") / "direct_answer.txt").read_text(encoding="utf-8")
    lines = text.partition(f"[{kind}]\n")[2].partition("\n\n")[0].splitlines()
    return [line for line in lines if names.issuperset(re.findall(r"\{(\w+)\}", line))]


def _sentence(text: str) -> str:
    """The text with a full stop, unless it ends in a mark of its own."""
    text = " ".join(text.split())
    return f"{text}." if text and (text[-1].isalnum() or text[-1] in "%)$") else text


def _whole_sentences(text: str) -> str:
    """The text up to the end of its last whole sentence; the number of a list's next item is none."""
    match = re.match(r".*[.!?](?=\s|$)", text, re.DOTALL)
    return re.sub(r"(?:^|\n)\s*\d+\.$", "", match[0]).strip() if match else ""


def _result(step: Step) -> set[Fraction]:
    """The number that a worked step ends in, if any."""
    return set(answers.values(step.work)[-1:])


def _steps_left(case: Case) -> Sequence[Step]:
    """The worked steps from the one that is due: the chosen turn's, or the first whose result nobody has stated."""
    steps = case.problem.steps
    due = case.step
    if due is None:
        due = next((n for n, step in enumerate(steps) if not case.stated.issuperset(_result(step))), len(steps) - 1)
    return steps[max(due, 0) :]


@cache
def _stop_words() -> frozenset[str]:
    from sklearn.feature_extraction.text import ENGLISH_STOP_WORDS

    return frozenset(ENGLISH_STOP_WORDS)


def _things(*turns: Turn) -> frozenset[str]:
    """The numbers and the longer words that stand for something."""
    return frozenset().union(*(_things_in(turn.text) for turn in turns))


@lru_cache(maxsize=1 << 10)
def _things_in(text: str) -> frozenset[str]:
    return frozenset(re.findall(r"\d+|[^\W\d_]{4,}", text.casefold())) - _stop_words()
