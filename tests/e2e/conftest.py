"""The real entry points as processes, on a tiny model, each stage once for all tests."""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

ROOT = Path(__file__).parents[2]
Command = Callable[..., subprocess.CompletedProcess[str]]


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


def run(
    script: str, *arguments: str, ok: bool = True, typed: str | None = None, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run an entry point from the repository's root, without a network; ``ok`` says that it must end well."""
    done = subprocess.run(
        [sys.executable, script, *arguments],
        cwd=ROOT,
        env=ENVIRONMENT | environment,
        input=typed,
        capture_output=True,
        text=True,
        timeout=600,
    )
    if ok:
        assert done.returncode == 0, f"{script} {' '.join(arguments)}\n{done.stdout}\n{done.stderr}"
    return done


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that generate.py filled from the starter set, without any model."""
    folder = tmp_path_factory.mktemp("data") / "demo"
    run(
        "generate.py",
        f"output_dir={folder}",
        "rejection=direct_answer",
        "problems.limit=24",
        "splits=2",
        "csv=true",
    )
    return folder


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
def trained(tiny: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that train.py filled."""
    folder = tmp_path_factory.mktemp("train") / "run"
    run("train.py", *tiny, f"output_dir={folder}")
    return folder


@pytest.fixture(scope="session")
def evaluated(trained: Path) -> Path:
    """The same folder after evaluate.py."""
    run("evaluate.py", f"adapter={trained / 'adapter'}", "sampling.max_new_tokens=16", "resamples=200")
    return trained


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
