"""A chat with a tutor in the terminal, line by line."""

import contextlib
import difflib
import itertools
import sys
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from pathlib import Path

from prompt_toolkit import PromptSession
from prompt_toolkit.completion import WordCompleter
from prompt_toolkit.formatted_text import FormattedText
from rich.text import Text

from socratic_rl.chat.partners import drawn
from socratic_rl.chat.session import Session, Talk, stated_problem
from socratic_rl.conversations.writer import CUT_OFF, Flaw, conversation, gate
from socratic_rl.core.dialogue import Conversation, Message, Problem, Turn, merge_turns, seed_from, to_messages
from socratic_rl.core.errors import UserError
from socratic_rl.core.files import write_jsonl
from socratic_rl.core.generator import Reply
from socratic_rl.core.provenance import artifact_name, versions
from socratic_rl.core.records import read_records
from socratic_rl.core.text import plain, tell
from socratic_rl.pages import console

COMMANDS = {
    "/problem": "the next problem of the data set; /problem TEXT: one of your own",
    "/retry": "another reply to what was said last",
    "/save": "keep the conversation; /save FILE: in that file of output_dir",
    "/base": "/base on shows the base's reply beside the tutor's, /base off does not",
    "/help": "these commands",
    "/quit": "leave (Ctrl-D does so too; Ctrl-C stops a reply)",
}


