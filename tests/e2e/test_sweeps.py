"""Sweeps by the real train.py: killed and started again, ranked, closed with a page, and reviewed in W&B."""

import json
from pathlib import Path

import pytest
from safetensors.torch import load_file

from socratic_rl.core.provenance import artifact_name
from tests.conftest import TinyModel
from tests.e2e.conftest import run, run_process, start, wait_for
from tests.wandb_files import read_run

STEPS = 16


class Sweep:
    """A sweep of 8 jobs, killed in the second and started again; the jobs from the fifth on fail."""

    def __init__(self, folder: Path, choices: list[str]) -> None:
        self.folder = folder
        process = start("train.py", "-m", f"sweep={folder}", *choices)
        checkpoints = folder / "1" / "checkpoints"
        try:
            wait_for(lambda: (checkpoints / "checkpoint-8" / "trainer_state.json").exists())
        finally:
            process.kill()
            process.wait()
        assert not (folder / "1" / "adapter").exists(), "the job ended before it was killed"
        self.before = {path: path.stat().st_mtime_ns for path in (folder / "0" / "adapter").iterdir()}
        self.again = run("train.py", "-m", f"sweep={folder}", ok=False)

    def result(self, number: int) -> dict:
        return json.loads((self.folder / str(number) / "result.json").read_text())

    def runs(self, number: int) -> list[list]:
        """The W&B runs of a job as records, the first first."""
        folder = self.folder / str(number)
        names = sorted(path.name for path in folder.glob("wandb/offline-run-*"))
        return [read_run(folder, name) for name in names]


@pytest.fixture(scope="module")
def sweep(tiny: list[str], tiny_model: TinyModel, tmp_path_factory: pytest.TempPathFactory) -> Sweep:
    folder = tmp_path_factory.mktemp("sweeps") / "of all"
    fixed = [text for text in tiny if not text.startswith(("model.pretrained", "dpo.max_length", "dpo.max_steps"))]
    models = ",".join(str(tiny_model(name)) for name in ("llama", "gpt2"))
    axes = ["dpo.max_length=2000,5000", f"model.pretrained={models}", "seed=0,1"]
    return Sweep(folder, [*fixed, f"dpo.max_steps={STEPS}", *axes])


def test_jobs_that_finished_are_skipped_and_the_rest_run(sweep: Sweep):
    assert {path: path.stat().st_mtime_ns for path in (sweep.folder / "0" / "adapter").iterdir()} == sweep.before
    assert "job 0 finished before; its result stands" in sweep.again.stdout
    assert [sweep.result(n)["status"] for n in range(8)] == ["finished"] * 4 + ["failed"] * 4
    assert "dpo.max_length: 5000 tokens are more than" in sweep.result(4)["error"]
    for n in range(4):
        result = sweep.result(n)
        assert result["score"] == result["held_out"]["eval_rewards/accuracies"]
        assert {"eval_rewards/margins", "eval_ranking_accuracy", "eval_n"} <= set(result["held_out"])


def test_the_job_that_was_killed_goes_on_from_its_checkpoint(sweep: Sweep):
    _, resumed = sweep.runs(1)
    (whole,) = sweep.runs(2)
    logged = [
        [row["train/global_step"] for row in history(records) if "train/loss" in row] for records in (whole, resumed)
    ]
    # the run that finishes shows the whole curve: what its checkpoint remembers is logged again
    assert logged == [list(range(1, STEPS + 1))] * 2
    log = [json.loads(line) for line in (sweep.folder / "1" / "training_log.jsonl").read_text().splitlines()]
    assert [row["step"] for row in log if "loss" in row] == list(range(1, STEPS + 1))


def test_a_seed_changes_what_is_trained(sweep: Sweep):
    first, second = ((sweep.folder / str(n) / "training_log.jsonl").read_text().splitlines() for n in (0, 1))
    assert json.loads(first[-3])["loss"] != json.loads(second[-3])["loss"]


def test_the_table_puts_seeds_together_and_shows_all_jobs(sweep: Sweep):
    assert sweep.again.returncode != 0
    assert "Traceback" not in sweep.again.stderr
    table = sweep.again.stdout[sweep.again.stdout.index("8 jobs in 4 groups of seeds, best first") :]
    accuracies = [sweep.result(n)["held_out"]["eval_rewards/accuracies"] for n in (0, 1)]
    mean, spread = sum(accuracies) / 2, abs(accuracies[0] - accuracies[1]) / 2**0.5
    assert f"{mean:.4f} ± {spread:.4f}" in table
    assert table.count("2 seeds") == 4
    assert table.count("0 of 2 seeds") == 2
    assert table.count("failed: dpo.max_length: ") == 4
    assert f"go on with it by python train.py -m 'sweep={sweep.folder}'" in table.replace("\n", "")


