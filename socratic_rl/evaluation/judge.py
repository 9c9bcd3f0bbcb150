"""A model as judge: it labels replies by a rubric, two at a time and in both orders."""

import hashlib
import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib import resources
from operator import attrgetter
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError, create_model

from socratic_rl.conversations.prompting import prompt_text, template
from socratic_rl.core.component import Component
from socratic_rl.core.dialogue import Record, seed_from
from socratic_rl.core.errors import UserError, under
from socratic_rl.core.generator import Request
from socratic_rl.core.provenance import differences
from socratic_rl.core.records import RecordWriter
from socratic_rl.evaluation.rubric import Criterion, Rubric, rubric_file
from socratic_rl.measures.figures import CriterionAgreement, JudgeAgreement

PROMPT = resources.files("socratic_rl.evaluation") / "prompts" / "judge.jinja"


NAMES = ("A", "B")
"""What the replies are called to the judge, in the order in which it sees them."""


@dataclass(frozen=True)
class Case:
    """A place in a dialogue, with what tutors say there."""

    dialogue: str
    """Everything before the replies, as a transcript."""
    replies: tuple[str, ...]
    answer: str = ""
    """The problem's gold answer; empty where it is not known."""


@dataclass(frozen=True)
class Answer:
    """What the judge wrote about one or two replies."""

    shown: tuple[int, ...]
    """Which of the case's replies it saw as A and, where there is one, as B."""
    raw: str
    labels: tuple[Mapping[str, str], ...] | None
    """The label of each criterion, for each reply shown; None where the text is not what was asked for."""


class Written(Record):
    """An answer as it is kept while others are awaited."""

    asked: str
    """The hash of judge, prompt and seed."""
    raw: str


class CalibrationFile(BaseModel):
    """What of ``calibration.json`` is used."""

    judge: dict[str, Any]
    criteria: list[CriterionAgreement]


@dataclass(frozen=True)
class Verdict:
    """What the judge says of all replies of a case."""

    answers: tuple[Answer, ...]

    @property
    def unreadable(self) -> int:
        """How many answers are not what was asked for."""
        return sum(answer.labels is None for answer in self.answers)

    def labels(self, reply: int, criterion: str) -> list[str] | None:
        """The labels that a reply got, one each time it was shown; None where an answer could not be read."""
        labels = []
        for answer in self.answers:
            if reply in answer.shown:
                if answer.labels is None:
                    return None
                labels.append(answer.labels[answer.shown.index(reply)][criterion])
        return labels


