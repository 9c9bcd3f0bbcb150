"""What several processes share out, and what only one may do."""

from collections.abc import Iterator

import pytest

from socratic_rl.commands import cli
from socratic_rl.models import processes
from socratic_rl.models.scoring import _share


@pytest.mark.parametrize("pairs", [1, 2, 7, 12])
@pytest.mark.parametrize("count", [2, 3, 5])
def test_shares_are_alike_and_hold_every_pair(pairs: int, count: int, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("WORLD_SIZE", str(count))
    shares = []
    for rank in range(count):
        monkeypatch.setenv("RANK", str(rank))
        shares.append(_share(pairs))
    # as many on each, or sharded weights would wait for each other for ever
    assert len({len(share) for share in shares}) == 1
    assert [row for share in shares for row in share][:pairs] == list(range(pairs))


@pytest.fixture
def several(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "0")
    return


@pytest.mark.parametrize(
    ("command", "arguments", "told"),
    [
        ("evaluate", [], "only train.py runs in several processes"),
        ("train", ["-m", "dpo.beta=0.1,0.3"], "the processes of one launch train one job"),
        ("train", ["--multirun", "seed=0,1"], "the processes of one launch train one job"),
    ],
)
@pytest.mark.usefixtures("several")
def test_what_several_processes_cannot_do_is_refused(
    command: str,
    arguments: list[str],
    told: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
):
    monkeypatch.setattr("sys.argv", ["command.py", *arguments])
    with pytest.raises(SystemExit) as ended:
        cli.run(lambda: pytest.fail("it began"), command)
    assert ended.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert told in line


def test_one_process_needs_no_launcher(monkeypatch: pytest.MonkeyPatch):
    for name in ("WORLD_SIZE", "RANK", "LOCAL_RANK", "ACCELERATE_USE_FSDP", "ACCELERATE_DEEPSPEED_ZERO_STAGE"):
        monkeypatch.delenv(name, raising=False)
    assert (processes.count(), processes.rank(), processes.local_rank()) == (1, 0, 0)
    assert processes.is_main()
    assert not processes.sharded()
    assert processes.from_main(lambda: "value") == "value"


def test_a_plugin_that_is_not_installed_is_named_with_its_extra():
    error = RuntimeError("Unknown plugin class : 'hydra_plugins.hydra_ray_launcher.ray_launcher.RayLauncher'")
    told = cli.explain_missing_extra(error)
    assert told == "hydra/launcher: needs an extra that is not installed: pip install -e '.[ray]'"
    assert cli.explain_missing_extra(RuntimeError("anything else")) is None
