"""How soon each command answers ``--help``, ``--cfg job`` and a mistake, against a hello-world Hydra app that runs.

The app has a config of three keys and one group of two options. All are timed as a user waits for them, from the start
of the process to its end, taking turns; a ratio below 1 is a command that answers sooner than the app runs.
"""

import argparse
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from machine import Result, machine, write_results

ROOT = Path(__file__).parents[1]
COMMANDS = ("train.py", "generate.py", "evaluate.py", "chat.py")
ANSWERS = {
    "--help": ["--help"],
    "--cfg job": ["--cfg", "job"],
    "wrong value": ["seed=many"],
    "wrong key": ["sed=1"],
}
"""What is asked, and by which arguments."""

HELLO = {
    "app.py": """
import hydra


@hydra.main(version_base="1.3", config_path="conf", config_name="config")
def main(cfg):
    print(cfg.greeting, cfg.whom.name)


main()
""",
    "conf/config.yaml": "defaults: [_self_, whom: world]\ngreeting: Hello\nloud: false\ntimes: 1\n",
    "conf/whom/world.yaml": "name: world\n",
    "conf/whom/moon.yaml": "name: moon\n",
}


@dataclass(frozen=True)
class Answers(Result):
    """One row of the results. The limit: the most that the ratio should be."""

    better: str
    repeats: int
    slowest: str
    seconds: dict[str, float]
    """The median of each command."""


def seconds(folder: Path, *arguments: str) -> float:
    """How long a Python script runs, whatever it ends with."""
    start = time.perf_counter()
    subprocess.run([sys.executable, *arguments], cwd=folder, capture_output=True, check=False)
    return time.perf_counter() - start


def main() -> None:
    """Measure, print and write the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--commands", nargs="+", choices=COMMANDS, default=COMMANDS, help="which to ask")
    parser.add_argument("--repeats", type=int, default=5, help="times that each is timed, taking turns")
    parser.add_argument("--json", type=Path, help="where the results go as a list of records")
    options = parser.parse_args()

    print(machine(), flush=True)
    with tempfile.TemporaryDirectory() as folder:
        for name, text in HELLO.items():
            path = Path(folder, name)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        asked = {("hello world", "runs"): (Path(folder), ["app.py"])}
        for command in options.commands:
            asked |= {(command, answer): (ROOT, [command, *given]) for answer, given in ANSWERS.items()}
        # once for the files that Python compiles and the system keeps at hand
        for place, arguments in asked.values():
            seconds(place, *arguments)
        taken = {key: [] for key in asked}
        for _ in range(options.repeats):
            for key, (place, arguments) in asked.items():
                taken[key].append(seconds(place, *arguments))
    medians = {" ".join(key): median(values) for key, values in taken.items()}
    theirs = medians.pop("hello world runs")
    slowest = max(medians, key=lambda name: medians[name])
    print(f"{'hello world':24} {theirs:6.3f} s, median of {options.repeats}")
    for name, value in medians.items():
        print(f"{name:24} {value:6.3f} s {value / theirs:6.2f} times that")
    if options.json:
        result = Answers(
            name="startup",
            ours=medians[slowest],
            theirs=theirs,
            unit="s",
            limit=1.5,
            better="lower",
            repeats=options.repeats,
            slowest=slowest,
            seconds=medians,
        )
        write_results(options.json, [result])


if __name__ == "__main__":
    main()
