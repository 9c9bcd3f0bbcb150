"""All benchmarks of this folder, one after the other: one table, and all results in one file."""

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from machine import machine

from socratic_rl.pages.console import console

HERE = Path(__file__).parent
OUTPUT = HERE.parent / "outputs" / "bench"


def run(script: Path) -> list[dict[str, Any]] | None:
    """A benchmark's results, or None where it failed; what it says on stderr goes into its log."""
    found, log = OUTPUT / f"{script.stem}.json", OUTPUT / f"{script.stem}.log"
    with log.open("w") as errors:
        ended = subprocess.run([sys.executable, script, "--json", found], stderr=errors)
    if ended.returncode:
        print("\n".join(log.read_text().splitlines()[-20:]))
        return None
    return json.loads(found.read_text())  # type: ignore[no-any-return]


def show(results: list[dict[str, Any]]) -> None:
    """The table of all results."""
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD)
    for heading in ("name", "ours", "theirs", "unit", "ratio", "limit"):
        table.add_column(heading, justify="left" if heading in ("name", "unit") else "right")
    for result in results:
        ours, theirs, ratio, limit = (
            "–" if result[key] is None else f"{result[key]:,.4g}" for key in ("ours", "theirs", "ratio", "limit")
        )
        table.add_row(result["name"], ours, theirs, result["unit"], ratio, limit)
    console().print(table)


def main() -> None:
    """Run, print and write; exits with 1 where a benchmark failed."""
    OUTPUT.mkdir(parents=True, exist_ok=True)
    scripts = sorted({*HERE.glob("*.py")} - {HERE / "machine.py", HERE / "run_all.py"})
    results: list[dict[str, Any]] = []
    failed: list[str] = []
    start = time.perf_counter()
    for number, script in enumerate(scripts, 1):
        minutes = (time.perf_counter() - start) / 60
        print(f"\n[{number} of {len(scripts)}, after {minutes:.1f} min] {script.stem}\n", flush=True)
        found = run(script)
        results += found or []
        if found is None:
            failed.append(script.stem)
        (OUTPUT / "results.json").write_text(json.dumps(results, indent=2) + "\n")
    print(f"\n{machine()}; {(time.perf_counter() - start) / 60:.1f} min\n")
    show(results)
    print(f"\nresults  {(OUTPUT / 'results.json').relative_to(HERE.parent)}")
    if failed:
        sys.exit(f"failed: {', '.join(failed)}; what they said is in {OUTPUT.relative_to(HERE.parent)}")


if __name__ == "__main__":
    main()
