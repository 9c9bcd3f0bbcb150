"""Generation from a real server, which is stopped in the middle."""

import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from socratic_rl.core import embedded
from tests.e2e.conftest import ENVIRONMENT, run, start, wait_for

Start = Callable[[], subprocess.Popen[bytes]]


@pytest.fixture
def port() -> int:
    """A port that is free."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


@pytest.fixture
def server(port: int) -> Iterator[Start]:
    """Starts llama.cpp's server with the embedded model; it answers when this returns."""
    running = []

    def begin() -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "llama_cpp.server", "--model", str(embedded.gguf_path()), "--port", str(port)]
        command += ["--n_ctx", "1024", "--n_threads", "1", "--n_threads_batch", "1", "--verbose", "false"]
        process = subprocess.Popen(command, env=ENVIRONMENT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        running.append(process)
        wait_for(lambda: process.poll() is not None or _answers(port))
        assert process.poll() is None
        return process

    yield begin
    for process in running:
        process.kill()
        process.wait()


def _answers(port: int) -> bool:
    try:
        return httpx.get(f"http://127.0.0.1:{port}/v1/models").status_code == 200
    except httpx.HTTPError:
        return False


def test_a_server_that_is_stopped_and_started_again_loses_nothing(server: Start, port: int, tmp_path: Path):
    prompt = tmp_path / "teacher.txt"
    prompt.write_text("Help the student to find this by asking: {solution}")
    command = [
        "generate.py",
        "conversations=roleplay",
        "conversations.max_turns=2",
        f"conversations.teacher_prompt={prompt}",
        "generator=openai",
        "generator.model=embedded",
        f"generator.base_url=http://127.0.0.1:{port}/v1",
        "generator.max_tokens=24",
        # the likeliest token, since the server's cache of its last prompt changes the rounding of the next
        "generator.temperature=0",
        "generator.width=2",
        "generator.max_retries=0",
        "problems.limit=5",
        "stop_after=conversations",
        "wandb=disabled",
    ]
    first = server()
    run(*command, f"output_dir={tmp_path / 'whole'}")

    waits = tmp_path / "waits"
    partial = waits / "conversations.jsonl.partial"
    process = start(*command, f"output_dir={waits}", log=tmp_path / "log")
    try:
        wait_for(lambda: partial.exists())
        first.kill()
        first.wait()
        wait_for(lambda: "waiting up to 300 s for it" in (tmp_path / "log").read_text())
        assert process.poll() is None
        assert not (waits / "conversations.jsonl").exists(), "it ended before the server was stopped"
        server()
        assert process.wait(60) == 0, (tmp_path / "log").read_text()
    finally:
        process.kill()
        process.wait()
    assert (tmp_path / "log").read_text().count("waiting up to") == 1
    assert "is back" in (tmp_path / "log").read_text()
    for name in ("problems.jsonl", "conversations.jsonl"):
        assert (waits / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
