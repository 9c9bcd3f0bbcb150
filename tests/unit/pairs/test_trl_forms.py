"""Rows as public preference sets have them: which columns make the prompt, and what stops a row."""

import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from socratic_rl.core.dialogue import Message
from socratic_rl.core.errors import UserError
from socratic_rl.pairs.dataset import UnusableError
from socratic_rl.pairs.trl_forms import Columns, row_messages
from socratic_rl.pairs.trl_pairs import TrlPairs

USUAL = Columns("prompt", "chosen", "rejected")


def says(role: str, text: Any) -> dict[str, Any]:
    return {"role": role, "content": text}


def part(text: str) -> dict[str, str]:
    return {"type": "text", "text": text}


def share(who: str, text: str) -> dict[str, str]:
    return {"from": who, "value": text}


HI, YES, SO = says("user", "Hi?"), says("assistant", "Yes?"), says("user", "So?")
SYSTEM = says("system", "Ask.")
TEXTS = {"chosen": "Good.", "rejected": "Bad."}


FORMS: dict[str, tuple[dict[str, Any], list[Message]]] = {
    "Orca-DPO under its usual name": ({"system": "Ask.", "prompt": "Hi?"} | TEXTS, [SYSTEM, HI]),
    "an empty system column": ({"system": "", "prompt": "Hi?"} | TEXTS, [HI]),
    "a system column that says the prompt's": (
        {"system": "Ask.", "prompt": [SYSTEM, HI]} | TEXTS,
        [SYSTEM, HI],
    ),
    "hh-rlhf": (
        {"chosen": "\n\nHuman: Hi?\n\nAssistant: Good.", "rejected": "\n\nHuman: Hi?\n\nAssistant: Bad."},
        [HI],
    ),
    "UltraFeedback, binarised": (
        {
            "prompt": "Hi?",
            "messages": [HI, says("assistant", "Good.")],
            "chosen": [HI, says("assistant", "Good.")],
            "rejected": [HI, says("assistant", "Bad.")],
        },
        [HI],
    ),
    "Capybara-DPO": (
        {
            "conversation": [{"input": "Hi?", "output": "Yes?"}],
            "chosen": [HI, YES, SO, says("assistant", "Good.")],
            "rejected": [HI, YES, SO, says("assistant", "Bad.")],
        },
        [HI, YES, SO],
    ),
    "ShareGPT with one message on each side": (
        {
            "conversations": [share("system", ""), share("human", "Hi?"), share("gpt", "Yes?"), share("human", "So?")],
            "chosen": share("gpt", "Good."),
            "rejected": share("gpt", "Bad."),
        },
        [HI, YES, SO],
    ),
    "ShareGPT with a system column": (
        {
            "system": "Ask.",
            "conversations": [share("human", "Hi?")],
            "chosen": share("gpt", "Good."),
            "rejected": share("gpt", "Bad."),
        },
        [SYSTEM, HI],
    ),
    "ShareGPT, whole dialogues": (
        {
            "chosen": [share("human", "Hi?"), share("gpt", "Good.")],
            "rejected": [share("human", "Hi?"), share("gpt", "Bad.")],
        },
        [HI],
    ),
    "ShareGPT as a CSV holds it": (
        {
            "conversations": json.dumps([share("human", "Hi?")]),
            "chosen": json.dumps(share("gpt", "Good.")),
            "rejected": json.dumps(share("gpt", "Bad.")),
        },
        [HI],
    ),
    "ShareGPT as a table holds it, with gaps": (
        {
            "conversations": [{"from": "human", "value": "Hi?", "role": None, "content": None}],
            "chosen": {"from": None, "value": None, "role": "assistant", "content": "Good."},
            "rejected": {"from": "gpt", "value": "Bad."},
        },
        [HI],
    ),
    "Alpaca": ({"instruction": "Add.", "input": "2, 3"} | TEXTS, [says("user", "Add.\n2, 3")]),
    "Alpaca without input": ({"instruction": "Hi?", "input": ""} | TEXTS, [HI]),
    "Alpaca with a history": (
        {"instruction": "So?", "input": None, "history": [["Hi?", "Yes?"]], "system": "Ask."} | TEXTS,
        [SYSTEM, HI, YES, SO],
    ),
    "typed parts": (
        {
            "prompt": [says("user", [part("Hi?")])],
            "chosen": [says("assistant", [part("Good.")])],
            "rejected": [says("assistant", [part("Bad.")])],
        },
        [HI],
    ),
    "several parts": (
        {"prompt": [says("user", [part("Hi"), part("you?")])]} | TEXTS,
        [says("user", "Hi\nyou?")],
    ),
    "answers that still bear their label": (
        {"prompt": "Hi?", "chosen": "Assistant: Good.", "rejected": "\n\nAssistant: Bad."},
        [HI],
    ),
    "an empty list of images": ({"prompt": "Hi?", "images": []} | TEXTS, [HI]),
}


