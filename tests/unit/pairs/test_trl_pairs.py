import csv
import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from socratic_rl.core.dialogue import PreferencePair
from socratic_rl.core.errors import UserError
from socratic_rl.core.records import read_records
from socratic_rl.pairs.dataset import UnusableError
from socratic_rl.pairs.pairing import split_of
from socratic_rl.pairs.trl_forms import to_messages
from socratic_rl.pairs.trl_pairs import LEAKED, TrlPairs

KEYS: dict[str, Any] = {
    "subset": None,
    "revision": None,
    "encoding": "utf-8",
    "train_split": "train",
    "test_split": None,
    "prompt": "prompt",
    "chosen": "chosen",
    "rejected": "rejected",
    "limit": None,
    "validation_limit": None,
    "test_limit": None,
    "validation": 0.1,
    "test": 0.2,
    "max_flawed": 0.05,
}


def data_set(path: Path | str, **keys: Any) -> TrlPairs:
    return TrlPairs(path=str(path), **KEYS | keys)


def user(text: str) -> dict[str, str]:
    return {"role": "user", "content": text}


def tutor(text: str) -> dict[str, str]:
    return {"role": "assistant", "content": text}


SYSTEM = {"role": "system", "content": "Ask, do not tell."}


# ---- one row in TRL's forms ----


@pytest.mark.parametrize(
    ("row", "prompt"),
    [
        # standard: explicit, implicit, implicit as hh-rlhf writes it, explicit in that writing
        (("Hi?", "Good.", "Bad."), [user("Hi?")]),
        ((None, "The sky is Good.", "The sky is Bad."), [user("The sky is")]),
        (
            (None, "\n\nHuman: Hi?\n\nAssistant: Yes?\n\nHuman: Ah: so\n\nAssistant: Good.", None),
            [user("Hi?"), tutor("Yes?"), user("Ah: so")],
        ),
        (("\n\nHuman: Hi?\n\nAssistant:", " Good.", " Bad."), [user("Hi?")]),
        # conversational: explicit, with a system message, implicit, JSON as a CSV holds it
        (([user("Hi?")], [tutor("Good.")], [tutor("Bad.")]), [user("Hi?")]),
        (([SYSTEM, user("Hi?")], [tutor("Good.")], [tutor("Bad.")]), [SYSTEM, user("Hi?")]),
        (
            (None, [SYSTEM, user("Hi?"), tutor("Good.")], [SYSTEM, user("Hi?"), tutor("Bad.")]),
            [SYSTEM, user("Hi?")],
        ),
        ((json.dumps([user("Hi?")]), json.dumps([tutor("Good.")]), json.dumps([tutor("Bad.")])), [user("Hi?")]),
        # mixed: a text as prompt beside whole dialogues (ultrafeedback_binarized), or beside messages
        (("Hi?", [user("Hi?"), tutor("Good.")], [user("Hi?"), tutor("Bad.")]), [user("Hi?")]),
        (("Hi?", [SYSTEM, user("Hi?"), tutor("Good.")], [SYSTEM, user("Hi?"), tutor("Bad.")]), [SYSTEM, user("Hi?")]),
        (
            ([SYSTEM, user("Hi?")], [user("Hi?"), tutor("Good.")], [user("Hi?"), tutor("Bad.")]),
            [SYSTEM, user("Hi?")],
        ),
        (("Hi?", [tutor("Good.")], "Bad."), [user("Hi?")]),
        # neighbours of one role are one message
        (([user("Hi"), user("there?")], [tutor("Good.")], [tutor("Bad.")]), [user("Hi\nthere?")]),
    ],
)
def test_every_form_of_trl_becomes_messages(row: tuple[Any, Any, Any], prompt: list[dict[str, str]]):
    given, chosen, rejected = row
    found = to_messages(given, chosen, rejected if rejected is not None else chosen.replace("Good", "Bad"))
    assert found == (prompt, [tutor("Good.")], [tutor("Bad.")])


def test_what_differs_before_the_last_turn_stays_with_the_answers():
    start = [user("Hi?")]
    chosen = [*start, tutor("Good."), user("And?"), tutor("So.")]
    prompt, *answers = to_messages(None, chosen, [*start, tutor("Bad."), user("And?"), tutor("So.")])
    assert prompt == start
    assert [[message["content"] for message in answer] for answer in answers] == [
        ["Good.", "And?", "So."],
        ["Bad.", "And?", "So."],
    ]


