"""On-policy pairs: a trained tutor replies n times at every turn, and the best and the worst reply are a pair."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, NamedTuple

from pydantic import Field, field_serializer, field_validator
from sacrebleu.metrics.chrf import CHRF
from tqdm import tqdm

from socratic_rl.core.component import Count, Whole
from socratic_rl.core.dialogue import (
    Message,
    PreferencePair,
    Record,
    from_messages,
    render_transcript,
    seed_from,
    text_id,
    turn_key,
)
from socratic_rl.core.errors import UserError, under
from socratic_rl.core.files import write_jsonl
from socratic_rl.core.generator import Generator, Sampling, in_order
from socratic_rl.core.provenance import digest
from socratic_rl.core.records import RecordFile, RecordWriter
from socratic_rl.evaluation.held_out import HeldOutTurn, held_out_turns, marks
from socratic_rl.evaluation.judge import Case
from socratic_rl.generators.tutors import ByTransformers, chat_requests
from socratic_rl.measures.registry import FAILURES, failures
from socratic_rl.models.tokens import fit_prompt
from socratic_rl.models.tutor import Tutor
from socratic_rl.pairs.audit import audit_rows, no_remedy
from socratic_rl.pairs.cases import Rejection
from socratic_rl.pairs.dataset import DataSet, Prepared, SocraticPairs, counts, go_on_from, own_file

KIND = "best_of_n"
"""The kind of rejection of these pairs."""


class Candidate(Record):
    """A reply of the tutor."""

    text: str
    marks: dict[str, bool | int | None]
    """The judge-free measures; those that are not defined are left out."""
    score: float | None = None
    """From 0 to 1; None where the judge's answer could not be read."""


class Candidates(Record):
    """What the tutor says at one turn."""

    conversation_id: str
    problem_id: str
    turn: int
    prompt: list[Message]
    replies: tuple[Candidate, ...]
    judge: tuple[dict[str, Any], ...] = ()
    """What the judge wrote, where there is one: ``shown`` (numbers of replies), ``raw``, ``labels``."""