def test_other_choices_are_refused_with_what_differs(sweep: Sweep):
    done = run("train.py", "-m", f"sweep={sweep.folder}", "seed=0,1,2", "dpo.max_length=2000,5000", ok=False)
    assert done.returncode == 2
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert "was begun with other choices" in line
    assert "seed: 0,1 → 0,1,2" in line
    assert "dpo.max_steps: 16 → not given" in line
    assert "dpo.max_length" not in line


def test_the_page_closes_the_sweep(sweep: Sweep):
    page = (sweep.folder / "sweep.html").read_text(encoding="utf-8")
    assert f"page: {sweep.folder / 'sweep.html'}" in sweep.again.stdout.replace("\n", "")
    samples = [json.loads(line) for line in (sweep.folder / "0" / "samples.jsonl").read_text().splitlines()]
    assert samples
    assert all({"prompt", "reply", "teacher"} <= set(row) for row in samples)
    assert "Dialogues of the best job" in page
    assert page.count("<svg") == 2


# ---- Weights & Biases ----


def history(records: list) -> list[dict]:
    return [
        {item.key or ".".join(item.nested_key): json.loads(item.value_json) for item in record.history.item}
        for record in records
        if record.HasField("history")
    ]


def begun(records: list) -> object:
    return next(record.run for record in records if record.HasField("run"))


def config(records: list) -> dict:
    """A run's config as it stands at its end."""
    found = {}
    for record in records:
        updates = record.run.config.update if record.HasField("run") else record.config.update
        found |= {item.key or ".".join(item.nested_key): json.loads(item.value_json) for item in updates}
    return found


def exit_codes(records: list) -> list[int]:
    return [record.exit.exit_code for record in records if record.HasField("exit")]


def artifacts(records: list) -> list:
    found = [r.request.log_artifact.artifact for r in records if r.request.HasField("log_artifact")]
    found += [r.artifact for r in records if r.HasField("artifact")]
    return [artifact for artifact in found if artifact.type in {"dataset", "model", "sweep"}]


def test_runs_can_be_told_apart_and_filtered_by_what_was_chosen(sweep: Sweep):
    runs = {n: sweep.runs(n)[-1] for n in range(8)}
    names = [begun(records).display_name for records in runs.values()]
    assert len(set(names)) == 8
    assert names[2] == "train-dpo.max_length=2000,model.pretrained=tiny-gpt2,seed=0 job 2"
    for n, records in runs.items():
        assert (begun(records).run_group, begun(records).job_type) == ("of all", "train")
        chosen = config(records)
        assert chosen["dpo"]["beta"] == 0.1
        assert chosen["dpo"]["learning_rate"] == 2e-4
        assert chosen["dpo"]["max_length"] == (2000 if n < 4 else 5000)
        assert chosen["model"]["name"] == "tiny-llama"
        assert chosen["model"]["pretrained"].endswith("gpt2" if n % 4 > 1 else "llama")
        assert chosen["dataset"]["path"].endswith("pairs.jsonl")
        assert chosen["seed"] == n % 2


def test_every_finished_run_has_the_same_metrics(sweep: Sweep):
    (first,), *others = ([set().union(*history(sweep.runs(n)[-1]))] for n in range(4))
    assert {"train/loss", "train/rewards/accuracies", "eval/rewards/accuracies", "eval/rewards/margins"} <= first
    assert all(names == first for (names,) in others)


def test_a_failed_job_is_a_failed_run(sweep: Sweep):
    assert [exit_codes(sweep.runs(n)[-1]) for n in range(8)] == [[0]] * 4 + [[1]] * 4
    killed, _ = sweep.runs(1)
    assert exit_codes(killed) == []


def test_the_sweep_is_a_run_of_its_group_with_table_page_and_lineage(sweep: Sweep):
    records = read_run(sweep.folder)
    assert (begun(records).run_group, begun(records).job_type) == ("of all", "sweep")
    # what is a file is logged as a nested value: page._type, page.path, …
    logged = {name.partition(".")[0] for row in history(records) for name in row}
    assert {"jobs", "page", "pictures/Loss", "pictures/Reward accuracy"} <= logged
    table = json.loads(next(sweep.folder.glob("wandb/offline-run-*/files/media/table/jobs*.json")).read_text())
    assert {"job", "seed", "model.pretrained", "accuracy", "ranking", "margin", "error"} <= set(table["columns"])
    assert len(table["data"]) == 8
    best = sweep.folder / table["data"][0][0]
    (page,) = artifacts(records)
    (adapter,) = artifacts(sweep.runs(int(best.name))[-1])
    assert page.type == "sweep"
    assert json.loads(page.metadata)["inputs"] == [adapter.name] == [artifact_name("adapter", [best / "adapter"])]
    (dataset,) = json.loads(adapter.metadata)["inputs"]
    assert dataset == artifact_name("pairs", [Path(config(sweep.runs(0)[-1])["dataset"]["path"])])