def test_where_the_user_differs_the_answers_begin_with_the_assistant_before():
    chosen, rejected = ([user("Hi?"), tutor("Yes?"), user(text), tutor("So.")] for text in ("One", "Two"))
    prompt, *answers = to_messages(None, chosen, rejected)
    assert prompt == [user("Hi?")]
    assert [[message["content"] for message in answer] for answer in answers] == [
        ["Yes?", "One", "So."],
        ["Yes?", "Two", "So."],
    ]


@pytest.mark.parametrize(
    ("row", "why"),
    [
        (("Hi?", None, "b"), "chosen is missing"),
        (("Hi?", "a", "  "), "rejected is empty"),
        (("", "a", "b"), "the prompt is empty"),
        ((None, "a", "b"), "do not begin alike, and there is no prompt"),
        ((None, [tutor("a")], [tutor("b")]), "no prompt"),
        (("Hi?", "a", "a "), "chosen and rejected are the same"),
        (("Hi?", 3, "b"), "chosen is of type int"),
        (("Hi?", [{"text": "a"}], "b"), "chosen has a message without role and content"),
        (("Hi?", [], "b"), "chosen has no messages"),
        (("Hi?", [tutor("")], "b"), "chosen has a message without text"),
        (("Hi?", [{"role": "tool", "content": "a"}], "b"), "chosen has the role 'tool'"),
        (("Hi?", "[{'role': 'assistant', 'content': 'a'}]", "b"), "looks like a list of messages and is not JSON"),
        (("Hi?", [user("Hi?"), tutor("a")], [tutor("b")]), "begin with different speakers"),
        (("Hi?", [user("Hi?"), tutor("a")], [user("Oh?"), tutor("b")]), "do not begin with the same prompt"),
        (("Other", [user("Hi?"), tutor("a")], [user("Hi?"), tutor("b")]), "the prompt is not how"),
        (([user("Hi?"), tutor("c")], [tutor("a")], [tutor("b")]), "the prompt ends with the assistant"),
        (([tutor("c"), user("Hi?")], [tutor("a")], [tutor("b")]), "the prompt begins with the assistant"),
        (([user("Hi?"), SYSTEM, user("Hi?")], [tutor("a")], [tutor("b")]), "a system message that is not its first"),
        (([user("Hi?")], [tutor("a"), user("c")], [tutor("b")]), "chosen does not end with the assistant"),
    ],
)
def test_a_row_that_cannot_be_used_says_why(row: tuple[Any, Any, Any], why: str):
    with pytest.raises(UnusableError, match=why):
        to_messages(*row)


# ---- files, folders, splits ----


def rows(count: int, start: int = 0) -> list[dict[str, Any]]:
    """As ultrafeedback_binarized has them: a text and two whole dialogues, and columns that nobody reads."""
    return [
        {
            "prompt": f"What is {n} + {n}?",
            "chosen": [user(f"What is {n} + {n}?"), tutor(f"What is twice {n}?")],
            "rejected": [user(f"What is {n} + {n}?"), tutor(f"It is {2 * n}.")],
            "score_chosen": 8.0,
        }
        for n in range(start, start + count)
    ]


def write(path: Path, found: list[dict[str, Any]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in found))
    return path


def told(pairs: list[PreferencePair]) -> list[tuple[Any, ...]]:
    return [(pair.prompt, pair.chosen, pair.rejected, pair.split) for pair in pairs]


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")


