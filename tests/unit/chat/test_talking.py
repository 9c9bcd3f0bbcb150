import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Literal

import pytest

from socratic_rl.chat import partners as partners_module
from socratic_rl.chat import session, terminal
from socratic_rl.conversations.own_problems import JsonlProblems, Starter
from socratic_rl.conversations.problems import Source
from socratic_rl.core.component import ModelSettings
from socratic_rl.core.dialogue import Conversation, Message, Problem
from socratic_rl.core.errors import UserError
from socratic_rl.core.files import write_jsonl
from socratic_rl.core.generator import Reply, Request, Sampling
from socratic_rl.core.records import read_records
from socratic_rl.generators.tutors import ByTransformers
from socratic_rl.models import tokens


def sampling_with(**settings: float) -> Sampling:
    return Sampling(**({"temperature": 1.0, "top_p": 0.9, "max_new_tokens": 12, "batch_size": 1} | settings))


def drawing(partners: partners_module.Partners, **settings: float) -> partners_module.Partners:
    """The same partners, who draw their replies otherwise."""
    sampling = sampling_with(**settings)
    generators = {name: replace(each, sampling=sampling) for name, each in partners.generators.items()}
    return replace(partners, generators=generators, sampling=sampling)


def instead(patch: pytest.MonkeyPatch, reply: Callable[[Request], Reply]) -> None:
    """Have replies made by a function."""
    patch.setattr(ByTransformers, "generate", lambda _, requests: iter([(0, reply(requests[0]))]))


@pytest.fixture(scope="module")
def partners(tiny_llama: Path) -> partners_module.Partners:
    settings = ModelSettings(
        name="tiny", pretrained=str(tiny_llama), revision=None, dtype="float32", attn_implementation="sdpa"
    )
    return partners_module.base_alone(settings, sampling_with())


@pytest.fixture
def chat(partners: partners_module.Partners, tmp_path: Path) -> terminal.Chat:
    return chat_with(partners, tmp_path)


def chat_with(
    partners: partners_module.Partners, folder: Path, problems: Source | None = None, **sampling: float
) -> terminal.Chat:
    talking = session.Session(drawing(partners, **sampling), seed=0, problems=problems)
    return terminal.Chat(talking, folder, with_base=False)


def said(chat: terminal.Chat) -> list[tuple[str, str]]:
    return [(turn.speaker, turn.text) for turn in chat.talk.turns] if chat.talk else []


def test_a_streamed_reply_is_the_reply_that_is_drawn_at_once(partners: partners_module.Partners):
    prompt: list[Message] = [{"role": "user", "content": "What is 2 + 2?"}]
    for temperature in (0.0, 1.0):
        (generator,) = drawing(partners, max_new_tokens=40, temperature=temperature, top_p=0.95).generators.values()
        pieces: list[str] = []
        request = Request(seed=7, messages=tuple(prompt))
        ((_, reply),) = generator.generate([replace(request, write=pieces.append)])
        ((_, same),) = generator.generate([request])
        assert reply == same
        assert "".join(pieces).strip() == reply.text
        assert len(pieces) > 1


def test_a_prompt_longer_than_the_model_reads_is_a_mistake(partners: partners_module.Partners, tmp_path: Path):
    sampling = Sampling(temperature=0, top_p=1, max_new_tokens=4000, batch_size=1)
    opened = partners.generators["tiny"].opened
    tutor = SimpleNamespace(
        base=opened, tutor=opened, tokenizer=partners.tokenizer, folder=tmp_path, settings=SimpleNamespace(name="tiny")
    )
    with pytest.raises(UserError, match="prompt: is longer than the 96 tokens that the model reads beside its reply"):
        partners_module.show_replies(tutor, "a" * 100, sampling, seed=0)
    with pytest.raises(UserError, match=r"sampling\.max_new_tokens: leaves no room in the 4096 tokens"):
        partners_module.show_replies(tutor, "a", sampling.model_copy(update={"max_tokens": 4096}), seed=0)


