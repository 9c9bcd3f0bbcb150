"""Conversations decoded together against the ways they replace: conversations per second on the same problems.

- ``generation_vs_loop``: role-play, against ``create_chat_completion`` of llama-cpp-python, one turn after another on
  one loaded model. Both hold dialogues of a fixed number of turns, whatever is said in them: the quality gate would end
  most of a small model's after a few.
- ``generation_vs_process``: scripts, against a process for each problem that loads the model, as the first scripts did.

Both sides draw from the same seeds and take turns. The other side does a part of the problems in each repeat, since it
takes so long, and all of them in the end; each of its conversations stands alone, so their number does not matter.

The limit is what llama.cpp's batched decoding alone gives: as many tokens read and drawn a conversation, at the same
width and length of context, all sequences busy from begin to end, with no sampling and no text. It is measured in each
repeat too, on a quarter of the tokens around the middle of a conversation.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

from machine import Alone, Result, machine, peak_memory, write_results

from socratic_rl.conversations import RolePlay, Script
from socratic_rl.conversations.prompting import as_heard, fill
from socratic_rl.core.dialogue import Problem, Speaker, Turn
from socratic_rl.core.generator import Reply, Request, Talk
from socratic_rl.generators import LlamaCpp

PART = 4
"""What share of a conversation's tokens the limit is measured with; as many of all would take the same time each."""
SAMPLING = {"temperature": 0.7, "top_p": 0.9}


@dataclass(frozen=True)
class Side:
    """What one process runs."""

    kind: str
    """``roleplay`` or ``script``."""
    turns: int
    """Of a role-play, the problem's statement included."""
    width: int
    """Conversations at once; 0 for the way that is replaced."""
    max_tokens: dict[str, int]
    """The most tokens of a reply, by kind."""
    model: str | None
    n_gpu_layers: int


class Run(NamedTuple):
    """What a side did, and how long it took."""

    seconds: float
    conversations: int
    read: int
    """Tokens of prompts that were evaluated."""
    drawn: int
    """Tokens that were drawn."""


@dataclass(frozen=True)
class Speeds(Result):
    """A result, and what explains it; tokens are for one conversation. The limit is what batched decoding gives."""

    share_of_limit: float
    width: int
    problems: int
    repeats: int
    ours_runs: list[float]
    theirs_runs: list[float]
    read: dict[str, float]
    drawn: dict[str, float]
    gigabytes: dict[str, float]


def roleplay(problem: Problem, turns: int) -> Talk[list[Turn]]:
    """A role-play with the shipped prompts, of so many turns whatever is said."""
    writer = RolePlay(max_turns=turns, per_problem=1, teacher_prompt=None, student_prompt=None)
    said = [Turn(speaker="student", text=problem.question)]
    while len(said) < turns:
        speaker: Speaker = "teacher" if len(said) % 2 else "student"
        instructions, examples = writer._parts[speaker]
        heard = as_heard(speaker, fill(instructions, problem, writer._personas[0]), examples, said)
        reply = yield Request(messages=heard, seed=len(said))
        said.append(Turn(speaker=speaker, text=reply.text or "…"))
    return said


def script(problem: Problem) -> Talk[str]:
    """A whole dialogue as one completion of the shipped prompt."""
    writer = Script(max_turns=12, per_problem=1, prompt=None, max_tokens=1)
    reply = yield Request(text=fill(writer._prompt, problem), seed=0, stop=("\nProblem:",))
    return reply.text


def talk(side: Side, problem: Problem) -> Talk[Any]:
    """What is held about a problem."""
    return roleplay(problem, side.turns) if side.kind == "roleplay" else script(problem)


