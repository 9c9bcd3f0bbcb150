"""A page to talk to a tutor on, and to choose blind between its replies and its base's."""

import asyncio
import random
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

from nicegui import ui
from nicegui.elements.mixins.text_element import TextElement

from socratic_rl.chat.session import Session, Talk, stated_problem
from socratic_rl.core.dialogue import Message, Problem, Turn, seed_from, teacher_turns, to_messages
from socratic_rl.core.errors import UserError
from socratic_rl.core.generator import Reply
from socratic_rl.pairs.votes import LABELS, Ballot, BallotBox, Label, Tally


class StoppedError(Exception):
    """Nobody waits for the reply any more."""


class Voices:
    """A session as all visitors share it: one reply is written at a time.

    Args:
        session: Who answers; each turn of each dialogue has its own seed.

    Raises:
        UserError: The weights cannot be loaded, or leave no room for a reply.
    """

    def __init__(self, session: Session) -> None:
        self.session = session
        session.load(list(session.partners.generators))
        self.closing = threading.Event()
        # one thread takes one call after the other
        self._thread = ThreadPoolExecutor(1)

    def seed_of(self, talk: Talk) -> int:
        """The seed of the reply that is due in a dialogue."""
        return seed_from(self.session.seed, talk.id, len(talk.turns))

    async def reply(
        self, names: Sequence[str], talk: Talk, gone: threading.Event, write: Callable[[str], None] = lambda _: None
    ) -> list[Reply]:
        """What each of these partners says next in a dialogue.

        Args:
            names: The partners.
            talk: The dialogue; it ends in the student's turn.
            gone: Is set when nobody waits any more.
            write: Takes each piece of text, in another thread.

        Raises:
            UserError: The dialogue is too long.
            StoppedError: Nobody waits any more.
        """
        prompt = self.session.prompt(talk)

        def take(piece: str) -> None:
            if gone.is_set() or self.closing.is_set():
                raise StoppedError
            write(piece)

        def replies(prompt: Sequence[Message]) -> list[Reply]:
            return [self.session.reply(name, prompt, self.seed_of(talk), take) for name in names]

        return await asyncio.get_running_loop().run_in_executor(self._thread, replies, prompt)


def _text(tag: str, text: str = "", **attributes: str) -> TextElement:
    """An element with text in it; no markup is read."""
    element = TextElement(tag=tag, text=text)
    for name, value in attributes.items():
        element.props[name] = value
    return element


class Dialogue:
    """One visitor's dialogue: a problem, and turns about it.

    Args:
        voices: Who answers.
        problems: What a problem can be taken from.
    """

    asks = "Send"

    def __init__(self, voices: Voices, problems: Sequence[Problem]) -> None:
        self.voices = voices
        self.problems = problems
        self.talk: Talk | None = None
        self.gone = threading.Event()
        ui.context.client.on_delete(self.gone.set)
        self.transcript = ui.element("div").classes("said")
        self.status = _text("p", role="status").classes("status")
        self.due = ui.element("div")
        self.alert = _text("p", role="alert").classes("alert")
        self.controls = ui.element("div").classes("controls")
        with self.controls:
            # Enter sends as in other chats, with Shift it begins a new line
            self.box = ui.textarea("").props("outlined autogrow").on("keydown.enter.exact.prevent", self.send)
            with ui.element("div").classes("buttons"):
                ui.button(self.asks, on_click=self.send).props("unelevated no-caps")
                self.take = ui.button("Give me a problem", on_click=self.take_problem).props("outline no-caps")
                self.anew = ui.button("New problem", on_click=self.begin_anew).props("outline no-caps")
        self._listen()

    def _listen(self) -> None:
        """Let the person write what comes next."""
        begun = self.talk is not None
        self.controls.set_visibility(True)
        self.box.props["label"] = "Your answer, as the student" if begun else "State a problem"
        self.take.set_visibility(not begun)
        self.anew.set_visibility(begun)
        self.box.run_method("focus")

    async def send(self) -> None:
        """Take what was written: a problem, or the next turn."""
        # what is typed while a reply is due waits in the box
        if not self.controls.visible or not (text := (self.box.value or "").strip()):
            return
        if self.talk is None:
            self.talk = _begin(stated_problem(text))
        await self._say(self.talk, text)

    async def take_problem(self) -> None:
        """Begin with a problem of the data set."""
        if self.controls.visible:
            self.talk = _begin(random.choice(self.problems))
            await self._say(self.talk, self.talk.problem.question)

    def begin_anew(self) -> None:
        """Leave the dialogue for another problem."""
        self.talk = None
        self.transcript.clear()
        self.status.set_text("")
        self._listen()

    async def _say(self, talk: Talk, text: str) -> None:
        talk.turns.append(Turn(speaker="student", text=text))
        turn = self._show("You", text, "student")
        self.controls.set_visibility(False)
        self.alert.set_text("")
        self.box.set_value("")
        try:
            await self._reply(talk)
        except StoppedError:
            return
        except Exception as error:
            # as if it had not been said
            talk.turns.pop()
            turn.delete()
            self.due.clear()
            self.status.set_text("")
            self.talk = talk if talk.turns else None
            self.box.set_value(text)
            self.alert.set_text(f"No reply: {error}" if isinstance(error, UserError) else f"No reply: {error!r}")
            self._listen()
            if not isinstance(error, UserError):
                raise

    async def _reply(self, talk: Talk) -> None:
        raise NotImplementedError

    def _show(self, who: str, text: str, speaker: str) -> ui.element:
        """Put a turn below the others."""
        with self.transcript, ui.element("div").classes(f"turn {speaker}") as turn:
            _text("span", who).classes("who")
            _text("p", text)
        return turn


