"""What a server may do to whoever asks it: drip, never end, send bombs, stand in the way of Ctrl-C."""

import contextlib
import gzip
import json
import resource
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator

import pytest
from pydantic import ValidationError

from socratic_rl.commands.mistakes import refuse_secrets
from socratic_rl.core.errors import UserError
from socratic_rl.core.generator import Reply, Request
from socratic_rl.generators import openai_server
from tests.unit.generators.test_generators import chat_answer, remote

Speak = Callable[[socket.socket], None]

ASKED = Request(messages=({"role": "user", "content": "2 + 2?"},), seed=0)


@pytest.fixture
def speak() -> Iterator[Callable[[Speak], str]]:
    """Serves every connection by a function that writes bytes; gives the address."""
    listening = []

    def serve(answer: Speak) -> str:
        server = socket.create_server(("127.0.0.1", 0))
        listening.append(server)

        def one(connection: socket.socket) -> None:
            with connection, contextlib.suppress(OSError):
                connection.recv(1 << 16)
                answer(connection)
                # closed before all that was asked is read, it would take back what it has answered
                connection.shutdown(socket.SHUT_WR)
                while connection.recv(1 << 16):
                    pass

        def accept() -> None:
            with contextlib.suppress(OSError):
                while True:
                    threading.Thread(target=one, args=(server.accept()[0],), daemon=True).start()

        threading.Thread(target=accept, daemon=True).start()
        return f"http://127.0.0.1:{server.getsockname()[1]}/v1"

    yield serve
    for server in listening:
        server.close()


HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"


def drip(text: bytes, first: bytes = b"") -> Speak:
    def answer(connection: socket.socket) -> None:
        connection.sendall(first)
        for byte in text * 1000:
            connection.sendall(bytes([byte]))
            time.sleep(0.02)

    return answer


BOMB = gzip.compress(bytes(50_000_000))


def endless(first: bytes, piece: bytes) -> Speak:
    def answer(connection: socket.socket) -> None:
        connection.sendall(first)
        while True:
            connection.sendall(piece)

    return answer


@pytest.mark.parametrize(
    "answer",
    [
        drip(b" ", HEAD + b"\r\n"),
        drip(b"X-Y: z\r\n", HEAD),
        drip(b"1\r\n \r\n", HEAD + b"Transfer-Encoding: chunked\r\n\r\n"),
        drip(b"HTTP/1.1 100 Continue\r\n\r\n"),
        lambda connection: time.sleep(5),
    ],
    ids=["body", "headers", "chunks", "go on", "silence"],
)  # fmt: skip
def test_an_answer_in_drips_ends_at_its_time(speak: Callable[[Speak], str], answer: Speak) -> None:
    begun = time.monotonic()
    with pytest.raises(UserError, match=r"no reply within 0\.5 s; raise timeout or lower width$"):
        dict(remote(speak(answer), timeout=0.5).generate([ASKED]))
    assert 0.4 < time.monotonic() - begun < 3


@pytest.mark.parametrize(
    "answer",
    [
        endless(HEAD + b"\r\n", b" " * 65536),
        endless(HEAD + b"Transfer-Encoding: chunked\r\n\r\n", b"10000\r\n" + b" " * 65536 + b"\r\n"),
        endless(HEAD.replace(b"200 OK", b"500 Oh") + b"\r\n", b"x" * 65536),
        lambda connection: connection.sendall(HEAD + b"Content-Encoding: gzip\r\n\r\n" + BOMB),
    ],
    ids=["body", "chunks", "error", "bomb"],
)
def test_an_answer_without_end_is_not_read_into_memory(speak: Callable[[Speak], str], answer: Speak) -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(UserError, match=r"answers more than 10 MB, which no reply takes$"):
        dict(remote(speak(answer), timeout=20, wait=60).generate([ASKED]))
    # kilobytes; the bomb's own pieces are of some megabytes each
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 150_000


def whole(body: bytes, more: bytes = b"") -> Speak:
    return lambda connection: connection.sendall(HEAD + more + b"Content-Length: %d\r\n\r\n" % len(body) + body)


