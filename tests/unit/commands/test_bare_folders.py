"""A command that failed before it made anything leaves no folder that refuses the next try."""

from pathlib import Path

import pytest

from socratic_rl.commands import cli


@pytest.mark.parametrize(
    ("files", "left"),
    [
        ({"train.log": ""}, None),
        ({"train.log": "", "train_config.json": "{}"}, None),
        ({"generate_config.json": "{}", "problems.jsonl": ""}, None),
        ({"train.log": "", "train_config.json": "{}", "wandb/run": "x"}, {".hydra", "train.log", "wandb"}),
        # what was made stays, with the config that made it
        (
            {"generate_config.json": "{}", "problems.jsonl": "{}\n"},
            {".hydra", "generate_config.json", "problems.jsonl"},
        ),
        ({"train_config.json": "{}", "checkpoints/a": "x"}, {".hydra", "train_config.json", "checkpoints"}),
        ({"train.log": "a warning"}, {".hydra", "train.log"}),
        ({"notes.txt": "x", "train_config.json": "{}"}, {".hydra", "notes.txt", "train_config.json"}),
    ],
)
def test_a_folder_without_results_is_not_bound_to_a_config(
    tmp_path: Path, files: dict[str, str], left: set[str] | None
):
    folder = tmp_path / "run"
    for name, text in {".hydra/config.yaml": "a: 1", **files}.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    cli._remove_if_bare(folder)
    assert ({path.name for path in folder.iterdir()} if folder.exists() else None) == left


def test_a_folder_that_hydra_did_not_note_is_left_alone(tmp_path: Path):
    (tmp_path / "train_config.json").write_text("{}")
    cli._remove_if_bare(tmp_path)
    assert (tmp_path / "train_config.json").exists()
