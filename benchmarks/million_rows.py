"""From conversations to training rows at 10,000 and 1,000,000 rows: rows per second and peak memory.

A row is a teacher turn that becomes a preference pair. Made-up problems and conversations lie in a folder as a
generator leaves them; a process of its own runs the stages of generate.py on them: reading, pairing, de-duplicating,
splitting, auditing, writing. One sentence is rejected everywhere; `--rejection mixed` thinks of bad answers as
generate.py does, which takes longer. One conversation in ten says what an earlier one
says, word for word or nearly. How many of their pairs are left out is compared with a plain reading of the
definition.
"""

import argparse
import json
import math
import random
import re
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from machine import Result, machine, peak_memory, write_results

ROOT = Path(__file__).parents[1]

STORIES = [
    (
        "{name} packs {a} boxes with {b} {thing} each for the fair, and {c} more {thing} lie on the table. A second "
        "{place} sends just as many. How many {thing} are there in the end?",
        "How many {thing} go into all of the boxes that {name} packs?",
        "And what do you get when those on the table come along as well?",
        "Now that a second {place} sends just as many, what happens to your number?",
    ),
    (
        "Every shelf in the {place} holds {b} {thing}, and {name} fills {a} of the shelves before noon. Then {c} "
        "{thing} arrive late. The next day everything is doubled. What is the count on the next day?",
        "What do the filled shelves hold before anything arrives late?",
        "How does the late delivery change what {name} has counted so far?",
        "If everything is doubled on the next day, how would you go on from there?",
    ),
    (
        "At the {place}, {name} sells {a} bags of {thing} for {b} dollars a bag and earns {c} dollars in tips. "
        "Her brother earns as much as she does. How many dollars do they have together?",
        "What does {name} take in for the bags alone?",
        "Which amount comes on top of the money for the bags?",
        "Her brother has the same, so how can you find what they have together?",
    ),
    (
        "A train to the {place} has {a} cars with {b} seats each, and {c} people have to stand. {name} counts the "
        "travellers of this train and of a second one that is exactly as full. How many travellers does {name} count?",
        "When all of the cars are full, how many travellers are sitting?",
        "Who else is on the train, and how many travellers does that make?",
        "There are two trains like this one; what will {name} write down?",
    ),
    (
        "{name} plants {a} rows of {b} tulips behind the {place} and finds {c} old bulbs in the {thing} crate. Each "
        "bulb opens two flowers. How many flowers will there be in spring?",
        "How many tulips stand behind the {place} once all of the rows are planted?",
        "What do the old bulbs from the crate add to that?",
        "Each of them opens two flowers, so what can {name} expect in spring?",
    ),
    (
        "It takes {name} {b} minutes to sort one crate of {thing}. There are {a} crates, and cleaning the {place} "
        "takes {c} minutes. The whole job has to be done twice. How many minutes does it take?",
        "How long does {name} spend on the crates alone?",
        "After the crates, what else has to be done, and how long is it until then?",
        "The job comes twice; how would you work out the whole time?",
    ),
]
NAMES = (
    "Amara",
    "Bo",
    "Chidi",
    "Dana",
    "Elif",
    "Femi",
    "Greta",
    "Hugo",
    "Ines",
    "Jonas",
    "Kira",
    "Luca",
    "Mei",
    "Nadia",
)
THINGS = ("apples", "pencils", "marbles", "candles", "stickers", "buttons", "postcards", "shells", "beads", "ribbons")
PLACES = ("school", "library", "market", "garden", "museum", "bakery", "harbour", "theatre")
A, B, C = 97, 89, 83
"""How many values each of a story's numbers has; together more than there are problems of a story."""
TURNS = 3
"""Teacher turns of a conversation."""
CYCLE = 20
"""Of so many conversations the last but one says word for word what the first says, the last nearly what the second."""


@dataclass(frozen=True)
class Measured:
    """What a process measured of the stages."""

    seconds: float
    gigabytes: float
    """The most memory that the process held, imports included."""
    duplicates: int
    told: dict[str, str]
    """The closing table."""