@pytest.mark.parametrize(
    "body",
    [b"[" * 100_000, b'{"a":' * 100_000, b"9" * 5000, b'{"choices": ' + b"9" * 5000 + b"}", b"\xff\xfe{}", bytes(99)],
    ids=["deep list", "deep object", "long number", "long number within", "no text", "zeros"],
)
def test_an_answer_that_no_parser_takes_is_one_line(speak: Callable[[Speak], str], body: bytes) -> None:
    with pytest.raises(UserError, match="answered what is not OpenAI's protocol: ") as error:
        dict(remote(speak(whole(body))).generate([ASKED]))
    assert len(str(error.value).splitlines()) == 1
    assert len(str(error.value)) < 400


def test_a_packed_answer_is_read(speak: Callable[[Speak], str]) -> None:
    packed = gzip.compress(chat_answer("4").encode())
    address = speak(whole(packed, b"Content-Encoding: gzip\r\n"))
    assert dict(remote(address).generate([ASKED])) == {0: Reply("4", "stop")}


def test_ctrl_c_ends_a_process_that_waits_for_replies_at_once(speak: Callable[[Speak], str]) -> None:
    code = f"""
import sys
from socratic_rl.generators import OpenAI
from socratic_rl.core.generator import Request
server = OpenAI(base_url={speak(lambda connection: time.sleep(60))!r}, model="m", api_key_env=None,
                width=4, timeout=300, max_retries=3, wait=300, temperature=0.5, top_p=0.9, max_tokens=20)
replies = server.generate([Request(text="a", seed=n) for n in range(40)])
server._server
print("asked", flush=True)
try:
    next(replies)
except KeyboardInterrupt:
    sys.exit(130)
"""
    # a signal and the end of a process are what is tested
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
    assert process.stdout.readline() == b"asked\n"
    time.sleep(0.5)
    process.send_signal(signal.SIGINT)
    begun = time.monotonic()
    assert process.wait(20) == 130
    assert time.monotonic() - begun < 3


SECRET = "hunter2"


@pytest.mark.parametrize(
    "url",
    [f"http://me:{SECRET}@host/v1", f"http://{SECRET}@host/v1", f"http://me:{SECRET}@h:99999999/v1", f"me:{SECRET}@h",
     f"http://host/v1?key={SECRET}", f"http://host/v1#{SECRET}", f"http://me:{SECRET}/x@host/v1", f"//:{SECRET}@host"],
)  # fmt: skip
def test_a_secret_in_an_address_is_refused_and_not_repeated(url: str) -> None:
    with pytest.raises(ValidationError) as error:
        remote(url)
    (found,) = error.value.errors(include_url=False)
    assert found["type"] == "value_error"
    assert "api_key_env" in found["msg"]
    assert SECRET not in found["msg"]
    for key in ("generator.base_url", "+judge.generator.base_url"):
        with pytest.raises(UserError, match=r"^\w+\.(generator\.)?base_url: .*api_key_env") as refused:
            refuse_secrets(["seed=1", f"{key}={url}"])
        assert SECRET not in str(refused.value)


def test_other_addresses_and_texts_are_taken() -> None:
    refuse_secrets(["generator.base_url=http://127.0.0.1:8000/v1", "prompt=who@home?", "generator.model=me/x#1"])
    assert str(remote("https://[::1]:80/v1/").base_url) == "https://[::1]:80/v1/"


def test_what_a_server_writes_keeps_to_its_line(speak: Callable[[Speak], str]) -> None:
    body = json.dumps({"error": {"message": "a\n\x1b[2Jb\r\x9b31m" + "c" * 9000}}).encode()
    answer = HEAD.replace(b"200 OK", b"400 No") + b"Content-Length: %d\r\n\r\n" % len(body) + body
    with pytest.raises(UserError) as error:
        dict(remote(speak(lambda connection: connection.sendall(answer))).generate([ASKED]))
    assert len(str(error.value)) < 400
    assert openai_server.MOST_BYTES == 10_000_000
