"""Problems with the dialogues that people had about them: MathDial and Bridge."""

import re
from collections.abc import Iterable, Iterator, Mapping
from itertools import groupby
from typing import Any, ClassVar

from socratic_rl.conversations.problems import FlawedRow, Source
from socratic_rl.conversations.transcripts import Labels, StrangerError, at_labels, bare
from socratic_rl.core.dialogue import Problem, Speaker, Step, Turn, merge_turns, text_id


class MathDial(Source):
    """MathDial (Macina et al., 2023, https://arxiv.org/abs/2305.14536): human teachers and a simulated student."""

    columns: ClassVar[tuple[str, ...]] = ("question", "ground_truth", "conversation")

    def problem(self, row: Mapping[str, Any]) -> Problem | str:
        """The problem with the row's dialogue, whose turns are ``Teacher: (act)text`` or ``<student's name>: text``.

        The dialogue begins with the student's wrong solution, of which the teacher speaks.
        """
        question = str(row["question"]).strip()
        *work, answer = [line.strip() for line in str(row["ground_truth"]).splitlines() if line.strip()] or [""]
        if not question or not answer:
            raise FlawedRow(f"{'ground_truth' if question else 'question'}: is empty")
        try:
            turns = list(_mathdial_turns(str(row["conversation"]), str(row.get("student_profile") or "")))
        except StrangerError as error:
            return str(error)
        if not turns:
            return "no dialogue"
        wrong = "\n".join(
            line.strip() for line in str(row.get("student_incorrect_solution") or "").strip().splitlines()
        )
        opening = [Turn(speaker="student", text=wrong)] if wrong else []
        return Problem(
            id=text_id(question),
            question=question,
            solution="\n".join(work),
            steps=tuple(Step(work=line) for line in work),
            answer=answer,
            source=self.name,
            dialogues=(tuple(_merge_acts([*opening, *turns])),),
        )


_MATHDIAL_TURN = re.compile(
    r"(?P<speaker>[^:：\n]{1,40}?)\s*[:：]\s*(?:\((?P<act>focus|probing|telling|generic)\))?(?P<text>.*)", re.DOTALL
)


def _mathdial_turns(conversation: str, profile: str) -> Iterator[Turn]:
    """The turns that say something; ``|EOM|`` stands between them, or each begins a line.

    Raises:
        StrangerError: A turn has no label, or one that is neither a usual name nor how the profile begins; without a
            profile, a second name of nobody known.
    """
    usual, student = Labels(), ""
    parts = (part for turns in conversation.split("|EOM|") for part in at_labels(turns, usual))
    for part in filter(None, map(str.strip, parts)):
        match = _MATHDIAL_TURN.match(part)
        if not match:
            raise StrangerError(part[:20])
        speaker = usual.speaker(match["speaker"])
        if not speaker:
            name = bare(match["speaker"])
            student = student or name
            if not (re.match(rf"{re.escape(name)}\b", profile.casefold()) if profile.strip() else name == student):
                raise StrangerError(match["speaker"])
            speaker = "student"
        if match["text"].strip():
            yield Turn(speaker=speaker, text=match["text"], act=match["act"])


def _merge_acts(turns: Iterable[Turn]) -> Iterator[Turn]:
    """Neighbouring turns of one speaker as one, which has all their acts (``focus+telling``)."""
    for _, group in groupby(turns, key=lambda turn: turn.speaker):
        neighbours = list(group)
        acts = dict.fromkeys(turn.act for turn in neighbours if turn.act)
        yield merge_turns(neighbours)[0].model_copy(update={"act": "+".join(acts) or None})


class Bridge(Source):
    """Bridge (Wang et al., 2024, https://arxiv.org/abs/2310.10648): a novice tutor's reply and an expert's revision.

    The chats of one session are the dialogues of one problem. Its question is the lesson's topic, since the chats do
    not state the problem; it has no gold answer.
    """

    columns: ClassVar[tuple[str, ...]] = ("c_id", "lesson_topic", "c_h", "c_r", "c_r_", "c_revision")
    lists: ClassVar[tuple[str, ...]] = ("c_h", "c_r", "c_r_", "c_revision")
    by_id: ClassVar[bool] = True

    def problem(self, row: Mapping[str, Any]) -> Problem | str:
        """The topic with this row's chat, in which the expert's turn stands where the novice's (``worse``) stood."""
        try:
            history, novice, expert, _ = (_chat(row, key) for key in self.lists)
            after = _chat({"c_revision": row["c_revision"][len(row["c_r_"]) :]}, "c_revision")
        except StrangerError as error:
            return str(error)
        if not history or history[-1].speaker != "student":
            return "the student does not speak last before the reply"
        if len(novice) != 1 or len(expert) != 1:
            return "the novice's or the expert's reply is missing"
        revised = expert[0].model_copy(
            update={"worse": novice[0].text, "act": str(row.get("z_what") or "").strip() or None}
        )
        topic = str(row["lesson_topic"]).strip()
        session = str(row["c_id"]).partition("_")[0]
        return Problem(
            id=session,
            question=topic_sentence(topic),
            solution="",
            answer="",
            topic=topic,
            source=self.name,
            dialogues=(tuple(merge_turns([*history, revised, *after])),),
        )


def _chat(row: Mapping[str, Any], key: str) -> list[Turn]:
    """A list of ``{"user": …, "text": …}`` as turns, empty ones dropped and neighbours of one speaker merged."""
    if not isinstance(row[key], list):
        raise FlawedRow(f"{key}: is no list of messages with user and text")
    try:
        messages = [(str(message["user"]), str(message["text"]).strip()) for message in row[key]]
    except (TypeError, KeyError) as error:
        raise FlawedRow(f"{key}: is no list of messages with user and text") from error
    return merge_turns(Turn(speaker=_speaker(user), text=text) for user, text in messages if text)


def _speaker(user: str) -> Speaker:
    speaker = Labels().speaker(user)
    if not speaker:
        raise StrangerError(user)
    return speaker


UNSTATED = "We are working on "
"""How a dialogue opens whose source names a lesson's topic and states no problem."""


def topic_sentence(topic: str) -> str:
    """``3.6D.Decomposing Figures (Review) - 1`` as a sentence that a student may open with."""
    names = [
        re.sub(r"\s*\(Review\)(?:\s*-\s*\d+)?\s*$", "", re.sub(r"^\w+\.\w+\.\s*", "", part.strip()))
        for part in topic.split(";")
    ]
    named = " and ".join(name for name in names if name and name.lower() != "unknown") or "mathematics"
    return f"{UNSTATED}{named}" + ("" if named.endswith((".", "?", "!")) else ".")