# ---- Optuna ----


@pytest.mark.slow
def test_optuna_chooses_in_a_search_space_from_a_config(tiny: list[str], tmp_path: Path):
    folder = tmp_path / "sweep"
    # where β is out of range a job fails, and the search goes on
    space = "hydra.sweeper.params={dpo.beta: 'choice(0.1, -1)', dpo.learning_rate: 'tag(log, interval(1e-4, 1e-1))'}"
    trials = ["hydra/sweeper=optuna", "hydra.sweeper.n_trials=3", space]
    done = run("train.py", "-m", *tiny, f"sweep={folder}", "wandb=disabled", "dpo.max_steps=2", *trials, ok=False)
    jobs = [json.loads((folder / str(n) / "result.json").read_text()) for n in range(3)]
    finished = [job for job in jobs if job["status"] == "finished"]
    assert 0 < len(finished) < 3
    rates = [float(dict(text.split("=", 1) for text in job["overrides"])["dpo.learning_rate"]) for job in jobs]
    assert len(set(rates)) == 3
    assert all(1e-4 <= rate <= 1e-1 for rate in rates)
    best = (folder / "optimization_results.yaml").read_text()
    assert f"best_value: {max(job['score'] for job in finished)}" in best
    assert "3 jobs, best first" in done.stdout
    assert f"error: {3 - len(finished)} job" in done.stderr
    assert "Traceback" not in done.stderr
    assert (folder / "sweep.html").exists()


WITHOUT_PLUGIN = """
import pkgutil, runpy, sys
class Hide:
    def find_spec(self, name, path=None, target=None):
        if name.startswith("hydra_plugins.hydra_optuna"):
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Hide())
walk = pkgutil.walk_packages
pkgutil.walk_packages = lambda *a, **k: (module for module in walk(*a, **k) if "optuna" not in module.name)
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def test_the_missing_extra_is_told_in_one_line(tmp_path: Path):
    arguments = ["train.py", "-m", "hydra/sweeper=optuna", f"output_dir={tmp_path}", "dataset.path=pyproject.toml"]
    # in a fork Hydra has the plugin already
    done = run_process("-c", WITHOUT_PLUGIN, *arguments, ok=False)
    assert done.returncode == 2
    told = "error: hydra/sweeper: needs an extra that is not installed: pip install -e '.[optuna]'"
    assert done.stderr.splitlines() == [told]


def test_a_job_that_follows_another_gives_to_the_bit_what_it_gives_alone(tiny: list[str], tmp_path: Path):
    """It finds the base in memory and the reference's log-probabilities in their file."""
    settings = [*tiny, "lora.lora_dropout=0.1", "dpo.precompute_ref_log_probs=true", "samples=0", "wandb=disabled"]
    sweep = run(
        "train.py",
        *("-m", f"output_dir={tmp_path}/sweep", "dpo.beta=0.1,0.5", *settings),
        XDG_CACHE_HOME=str(tmp_path / "cache of the sweep"),
    )
    assert sweep.stdout.count("training pairs: computed in") == sweep.stdout.count("training pairs: read from") == 1
    for number, beta in enumerate((0.1, 0.5)):
        alone = run(
            "train.py",
            *(f"output_dir={tmp_path}/{number}", f"dpo.beta={beta}", *settings),
            XDG_CACHE_HOME=str(tmp_path / f"cache of {number}"),
        )
        assert "training pairs: computed in" in alone.stdout
        folders = (tmp_path / "sweep" / str(number), tmp_path / str(number))
        jobs, apart = ([json.loads(line) for line in (f / "training_log.jsonl").open()] for f in folders)
        assert len(jobs) == len(apart) > 4
        for row, other in zip(jobs, apart, strict=True):
            told = {key for key in row if not key.startswith(("train_", "total_"))}
            assert {key: row[key] for key in told} == {key: other[key] for key in told}
        weights, others = (load_file(folder / "adapter" / "adapter_model.safetensors") for folder in folders)
        assert weights.keys() == others.keys()
        assert all(weight.equal(others[name]) for name, weight in weights.items())
