"""Which files of a folder go on the hub: its own, and none that a link leads to elsewhere."""

from pathlib import Path

import pytest

from socratic_rl.core.errors import UserError
from socratic_rl.sharing import hub


@pytest.fixture
def tutor(tmp_path: Path) -> Path:
    folder = tmp_path / "adapter"
    (folder / "inner").mkdir(parents=True)
    for name in ("adapter_model.safetensors", "inner/x.json"):
        (folder / name).write_text("x")
    (tmp_path / "secret").mkdir()
    (tmp_path / "secret" / "key").write_text("hunter2")
    return folder


def test_its_own_files_are_uploaded_also_behind_a_link_within(tutor: Path):
    (tutor / "again.json").symlink_to("inner/x.json")
    names = [path.relative_to(tutor).as_posix() for path in hub._own_files(tutor)]
    assert names == ["adapter_model.safetensors", "again.json", "inner/x.json"]
    # the folder itself may be reached by a link
    link = tutor.with_name("link")
    link.symlink_to(tutor)
    assert len(hub._own_files(link)) == 3


@pytest.mark.parametrize(
    ("name", "target"),
    [
        ("README.md", "../secret/key"),
        ("README.md", "{secret}/key"),
        ("inner/deep.json", "../../secret/key"),
        ("more", "../secret"),
        ("inner/more", "{secret}"),
        ("gone", "../nowhere"),
    ],
)
def test_a_link_out_of_the_folder_is_refused_by_name(tutor: Path, name: str, target: str):
    (tutor / name).symlink_to(target.format(secret=tutor.parent / "secret"))
    with pytest.raises(UserError, match=rf"^hub\.push: .*{name}: is a link to .*; copy it there$"):
        hub._own_files(tutor)


def test_a_chain_of_links_is_followed_to_its_end(tutor: Path):
    (tutor / "inner" / "one").symlink_to("../two")
    (tutor / "two").symlink_to("../secret/key")
    with pytest.raises(UserError, match=r"is a link to .*secret/key"):
        hub._own_files(tutor)