@pytest.mark.parametrize("name", FORMS)
def test_a_known_form_becomes_messages(name: str) -> None:
    row, prompt = FORMS[name]
    assert row_messages(row, USUAL) == (prompt, [says("assistant", "Good.")], [says("assistant", "Bad.")])


def test_an_answer_that_goes_on_as_a_transcript_is_several_turns() -> None:
    row = {"prompt": "\n\nHuman: Hi?\n\nAssistant:", "chosen": " a\n\nHuman: b\n\nAssistant: c", "rejected": " d"}
    _, chosen, _ = row_messages(row, USUAL)
    assert chosen == [says("assistant", "a"), says("user", "b"), says("assistant", "c")]


@pytest.mark.parametrize(
    ("row", "why"),
    [
        (
            {"chosen": "The answer is 5", "rejected": "The answer is 6"},
            "no prompt, neither in column 'prompt'",
        ),
        ({"prompt": None} | TEXTS, "there is no prompt"),
        ({"prompt": None, "question": "Hi?"} | TEXTS, "there is no prompt"),
        ({"conversations": [], **TEXTS}, "there is no prompt"),
        ({"conversations": [share("human", "Hi?"), share("gpt", "a")]} | TEXTS, "the prompt ends with the assistant"),
        ({"conversations": [share("tool", "Hi?")]} | TEXTS, "the role 'tool'"),
        ({"prompt": [says("user", [{"type": "image"}, part("Hi?")])]} | TEXTS, "a part of type 'image'"),
        ({"prompt": [says("user", [{"type": "image_url", "image_url": {}}])]} | TEXTS, "a part of type 'image_url'"),
        ({"prompt": [says("user", ["Hi?"])]} | TEXTS, "a part of type None"),
        ({"prompt": "Hi?", "images": ["a.png"]} | TEXTS, "has an image"),
        ({"prompt": "Hi?", "image": {"bytes": "x"}} | TEXTS, "has an image"),
        ({"system": "Tell.", "prompt": [SYSTEM, HI]} | TEXTS, "one system message in its column and another"),
        ({"system": "Tell.", "system_prompt": "Ask.", "prompt": "Hi?"} | TEXTS, "several system messages"),
        ({"instruction": "Add.", "history": "before"} | TEXTS, "history is no list of pairs"),
        ({"prompt": "Hi?", "chosen": {"text": "a"}, "rejected": "b"}, "chosen has a message without role and content"),
    ],
)
def test_what_cannot_be_told_stops_the_row(row: Mapping[str, Any], why: str) -> None:
    with pytest.raises(UnusableError, match=why):
        row_messages(row, USUAL)


def test_what_both_texts_share_is_the_prompt_only_where_that_is_said() -> None:
    row = {"chosen": "The answer is 5", "rejected": "The answer is 6"}
    assert row_messages(row, Columns(None, "chosen", "rejected"))[0] == [says("user", "The answer is")]


# ---- columns of a file ----


def data_set(path: Path, rows: list[Any], **keys: Any) -> TrlPairs:
    path.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows))
    values: dict[str, Any] = {
        **dict.fromkeys(("subset", "revision", "test_split", "limit", "validation_limit", "test_limit")),
        **{name: name for name in USUAL},
        "encoding": "utf-8",
        "train_split": "train",
        "validation": 0,
        "test": 0,
        "max_flawed": 0.05,
    }
    return TrlPairs(path=str(path), **values | keys)


ORCA = {"system": "Ask.", "question": "Hi?"} | TEXTS


def test_a_set_without_a_prompt_column_is_told_which_it_may_be(tmp_path: Path) -> None:
    with pytest.raises(UserError) as error:
        data_set(tmp_path / "a.jsonl", [ORCA]).read()
    assert str(error.value) == (
        f"dataset.prompt: {tmp_path}/a.jsonl:1: no column 'prompt'; the columns are system, question, chosen, "
        "rejected; dataset.prompt=question says which it is, null that chosen and rejected begin with it"
    )
    (pair,), _ = data_set(tmp_path / "a.jsonl", [ORCA], prompt="question").read()
    assert pair.prompt == [SYSTEM, HI]


def test_a_row_whose_prompt_is_null_is_told_what_may_be_it(tmp_path: Path) -> None:
    row = {"prompt": None, "question": "Hi?", "chosen": "The answer is 5", "rejected": "The answer is 6"}
    told = r"a\.jsonl:1: there is no prompt.*; the columns are prompt, question.*; dataset\.prompt=question says which"
    with pytest.raises(UserError, match=told):
        data_set(tmp_path / "a.jsonl", [row]).read()