def test_files_folders_and_saved_sets_give_the_same_pairs(tmp_path: Path):
    import datasets
    import pyarrow
    import pyarrow.parquet

    found = rows(30)
    expected = data_set(write(tmp_path / "a.jsonl", found)).read()[0]
    assert Counter(pair.split for pair in expected).keys() == {"train", "validation", "test"}
    assert {(pair.rejection, pair.turn) for pair in expected} == {("given", 0)}
    (tmp_path / "a.json").write_text(json.dumps(found))
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(found), tmp_path / "a.parquet")
    with (tmp_path / "a.csv").open("w", newline="") as file:
        table = csv.DictWriter(file, [*found[0]])
        table.writeheader()
        table.writerows({key: json.dumps(v) if isinstance(v, list) else v for key, v in row.items()} for row in found)
    write(tmp_path / "folder" / "train.jsonl", found)
    datasets.Dataset.from_list(found).save_to_disk(tmp_path / "saved")
    datasets.DatasetDict({"train": datasets.Dataset.from_list(found)}).save_to_disk(tmp_path / "saved_dict")
    for name in ("a.json", "a.parquet", "a.csv", "folder", "saved", "saved_dict"):
        pairs, flawed = data_set(tmp_path / name).read()
        assert (told(pairs), flawed) == (told(expected), []), name


def test_without_a_test_split_a_row_keeps_the_side_of_its_prompt(tmp_path: Path):
    growing = [
        {"prompt": [user(f"Problem {n}"), *more, user("So?")], "chosen": [tutor("a")], "rejected": [tutor("b")]}
        for n in range(40)
        for more in ([tutor("Hm?")], [tutor("Hm?"), user("x"), tutor("y")])
    ]
    pairs = data_set(write(tmp_path / "a.jsonl", growing)).read()[0]
    assert all(pair.split == split_of(pair.problem_id, 0.1, 0.2) for pair in pairs)
    assert len({pair.problem_id for pair in pairs}) == 40
    assert len({pair.conversation_id for pair in pairs}) == 80
    assert {pair.turn for pair in pairs} == {1, 2}


@pytest.fixture
def both(tmp_path: Path) -> Path:
    """A folder with a training and a test split that share two prompts."""
    write(tmp_path / "both" / "train.jsonl", rows(60))
    write(tmp_path / "both" / "test.jsonl", rows(12, start=58))
    return tmp_path / "both"


def test_a_test_split_is_the_test_side_and_never_trained_on(both: Path):
    pairs, flawed = data_set(both, test_split="test").read()
    counts = Counter(pair.split for pair in pairs)
    assert counts["test"] == 12
    assert counts["train"] + counts["validation"] == 58
    assert 0 < counts["validation"] < 15
    assert [(row.where.rpartition("[")[2], row.why) for row in flawed] == [
        ("train]:row 59", LEAKED),
        ("train]:row 60", LEAKED),
    ]
    by_problem = {pair.problem_id: pair.split for pair in pairs}
    assert all(by_problem[pair.problem_id] == pair.split for pair in pairs)


def test_limits_cut_each_side_alone(both: Path):
    whole, _ = data_set(both, test_split="test").read()
    pairs, _ = data_set(both, test_split="test", limit=9, validation_limit=2, test_limit=5).read()
    assert Counter(pair.split for pair in pairs) == {"train": 9, "validation": 2, "test": 5}
    for side, count in (("train", 9), ("validation", 2), ("test", 5)):
        first = [pair for pair in whole if pair.split == side][:count]
        assert [pair for pair in pairs if pair.split == side] == first


# ---- what is wrong ----


def test_unusable_rows_are_named_and_too_many_are_an_error(tmp_path: Path):
    found = rows(40)
    found[3]["chosen"] = None
    found[7]["rejected"] = found[7]["chosen"]
    file = write(tmp_path / "a.jsonl", found)
    folder = tmp_path / "run"
    told = data_set(file).prepare(folder, None, None, 0).facts
    assert told["rows left out"] == "2 (chosen is missing: 1, chosen and rejected are the same: 1)"
    named = [json.loads(line) for line in (folder / "flawed_rows.jsonl").read_text().splitlines()]
    assert [row["where"] for row in named] == [f"{file}:4", f"{file}:8"]
    assert len(list(read_records(PreferencePair, folder / "pairs.jsonl"))) == 38
    with pytest.raises(UserError) as error:
        data_set(file, max_flawed=0.04).prepare(folder, None, None, 0)
    assert str(error.value).startswith("dataset.max_flawed: 2 of 40 rows cannot be used, more than the share of 0.04")
    assert f"{file}:4: chosen is missing" in str(error.value)


