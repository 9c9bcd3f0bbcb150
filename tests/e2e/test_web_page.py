"""chat.py ui=web in a real browser: a problem, two replies, a vote, the files, a kill, and training on the votes."""

import http.client
import json
import re
import socket
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.e2e.conftest import overflow, run, start, wait_for

INJECTION = "<script>document.title = 'taken'</script><img src=x onerror=\"document.title = 'taken'\">"

# a tiny model writes bytes, so nothing may depend on what the replies say
TIMEOUT = 120_000

Served = tuple[subprocess.Popen[bytes], str]


@pytest.fixture(scope="module")
def serve(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Served]]:
    """Starts the page, its votes in that folder."""
    running: list[subprocess.Popen[bytes]] = []
    logs = tmp_path_factory.mktemp("logs")

    def serve(folder: Path, *overrides: str) -> Served:
        log = logs / f"page-{len(running)}.log"
        process = start(
            "chat.py",
            f"adapter={trained / 'adapter'}",
            "ui=web",
            "web.port=0",
            "sampling.max_new_tokens=12",
            f"output_dir={folder}",
            *overrides,
            log=log,
        )
        running.append(process)
        wait_for(lambda: "the page: " in log.read_text() or process.poll() is not None)
        address = re.search(r"the page: (http://127\.0\.0\.1:\d+) ", log.read_text())
        assert address, log.read_text()
        return process, address[1]

    yield serve
    for process in running:
        process.kill()
        process.wait()