def test_a_row_without_a_prompt_among_others_is_left_out_and_named(tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [{"prompt": f"What is {n}?"} | TEXTS for n in range(30)]
    rows[4]["prompt"] = None
    del rows[7]["prompt"]
    pairs, flawed = data_set(tmp_path / "a.jsonl", rows, max_flawed=0.1).read()
    assert len(pairs) == 28
    assert [row.where.rpartition(":")[2] for row in flawed] == ["5", "8"]
    assert all(row.why.startswith("there is no prompt") for row in flawed)


@pytest.mark.parametrize(
    ("line", "why"),
    [
        (r'{"prompt": "Hi? \ud83d", "chosen": "a", "rejected": "b"}', r"half a character (\ud83d"),
        ('{"prompt": "Hi?", ', "not JSON"),
        ('{"prompt": "Hi?", "x": ' + "[" * 10_000 + "]" * 10_000 + "}", "JSON that is nested too deeply"),
        ('{"prompt": "Hi?", "x": ' + "9" * 5000 + "}", "a number of too many digits"),
        ("[]", "a JSON object is needed, not list"),
    ],
    ids=["half", "torn", "deep", "digits", "list"],
)
def test_a_row_that_cannot_be_read_is_left_out_and_named(line: str, why: str, tmp_path: Path) -> None:
    rows: list[Any] = [*({"prompt": f"What is {n}?"} | TEXTS for n in range(30)), line]
    pairs, (flawed,) = data_set(tmp_path / "a.jsonl", rows).read()
    assert len(pairs) == 30
    assert flawed.where == f"{tmp_path}/a.jsonl:31"
    assert flawed.why.startswith(why)


def test_columns_are_found_whatever_their_case(tmp_path: Path) -> None:
    (pair,), _ = data_set(tmp_path / "a.jsonl", [{"Prompt": "Hi?", " Chosen": "a", "REJECTED": "b"}]).read()
    assert pair.prompt == [HI]
    with pytest.raises(UserError, match=r"'Chosen' and 'CHOSEN' could both be column 'chosen'"):
        data_set(tmp_path / "a.jsonl", [{"prompt": "Hi?", "Chosen": "a", "CHOSEN": "c", "rejected": "b"}]).read()


def test_a_device_is_no_data_set(tmp_path: Path) -> None:
    (tmp_path / "zero.jsonl").symlink_to("/dev/zero")
    source = data_set(tmp_path / "a.jsonl", []).model_copy(update={"path": str(tmp_path / "zero.jsonl")})
    with pytest.raises(UserError, match=r"^dataset\.path: .*/zero\.jsonl: is no regular file$"):
        source.read()


def test_columns_that_are_not_read_are_named_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    rows: list[dict[str, Any]] = [
        {"prompt": f"What is {n}?", "system": "Ask.", "input": "x", "chosen_model": "a", "rejected_model": "b"} | TEXTS
        for n in range(5)
    ]
    rows[3]["context"] = "y"
    with caplog.at_level(logging.WARNING):
        data_set(tmp_path / "a.jsonl", rows).read()
    file = tmp_path / "a.jsonl"
    assert [record.getMessage() for record in caplog.records] == [
        f"{file}: columns that are not read: input",
        f"{file}: columns that are not read: context",
    ]


@pytest.mark.parametrize(
    "line",
    [
        r'{"prompt": "\ud83d", "chosen": "a", "rejected": "b"}',
        '{"prompt": ',
        '{"prompt": ' + "[" * 9999 + "]" * 9999 + "}",
    ],
    ids=["half", "torn", "deep"],
)
def test_a_row_of_a_folder_that_cannot_be_read_is_named(
    line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")
    (tmp_path / "rows").mkdir()
    data_set(tmp_path / "rows" / "train.jsonl", [{"prompt": "Hi?"} | TEXTS, line])
    with pytest.raises(UserError, match=r"^dataset\.path: .*/rows/train\.jsonl:2: (half|not JSON|JSON that)"):
        data_set(tmp_path / "other.jsonl", []).model_copy(update={"path": str(tmp_path / "rows")}).read()


@pytest.mark.parametrize(
    ("row", "chosen", "rejected", "tells"),
    [
        (
            {"prompt": "Hi?", "human_ref_A": "a", "human_ref_B": "b", "labels": 1},
            "human_ref_A",
            "human_ref_B",
            "labels",
        ),
        (
            {"prompt": "Hi?", "response_0": "a", "response_1": "b", "better_response_id": 0},
            "response_0",
            "response_1",
            "better_response_id",
        ),
        ({"prompt": "Hi?", "answer_a": "a", "answer_b": "b", "winner": "B"}, "answer_a", "answer_b", "winner"),
    ],
)
def test_a_column_that_picks_the_better_reply_of_each_row_is_not_passed_over(
    row: dict[str, Any], chosen: str, rejected: str, tells: str, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=rf"^dataset\.chosen: .*a\.jsonl:1: the column '{tells}' says for each row"):
        data_set(tmp_path / "a.jsonl", [row], chosen=chosen, rejected=rejected).read()


def test_a_label_of_something_else_is_none(tmp_path: Path) -> None:
    row = {"prompt": "Hi?", "good": "a", "bad": "b", "label": "greeting"}
    (pair,), _ = data_set(tmp_path / "a.jsonl", [row], chosen="good", rejected="bad").read()
    assert pair.chosen_text == "a"