@dataclass(frozen=True)
class Growth(Result):
    """One row of the results, and what explains it."""

    rows: list[int]
    rows_per_second: list[float]
    gigabytes: list[float]
    duplicates: list[int]


def source_of(number: int) -> int:
    """Which conversation has the same words, or nearly: the number itself, unless it is a copy."""
    return number - CYCLE + 2 if number % CYCLE >= CYCLE - 2 else number


def tell(number: int) -> tuple[dict[str, Any], dict[str, Any]]:
    """The problem and the conversation of that number, as records."""
    source = source_of(number)
    draw = random.Random(source)
    question, *asked = STORIES[source % len(STORIES)]
    # a factor without a divisor in common with the number of places goes to each place once
    place = source // len(STORIES) * 7919 % (A * B * C)
    a, b, c = 2 + place % A, 2 + place // A % B, 2 + place // A // B
    words = {"a": a, "b": b, "c": c, "name": draw.choice(NAMES), "thing": draw.choice(THINGS)}
    words["place"] = draw.choice(PLACES)
    if number % CYCLE == CYCLE - 1:
        question = f"Listen: {question}"
    stated = question.format_map(words)
    asks = [ask.format_map(words) for ask in asked]
    works = [f"{a} × {b} = {a * b}", f"{a * b} + {c} = {a * b + c}", f"2 × {a * b + c} = {2 * (a * b + c)}"]
    replies = [
        f"That is {a} times {b}, so {a * b}.",
        f"I add {c} and get {a * b + c}.",
        f"Twice {a * b + c} makes {2 * (a * b + c)}.",
    ]
    problem = {
        "id": f"problem-{number}",
        "question": stated,
        "solution": " ".join(f"{work}." for work in works),
        "steps": [
            {"work": work, "question": ask, "reply": reply}
            for work, ask, reply in zip(works, asks, replies, strict=True)
        ],
        "answer": str(2 * (a * b + c)),
        "topic": "",
        "source": "made up",
    }
    turns: list[dict[str, str]] = [{"speaker": "student", "text": stated}]
    for work, ask, reply in zip(works, asks, replies, strict=True):
        teacher = {"speaker": "teacher", "text": ask}
        # what is copied brings bad answers of its own, since those that are drawn would seldom be the same
        if source % CYCLE < 2:
            teacher["worse"] = f"No, you have to know that {work}, please write that down."
        turns += [teacher, {"speaker": "student", "text": reply}]
    conversation = {
        "id": f"problem-{number}/0",
        "problem_id": problem["id"],
        "turns": turns,
        "accepted": True,
        "reasons": [],
        "provenance": {"writer": "made up"},
    }
    return problem, conversation


def write_rows(folder: Path, rows: int) -> None:
    """Problems and conversations with so many teacher turns, as the first stages of generate.py leave them."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "problems.jsonl").open("w") as problems, (folder / "conversations.jsonl").open("w") as conversations:
        for number in range(math.ceil(rows / TURNS)):
            for file, record in zip((problems, conversations), tell(number), strict=True):
                file.write(json.dumps(record, ensure_ascii=False) + "\n")


def pair_up(folder: Path, rejection: str = "mixed", csv: bool = False) -> Measured:
    """Run the stages on what lies in a folder, in this process."""
    from hydra import compose, initialize_config_dir

    from socratic_rl.commands.generate import run_stages
    from socratic_rl.commands.settings import GenerateSettings, parse

    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        settings = parse(
            GenerateSettings, compose("generate", ["wandb=disabled", f"rejection={rejection}", f"csv={csv}"])
        )
    start = time.perf_counter()
    summary = run_stages(settings, folder)
    seconds = time.perf_counter() - start
    peak = peak_memory()
    with (folder / "all_pairs.jsonl").open("rb") as made:
        duplicates = sum(1 for _ in made) - int(summary.figures["pairs"])
    return Measured(seconds, peak / 1e9, duplicates, {key: str(value) for key, value in summary.rows.items()})


def plain_duplicates(folder: Path) -> int:
    """How many pairs are duplicates by the plain definition, each compared with all before it that could be alike.

    No numbers but those of a conversation and its copy are the same, so pairs are compared within these.
    """
    earlier: dict[tuple[int, int], list[dict[str, Any]]] = {}
    found = 0
    with (folder / "all_pairs.jsonl").open(encoding="utf-8") as file:
        for line in file:
            row = json.loads(line)
            number = int(row["problem_id"].removeprefix("problem-"))
            if number % CYCLE not in (0, 1, CYCLE - 2, CYCLE - 1):
                continue
            alike = earlier.setdefault((source_of(number), row["turn"]), [])
            if any(is_duplicate(row, other) for other in alike):
                found += 1
            else:
                alike.append(row)
    return found


def compared(pair: dict[str, Any]) -> list[str]:
    """The problem, the student's last turn, the chosen and the rejected turn."""
    return [said["content"] for said in (pair["prompt"][0], pair["prompt"][-1], *pair["chosen"], *pair["rejected"])]