class Together:
    """Our side: all at once."""

    def __init__(self, side: Side) -> None:
        self.side = side
        self.generator = LlamaCpp(
            model_path=side.model,
            n_ctx=2048,
            width=side.width,
            n_threads=None,
            n_gpu_layers=side.n_gpu_layers,
            max_tokens=side.max_tokens[side.kind],
            **SAMPLING,
        )
        self.decoder = self.generator._decoder
        self.places = [0, 0]
        decode = self._counting()
        import llama_cpp

        llama_cpp.llama_decode = decode

    def _counting(self) -> Callable[[Any, Any], int]:
        """llama.cpp's decoding, which also adds up at which places tokens are drawn."""
        import llama_cpp

        decode = llama_cpp.llama_decode

        def counting(context: Any, batch: Any) -> int:
            drawing = [batch.pos[row] for row in range(batch.n_tokens) if batch.logits[row]]
            self.places[0] += sum(drawing)
            self.places[1] += len(drawing)
            return int(decode(context, batch))

        return counting

    def run(self, problems: Sequence[Problem]) -> Run:
        """Hold all, and count."""
        before = self.decoder.read, self.decoder.drawn
        start = time.perf_counter()
        list(self.generator.hold(talk(self.side, problem) for problem in problems))
        seconds = time.perf_counter() - start
        return Run(seconds, len(problems), self.decoder.read - before[0], self.decoder.drawn - before[1])

    def bare(self, read: int, drawn: int) -> float:
        """Seconds that batched decoding alone takes for ``width`` conversations of so many tokens read and drawn.

        One token in ``PART`` is decoded.
        """
        import llama_cpp

        read, drawn = read // PART, drawn // PART
        width, context, memory, batch = self.side.width, self.decoder.context, self.decoder.memory, self.decoder.batch
        # the tokens that are drawn lie around the middle
        before = max(1, min(self.places[0] // self.places[1] - drawn // 2, self.decoder.n_ctx - read - drawn) - read)

        def evaluate(rows: Sequence[tuple[int, int]]) -> None:
            for row, (sequence, place) in enumerate(rows):
                batch.token[row] = 1000 + place
                batch.pos[row], batch.n_seq_id[row], batch.seq_id[row][0] = place, 1, sequence
                batch.logits[row] = row + 1 == len(rows) or place >= before + read
            batch.n_tokens = len(rows)
            if llama_cpp.llama_decode(context, batch):
                raise RuntimeError("llama.cpp could not evaluate a batch")
            llama_cpp.llama_synchronize(context)

        llama_cpp.llama_memory_clear(memory, False)
        for start in range(0, before, 512):
            evaluate([(0, place) for place in range(start, min(start + 512, before))])
        for sequence in range(1, width):
            llama_cpp.llama_memory_seq_cp(memory, 0, sequence, -1, -1)
        start_time = time.perf_counter()
        step = max(1, 512 // width)
        for start in range(before, before + read, step):
            end = min(start + step, before + read)
            evaluate([(sequence, place) for sequence in range(width) for place in range(start, end)])
        for place in range(before + read, before + read + drawn):
            evaluate([(sequence, place) for sequence in range(width)])
        return (time.perf_counter() - start_time) * PART


class OneByOne:
    """Role-play as llama-cpp-python's own loop does it: a turn after another on one loaded model."""

    def __init__(self, side: Side) -> None:
        import llama_cpp
        from joblib import cpu_count

        from socratic_rl.core import embedded

        threads = cpu_count(only_physical_cores=True)
        self.side = side
        self.llama = llama_cpp.Llama(
            side.model or str(embedded.gguf_path()),
            n_ctx=2048,
            n_threads=threads,
            n_threads_batch=threads,
            n_gpu_layers=side.n_gpu_layers,
            no_perf=False,
            verbose=False,
        )

    def run(self, problems: Sequence[Problem]) -> Run:
        """Hold one after another; llama.cpp counts."""
        import llama_cpp

        context = self.llama.ctx
        llama_cpp.llama_perf_context_reset(context)
        drawn = 0
        start = time.perf_counter()
        for problem in problems:
            held, reply = talk(self.side, problem), None
            while True:
                try:
                    request = held.send(reply)
                except StopIteration:
                    break
                answer = self.llama.create_chat_completion(
                    messages=list(request.messages),
                    max_tokens=self.side.max_tokens["roleplay"],
                    seed=request.seed,
                    top_k=0,
                    min_p=0.0,
                    **SAMPLING,
                )
                drawn += answer["usage"]["completion_tokens"]
                reply = Reply(answer["choices"][0]["message"]["content"].strip(), "stop")
        seconds = time.perf_counter() - start
        return Run(seconds, len(problems), llama_cpp.llama_perf_context(context).n_p_eval, drawn)


ONE_PROBLEM = """
import json, resource, sys
asked = json.load(sys.stdin)
import llama_cpp
llama = llama_cpp.Llama(verbose=False, **asked["model"])
usage = llama.create_completion(**asked["request"])["usage"]
print(json.dumps([usage, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss]))
"""
"""What the process of one problem runs."""


class Processes:
    """Scripts as the first scripts wrote them: a process a problem, which loads the model."""

    def __init__(self, side: Side) -> None:
        self.side = side
        self.peak = 0

    def run(self, problems: Sequence[Problem]) -> Run:
        """Start one process after another."""
        from joblib import cpu_count

        from socratic_rl.core import embedded

        threads = cpu_count(only_physical_cores=True)
        model = {
            "model_path": self.side.model or str(embedded.gguf_path()),
            "n_ctx": 2048,
            "n_threads": threads,
            "n_threads_batch": threads,
            "n_gpu_layers": self.side.n_gpu_layers,
        }
        read = drawn = 0
        start = time.perf_counter()
        for problem in problems:
            request = next(script(problem))
            asked = {
                "prompt": request.text,
                "stop": list(request.stop),
                "max_tokens": self.side.max_tokens["script"],
                "seed": request.seed,
                "top_k": 0,
                "min_p": 0.0,
                **SAMPLING,
            }
            ended = subprocess.run(
                [sys.executable, "-c", ONE_PROBLEM],
                input=json.dumps({"model": model, "request": asked}),
                capture_output=True,
                text=True,
                check=True,
            )
            usage, peak = json.loads(ended.stdout)
            read, drawn = read + usage["prompt_tokens"], drawn + usage["completion_tokens"]
            self.peak = max(self.peak, peak * 1024)
        return Run(time.perf_counter() - start, len(problems), read, drawn)


def ready(side: Side) -> Any:
    """What a side runs with; what the first reply alone takes, such as reading the file, does not count."""
    replaced = OneByOne if side.kind == "roleplay" else Processes
    first = replace(side, turns=2)
    runs: Any = Together(first) if side.width else replaced(first)
    runs.run(starter()[:1])
    runs.side = side
    return runs


def run(runs: Any, problems: Sequence[Problem]) -> Run:
    """Time these problems."""
    return runs.run(problems)  # type: ignore[no-any-return]


def bare(runs: Any, read: int, drawn: int) -> float:
    """Time llama.cpp alone."""
    return runs.bare(read, drawn)  # type: ignore[no-any-return]


def gigabytes(runs: Any) -> float:
    """The most memory it held."""
    own = peak_memory()
    return getattr(runs, "peak", own) / 1e9


def compare(name: str, kind: str, width: int, problems: Sequence[Problem], options: argparse.Namespace) -> Speeds:
    """Both sides on the same problems, taking turns."""

    def start(width: int) -> Alone:
        max_tokens = {"roleplay": options.reply_tokens, "script": options.script_tokens}
        return Alone(ready, Side(kind, options.turns, width, max_tokens, options.model, options.n_gpu_layers))

    workers = {"ours": start(width), "theirs": start(0)}
    for worker in workers.values():
        worker.wait()
    runs: dict[str, list[Run]] = {who: [] for who in workers}
    limits = []
    for repeat in range(options.repeats):
        runs["ours"].append(workers["ours"].ask(run, problems))
        runs["theirs"].append(workers["theirs"].ask(run, problems[repeat :: options.repeats]))
        last = runs["ours"][-1]
        tokens = last.read // last.conversations, last.drawn // last.conversations
        limits.append(width / workers["ours"].ask(bare, *tokens))
        show_progress(name, repeat + 1, options.repeats)
    speeds = {who: [run.conversations / run.seconds for run in found] for who, found in runs.items()}
    speed = {who: median(found) for who, found in speeds.items()}

    def each(count: Callable[[Run], int]) -> dict[str, float]:
        return {who: sum(map(count, found)) / sum(run.conversations for run in found) for who, found in runs.items()}

    peaks = {who: worker.ask(gigabytes) for who, worker in workers.items()}
    for worker in workers.values():
        worker.end()
    return Speeds(
        name=name,
        ours=speed["ours"],
        theirs=speed["theirs"],
        unit="conversations/s",
        limit=median(limits) / speed["theirs"],
        share_of_limit=speed["ours"] / median(limits),
        width=width,
        problems=len(problems),
        repeats=options.repeats,
        ours_runs=speeds["ours"],
        theirs_runs=speeds["theirs"],
        read=each(lambda run: run.read),
        drawn=each(lambda run: run.drawn),
        gigabytes=peaks,
    )


def show_progress(name: str, done: int, repeats: int) -> None:
    """Which repeat is done."""
    print(f"{name}: repeat {done} of {repeats}", file=sys.stderr, flush=True)


def report(result: Speeds) -> str:
    """A result in words."""
    lines = [
        f"{result.name}: {result.problems} problems, {result.width} at once, median of {result.repeats} repeats",
        f"{'':8} {'conv/s':>8} {'from':>8} {'to':>8} {'read':>8} {'drawn':>8} {'peak GB':>8}",
    ]
    for side, speed, runs in (
        ("ours", result.ours, result.ours_runs),
        ("theirs", result.theirs, result.theirs_runs),
    ):
        lines.append(
            f"{side:8} {speed:8.3f} {min(runs):8.3f} {max(runs):8.3f} {result.read[side]:8.0f}"
            f" {result.drawn[side]:8.0f} {result.gigabytes[side]:8.2f}"
        )
    last = f"{'ratio':8} {result.ratio:8.2f}   limit {result.limit:.2f}, of which {result.share_of_limit:.0%}"
    return "\n".join([*lines, last, ""])


def starter() -> list[Problem]:
    """The starter problems, from every topic the same share first."""
    from socratic_rl.conversations.problems import Starter

    problems = list(Starter(name="starter").read())
    return problems[::10] + [problem for number, problem in enumerate(problems) if number % 10]


def main() -> None:
    """Measure, print and write the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", help="a GGUF file; without one, the embedded model")
    parser.add_argument("--n-gpu-layers", type=int, default=-1, help="layers that a GPU computes; -1 is all")
    parser.add_argument("--problems", type=int, default=8, help="how many conversations")
    parser.add_argument("--widths", type=int, nargs="+", default=[8], help="how many at once")
    parser.add_argument("--turns", type=int, default=8, help="turns of a role-play, the problem's statement included")
    parser.add_argument("--reply-tokens", type=int, default=16, help="the most tokens of a turn of a role-play")
    parser.add_argument("--script-tokens", type=int, default=80, help="the most tokens of a script")
    parser.add_argument("--repeats", type=int, default=5, help="timed runs of each side, taking turns")
    parser.add_argument("--kinds", nargs="+", default=["roleplay", "script"], choices=("roleplay", "script"))
    parser.add_argument("--json", type=Path, help="where the results go as a list of records")
    options = parser.parse_args()

    # threads that wait must not spin: the other side's would take the processor from the one that runs
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    problems = starter()[: options.problems]
    print(machine(), flush=True)
    results = []
    for width in options.widths:
        for name, kind in {"generation_vs_loop": "roleplay", "generation_vs_process": "script"}.items():
            if kind in options.kinds:
                full_name = name if width == options.widths[0] else f"{name}_width_{width}"
                results.append(compare(full_name, kind, width, problems, options))
                print(report(results[-1]), flush=True)
    if options.json:
        write_results(options.json, results)


if __name__ == "__main__":
    main()
