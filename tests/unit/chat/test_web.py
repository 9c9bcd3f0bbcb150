"""What the page's visitors share: one reply at a time, and the tally in words."""

import asyncio
import socket
import threading
import time
from collections.abc import Coroutine, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import pytest

from socratic_rl.chat.partners import Partners
from socratic_rl.chat.session import Session, Talk, stated_problem
from socratic_rl.core.dialogue import Turn
from socratic_rl.core.errors import UserError
from socratic_rl.core.generator import Reply, Request, Sampling
from socratic_rl.models import weights
from socratic_rl.pairs.votes import Tally

# the page is an extra
server = pytest.importorskip("socratic_rl.chat.server", exc_type=ImportError)
web = pytest.importorskip("socratic_rl.chat.web", exc_type=ImportError)

T = TypeVar("T")


class Slow:
    """Says where it is in a call, piece by piece, and notes how many calls there are at once."""

    engine: ClassVar[str] = "none"
    sampling: ClassVar[Sampling] = Sampling(temperature=0, top_p=1, max_new_tokens=12, batch_size=1)
    now: ClassVar[int] = 0
    most: ClassVar[int] = 0

    def context(self) -> int:
        return 200

    def generate(self, requests: Sequence[Request]) -> Iterator[tuple[int, Reply]]:
        (request,) = requests
        Slow.now += 1
        Slow.most = max(Slow.most, Slow.now)
        try:
            for _ in range(3):
                time.sleep(0.01)
                request.write(".")
        finally:
            Slow.now -= 1
        yield 0, Reply(f"{request.messages[-1]['content']} {request.seed}", "stop")


def in_a_thread(awaited: Coroutine[Any, Any, T]) -> T:
    """Playwright, where it was used before, leaves a running event loop in the main thread."""
    with ThreadPoolExecutor(1) as threads:
        return threads.submit(asyncio.run, awaited).result()


@pytest.fixture
def voices(tiny_llama: Path) -> "web.Voices":
    tokenizer = weights.tokenizer_from(str(tiny_llama))
    partners = Partners("two", {"base": Slow(), "tutor": Slow()}, tokenizer, "tiny", Slow.sampling)
    return web.Voices(Session(partners, seed=0))


def talk(text: str) -> Talk:
    return Talk(f"{text}/1", stated_problem(text), [Turn(speaker="student", text=text)])


def test_one_reply_is_written_at_a_time_and_each_visitor_gets_its_own(voices: "web.Voices"):
    async def ask() -> list[list[Reply]]:
        asked = (voices.reply(["tutor", "base"], talk(str(number)), threading.Event()) for number in range(4))
        return await asyncio.gather(*asked)

    said = in_a_thread(ask())
    assert Slow.most == 1
    # tutor and base draw with the same seed, each dialogue with its own
    assert [[reply.text for reply in pair] for pair in said] == [
        [f"{number} {voices.seed_of(talk(str(number)))}"] * 2 for number in range(4)
    ]
    assert len({pair[0].text.split()[1] for pair in said}) == 4


def test_a_reply_that_nobody_waits_for_ends(voices: "web.Voices"):
    gone = threading.Event()
    with pytest.raises(web.StoppedError):
        in_a_thread(voices.reply(["tutor"], talk("1"), gone, lambda _: gone.set()))
    assert Slow.now == 0


def test_a_dialogue_that_is_too_long_is_refused(voices: "web.Voices"):
    with pytest.raises(UserError, match="too long: problem and last exchange must fit into 188 tokens"):
        in_a_thread(voices.reply(["tutor"], talk("a" * 300), threading.Event()))


@pytest.mark.parametrize(
    ("tally", "words"),
    [
        (Tally(0, 0, 0, 0), "No vote yet."),
        (Tally(0, 0, 2, 0), "No vote yet. No preference: 2."),
        (Tally(1, 1, 0, 1), "The tutor was picked in 1 of 1 vote about 1 problem: 100%, 95% interval 21% to 100%."),
        (
            Tally(15, 20, 3, 12),
            "The tutor was picked in 15 of 20 votes about 12 problems: 75%, 95% interval 53% to 89%. No preference: 3.",
        ),
    ],
)
def test_a_tally_in_words(tally: Tally, words: str):
    assert web.tally_line(tally) == words


@pytest.mark.parametrize(
    ("host", "family", "names"),
    [
        ("127.0.0.1", socket.AF_INET, {"127.0.0.1", "localhost", "[::1]"}),
        ("localhost", socket.AF_INET, {"127.0.0.1", "localhost", "[::1]"}),
        ("::1", socket.AF_INET6, {"127.0.0.1", "localhost", "[::1]"}),
        ("0.0.0.0", socket.AF_INET, {"*"}),
        ("::", socket.AF_INET6, {"*"}),
    ],
)
def test_a_request_names_the_page_by_a_name_of_its_own(host: str, family: int, names: set[str]):
    try:
        listening = socket.create_server((host, 0), family=family)
    except OSError as error:
        pytest.skip(f"{host} cannot be listened on here: {error}")
    with listening:
        assert set(server.own_names(host, listening)) == names


@pytest.mark.parametrize(
    ("host", "warned"),
    [("127.0.0.1", False), ("localhost", False), ("127.0.0.2", False), ("0.0.0.0", True)],
)
def test_a_page_that_others_can_open_is_warned_of(host: str, warned: bool):
    with socket.create_server((host, 0)) as listening:
        assert bool(server.reach(listening)) == warned