class Judge(Component):
    """Labels replies by a rubric, through any generator.

    Replies are shown in pairs, each pair in both orders, which cancels a liking for either place: the first with the
    second, the third with the fourth, an odd last one with the first. A single reply is shown alone. What is not a JSON
    object with a label for every criterion is kept, counted, and never scored.
    """

    rubric: str
    """``socratic_llm``, ``mrbench``, or a YAML file."""
    generator: Any
    """What judges."""
    calibration: str | None = None
    """The ``calibration.json`` of this very judge; None where it was not compared with people."""

    def mistakes(self) -> list[str]:
        """A rubric or a calibration that cannot be read."""
        mistakes = []
        try:
            Rubric.read(self.rubric)
        except ValueError as error:
            mistakes.append(f"rubric: {error}")
        try:
            self._calibrated()
        except OSError:
            mistakes.append(f"calibration: {self.calibration}: no such file; suite=calibrate leaves one")
        except ValueError:
            mistakes.append(f"calibration: {self.calibration}: is no calibration; suite=calibrate leaves one")
        return mistakes

    @cached_property
    def criteria(self) -> dict[str, Criterion]:
        """The rubric's criteria by name."""
        return Rubric.read(self.rubric).criteria

    def identity(self) -> dict[str, Any]:
        """What its labels depend on: the rubric, the hash of rubric and prompt, the generator."""
        texts = (rubric_file(self.rubric).read_text(encoding="utf-8"), prompt_text(PROMPT))
        return {
            "rubric": Rubric.read(self.rubric).name,
            "sha256": _digest("\0".join(texts)),
            "generator": self._generator_identity(),
        }

    def agreement(self) -> dict[str, JudgeAgreement]:
        """How well it agrees with people, by criterion; empty where it was not calibrated.

        Raises:
            UserError: The calibration is another judge's; names what differs.
        """
        calibrated = self._calibrated()
        if calibrated is None:
            return {}
        if other := list(differences(calibrated.judge, self.identity())):
            raise UserError(f"judge.calibration: {self.calibration} is another judge's: {'; '.join(other)}")
        return {
            row.criterion: JudgeAgreement(kappa=row.kappa, low=row.kappa_low, high=row.kappa_high, n=row.n)
            for row in calibrated.criteria
        }

    def facts(self) -> dict[str, str]:
        """Who judges, and how well that agrees with people."""
        identity, agreed = self.identity(), self.agreement()
        figures = ", ".join(
            f"{name} {'–' if row.kappa is None else format(row.kappa, '.2f')} (n {row.n})"
            for name, row in agreed.items()
        )
        return {
            "judge": f"{identity['rubric']}, by {identity['generator'].get('model', identity['generator']['kind'])}",
            "judge's calibration": f"{self.calibration}: κ against people {figures}" if agreed else "not calibrated",
        }

    def judge(self, cases: Sequence[Case], seed: int, answers_path: Path | None = None) -> list[Verdict]:
        """A verdict for each case.

        Args:
            cases: Places in dialogues with the replies there.
            seed: Of the judge's sampling.
            answers_path: Answers are written to ``<answers_path>.partial`` as they come, and what a run that ended
                early left there is not asked again.

        Raises:
            UserError: The generator fails.
        """
        asked = [(case, order) for case in cases for order in _orders(len(case.replies))]
        written = self._written([self._request(case, order, seed) for case, order in asked], answers_path)
        answers = (
            Answer(order, raw, self._read(raw, len(order))) for (_, order), raw in zip(asked, written, strict=True)
        )
        return [Verdict(tuple(next(answers) for _ in _orders(len(case.replies)))) for case in cases]

    def score(self, verdict: Verdict, reply: int, criterion: str) -> float | None:
        """A reply's mean score over all times it was shown, from 0 to 1; None where an answer could not be read."""
        labels = verdict.labels(reply, criterion)
        if labels is None:
            return None
        return sum(self.criteria[criterion].scores[label] for label in labels) / len(labels)

    def quality(self, verdict: Verdict, reply: int) -> float | None:
        """How good a reply is, from 0 to 1: the mean over all criteria, each turned so that more is better.

        None where an answer could not be read.
        """
        good = []
        for name, criterion in self.criteria.items():
            score = self.score(verdict, reply, name)
            if score is None:
                return None
            good.append(score if criterion.better == "more" else 1 - score)
        return sum(good) / len(good)

    def _request(self, case: Case, indices: Sequence[int], seed: int) -> Request:
        names = NAMES[: len(indices)]
        prompt = template(PROMPT).render(
            criteria=self.criteria,
            form=json.dumps(dict.fromkeys(names, dict.fromkeys(self.criteria, "…")), ensure_ascii=False),
            dialogue=case.dialogue,
            answer=case.answer,
            replies={name: case.replies[reply] for name, reply in zip(names, indices, strict=True)},
        )
        return Request(
            seed=seed_from(seed, prompt),
            messages=({"role": "user", "content": prompt},),
            schema=json.dumps(self._forms[len(indices)].model_json_schema()),
            # one that does not fit is counted with those that cannot be read
            shorten=True,
        )

    def _generator_identity(self) -> dict[str, Any]:
        with under("judge.generator"):
            identity: dict[str, Any] = self.generator.identity()
        return identity

    def _written(self, requests: Sequence[Request], answers_path: Path | None) -> list[str]:
        """What the generator writes to each request, behind a progress bar."""
        from tqdm import tqdm

        identity = self.identity()
        keys = [_digest(json.dumps([identity, request.messages, request.seed])) for request in requests]
        stage = RecordWriter(Written, answers_path, attrgetter("asked")) if answers_path else None
        written = {answer.asked: answer.raw for answer in stage.records()} if stage is not None else {}
        missing = {key: request for key, request in zip(keys, requests, strict=True) if key not in written}
        missing_keys = list(missing)
        answers = self.generator.generate(list(missing.values()))
        with under("judge.generator"), tqdm(answers, "judge", len(missing_keys), unit=" answers", delay=2) as bar:
            for index, reply in bar:
                key = missing_keys[index]
                written[key] = reply.text
                if stage is not None:
                    stage.append(Written(asked=key, raw=reply.text))
        return [written[key] for key in keys]

    def _calibrated(self) -> CalibrationFile | None:
        if self.calibration is None:
            return None
        return CalibrationFile.model_validate_json(Path(self.calibration).read_bytes())

    def _read(self, text: str, count: int) -> tuple[dict[str, str], ...] | None:
        try:
            labels = self._forms[count].model_validate_json(text)
        except ValidationError:
            return None
        return tuple(getattr(labels, name).model_dump() for name in NAMES[:count])

    @cached_property
    def _forms(self) -> dict[int, type[BaseModel]]:
        """What the judge's JSON must be, by how many replies it is about."""
        strict = ConfigDict(extra="forbid")
        labels: dict[str, Any] = {name: Literal[tuple(criterion.scores)] for name, criterion in self.criteria.items()}
        marks: Any = create_model("Marks", __config__=strict, **labels)
        forms: list[dict[str, Any]] = [dict.fromkeys(NAMES[:count], marks) for count in (1, 2)]
        return {len(form): create_model("Judgement", __config__=strict, **form) for form in forms}


def alike(verdicts: Sequence[Verdict], criteria: Collection[str]) -> tuple[int, int]:
    """How many labels stay when the two replies change places, of how many that were given in both orders."""
    same = total = 0
    for verdict in verdicts:
        for there, back in zip(verdict.answers[::2], verdict.answers[1::2], strict=False):
            if there.labels is not None and back.labels is not None:
                for first, second in zip(there.labels, reversed(back.labels), strict=True):
                    total += len(criteria)
                    same += sum(first[criterion] == second[criterion] for criterion in criteria)
    return same, total


def _orders(count: int) -> list[tuple[int, ...]]:
    """Which replies are shown together; a pair's two orders follow each other."""
    if count == 1:
        return [(0,)]
    pairs = [(reply, (reply + 1) % count) for reply in range(0, count, 2)]
    return [order for first, second in pairs for order in ((first, second), (second, first))]


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