class BestOfN(DataSet):
    """Pairs of a tutor's own replies: n at each training and validation turn of its data set, the best and the worst.

    The test side is the data set's own, so that every round is evaluated on the same held-out pairs.
    """

    adapter: str
    """The tutor that replies."""
    n: Annotated[Whole, Field(ge=2, le=1024)]
    """Replies at each turn."""
    limit: Count | None
    """The first so many training turns."""
    sampling: Sampling
    judge: Any = None
    """Scores the replies; None leaves that to the measures."""

    @field_validator("adapter", mode="before")
    @classmethod
    def _is_given(cls, adapter: str | None) -> str:
        if adapter is None:
            raise ValueError("there is no tutor to reply: adapter=FOLDER")
        return adapter

    @field_serializer("sampling")
    def _by_its_keys(self, sampling: Sampling) -> dict[str, Any]:
        return sampling.as_config()

    def mistakes(self) -> list[str]:
        """Likeliest tokens, which make all replies alike; what is wrong with the judge."""
        mistakes = [f"judge.{mistake}" for mistake in self.judge.mistakes()] if self.judge else []
        if not self.sampling.temperature:
            mistakes.append("sampling.temperature: 0 gives the same reply n times; 1 draws as the model is")
        return mistakes

    def prepare(
        self,
        folder: Path,
        rejection: Rejection | None,  # noqa: ARG002
        generator: Generator | None,  # noqa: ARG002
        seed: int,
    ) -> Prepared:
        """Make ``candidates.jsonl``, ``pairs.jsonl`` and ``problems.jsonl`` in a folder.

        Raises:
            UserError: The tutor's data set is gone, or no turn gives a training pair.
        """
        tutor = Tutor(Path(self.adapter))
        source = _source(tutor)
        if mistakes := source.mistakes():
            raise UserError(f"adapter: {self.adapter}: its data set is gone: {mistakes[0].partition(';')[0]}")
        path = own_file(folder)
        made_from = {
            "dataset": self.model_dump(mode="json"),
            "tutor": tutor.digest,
            "source": digest([source.file]),
            "judge": self.judge.identity() if self.judge else None,
            "seed": seed,
        }
        go_on_from(folder, made_from, "candidates.jsonl*")
        pairs, problems = source.read(), source.read_problems()
        turns = {
            split: held_out_turns([pair for pair in pairs if pair.split == split], problems)
            for split in ("train", "validation")
        }
        turns["train"] = turns["train"][: self.limit]
        candidates = self._draw(tutor, [*turns["train"], *turns["validation"]], folder / "candidates.jsonl", seed)
        splits = {turn_key(turn): split for split, side in turns.items() for turn in side}
        own_pairs, summary = pairs_of(candidates, splits)
        if not any(pair.split == "train" for pair in own_pairs):
            raise UserError(
                f"dataset.n: no training turn gives a pair, since its {self.n} replies are alike in score; "
                "raise it or dataset.sampling.temperature, or let a judge score them: judge@dataset.judge=socratic_llm"
            )
        test = [pair for pair in pairs if pair.split == "test"]
        write_jsonl(path.with_name("problems.jsonl"), (problem.to_record() for problem in problems.values()))
        write_jsonl(path, (pair.to_record() for pair in [*own_pairs, *test]))
        summary |= (self.judge.facts() if self.judge else {}) | audit_rows(own_pairs, seed, no_remedy)[0]
        return Prepared(SocraticPairs(path=str(path)), summary | {"test pairs": f"{len(test)}, those of {source.path}"})

    def _draw(self, tutor: Tutor, turns: Sequence[HeldOutTurn], path: Path, seed: int) -> RecordFile[Candidates]:
        """The replies at each turn, in the order of the turns, in a file."""
        file = RecordWriter(Candidates, path, turn_key)
        if not file.finished:
            # of like length together
            order = sorted(turns, key=lambda turn: sum(len(message["content"]) for message in turn.prompt))
            size = max(1, self.sampling.width // self.n)
            with tqdm(total=len(turns), initial=len(file), desc="replies", unit=" turns", delay=2) as bar:
                for first in range(0, len(order), size):
                    group = order[first : first + size]
                    if all(turn_key(turn) in file for turn in group):
                        continue
                    # as a whole, since what else is in a batch can tip a token
                    for candidates in self._reply(tutor, group, seed):
                        if turn_key(candidates) not in file:
                            file.append(candidates)
                            bar.update()
            file.finish(map(turn_key, turns))
        return RecordFile(Candidates, path)

    def _reply(self, tutor: Tutor, turns: Sequence[HeldOutTurn], seed: int) -> Iterator[Candidates]:
        """The replies at each of these turns, measured and scored."""
        prompts = [fit_prompt(turn.prompt, tutor.tokenizer, tutor.max_length) or turn.prompt for turn in turns]
        seeds = [seed_from(seed, turn.conversation_id, turn.turn, number) for turn in turns for number in range(self.n)]
        requests = chat_requests([prompt for prompt in prompts for _ in range(self.n)], seeds)
        generator = ByTransformers(tutor.tutor, tutor.tokenizer, self.sampling)
        drawn = in_order(generator.generate(requests), len(requests), None)
        by_turn = [drawn[first : first + self.n] for first in range(0, len(drawn), self.n)]
        cases = [
            Case(render_transcript(from_messages(prompt)), tuple(reply.text for reply in replies), turn.answer)
            for turn, prompt, replies in zip(turns, prompts, by_turn, strict=True)
        ]
        with under("dataset"):
            verdicts = self.judge.judge(cases, seed) if self.judge else [None] * len(cases)
        for turn, prompt, replies, verdict in zip(turns, prompts, by_turn, verdicts, strict=True):
            marked = [marks(reply.text, reply.finish == "length", turn) for reply in replies]
            scores = [
                self.judge.quality(verdict, number) if verdict else measured_score(reply.text, measured, turn.reference)
                for number, (reply, measured) in enumerate(zip(replies, marked, strict=True))
            ]
            yield Candidates(
                conversation_id=turn.conversation_id,
                problem_id=turn.problem_id,
                turn=turn.turn,
                prompt=prompt,
                replies=tuple(
                    Candidate(text=reply.text, marks=measured, score=score)
                    for reply, measured, score in zip(replies, marked, scores, strict=True)
                ),
                judge=tuple(asdict(answer) for answer in verdict.answers) if verdict else (),
            )


def _source(tutor: Tutor) -> SocraticPairs:
    """The data set that has every turn; one of replies lacks the turns at which they were alike."""
    earlier, _ = tutor.earlier()
    for trained in (tutor, *reversed(earlier)):
        if "adapter" not in (trained.record.data_source or {}):
            break
    return trained.dataset


def pairs_of(
    candidates: Iterable[Candidates], sides: Mapping[tuple[str, int], str]
) -> tuple[list[PreferencePair], dict[str, object]]:
    """A pair of the best and the worst reply at each turn where two differ, and what the closing table says.

    Args:
        candidates: The replies at each turn.
        sides: The side of the split that each turn is on, by conversation id and turn.
    """
    pairs: list[PreferencePair] = []
    no_pair: Counter[str] = Counter()
    faults: Counter[str] = Counter()
    turns = replies = 0
    for candidate in candidates:
        turns += 1
        replies += len(candidate.replies)
        faults.update(FAILURES[name].fault for reply in candidate.replies for name in failures(reply.marks))
        faults["says nothing"] += sum(not reply.text.strip() for reply in candidate.replies)
        faults["not scored, since the judge cannot be read"] += sum(reply.score is None for reply in candidate.replies)
        # what says nothing reveals nothing, and would be better than what does
        picked = best_and_worst([reply.score if reply.text.strip() else None for reply in candidate.replies])
        best, worst = (candidate.replies[number].text for number in picked or (0, 0))
        if text_id(best) == text_id(worst):
            no_pair["the same text" if picked else "alike in score"] += 1
            continue
        pair = PreferencePair.of(
            from_messages(candidate.prompt),
            best,
            worst,
            conversation_id=candidate.conversation_id,
            problem_id=candidate.problem_id,
            turn=candidate.turn,
            rejection=KIND,
            split=sides[turn_key(candidate)],
        )
        pairs.append(pair)
    why = f" ({', '.join(f'{n} {reason}' for reason, n in no_pair.items())})" if no_pair else ""
    return pairs, {
        "replies": f"{replies} at {turns} turns",
        "faults": ", ".join(f"{name} {n}" for name, n in faults.most_common() if n) or "none",
        "pairs made": f"{len(pairs)} of {turns} turns{why}",
        "split": counts(pair.split for pair in pairs),
    }


CLOSENESS = CHRF(beta=0.7)  # type: ignore[arg-type]  # it takes any number
"""chrF whose recall weighs less than its precision. By its usual β of 2 the better of a small model's replies was the
longer one at 103 of 120 turns, and the tutor that was trained on them wrote more; so it is at 70 of 120."""


class Picked(NamedTuple):
    """Two of several replies, by their numbers."""

    best: int
    worst: int


def measured_score(reply: str, marks: Mapping[str, bool | int | None], reference: str) -> float:
    """How good a reply is without a judge, from 0 to 1: by its faults, then by how close it is to the teacher's own.

    The faults are those of the report, the gravest first: it reveals the answer, does not ask, speaks for the student,
    repeats a turn, is cut off. Each weighs more than all lesser ones together, and closeness less than any. A measure
    that is not defined is no fault. Closeness tells apart replies that all ask, some of them about nothing in the
    problem: it is chrF, the F-score of character n-grams (Popović 2015, https://aclanthology.org/W15-3049), to what the
    dialogue's teacher asks at this very place.

    Args:
        reply: The tutor's reply.
        marks: Its measures by name, as ``evaluation.marks`` gives them.
        reference: The turn of the dialogue's own teacher.
    """
    names = list(FAILURES)
    levels = 1 << len(names)
    lost = sum(levels >> (names.index(name) + 1) for name in failures(marks))
    # twice, so that no closeness makes up for a fault
    closeness = float(CLOSENESS.sentence_score(reply, [reference]).score) / 100
    return (2 * (levels - 1 - lost) + closeness) / (2 * levels - 1)


def best_and_worst(scores: Sequence[float | None]) -> Picked | None:
    """The replies with the highest and the lowest score, of equal ones the first that was drawn.

    Args:
        scores: One a reply; None for a reply that could not be scored and is not chosen.

    Returns:
        None where no two scores differ.
    """
    scored = [(score, number) for number, score in enumerate(scores) if score is not None]
    if len({score for score, _ in scored}) < 2:
        return None
    best = max(scored, key=lambda pair: (pair[0], -pair[1]))
    worst = min(scored)
    return Picked(best[1], worst[1])
