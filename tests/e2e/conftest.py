"""The real entry points, on a tiny model, each stage once for all tests."""

import atexit
import functools
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

from tests.conftest import ROOT, Once

ENVIRONMENT = os.environ | {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}


def start(script: str, *arguments: str, log: Path | None = None) -> subprocess.Popen[bytes]:
    """Start an entry point without waiting for its end; what it prints goes into ``log``."""
    with (log or Path(os.devnull)).open("w") as printed:
        return subprocess.Popen(
            [sys.executable, script, *arguments], cwd=ROOT, env=ENVIRONMENT, stdout=printed, stderr=subprocess.STDOUT
        )


def wait_for(true: Callable[[], bool], seconds: float = 120) -> None:
    """Wait until something is true."""
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, f"not true within {seconds} s"
        time.sleep(0.01)


class Forks:
    """Runs commands in forks of a process that has imported torch and the rest already."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.server = subprocess.Popen(
            [sys.executable, "tests/e2e/fork_server.py"],
            cwd=ROOT,
            env=ENVIRONMENT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.pipes = self.server.stdin, self.server.stdout
        assert self._answer() == "ready"

    def _answer(self) -> str:
        return self.pipes[1].readline().strip()

    def run(self, arguments: list[str], typed: str, environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
        """Run one command to its end."""
        files = {name: self.folder / name for name in ("stdin", "stdout", "stderr")}
        for name, file in files.items():
            file.write_text(typed if name == "stdin" else "", encoding="utf-8")
        command = {"arguments": arguments, "environment": environment, "seconds": 600}
        command |= {name: str(file) for name, file in files.items()}
        print(json.dumps(command), file=self.pipes[0], flush=True)
        ended = self._answer()
        printed = [files[name].read_text(encoding="utf-8", errors="replace") for name in ("stdout", "stderr")]
        assert ended != "None", f"{arguments} was not done within 600 s\n{printed}"
        return subprocess.CompletedProcess(arguments, int(ended), *printed)

    def close(self) -> None:
        self.server.kill()
        self.server.wait()
        for pipe in self.pipes:
            pipe.close()


@functools.cache
def forks() -> Forks:
    """The process that forks for this worker, begun by the first command."""
    folder = Path(tempfile.mkdtemp(prefix="commands-"))
    begun = Forks(folder)
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    atexit.register(begun.close)
    return begun


def run(
    script: str, *arguments: str, ok: bool = True, typed: str | None = None, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run an entry point from the repository's root, without a network; ``ok`` says that it must end well."""
    done = forks().run([script, *arguments], typed or "", ENVIRONMENT | environment)
    return expect_success(done) if ok else done


def run_process(*arguments: str, ok: bool = True) -> subprocess.CompletedProcess[str]:
    """Run Python in a process of its own, where what a process imports, starts or hands down is what is tested."""
    done = subprocess.run(
        [sys.executable, *arguments], cwd=ROOT, env=ENVIRONMENT, capture_output=True, text=True, timeout=600
    )
    return expect_success(done) if ok else done


def expect_success(done: subprocess.CompletedProcess[str]) -> subprocess.CompletedProcess[str]:
    """The command, which must have ended well."""
    assert done.returncode == 0, f"{' '.join(done.args)}\n{done.stdout}\n{done.stderr}"
    return done


def mistakes(script: str, *arguments: str, **environment: str) -> list[str]:
    """The error lines of a command that must end in a mistake, without a traceback."""
    done = run(script, *arguments, ok=False, **environment)
    assert done.returncode in (1, 2), done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    return [line.removeprefix("error: ") for line in done.stderr.splitlines() if line.startswith("error: ")]


@pytest.fixture(scope="session")
def data(once: Once) -> Path:
    """A folder that generate.py filled from the starter set, without any model."""

    def generate(folder: Path) -> None:
        run(
            "generate.py",
            f"output_dir={folder}",
            "rejection=direct_answer",
            "problems.limit=24",
            "splits=2",
            "csv=true",
        )

    return once("demo", generate)


@pytest.fixture(scope="session")
def tiny(tiny_llama: Path, data: Path) -> list[str]:
    """The overrides that train the tiny model on that data in a few steps."""
    return [
        f"model.pretrained={tiny_llama}",
        "model.name=tiny-llama",
        f"dataset.path={data / 'pairs.jsonl'}",
        "dpo.max_length=2000",
        "dpo.max_steps=4",
        "dpo.save_steps=2",
        "dpo.per_device_train_batch_size=2",
        "dpo.gradient_accumulation_steps=1",
        "sampling.max_new_tokens=16",
    ]


@pytest.fixture(scope="session")
def trained(tiny: list[str], once: Once) -> Path:
    """A folder that train.py filled."""
    return once("run", lambda folder: run("train.py", *tiny, f"output_dir={folder}"))


@pytest.fixture(scope="session")
def evaluated(trained: Path, once: Once) -> Path:
    """A copy of it after evaluate.py."""

    def evaluate(folder: Path) -> None:
        shutil.copytree(trained, folder)
        run("evaluate.py", f"adapter={folder / 'adapter'}", "sampling.max_new_tokens=16", "resamples=200")

    return once("evaluated", evaluate)


@pytest.fixture(scope="session")
def tiny_gguf(tiny_llama: Path, once: Once) -> Path:
    """The tiny base as a GGUF file."""

    def convert(path: Path) -> None:
        import torch
        from transformers import AutoModelForCausalLM

        from socratic_rl.models.weights import tokenizer_from
        from socratic_rl.sharing import gguf_files

        model = AutoModelForCausalLM.from_pretrained(tiny_llama, dtype=torch.float32)
        gguf_files.write_model(model, tokenizer_from(str(tiny_llama)), path, "tiny", "float32", None)

    return once("tiny.gguf", convert)


ARGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.skip("needs Chromium: apt-get install chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=ARGS)
        yield browser
        browser.close()


def overflow(page: Page) -> int:
    found = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
    assert isinstance(found, int)
    return found