class Chat(Dialogue):
    """A plain chat with one partner, its reply shown as it is written."""

    def __init__(self, voices: Voices, problems: Sequence[Problem]) -> None:
        *_, self.partner = voices.session.partners.generators
        super().__init__(voices, problems)

    async def _reply(self, talk: Talk) -> None:
        with self.due, ui.element("div").classes("turn teacher"):
            _text("span", self.partner.capitalize()).classes("who")
            text = _text("p", "…")
        pieces: list[str] = []

        def add(piece: str) -> None:
            pieces.append(piece)
            text.set_text("".join(pieces).strip() or "…")

        loop = asyncio.get_running_loop()

        def write(piece: str) -> None:
            loop.call_soon_threadsafe(add, piece)

        (reply,) = await self.voices.reply([self.partner], talk, self.gone, write)
        self.due.clear()
        if not reply.text:
            raise UserError("it was empty; say it in other words")
        talk.add_reply(reply)
        self._show(self.partner.capitalize(), reply.text, "teacher")
        self.status.set_text(self.voices.session.cut_off_note(reply))
        self._listen()


class Choice(Dialogue):
    """A blind choice between tutor and base at each turn; the dialogue goes on from the reply that was picked.

    Args:
        voices: Who answers: a ``tutor`` and a ``base``.
        problems: What a problem can be taken from.
        box: Where the votes go.
        trace: What a ballot's provenance says of tutor and base.
    """

    asks = "Ask both"

    def __init__(self, voices: Voices, problems: Sequence[Problem], box: BallotBox, trace: dict[str, Any]) -> None:
        super().__init__(voices, problems)
        self.ballots = box
        self.trace = trace
        self.tally = _text("p").classes("tally")
        self._count()

    async def _reply(self, talk: Talk) -> None:
        # piece by piece one could tell them apart by their pace
        self.status.set_text("Two replies are being written …")
        with self.due:
            ui.linear_progress(show_value=False).props("indeterminate aria-label=Writing")
        seed = self.voices.seed_of(talk)
        names = ["tutor", "base"]
        by_name = dict(zip(names, await self.voices.reply(names, talk, self.gone), strict=True))
        random.shuffle(names)
        replies = {label: by_name[name] for label, name in zip(LABELS, names, strict=True)}
        filled = [label for label in LABELS if replies[label].text]
        if not filled:
            raise UserError("both were empty; say it in other words")
        alike = replies["A"].text == replies["B"].text

        def vote(picked: Label | None) -> None:
            ballot = Ballot(
                conversation_id=talk.id,
                problem_id=talk.problem.id,
                turn=teacher_turns(talk.turns),
                prompt=to_messages(talk.turns),
                replies={label: reply.text for label, reply in replies.items()},
                tutor=LABELS[names.index("tutor")],
                picked=picked,
                time=datetime.now(UTC).isoformat(timespec="seconds"),
                provenance={**self.trace, "seed": seed},
            )
            try:
                self.ballots.cast(ballot, talk.problem)
            except (OSError, UserError) as error:
                self.alert.set_text(f"Your vote could not be kept, try again: {error}")
                raise
            self._go_on(talk, ballot)

        self.due.clear()
        self.status.set_text("Both said the same." if alike else "Which reply helps a student more?")
        with self.due:
            with ui.element("div").classes("pair").props("tabindex=-1") as pair:
                for label in LABELS:
                    with ui.element("section").classes("turn teacher"):
                        _text("h2", label)
                        _text("p", replies[label].text or "(no reply)")
                        _text("p", self.voices.session.cut_off_note(replies[label])).classes("note")
            with ui.element("div").classes("buttons"):
                for label in filled if not alike else []:
                    ui.button(f"{label} is better", on_click=lambda label=label: vote(label)).props(
                        "unelevated no-caps"
                    )
                ui.button("Go on" if alike else "No preference", on_click=lambda: vote(None)).props("outline no-caps")
        # the next Tab is on the first of them, and Enter alone votes for nothing
        ui.run_javascript(f"getHtmlElement({pair.id}).focus()")

    def _go_on(self, talk: Talk, ballot: Ballot) -> None:
        label = ballot.picked or ("A" if ballot.replies["A"] else "B")
        self.due.clear()
        self.alert.set_text("")
        talk.turns.append(Turn(speaker="teacher", text=ballot.replies[label]))
        self._show(label, ballot.replies[label], "teacher")
        (base,) = set(LABELS) - {ballot.tutor}
        choice = f"You picked {label}" if ballot.picked else f"No preference; it goes on from {label}"
        self.status.set_text(f"{choice}. {ballot.tutor} was the tutor, {base} its base.")
        self._count()
        self._listen()

    def _count(self) -> None:
        self.tally.set_text(tally_line(self.ballots.tally(self.trace["tutor"])))


def tally_line(tally: Tally) -> str:
    """A tally in a line."""
    undecided = f" No preference: {tally.undecided}." if tally.undecided else ""
    if not tally.n:
        return f"No vote yet.{undecided}"
    low, high = tally.interval
    return (
        f"The tutor was picked in {tally.picked} of {tally.n} vote{'s' if tally.n > 1 else ''} about {tally.problems}"
        f" problem{'s' if tally.problems > 1 else ''}: {tally.picked / tally.n:.0%},"
        f" 95% interval {low:.0%} to {high:.0%}.{undecided}"
    )


def _begin(problem: Problem) -> Talk:
    return Talk(f"{problem.id}/web-{uuid4().hex[:16]}", problem)
