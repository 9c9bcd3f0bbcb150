"""A page to talk to a tutor on, and to choose blind between its replies and its base's."""

import contextlib
import ipaddress
import os
import socket
import warnings
import webbrowser
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import Any

import uvicorn
from fastapi import FastAPI
from fastapi.middleware.trustedhost import TrustedHostMiddleware
from nicegui import app, core, ui

from socratic_rl.chat.partners import Partners, drawn
from socratic_rl.chat.session import Session
from socratic_rl.chat.web import Chat, Choice, Voices, _text
from socratic_rl.core.component import WebSettings
from socratic_rl.core.dialogue import Problem
from socratic_rl.core.errors import UserError
from socratic_rl.core.provenance import artifact_name, versions
from socratic_rl.core.text import tell
from socratic_rl.pairs.votes import BallotBox

STYLE = (resources.files("socratic_rl.chat") / "talk.css").read_text(encoding="utf-8")


PATIENCE = 120.0
"""Seconds for which a page that lost its connection keeps its dialogue."""


def serve(session: Session, folder: Path, web: WebSettings) -> None:
    """Serve the page until the process is told to end.

    Args:
        session: Who answers, and what about; a choice needs a ``tutor`` and a ``base``.
        folder: Where votes are kept.
        web: Where the page is served.

    Raises:
        UserError: The address cannot be listened on, the votes cannot be read, or the weights not be loaded.
    """
    listening = _bound(web)
    box = BallotBox(folder)
    problems, partners = list(session.problems), session.partners
    tell(f"loading {', '.join(partners.generators)} …")
    voices = Voices(session)
    trace = _provenance(partners)
    _add_page(voices, problems, box, trace)
    site = _site(own_names(web.host, listening))
    app.on_shutdown(voices.closing.set)
    server = uvicorn.Server(uvicorn.Config(site, log_level="warning", timeout_graceful_shutdown=1))
    address = _address(listening)
    tell(f"{partners.names}; {drawn(partners.sampling, session.seed)}; {session.problems_from}")
    tell(f"votes are kept in {folder}" if trace else "there is no base beside a tutor, so there is nothing to vote on")
    if warning := reach(listening):
        tell(f"warning: {warning}")
    tell(f"the page: {address} (Ctrl-C ends it)")
    if web.open_browser:
        webbrowser.open(address)
    with contextlib.suppress(KeyboardInterrupt):
        server.run(sockets=[listening])


def _provenance(partners: Partners) -> dict[str, Any]:
    """What a ballot says of tutor and base; empty where there is nothing to choose between."""
    if not partners.tutor or "base" not in partners.generators:
        return {}
    return {
        "tutor": artifact_name("adapter", [partners.tutor.folder]),
        "folder": str(partners.tutor.folder),
        "base": partners.base,
        "sampling": partners.sampling.as_config(),
        "engine": partners.generators["tutor"].engine,
        "versions": versions(),
    }


def _add_page(voices: Voices, problems: Sequence[Problem], box: BallotBox, trace: dict[str, Any]) -> None:
    """Register the page: a chat and, where there is something to choose between, a blind choice."""

    @ui.page("/", title="Talk to a tutor", reconnect_timeout=PATIENCE)
    def page() -> None:
        ui.add_css(STYLE)
        with ui.element("div").classes("talk"):
            _text("h1", "Talk to a tutor")
            if not trace:
                Chat(voices, problems)
                return
            with ui.tabs().props("no-caps align=left") as tabs:
                choice = ui.tab("Choose blind")
                chat = ui.tab("Chat with the tutor")
            with ui.tab_panels(tabs, value=choice, animated=False).props("keep-alive"):
                with ui.tab_panel(choice):
                    _text(
                        "p",
                        "You are the student. A tutor and its base reply; you choose without knowing which is which.",
                    )
                    Choice(voices, problems, box, trace)
                with ui.tab_panel(chat):
                    Chat(voices, problems)


def _site(names: list[str]) -> FastAPI:
    """What serves the page, to requests that name it by one of these names."""
    site = FastAPI(openapi_url=None)
    with warnings.catch_warnings():
        # it asks every object in memory what it is, and one of torch's answers that it will go
        warnings.simplefilter("ignore", FutureWarning)
        ui.run_with(site, dark=None, favicon="❓", language="en-US", tailwind=False, show_welcome_message=False)
    site.add_middleware(TrustedHostMiddleware, allowed_hosts=names, www_redirect=False)
    # None takes the page's own origin; NiceGUI lets any site connect
    core.sio.eio.cors_allowed_origins = None
    return site


def _bound(web: WebSettings) -> socket.socket:
    """A socket that listens already.

    Raises:
        UserError: It cannot; names the key.
    """
    try:
        family, *_, address = socket.getaddrinfo(web.host, web.port, type=socket.SOCK_STREAM)[0]
    except socket.gaierror as error:
        raise UserError(f"web.host: {web.host}: {error.strerror}; 127.0.0.1 is this machine alone") from error
    try:
        return socket.create_server(address[:2], family=family)
    except OSError as error:
        why = os.strerror(error.errno or 0).lower()
        raise UserError(
            f"web.port: {web.host}:{web.port} cannot be listened on ({why}); web.port=0 takes any free one"
        ) from error


def own_names(host: str, listening: socket.socket) -> list[str]:
    """The hosts that a request may name; any, where it listens on all addresses.

    A site whose own name leads to this machine could else read the page, and vote.
    """
    bound = listening.getsockname()[0]
    if ipaddress.ip_address(bound).is_unspecified:
        return ["*"]
    return [f"[{name}]" if ":" in name else name for name in (host, bound, "localhost", "127.0.0.1", "::1")]


def reach(listening: socket.socket) -> str | None:
    """What to know of a page that not this machine alone can open; None where it alone can."""
    if ipaddress.ip_address(listening.getsockname()[0]).is_loopback:
        return None
    return (
        "whoever reaches this machine over the network can open this page without a password, talk and vote;"
        " web.host=127.0.0.1 serves this machine alone"
    )


def _address(listening: socket.socket) -> str:
    host, port = listening.getsockname()[:2]
    return f"http://[{host}]:{port}" if listening.family == socket.AF_INET6 else f"http://{host}:{port}"
