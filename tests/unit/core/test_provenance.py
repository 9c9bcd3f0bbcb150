from pathlib import Path

import pytest
from omegaconf import OmegaConf

from socratic_rl.core.errors import UserError
from socratic_rl.core.provenance import hold, remember


def test_a_folder_is_filled_by_one_config_only(tmp_path: Path):
    path = tmp_path / "generate_config.json"
    first = OmegaConf.create({"seed": 0, "problems": {"limit": None}, "output_dir": "a"})
    remember(path, first)
    remember(path, first)
    with pytest.raises(UserError, match=r"problems\.limit: None → 3"):
        remember(path, OmegaConf.merge(first, {"problems": {"limit": 3}}))


def test_what_does_not_change_the_files_may_change(tmp_path: Path):
    path = tmp_path / "generate_config.json"
    remember(path, OmegaConf.create({"seed": 0, "stop_after": "problems", "wandb": {"mode": "offline"}}))
    remember(path, OmegaConf.create({"seed": 0, "stop_after": "pairs", "wandb": {"mode": "online"}}))


def test_a_server_may_come_back_at_another_address_but_not_with_another_model(tmp_path: Path):
    path = tmp_path / "generate_config.json"
    first = OmegaConf.create({"generator": {"base_url": "http://a:1/v1", "wait": 300, "model": "m"}})
    remember(path, first)
    remember(path, OmegaConf.merge(first, {"generator": {"base_url": "http://b:2/v1", "wait": 0}}))
    with pytest.raises(UserError, match=r"generator\.model: 'm' → 'n'"):
        remember(path, OmegaConf.merge(first, {"generator": {"model": "n"}}))


def test_a_folder_that_was_begun_before_the_rooms_goes_on(tmp_path: Path):
    path = tmp_path / "train_config.json"
    old = {
        "dataset": {"_target_": "socratic_rl.seed_rows.SeedRows", "path": "a.csv"},
        "problems": {"_target_": "socratic_rl.problems.Records"},
        "dpo": {"beta": 0.1, "remove_unused_columns": False, "ddp_find_unused_parameters": False},
        "lora": {"r": 8, "task_type": "CAUSAL_LM"},
    }
    remember(path, OmegaConf.create(old))
    new = {
        "dataset": {"_target_": "socratic_rl.pairs.SeedCsv", "path": "a.csv"},
        "problems": {"_target_": "socratic_rl.conversations.JsonlProblems"},
        "dpo": {"beta": 0.1},
        "lora": {"r": 8},
    }
    remember(path, OmegaConf.create(new))
    with pytest.raises(UserError, match=r"begun with another config \(dataset\._target_: 'SeedCsv' → 'TrlPairs'\)"):
        remember(path, OmegaConf.create(new | {"dataset": {"_target_": "socratic_rl.pairs.TrlPairs", "path": "a.csv"}}))


@pytest.mark.parametrize(
    ("before", "now"),
    [
        ({"lora": {"r": 8}}, {"lora": {"r": 8, "task_type": "TOKEN_CLS"}}),
        ({"lora": {"task_type": "CAUSAL_LM"}}, {"lora": {"task_type": "SEQ_CLS"}}),
        ({"lora": {"task_type": "SEQ_CLS"}}, {"lora": {}}),
        ({"dpo": {"remove_unused_columns": True}}, {"dpo": {}}),
        ({"dpo": {}}, {"dpo": {"ddp_find_unused_parameters": True}}),
    ],
)
def test_a_key_that_is_fixed_now_is_another_config_with_any_other_value(
    tmp_path: Path, before: dict[str, dict[str, object]], now: dict[str, dict[str, object]]
):
    path = tmp_path / "train_config.json"
    remember(path, OmegaConf.create(before))
    with pytest.raises(UserError, match=r"begun with another config"):
        remember(path, OmegaConf.create(now))


def test_what_was_half_written_goes_when_a_folder_is_held(tmp_path: Path):
    # by whole_file
    (tmp_path / ".pairs.csv.4711.half").touch()
    (tmp_path / ".adapter.4711.half").mkdir()
    # a user's own
    (tmp_path / ".notes.4711").touch()
    (tmp_path / ".votes.jsonl.lock").touch()
    (tmp_path / "pairs.csv.4711").touch()
    with hold(tmp_path):
        assert sorted(path.name for path in tmp_path.iterdir()) == [
            ".lock",
            ".notes.4711",
            ".votes.jsonl.lock",
            "pairs.csv.4711",
        ]


def test_a_folder_that_nothing_was_written_into_goes(tmp_path: Path):
    with hold(tmp_path / "run"):
        pass
    assert not any(tmp_path.iterdir())