def numbers(pair: dict[str, Any]) -> list[str]:
    """The numbers that a pair states; the stories write them in digits."""
    return re.findall(r"\d+", " ".join(compared(pair)))


def is_duplicate(pair: dict[str, Any], other: dict[str, Any]) -> bool:
    """Whether two pairs say the same, or are of different conversations and say nearly the same."""
    if [pair[key] for key in ("prompt", "chosen", "rejected")] == [
        other[key] for key in ("prompt", "chosen", "rejected")
    ]:
        return True
    if pair["conversation_id"] == other["conversation_id"] or numbers(pair) != numbers(other):
        return False
    for text, other_text in list(zip(compared(pair), compared(other), strict=True))[1:]:
        one, two = (set(pairwise(["", *re.findall(r"\w+|[-+*/=×÷]", said.lower()), ""])) for said in (text, other_text))
        if len(one & two) < 0.8 * len(one | two):
            return False
    return True


def measure(rows: int, rejection: str) -> Measured:
    """Make so many rows and run the stages on them in a process of its own; what is left out must be right."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_rows(folder, rows)
        done = subprocess.run(
            [sys.executable, __file__, "--work", name, "--rejection", rejection], check=True, stdout=subprocess.PIPE
        )
        measured = Measured(**json.loads(done.stdout))
        expected = plain_duplicates(folder)
    if not 0.995 * expected <= measured.duplicates <= expected:
        raise SystemExit(f"{rows} rows: {measured.duplicates} duplicates were left out, but there are {expected}")
    print(
        f"{rows:9,} rows  {rows / measured.seconds:7,.0f} rows/s  {measured.gigabytes:5.2f} GB"
        f"  {measured.duplicates:6,} of {expected:6,} duplicates left out",
        flush=True,
    )
    return measured


def main() -> None:
    """Measure, print and write the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, nargs="+", default=[10_000, 1_000_000], help="from few to many")
    parser.add_argument("--rejection", default="constant", help="an option of generate.py that needs no generator")
    parser.add_argument("--repeats", type=int, default=5, help="runs at the fewest rows, whose median counts")
    parser.add_argument("--json", type=Path, help="where the result goes, as a list of one record")
    parser.add_argument("--work", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.work:
        print(json.dumps(asdict(pair_up(options.work, options.rejection))))
        return

    print(machine(), flush=True)
    fewest, *more = options.rows
    runs = sorted((measure(fewest, options.rejection) for _ in range(options.repeats)), key=lambda run: run.seconds)
    measured = [runs[len(runs) // 2], *(measure(rows, options.rejection) for rows in more)]
    speeds = [rows / each.seconds for rows, each in zip(options.rows, measured, strict=True)]
    print(f"rows/s at {options.rows[-1]:,} over rows/s at {fewest:,}: {speeds[-1] / speeds[0]:.2f}")
    result = Growth(
        name="million_rows",
        ours=speeds[-1],
        theirs=speeds[0],
        unit="rows/s",
        limit=1.0,
        rows=options.rows,
        rows_per_second=speeds,
        gigabytes=[each.gigabytes for each in measured],
        duplicates=[each.duplicates for each in measured],
    )
    if options.json:
        write_results(options.json, [result])


if __name__ == "__main__":
    main()
