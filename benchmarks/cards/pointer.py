"""How well a reply's words tell which step it points at: ``points_at`` on sub-questions of GSM8K's Socratic subset.

    python benchmarks/cards/pointer.py FILE          measure on the half that the weights were not fitted to
    python benchmarks/cards/pointer.py FILE --fit    fit the weights to the other half, and print them

FILE has the subset's rows, ``question`` and ``answer`` with lines ``sub-question ** step``. A sub-question that stands
at several steps points at each of them.
"""

import argparse
import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from socratic_rl.conversations import GSM8KSocratic
from socratic_rl.core.dialogue import Problem, Step
from socratic_rl.measures.intervals import share_interval
from socratic_rl.measures.pointing import WEIGHTS, cosine, features, masked, points_at, probabilities, stems

PENALTY = 3e-3
"""What the squared weights of scaled features cost in the fit."""


def problems(rows: Sequence[Mapping[str, Any]], fitted: bool) -> Iterator[Problem]:
    """The problems of two or more annotated steps of one half: that which the weights are fitted to, or the other."""
    source = GSM8KSocratic.model_construct(name="gsm8k_socratic")
    for row in rows:
        if int(hashlib.sha256(row["question"].encode()).hexdigest(), 16) % 2 != (not fitted):
            continue
        problem = source.problem(row)
        steps = tuple(step for step in problem.steps if step.question)
        if len(steps) > 1:
            yield problem.model_copy(update={"steps": steps})


def sub_questions(rows: Sequence[Mapping[str, Any]], fitted: bool) -> Iterator[tuple[str, Problem, set[int]]]:
    """Each sub-question with its problem, whose steps have no questions now, and the steps where it stands."""
    for problem in problems(rows, fitted):
        bare = tuple(Step(work=step.work) for step in problem.steps)
        words = [" ".join(re.findall("[a-z]+", (step.question or "").lower())) for step in problem.steps]
        for number, step in enumerate(problem.steps):
            where = {other for other, text in enumerate(words) if text == words[number]}
            yield step.question or "", problem.model_copy(update={"steps": bare}), where


def card(rows: Sequence[Mapping[str, Any]], *, fitted: bool) -> dict[str, float]:
    """How often the likeliest step is right, and how often the steps pointed at are one, and it is right."""
    right, overlap_right, one, one_right, chance = [], [], 0, 0, 0.0
    for text, problem, where in sub_questions(rows, fitted):
        likely = probabilities(text, problem.question, problem.steps)
        right.append(int(np.argmax(likely)) in where)
        shared = [cosine(stems(text), stems(masked(step.work))) for step in problem.steps]
        overlap_right.append(int(np.argmax(shared)) in where)
        pointed = points_at(text, problem.question, problem.steps)
        one += len(pointed) == 1
        one_right += len(pointed) == 1 and pointed[0] in where
        chance += len(where) / len(problem.steps)
    low, high = share_interval(sum(right), len(right))
    return {
        "sub-questions": len(right),
        "chance": chance / len(right),
        "overlap alone": float(np.mean(overlap_right)),
        "accuracy": float(np.mean(right)),
        "low": low,
        "high": high,
        "points at one": one / len(right),
        "right where it points at one": one_right / one,
    }


def fit(rows: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """The weights of a conditional logit over the steps of each problem (McFadden, 1974)."""
    from scipy.optimize import minimize

    tables, answers = [], []
    for text, problem, where in sub_questions(rows, fitted=True):
        of_steps = [features(text, problem.question, problem.steps, index) for index in range(len(problem.steps))]
        tables.append(np.array([[values[name] for name in WEIGHTS] for values in of_steps]))
        answers.append(sorted(where))
    scale = np.concatenate(tables).std(axis=0)

    def loss(weights: Any) -> float:
        total = PENALTY * float(weights @ weights)
        for table, answer in zip(tables, answers, strict=True):
            scores = table @ (weights / scale)
            total += (np.logaddexp.reduce(scores) - np.logaddexp.reduce(scores[answer])) / len(tables)
        return total

    fitted = minimize(loss, np.zeros(len(WEIGHTS)), method="L-BFGS-B").x / scale
    return {name: round(float(weight), 2) for name, weight in zip(WEIGHTS, fitted, strict=True)}


def main() -> None:
    """Print the card, or the weights."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path)
    parser.add_argument("--fit", action="store_true", help="fit the weights and print them")
    options = parser.parse_args()
    rows = [json.loads(line) for line in options.file.read_text(encoding="utf-8").splitlines()]
    for name, value in (fit(rows) if options.fit else card(rows, fitted=False)).items():
        print(f"{name:30} {value:,.3f}")


if __name__ == "__main__":
    main()