def test_the_dialogue_goes_on_and_each_reply_is_read_with_all_before_it(chat: terminal.Chat):
    read: list[list[str]] = []
    fitted = tokens.fit_prompt

    def spy(prompt: list[Message], *arguments: object) -> list[Message] | None:
        read.append([message["content"] for message in prompt])
        return fitted(prompt, *arguments)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(session, "fit_prompt", spy)
        chat.run(["one?", "two?"])
    first = said(chat)[1][1]
    assert read == [["one?"], ["one?", first, "two?"]]
    assert [speaker for speaker, _ in said(chat)] == ["student", "teacher", "student", "teacher"]


def test_retry_says_something_else_in_place_of_the_last_reply(partners: partners_module.Partners, tmp_path: Path):
    replies = []
    for lines in (["one?"], ["one?", "/retry"], ["one?", "/retry", "/retry"], ["one?", "/retry"]):
        chat = chat_with(partners, tmp_path)
        chat.run(lines)
        assert [speaker for speaker, _ in said(chat)] == ["student", "teacher"]
        replies.append(said(chat)[1][1])
    assert len(set(replies)) == 3
    assert replies[1] == replies[3]


def test_retry_needs_a_turn_and_chance(
    partners: partners_module.Partners, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    chat = chat_with(partners, tmp_path, temperature=0)
    chat.run(["/retry", "one?", "/retry"])
    told = capsys.readouterr().out
    assert "nothing was said yet" in told
    assert "sampling.temperature is 0" in told
    assert len(said(chat)) == 2


def test_problem_begins_anew_with_the_next_one_or_ones_own(chat: terminal.Chat):
    starter = [problem.question for problem in Starter(name="starter").read()]
    begun = []
    for line in ("/problem", "/problem", "/problem  How far is 3 * 4 km?"):
        chat.run([line, "well?"])
        assert len(said(chat)) == 4
        begun.append(said(chat)[0])
    assert begun == [("student", text) for text in (*starter[:2], "How far is 3 * 4 km?")]


def test_problems_end(partners: partners_module.Partners, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    chat = chat_with(partners, tmp_path, Starter(name="two", limit=2), temperature=0, top_p=1, max_new_tokens=2)
    chat.run(["/problem"] * 3)
    assert "there are no more problems" in capsys.readouterr().out


def test_save_keeps_conversation_and_problem_once(chat: terminal.Chat, tmp_path: Path):
    chat.run(["/save", "/problem", "I do not know", "/save", "what?", "/save", "/problem 2 + 2?", "/save"])
    conversations = list(read_records(Conversation, tmp_path / "conversations.jsonl"))
    problems = list(read_records(Problem, tmp_path / "problems.jsonl"))
    assert [len(conversation.turns) for conversation in conversations] == [6, 2]
    assert [conversation.problem_id for conversation in conversations] == [problem.id for problem in problems]
    assert [conversation.turns[0].text for conversation in conversations] == [problem.question for problem in problems]
    assert said(chat) == [(turn.speaker, turn.text) for turn in conversations[1].turns]
    assert conversations[0].provenance["base"] == "tiny"
    assert conversations[0].provenance["engine"] == "transformers"
    chat.run(["/save other.jsonl"])
    assert len(list(read_records(Conversation, tmp_path / "other.jsonl"))) == 1


FAIR = [("Ann has 3 boxes of 4 pens. How many?", "What is 3 times 4?"), ("It is 12.", "So 12 is right. Why?")]


@pytest.mark.parametrize(
    ("exchanges", "finish", "reasons"),
    [
        (FAIR, "stop", ()),
        (FAIR, "length", ("cut-off turn",)),
        ([(FAIR[0][0], "It is 12 pens.")], "stop", ("teacher states the answer first",)),
        ([FAIR[0], ("7?", FAIR[0][1])], "stop", ("turn repeated",)),
        ([FAIR[0], ("7?", "Why?\nStudent: I add.")], "stop", ("speaks for the other",)),
        # what was asked again after no reply
        ([(FAIR[0][0], ""), ("Hello?", "What is 3 times 4?")], "stop", ()),
    ],
)
def test_what_generate_would_reject_is_saved_so_and_told(
    partners: partners_module.Partners,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    exchanges: list[tuple[str, str]],
    finish: Literal["stop", "length"],
    reasons: tuple[str, ...],
):
    pens = Problem(id="pens", question=FAIR[0][0], solution="", answer="12 pens", source="test")
    write_jsonl(tmp_path / "pens.jsonl", [pens.to_record()])
    replies = iter([Reply(reply, finish) for _, reply in exchanges])
    instead(monkeypatch, lambda _: next(replies))
    chat = chat_with(partners, tmp_path, JsonlProblems(name="pens", path=str(tmp_path / "pens.jsonl")))
    chat.run(["/problem", *(said for said, _ in exchanges[1:]), "/save"])
    (saved,) = read_records(Conversation, tmp_path / "conversations.jsonl")
    assert saved.reasons == reasons
    assert saved.accepted == (not reasons)
    assert [turn.speaker for turn in saved.turns] == ["student", "teacher"] * (len(saved.turns) // 2)
    told = " ".join(capsys.readouterr().out.split())
    assert ("generate.py will make no pairs of it" in told) == bool(reasons)
    assert all(reason in told for reason in reasons)


def test_a_cut_off_reply_that_is_replaced_by_a_whole_one_is_no_flaw(
    chat: terminal.Chat, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    replies = iter([Reply("What do", "length"), Reply("What do you know?", "stop")])
    instead(monkeypatch, lambda _: next(replies))
    chat.run(["How far is it?", "/save cut.jsonl", "/retry", "/save whole.jsonl"])
    accepted = [next(read_records(Conversation, tmp_path / name)).accepted for name in ("cut.jsonl", "whole.jsonl")]
    assert accepted == [False, True]


def test_save_does_not_write_over_what_it_cannot_read(chat: terminal.Chat, tmp_path: Path):
    (tmp_path / "conversations.jsonl").write_text('{"mine": 1}\n')
    chat.run(["one?", "/save", "two?"])
    assert (tmp_path / "conversations.jsonl").read_text() == '{"mine": 1}\n'
    assert len(said(chat)) == 4


def test_a_long_dialogue_is_shortened_and_a_long_turn_left_out(
    partners: partners_module.Partners, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    chat = chat_with(partners, tmp_path)
    # bytes are tokens here
    chat.run([letter * 100 for letter in "abc"])
    talking = session.Session(drawing(partners, max_new_tokens=4096 - 500), seed=0)
    chat.session, chat.partners = talking, talking.partners
    with pytest.MonkeyPatch.context() as patch:
        instead(patch, lambda _: Reply("Why?", "stop"))
        chat.run(["d" * 100, "e" * 400])
    told = capsys.readouterr().out
    assert "turns after the problem are no longer read: there is room for 500 tokens" in told
    assert "that is too long: problem and last exchange must fit into 500 tokens" in told
    assert [text[0] for speaker, text in said(chat) if speaker == "student"] == list("abcd")
    assert said(chat)[-1] == ("teacher", "Why?")


def test_a_reply_that_is_stopped_keeps_what_there_is_and_the_chat_goes_on(
    chat: terminal.Chat, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    def stopped(request: Request) -> Reply:
        request.write(" What is\x1b ")
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        instead(patch, stopped)
        chat.run(["one?"])
    assert said(chat)[1] == ("teacher", "What is\x1b")
    assert r"What is\x1b  (stopped)" in capsys.readouterr().out
    chat.run(["two?"])
    assert len(said(chat)) == 4


def test_commands_that_are_none_are_told(chat: terminal.Chat, capsys: pytest.CaptureFixture[str]):
    chat.run(["/retri", "/xyz", "/base on", "/save", "", "/help", "/quit", "never read"])
    told = capsys.readouterr().out
    assert "there is no /retri; did you mean /retry?" in told
    assert "there is no /xyz; see /help" in told
    assert "there is only one to talk to, and no tutor: adapter=FOLDER" in told
    assert "there is no conversation to save yet" in told
    assert all(re.search(rf"^{command} ", told, re.MULTILINE) for command in terminal.COMMANDS)
    assert chat.talk is None
