"""Talking to a tutor in the terminal: its reply beside the base's, or a chat with one or both."""

import contextlib
import difflib
import itertools
import sys
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from pathlib import Path

from rich.text import Text

from socratic_rl.chat.partners import Partners, Talk, drawn, own_problem, problems_for
from socratic_rl.conversations.problems import Source
from socratic_rl.core.component import SamplingSettings
from socratic_rl.core.dialogue import Conversation, Message, Problem, Turn, merge_turns, seed_from, to_messages
from socratic_rl.core.errors import UserError
from socratic_rl.core.files import write_jsonl
from socratic_rl.core.generator import Reply
from socratic_rl.core.provenance import versions
from socratic_rl.core.records import read_records
from socratic_rl.generators.tutors import room_for
from socratic_rl.models.tokens import fit_prompt
from socratic_rl.pages import console
from socratic_rl.pages.console import plain

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
        partners: Who answers.
        sampling: How replies are drawn.
        seed: Of the replies; each turn, and each retry of it, has its own.
        problems: What ``/problem`` takes from; None takes what the tutor's data set held out, or the starter set.
        with_base: Whether all partners speak at each turn, or only the last.
        folder: Where ``/save`` writes.
    """

    def __init__(
        self,
        partners: Partners,
        sampling: SamplingSettings,
        *,
        seed: int,
        problems: Source | None,
        with_base: bool,
        folder: Path,
    ) -> None:
        self.partners = partners
        self.sampling = sampling
        self.seed = seed
        self.problems, self.problems_from = problems_for(problems, partners.tutor)
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
        *_, last = self.partners.speakers
        self._tell(f"loading {last} …")
        self.room = room_for(self.partners.speakers[last].context(), self.sampling)
        self._tell(f"{self.partners.names}; {drawn(self.sampling, self.seed)}; {self.problems_from}")
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
        problem = own_problem(question) if question else next(self.problems, None)
        if problem is None:
            self._tell("there are no more problems; /problem TEXT poses one of your own")
            return
        self._begin(problem)
        if not question:
            self.screen.print(Text.assemble(("student: ", "bold"), console.plain(problem.question)))
        self._answer(problem.question)

    def _begin(self, problem: Problem) -> None:
        self.talk = Talk(f"{problem.id}/chat-{self.started}-{next(self.numbers)}", problem)

    def _answer(self, said: str) -> None:
        if self.talk is None:
            self._begin(own_problem(said))
        assert self.talk is not None
        self.talk.turns.append(Turn(speaker="student", text=said))
        self.retries = 0
        self._speak(self.talk)

    def _retry(self) -> None:
        if self.talk is None or not self.talk.turns:
            self._tell("nothing was said yet")
            return
        if self.sampling.temperature == 0:
            self._tell("sampling.temperature is 0, which always gives the same reply")
            return
        if self.talk.turns[-1].speaker == "teacher":
            self.talk.turns.pop()
        self.retries += 1
        self._speak(self.talk)

    def _speak(self, talk: Talk) -> None:
        """Let the partners reply; what the last one says becomes the teacher's turn."""
        dialogue = to_messages(talk.turns)
        prompt = fit_prompt(dialogue, self.partners.tokenizer, self.room)
        if prompt is None:
            talk.turns.pop()
            self._tell(f"that is too long: problem and last exchange must fit into {self.room} tokens; it was left out")
            return
        if left_out := len(dialogue) - len(prompt):
            self._tell(f"({left_out} turns after the problem are no longer read: there is room for {self.room} tokens)")
        seed = seed_from(self.seed, len(talk.turns), self.retries)
        names = list(self.partners.speakers)
        *_, reply = [self._stream(name, prompt, seed) for name in (names if self.with_base else names[-1:])]
        if reply.text:
            turn = Turn(speaker="teacher", text=reply.text)
            talk.turns.append(turn)
            talk.cut_off.discard(turn)
            if reply.finish == "length":
                talk.cut_off.add(turn)

    def _stream(self, name: str, prompt: list[Message], seed: int) -> Reply:
        """Print a reply as it is drawn; returns it, or what there is of it where Ctrl-C cut it off."""
        pieces: list[str] = []

        def write(piece: str) -> None:
            shown = piece if pieces else piece.lstrip()
            if shown:
                pieces.append(shown)
                self.screen.out(console.plain(shown), end="", highlight=False)

        note = ""
        try:
            self.screen.print(Text(f"{name}: ", style="bold cyan"), end="")
            reply = self.partners.speakers[name].stream(prompt, write, self.sampling, seed)
            if reply.finish == "length":
                note = f" (cut off after {self.sampling.max_new_tokens} tokens)"
        except KeyboardInterrupt:
            reply, note = Reply("".join(pieces).strip(), "length"), " (stopped)"
        self.screen.print(Text(note or ("" if reply.text else "(no reply)"), style="dim"))
        return reply

    def _save(self, name: str) -> None:
        """Keep the conversation as a record, and its problem beside it, as ``generate.py`` reads both."""
        if self.talk is None or not any(turn.speaker == "teacher" for turn in self.talk.turns):
            self._tell("there is no conversation to save yet")
            return
        from socratic_rl.conversations.writer import CUT_OFF, Flaw, conversation, gate
        from socratic_rl.core.provenance import artifact_name

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
                "sampling": self.sampling.model_dump(),
                "seed": self.seed,
                "engine": list(self.partners.speakers.values())[-1].engine,
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
        if len(self.partners.speakers) == 1:
            missing = "GGUF file of the base: base_gguf=FILE" if self.partners.tutor else "tutor: adapter=FOLDER"
            self._tell(f"there is only one to talk to, and no {missing}")
        elif value not in ("on", "off"):
            self._tell("/base on or /base off")
        else:
            self.with_base = value == "on"
            self._tell(f"the base's reply is {'shown too' if self.with_base else 'not shown'}")

    def _tell(self, text: str) -> None:
        self.screen.print(Text(console.plain(text), style="dim"))


def _put(path: Path, record: Conversation | Problem) -> None:
    """Write a record into a JSONL file of its kind, in place of an earlier one with its id.

    Raises:
        UserError: The file holds something else.
    """
    kept = {old.id: old for old in read_records(type(record), path)} if path.exists() else {}
    write_jsonl(path, (one.to_record() for one in (kept | {record.id: record}).values()))


YOU = "student: "
"""What stands before what a person types."""


def lines(commands: Sequence[str]) -> Iterator[str]:
    """What a person types, line by line, until the end of input (Ctrl-D): with editing, history and completion.

    Ctrl-C empties the line. Lines that come through a pipe are read as they are, and shown as if they were typed.
    """
    if not sys.stdin.isatty():
        for row in sys.stdin.buffer:
            line = row.decode("utf-8", errors="replace").strip()
            print(f"{YOU}{plain(line)}", flush=True)
            yield line
        return
    from prompt_toolkit import PromptSession
    from prompt_toolkit.completion import WordCompleter
    from prompt_toolkit.formatted_text import FormattedText

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