@pytest.fixture(scope="module")
def shared(serve: Callable[..., Served], tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    """The address of a page for several tests, and the folder of its votes."""
    folder = tmp_path_factory.mktemp("shared") / "votes"
    return serve(folder)[1], folder


@pytest.fixture
def visit(browser: Browser) -> Iterator[Callable[..., Page]]:
    """Opens a page; at the end nothing may have been asked of anyone but its server, or have failed in it."""
    pages: list[tuple[Page, str]] = []
    errors: list[str] = []
    requests: list[str] = []

    def visit(address: str, width: int = 1280, scheme: Any = "light") -> Page:
        page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
        page.set_default_timeout(TIMEOUT)
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.on("request", lambda request: requests.append(request.url))
        page.on("websocket", lambda socket: requests.append(socket.url.replace("ws:", "http:", 1)))
        pages.append((page, address))
        page.goto(address)
        return page

    yield visit
    for page, _ in pages:
        assert page.title() == "Talk to a tutor"
        page.close()
    own = tuple(f"{address}/" for _, address in pages)
    assert [url for url in requests if not url.startswith((*own, "data:", "blob:"))] == []
    assert errors == []


def button(page: Page, name: str) -> Any:
    return page.get_by_role("button", name=name, exact=True)


def pose(page: Page, problem: str) -> None:
    """State a problem and wait for both replies."""
    box = page.get_by_label("State a problem")
    box.fill(problem)
    box.press("Enter")
    button(page, "No preference").wait_for()


def rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_votes_are_kept_through_a_kill_and_trained_on(
    serve: Callable[..., Served], visit: Callable[..., Page], tiny: list[str], tmp_path: Path
) -> None:
    folder = tmp_path / "votes"
    process, address = serve(folder)
    page = visit(address)
    expect(page.get_by_text("No vote yet.")).to_be_visible()
    pose(page, f"1 + 1? {INJECTION}")
    assert page.locator(".turn.student p").inner_text() == f"1 + 1? {INJECTION}"
    assert page.locator(".pair h2").all_inner_texts() == ["A", "B"]
    # nothing on the page says which is which
    shown = page.locator(".pair").evaluate("e => e.outerHTML").casefold()
    assert "tutor" not in shown
    assert "base" not in shown
    replies = page.locator(".pair section > p:first-of-type").evaluate_all("all => all.map(p => p.textContent)")
    assert not folder.exists()
    button(page, "B is better").click()
    page.get_by_label("Your answer, as the student").wait_for()
    (pair,) = rows(folder / "votes.jsonl")
    assert pair["prompt"] == [{"role": "user", "content": f"1 + 1? {INJECTION}"}]
    assert [pair[key][0]["content"] for key in ("rejected", "chosen")] == replies
    (ballot,) = rows(folder / "ballots.jsonl")
    other = {"A": "B", "B": "A"}[ballot["tutor"]]
    expect(page.get_by_text(f"You picked B. {ballot['tutor']} was the tutor, {other} its base.")).to_be_visible()
    # the dialogue goes on from what was picked
    page.get_by_label("Your answer, as the student").fill("2?")
    button(page, "Ask both").click()
    button(page, "No preference").click()
    page.get_by_label("Your answer, as the student").wait_for()
    first, second = rows(folder / "ballots.jsonl")
    assert second["prompt"] == [*pair["prompt"], *pair["chosen"], {"role": "user", "content": "2?"}]
    assert (first["turn"], second["turn"], second["conversation_id"]) == (0, 1, first["conversation_id"])
    assert "picked" not in second
    assert first["provenance"]["tutor"].startswith("adapter-")
    assert rows(folder / "problems.jsonl")[0]["question"] == f"1 + 1? {INJECTION}"
    assert rows(folder / "votes.jsonl") == [pair]
    tally = page.locator(".tally").inner_text()
    picked = int(first["tutor"] == "B")
    assert tally.startswith(f"The tutor was picked in {picked} of 1 vote about 1 problem: ")
    assert tally.endswith("No preference: 1.")

    process.kill()
    process.wait()
    with (folder / "ballots.jsonl").open("a") as file:
        file.write('{"conversation_id": "half')
    # the page finds the way back by itself
    serve(folder, f"web.port={address.rpartition(':')[2]}")
    page.get_by_label("State a problem").wait_for()
    assert page.locator(".tally").inner_text() == tally
    for number in range(4):
        button(page, "Give me a problem").click()
        button(page, "A is better").click()
        button(page, "New problem").click()
        expect(page.locator(".tally")).to_contain_text(f"of {number + 2} votes")
    assert len(rows(folder / "votes.jsonl")) == 5
    assert len(rows(folder / "ballots.jsonl")) == 6

    votes = [override for override in tiny if not override.startswith("dataset.path")]
    done = run(
        "train.py",
        *votes,
        "dataset=votes",
        f"dataset.path={folder / 'votes.jsonl'}",
        "dataset.test=0",
        "dataset.validation=0",
        "dpo.max_steps=2",
        f"output_dir={tmp_path / 'trained'}",
    )
    assert "5 trained on, 0 held out" in done.stdout
    assert "no validation" in done.stdout
    record = json.loads((tmp_path / "trained" / "adapter" / "socratic_rl.json").read_text())
    assert record["trained_on"]["rejected by"] == "voted 5"


def test_the_chat_shows_a_reply_as_it_is_written(
    serve: Callable[..., Served], visit: Callable[..., Page], tmp_path: Path
) -> None:
    _, address = serve(tmp_path, "sampling.max_new_tokens=600", "sampling.temperature=0")
    page = visit(address)
    page.get_by_role("tab", name="Chat with the tutor").click()
    # the page itself notes each length that the reply has: asking for it from here may come too late
    page.evaluate(
        """() => {
            window.seen = new Set();
            const note = () => {
                for (const p of document.querySelectorAll(".turn.teacher p")) seen.add(p.textContent.length);
            };
            new MutationObserver(note).observe(document.body, {subtree: true, childList: true, characterData: true});
        }"""
    )
    page.get_by_label("State a problem").fill("What is 2 + 2?")
    page.get_by_label("State a problem").press("Enter")
    page.get_by_label("Your answer, as the student").wait_for(timeout=TIMEOUT)
    seen = page.evaluate("[...seen]")
    assert len(seen) > 2
    assert page.locator(".turn .who").all_inner_texts() == ["You", "Tutor"]


def test_visitors_are_kept_apart(shared: tuple[str, Path], visit: Callable[..., Page]) -> None:
    address, _ = shared
    one, two = visit(address), visit(address)
    for page, text in ((one, "one?"), (two, "two?")):
        page.get_by_label("State a problem").fill(text)
        page.get_by_label("State a problem").press("Enter")
    for page, text in ((one, "one?"), (two, "two?")):
        button(page, "No preference").wait_for()
        assert page.locator(".turn.student p").all_inner_texts() == [text]


def asked(address: str, path: str, **headers: str) -> tuple[int, str | None]:
    """The status of a request, and the origin that its answer may be read from."""
    connection = http.client.HTTPConnection(address.removeprefix("http://"), timeout=60)
    connection.request("GET", path, headers={name.capitalize(): value for name, value in headers.items()})
    answer = connection.getresponse()
    connection.close()
    return answer.status, answer.getheader("Access-Control-Allow-Origin")


def test_other_sites_reach_neither_the_page_nor_its_socket(shared: tuple[str, Path]) -> None:
    address, _ = shared
    port = address.rpartition(":")[2]
    open_socket = "/_nicegui_ws/socket.io/?EIO=4&transport=polling"
    for host, status in (
        ("evil.example", 400),
        (f"evil.example:{port}", 400),
        (f"localhost:{port}", 200),
        ("[::1]", 200),
    ):
        assert asked(address, "/", host=host)[0] == status
        assert asked(address, open_socket, host=host)[0] == status
    assert asked(address, open_socket, origin="http://evil.example") == (400, None)
    assert asked(address, open_socket, origin=f"http://127.0.0.1:{int(port) + 1}") == (400, None)
    assert asked(address, open_socket, origin=address) == (200, address)


def test_a_page_by_another_name_of_this_machine_works(shared: tuple[str, Path], visit: Callable[..., Page]) -> None:
    address, _ = shared
    page = visit(address.replace("127.0.0.1", "localhost"))
    pose(page, "1 + 1?")


def test_an_error_is_shown_and_what_was_typed_is_still_there(
    shared: tuple[str, Path], visit: Callable[..., Page]
) -> None:
    address, _ = shared
    page = visit(address)
    long = "a" * 5000
    page.get_by_label("State a problem").fill(long)
    button(page, "Ask both").click()
    expect(page.get_by_role("alert").first).to_contain_text("No reply: that is too long")
    assert page.get_by_label("State a problem").input_value() == long
    assert page.locator(".turn").count() == 0
    pose(page, "shorter")
    expect(page.get_by_role("alert").first).to_be_empty()


def test_a_vote_that_cannot_be_kept_is_told_and_can_be_given_again(
    shared: tuple[str, Path], visit: Callable[..., Page]
) -> None:
    address, folder = shared
    page = visit(address)
    pose(page, "1 + 1?")
    if folder.exists():
        folder.rename(folder.with_name("aside"))
    folder.write_text("in the way")
    button(page, "A is better").click()
    expect(page.get_by_role("alert").first).to_contain_text("could not be kept")
    folder.unlink()
    button(page, "A is better").click()
    page.get_by_label("Your answer, as the student").wait_for()
    assert rows(folder / "votes.jsonl")[-1]["prompt"][0]["content"] == "1 + 1?"


def test_works_by_keyboard(shared: tuple[str, Path], visit: Callable[..., Page]) -> None:
    address, folder = shared
    page = visit(address)
    box = page.get_by_label("State a problem")
    expect(box).to_be_focused()
    page.keyboard.type("1 + 1?")
    page.keyboard.press("Shift+Enter")
    page.keyboard.type("really")
    page.keyboard.press("Enter")
    better = button(page, "A is better")
    better.wait_for()
    expect(page.locator(".pair")).to_be_focused()
    page.keyboard.press("Tab")
    expect(better).to_be_focused()
    assert better.evaluate("e => getComputedStyle(e).outlineStyle") == "solid"
    page.keyboard.press("Enter")
    expect(page.get_by_label("Your answer, as the student")).to_be_focused()
    assert rows(folder / "problems.jsonl")[-1]["question"] == "1 + 1?\nreally"


def test_fits_its_window_in_light_and_dark(shared: tuple[str, Path], visit: Callable[..., Page]) -> None:
    address, _ = shared
    backgrounds = set()
    for width, scheme in ((390, "dark"), (1280, "light")):
        page = visit(address, width, scheme)
        page.get_by_label("State a problem").wait_for()
        assert overflow(page) == 0
        pose(page, "x" * 300)
        assert overflow(page) == 0
        left, right = (box.bounding_box() for box in page.locator(".pair section").all())
        assert (left["y"] == right["y"]) == (width == 1280)
        backgrounds.add(page.evaluate("getComputedStyle(document.body).backgroundColor"))
    assert len(backgrounds) == 2


def test_a_port_in_use_is_told(trained: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = run("chat.py", f"adapter={trained / 'adapter'}", "ui=web", f"web.port={port}", ok=False)
    assert done.returncode == 2
    assert f"error: web.port: 127.0.0.1:{port} cannot be listened on (address already in use)" in done.stderr
