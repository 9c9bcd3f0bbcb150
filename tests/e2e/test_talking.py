"""evaluate.py prompt=… and chat.py, as a person at a terminal or a pipe has them."""

import json
import os
import pty
import select
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.e2e.conftest import ENVIRONMENT, ROOT, run


@pytest.fixture(scope="module")
def tutor(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tutor alone in a folder."""
    folder = tmp_path_factory.mktemp("tutor") / "adapter"
    shutil.copytree(trained / "adapter", folder)
    return folder


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_prompt_shows_both_replies_and_leaves_no_file(tutor: Path):
    # what an evaluation left before stays as it is, and the data set need not be there any more
    (tutor.parent / "evaluation.json").write_text("kept")
    record = json.loads((tutor / "socratic_rl.json").read_text())
    record["dataset"]["path"] = "gone.jsonl"
    (tutor / "socratic_rl.json").write_text(json.dumps(record))
    before = files(tutor.parent)
    question = "It's (3, 4) = {a: [b]} ${x}, or not?"
    sampling = ["sampling.max_new_tokens=8", "sampling.temperature=0.7", "seed=3"]
    done = run("evaluate.py", f"adapter={tutor}", f"prompt={question}", *sampling)
    assert f"│ {question} " in done.stdout
    (titles,) = [line for line in done.stdout.splitlines() if "base: tiny-llama" in line]
    assert "tutor: " in titles
    assert "cut off after 8 tokens" in done.stdout
    assert "sampling  temperature=0.7, top_p=1.0, max_new_tokens=8, seed=3" in done.stdout
    assert files(tutor.parent) == before


def test_a_saved_chat_becomes_pairs(trained: Path, data: Path, tmp_path: Path):
    folder = tmp_path / "chat"
    typed = "/problem\nI do not know\n/retry\n/base on\nStill not\n/save\n/problem my own, 1 + 1?\n/save\n/nope\n"
    done = run(
        "chat.py",
        f"adapter={trained / 'adapter'}",
        "sampling.max_new_tokens=12",
        f"output_dir={folder}",
        typed=typed,
    )
    held_out = {row["problem_id"] for row in rows(data / "pairs.jsonl") if row["split"] == "test"}
    assert f"{len(held_out)} problems held out from training" in " ".join(done.stdout.split())
    told = done.stdout.splitlines()
    assert len([line for line in told if line.startswith("tutor: ")]) == 5
    assert len([line for line in told if line.startswith("base: ")]) == 2
    first, second = rows(folder / "conversations.jsonl")
    assert first["problem_id"] in held_out
    assert [turn["speaker"] for turn in first["turns"]] == ["student", "teacher"] * 3
    assert [turn["text"] for turn in first["turns"][2::2]] == ["I do not know", "Still not"]
    assert second["turns"][0]["text"] == "my own, 1 + 1?"
    assert first["provenance"]["tutor"].startswith("adapter-")
    assert {path.name for path in folder.iterdir()} == {"conversations.jsonl", "problems.jsonl"}
    # a tiny model is mostly cut off, and then that is told
    assert all(saved["accepted"] == (not saved.get("reasons")) for saved in (first, second))
    told_of = " ".join(done.stdout.split()).count("generate.py will make no pairs of it: ")
    assert told_of == sum(not saved["accepted"] for saved in (first, second))
    # the next stage reads what was accepted
    whole = [saved | {"accepted": True, "reasons": []} for saved in (first, second)]
    (folder / "conversations.jsonl").write_text("".join(json.dumps(saved) + "\n" for saved in whole))
    run("generate.py", f"output_dir={folder}", "rejection=constant", "pairs.must_ask=false", "wandb=disabled")
    pairs = rows(folder / "pairs.jsonl")
    assert {pair["conversation_id"] for pair in pairs} == {first["id"], second["id"]}
    assert pairs[0]["chosen"][0]["content"] == first["turns"][1]["text"]


def rows(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def _at_the_terminal() -> None:
    os.close(os.open(os.ttyname(0), os.O_RDWR))
    # tests that run in the background hand an ignored Ctrl-C down
    signal.signal(signal.SIGINT, signal.default_int_handler)


class Terminal:
    """A program at a terminal of its own."""

    def __init__(self, *command: str) -> None:
        self.screen, inside = pty.openpty()
        environment = ENVIRONMENT | {"PROMPT_TOOLKIT_NO_CPR": "1", "TERM": "xterm"}
        self.process = subprocess.Popen(
            command, cwd=ROOT, env=environment, stdin=inside, stdout=inside, stderr=inside, start_new_session=True,
            preexec_fn=_at_the_terminal,
        )  # fmt: skip
        os.close(inside)
        self.seen = b""

    def type(self, keys: str) -> None:
        os.write(self.screen, keys.encode())

    def wait_for(self, text: str, seconds: float = 60) -> None:
        """Read on until the text shows up after what was waited for before."""
        end = time.monotonic() + seconds
        while text.encode() not in self.seen:
            assert time.monotonic() < end, f"no {text!r} in {self.seen!r}"
            if select.select([self.screen], [], [], 0.2)[0]:
                self.seen += os.read(self.screen, 4096)
        self.seen = self.seen.partition(text.encode())[2]


def test_ctrl_c_stops_the_reply_and_ctrl_d_leaves(trained: Path):
    # the likeliest token is never the last one here; a drawn one might be, before the key is seen
    settings = ["sampling.max_new_tokens=3900", "sampling.temperature=0"]
    terminal = Terminal(sys.executable, "chat.py", f"adapter={trained / 'adapter'}", *settings)
    try:
        terminal.wait_for("lists the commands")
        terminal.wait_for("student:")
        terminal.type("\x03")
        terminal.wait_for("\r\n")
        terminal.wait_for("student:")
        terminal.type("What is 2 + 2?\r")
        terminal.wait_for("tutor:")
        terminal.type("\x03")
        terminal.wait_for("(stopped)")
        terminal.wait_for("student:")
        # an earlier line comes back by the arrow
        terminal.type("\x1b[A")
        terminal.wait_for("2 + 2?")
        terminal.type("\x03")
        terminal.wait_for("\r\n")
        terminal.wait_for("student:")
        terminal.type("/he\t")
        terminal.wait_for("/he")
        terminal.wait_for("lp")
        terminal.type("\r")
        terminal.wait_for("/retry")
        terminal.wait_for("student:")
        terminal.type("\x04")
        assert terminal.process.wait(30) == 0
    finally:
        terminal.process.kill()
        os.close(terminal.screen)
