"""Generation split over jobs gives what one job gives."""

from pathlib import Path

from tests.e2e.conftest import run

FILES = ("problems.jsonl", "conversations.jsonl", "pairs.jsonl")


def test_shards_give_the_rows_of_one_job_also_when_one_was_lost(tmp_path: Path):
    arguments = ["generate.py", "rejection=mixed", "problems.limit=24", "wandb=disabled"]
    one, split = tmp_path / "one", tmp_path / "split"
    run(*arguments, f"output_dir={one}")
    sharded = [*arguments, f"output_dir={split}", "num_shards=3"]
    done = run(*sharded, "shard=0,1,2", "-m")
    assert "shards" in done.stdout
    for name in FILES:
        assert (split / name).read_bytes() == (one / name).read_bytes(), name
    assert len((split / "1" / "conversations.jsonl").read_text().splitlines()) == 8
    assert not (split / "1" / "pairs.jsonl").exists()

    for name in FILES[1:]:
        (split / name).unlink()
    (split / "all_pairs.jsonl").unlink()
    (split / "1" / "conversations.jsonl").unlink()
    refused = run(*sharded, ok=False)
    assert refused.returncode == 2
    assert "shard 1 not finished" in refused.stderr
    run(*sharded, "shard=0,1,2", "-m")
    for name in FILES:
        assert (split / name).read_bytes() == (one / name).read_bytes(), name