class Chat:
    """A person's side of conversations, taken line by line.

    Args:
        session: Who answers, and what about; each turn, and each retry of it, has its own seed.
        folder: Where ``/save`` writes.
        with_base: Whether all partners speak at each turn, or only the last.
    """

    def __init__(self, session: Session, folder: Path, *, with_base: bool) -> None:
        self.session = session
        self.partners = session.partners
        self.with_base = with_base
        self.folder = folder
        self.screen = console.console()
        self.started = datetime.now().isoformat(timespec="seconds")
        self.numbers = itertools.count()
        self.talk: Talk | None = None
        self.retries = 0

    def run(self, lines: Iterable[str]) -> None:
        """Answer line by line until the lines or the person's patience end.

        Raises:
            UserError: The weights cannot be loaded, or leave no room for a reply.
        """
        *_, last = self.partners.generators
        self._tell(f"loading {last} …")
        self.session.load([last])
        how = drawn(self.partners.sampling, self.session.seed)
        self._tell(f"{self.partners.names}; {how}; {self.session.problems_from}")
        self._tell("you are the student: state a problem, or type /problem; /help lists the commands")
        for line in lines:
            if line == "/quit":
                return
            if line:
                # Ctrl-C may come before the first word of a reply
                with contextlib.suppress(KeyboardInterrupt):
                    self._take(line)

    def _take(self, line: str) -> None:
        command, _, rest = line.partition(" ")
        match command:
            case "/help":
                for name, meaning in COMMANDS.items():
                    self._tell(f"{name:<9} {meaning}")
            case "/problem":
                self._pose(rest.strip())
            case "/retry":
                self._retry()
            case "/save":
                self._save(rest.strip())
            case "/base":
                self._show_base(rest.strip())
            case _ if command.startswith("/"):
                close = difflib.get_close_matches(command, COMMANDS, n=1)
                self._tell(f"there is no {command}" + (f"; did you mean {close[0]}?" if close else "; see /help"))
            case _:
                self._answer(line)

    def _pose(self, question: str) -> None:
        """Begin anew, with a problem of the person's own or the next one."""
        problem = stated_problem(question) if question else next(self.session.problems, None)
        if problem is None:
            self._tell("there are no more problems; /problem TEXT poses one of your own")
            return
        self._begin(problem)
        if not question:
            self.screen.print(Text.assemble(("student: ", "bold"), plain(problem.question)))
        self._answer(problem.question)

    def _begin(self, problem: Problem) -> None:
        self.talk = Talk(f"{problem.id}/chat-{self.started}-{next(self.numbers)}", problem)

    def _answer(self, text: str) -> None:
        if self.talk is None:
            self._begin(stated_problem(text))
        assert self.talk is not None
        self.talk.turns.append(Turn(speaker="student", text=text))
        self.retries = 0
        self._speak(self.talk)

    def _retry(self) -> None:
        if self.talk is None or not self.talk.turns:
            self._tell("nothing was said yet")
            return
        if self.partners.sampling.temperature == 0:
            self._tell("sampling.temperature is 0, which always gives the same reply")
            return
        if self.talk.turns[-1].speaker == "teacher":
            self.talk.turns.pop()
        self.retries += 1
        self._speak(self.talk)

    def _speak(self, talk: Talk) -> None:
        """Let the partners reply; what the last one says becomes the teacher's turn."""
        try:
            prompt = self.session.prompt(talk)
        except UserError as error:
            talk.turns.pop()
            self._tell(f"{error}; it was left out")
            return
        if left_out := len(to_messages(talk.turns)) - len(prompt):
            room = self.session.room
            self._tell(f"({left_out} turns after the problem are no longer read: there is room for {room} tokens)")
        seed = seed_from(self.session.seed, len(talk.turns), self.retries)
        names = list(self.partners.generators)
        *_, reply = [self._stream(name, prompt, seed) for name in (names if self.with_base else names[-1:])]
        if reply.text:
            talk.add_reply(reply)

    def _stream(self, name: str, prompt: list[Message], seed: int) -> Reply:
        """Print a reply as it is drawn; returns it, or what there is of it where Ctrl-C cut it off."""
        pieces: list[str] = []

        def write(piece: str) -> None:
            text = piece if pieces else piece.lstrip()
            if text:
                pieces.append(text)
                self.screen.out(text, end="")

        note = ""
        try:
            self.screen.print(Text(f"{name}: ", style="bold cyan"), end="")
            reply = self.session.reply(name, prompt, seed, write)
            if cut_off := self.session.cut_off_note(reply):
                note = f" {cut_off}"
        except KeyboardInterrupt:
            reply, note = Reply("".join(pieces).strip(), "length"), " (stopped)"
        self.screen.print(Text(note or ("" if reply.text else "(no reply)"), style="dim"))
        return reply

    def _save(self, name: str) -> None:
        """Keep the conversation as a record, and its problem beside it, as ``generate.py`` reads both."""
        if self.talk is None or not any(turn.speaker == "teacher" for turn in self.talk.turns):
            self._tell("there is no conversation to save yet")
            return
        tutor = self.partners.tutor
        path = self.folder / (name or "conversations.jsonl")
        # what was said after an empty reply goes with what was said before it, as the models read it
        turns = merge_turns(self.talk.turns)
        cut_off = [Flaw(CUT_OFF, number) for number, turn in enumerate(turns) if turn in self.talk.cut_off]
        record = conversation(
            self.talk.id,
            self.talk.problem,
            turns,
            gate(turns, self.talk.problem) + cut_off,
            {
                "writer": "chat",
                "base": self.partners.base,
                **({"tutor": artifact_name("adapter", [tutor.folder])} if tutor else {}),
                "sampling": self.partners.sampling.as_config(),
                "seed": self.session.seed,
                "engine": list(self.partners.generators.values())[-1].engine,
                "versions": versions(),
            },
        )
        try:
            _put(path.with_name("problems.jsonl"), self.talk.problem)
            _put(path, record)
        except (OSError, UserError) as error:
            self._tell(f"not saved: {error}")
            return
        rejected = f"; generate.py will make no pairs of it: {', '.join(record.reasons)}" if record.reasons else ""
        self._tell(f"saved to {path}{rejected}")

    def _show_base(self, value: str) -> None:
        if len(self.partners.generators) == 1:
            missing = "GGUF file of the base: base_gguf=FILE" if self.partners.tutor else "tutor: adapter=FOLDER"
            self._tell(f"there is only one to talk to, and no {missing}")
        elif value not in ("on", "off"):
            self._tell("/base on or /base off")
        else:
            self.with_base = value == "on"
            self._tell(f"the base's reply is {'shown too' if self.with_base else 'not shown'}")

    def _tell(self, text: str) -> None:
        self.screen.print(text, style="dim")


def _put(path: Path, record: Conversation | Problem) -> None:
    """Write a record into a JSONL file of its kind, in place of an earlier one with its id.

    Raises:
        UserError: The file holds something else.
    """
    records = {old.id: old for old in read_records(type(record), path)} if path.exists() else {}
    write_jsonl(path, (each.to_record() for each in (records | {record.id: record}).values()))


YOU = "student: "
"""What stands before what a person types."""


def lines(commands: Sequence[str]) -> Iterator[str]:
    """What a person types, line by line, until the end of input (Ctrl-D): with editing, history and completion.

    Ctrl-C empties the line. Lines that come through a pipe are read as they are, and shown as if they were typed.
    """
    if not sys.stdin.isatty():
        for row in sys.stdin.buffer:
            line = row.decode("utf-8", errors="replace").strip()
            tell(f"{YOU}{line}")
            yield line
        return
    session: PromptSession[str] = PromptSession(
        completer=WordCompleter(list(commands), sentence=True), complete_while_typing=False
    )
    while True:
        try:
            yield session.prompt(FormattedText([("bold", YOU)])).strip()
        except KeyboardInterrupt:
            continue
        except EOFError:
            return