def test_a_missing_column_names_those_that_are_there(tmp_path: Path):
    file = write(tmp_path / "a.jsonl", [{"question": "Hi?", "good": "a", "bad": "b"}])
    with pytest.raises(UserError) as error:
        data_set(file).read()
    assert str(error.value).startswith(f"dataset.chosen: {file}:1: no column 'chosen'; the columns are question, good,")
    with pytest.raises(UserError, match=r"^dataset\.prompt: .*no column 'asked'; the columns are question, good, bad"):
        data_set(file, prompt="asked", chosen="good", rejected="bad").read()
    pairs, _ = data_set(file, prompt="question", chosen="good", rejected="bad").read()
    assert pairs[0].prompt == [user("Hi?")]


@pytest.mark.parametrize("split", ["train_split", "test_split"])
@pytest.mark.parametrize("saved", [False, True])
def test_a_split_that_is_not_there_names_those_that_are(both: Path, tmp_path: Path, saved: bool, split: str):
    import datasets

    folder = both
    if saved:
        folder = tmp_path / "saved"
        datasets.load_dataset(str(both)).save_to_disk(folder)
    with pytest.raises(UserError, match=r"^dataset\.path: .*nope.*train.*test"):
        data_set(folder, **{split: "nope"}).read()


def test_a_hub_that_cannot_be_reached_is_told_in_one_line(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("datasets.config.HF_HUB_OFFLINE", True)
    with pytest.raises(UserError) as error:
        data_set("no-such-owner/no-such-set", test_split="test_prefs").read()
    assert str(error.value).startswith(
        "dataset.path: no-such-owner/no-such-set[test_prefs]: neither a local file nor a"
    )
    assert "\n" not in str(error.value)


def test_mistakes_are_told_before_anything_is_read(tmp_path: Path):
    assert data_set("no/such/file.jsonl").mistakes() == ["path: no/such/file.jsonl: no such file or folder"]
    file = write(tmp_path / "a.jsonl", rows(1))
    assert data_set(file, test_split="test").mistakes()[0].startswith(f"test_split: {file} is one file")
    assert data_set(file, validation=0.5, test=0.5).mistakes()[0].startswith("validation: leaves nothing")
    assert not data_set(file, validation=0.5).mistakes()


# ---- duplicates and labels ----


def test_pairs_that_differ_in_white_space_alone_are_duplicates(tmp_path: Path):
    rows = [
        {"prompt": "Why  so?", "chosen": "What\ndo you think?", "rejected": "Because."},
        {"prompt": "Why so?", "chosen": "What do you think?", "rejected": " Because.\n"},
        {"prompt": [user("Why\tso?")], "chosen": [tutor("What do  you think?")], "rejected": [tutor("Because.")]},
        {"prompt": "Why so?", "chosen": "What do you think?", "rejected": "Be cause."},
        {"prompt": "Why so?", "chosen": "what do you think?", "rejected": "Because."},
    ]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    pairs, flawed = data_set(tmp_path / "rows.jsonl", max_flawed=0, validation=0, test=0).read()
    assert [pair.rejected_text for pair in pairs] == ["Because.", "Be cause.", "Because."]
    assert [(row.where.rpartition(":")[2], row.why) for row in flawed] == [
        (line, "an earlier row again, but for white space") for line in ("2", "3")
    ]


def test_sides_that_differ_in_white_space_alone_are_the_same():
    with pytest.raises(UnusableError, match="chosen and rejected are the same"):
        to_messages("Why?", "What do you think?", "What  do\nyou think?")


def test_columns_about_both_sides_are_labels_for_the_audit(tmp_path: Path):
    rows = [
        {
            "prompt": f"Why {n}?",
            "chosen": f"How {n}?",
            "rejected": f"So {n}.",
            "chosen_author": "Ann",
            "rejected_author": "Ben",
            "source-chosen": "web",
            "source-rejected": "web",
            "chosen_score": 2.0,
            "rejected_score": 1.0,
        }
        for n in range(20)
    ]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    facts = data_set(tmp_path / "rows.jsonl").prepare(tmp_path, None, None, 0).facts
    (pair, *_) = read_records(PreferencePair, tmp_path / "pairs.jsonl")
    assert pair.labels == {"author": ("Ann", "Ben"), "source": ("web", "web")}
    assert (facts["author alone"], facts["source alone"]) == ("AUC 1.00", "AUC 0.50")
    assert "try" not in str(facts["warning"])
