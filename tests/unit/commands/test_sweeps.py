import json
from pathlib import Path

import pytest

from socratic_rl.commands.sweeps import LONGEST_NAME, RefusedError, SweepJobs, begin, command_line, job_name
from socratic_rl.core.errors import UserError
from socratic_rl.pages.sweep_jobs import RESULT, START, Job, ranked, read_jobs, written
from socratic_rl.pages.sweep_page import heat_maps, labels


def job(number: int, accuracy: float | None, ranking: float = 0.5, margin: float = 1.0, **choices: object) -> Job:
    figures = {"eval_rewards/accuracies": accuracy, "eval_ranking_accuracy": ranking, "eval_rewards/margins": margin}
    chosen = {key.replace("_", ".", 1) if key != "seed" else key: str(value) for key, value in choices.items()}
    if accuracy is None:
        return Job(Path(str(number)), chosen, "failed", None, {}, "it failed")
    return Job(Path(str(number)), chosen, "finished", accuracy, figures, None)


def test_seeds_are_put_together_and_the_best_mean_comes_first():
    jobs = [
        job(0, 0.9, dpo_beta=0.1, seed=0),
        job(1, 0.6, dpo_beta=0.1, seed=1),
        job(2, 0.7, dpo_beta=0.3, seed=0),
        job(3, 0.9, dpo_beta=0.3, seed=1),
        job(4, None, dpo_beta=1, seed=0),
        job(5, None, dpo_beta=1, seed=1),
        job(6, 0.99, dpo_beta=2, seed=0),
        job(7, None, dpo_beta=2, seed=1),
    ]
    best, second, third, last = ranked(jobs)
    assert best.choices == {"dpo.beta": "2"}
    assert best.figures("accuracy") == [0.99]
    assert best.spread("accuracy") is None
    assert second.choices == {"dpo.beta": "0.3"}
    assert second.mean("accuracy") == pytest.approx(0.8)
    assert second.spread("accuracy") == pytest.approx(0.1414, abs=1e-4)
    assert [member.folder.name for member in second.jobs] == ["3", "2"]
    assert third.choices == {"dpo.beta": "0.1"}
    assert last.mean("accuracy") is None


def test_a_tie_is_settled_by_ranking_accuracy_and_then_by_the_margin():
    jobs = [
        job(0, 1.0, 0.5, 9.0, dpo_beta=1),
        job(1, 1.0, 0.6, 1.0, dpo_beta=2),
        job(2, 1.0, 0.6, 2.0, dpo_beta=3),
        job(3, float("nan"), dpo_beta=4),
    ]
    assert [group.choices["dpo.beta"] for group in ranked(jobs)] == ["3", "2", "1", "4"]


# ---- the command line ----

FIRST = ["dpo.beta=0.1,0.3", "seed=0,1", "wandb=offline", "hydra/launcher=ray", "hydra.launcher.x=1", "+dpo.optim=sgd"]


@pytest.fixture
def begun(tmp_path: Path) -> Path:
    """The folder of a sweep of which a job has begun."""
    folder = tmp_path / "sweep"
    (folder / "0").mkdir(parents=True)
    (folder / "0" / RESULT).write_text("{}")
    (folder / START).write_text(json.dumps({"overrides": FIRST, "choices": ["dpo.beta", "seed"]}))
    return folder


def test_the_folder_alone_brings_the_choices_of_the_first_start(begun: Path):
    place = [f"sweep={begun}", f"output_dir={begun}"]
    assert command_line(["-m", f"sweep={begun}"]) == ["-m", *FIRST, *place]
    assert sorted(command_line(["-m", *reversed(FIRST), f"sweep={begun}"])) == sorted(["-m", *FIRST, *place])


def test_where_jobs_run_may_change(begun: Path):
    found = command_line(["-m", f"sweep={begun}", "hydra/launcher=basic", "wandb=online"])
    assert {"hydra/launcher=basic", "wandb=online", "dpo.beta=0.1,0.3"} <= set(found)
    assert not {"hydra.launcher.x=1", "wandb=offline"} & set(found)


def test_a_search_may_be_given_more_trials(begun: Path):
    assert "hydra.sweeper.n_trials=30" in command_line(["-m", f"sweep={begun}", "hydra.sweeper.n_trials=30"])
    with pytest.raises(UserError, match=r"hydra.sweeper.n_jobs: not given → 4"):
        command_line(["-m", f"sweep={begun}", *FIRST, "hydra.sweeper.n_jobs=4"])


def test_optuna_is_our_preset_of_it():
    assert command_line(["-m", "hydra/sweeper=optuna"]) == ["-m", "hydra/sweeper=optuna_tpe"]


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["-m", "dpo.beta=0.1,0.3"], r"seed: 0,1 → not given; \+dpo.optim: sgd → not given"),
        (["-m", *FIRST[1:], "dpo.beta=1,2"], r"\(dpo.beta: 0.1,0.3 → 1,2\)"),
        (["-m", *FIRST, "lora=none"], r"\(lora: not given → none\)"),
        (["-m", "output_dir=elsewhere"], "output_dir: elsewhere is not the folder"),
        ([], "sweep: is for a multirun; add -m"),
    ],
)
def test_what_does_not_go_on_is_told(begun: Path, arguments: list[str], told: str):
    with pytest.raises(UserError, match=told):
        command_line([*arguments, f"sweep={begun}"])


def test_a_folder_without_a_sweep_needs_choices(tmp_path: Path):
    place = tmp_path / "new"
    with pytest.raises(UserError, match="no sweep was begun there"):
        command_line(["-m", f"sweep={place}"])
    begun = command_line(["-m", f"sweep={place}", "seed=0,1"])
    assert begun == ["-m", "seed=0,1", f"sweep={place}", f"output_dir={place}"]


def test_a_sweep_whose_jobs_never_began_may_be_given_other_choices(begun: Path):
    (begun / "0" / RESULT).unlink()
    assert "seed=5,6" in command_line(["-m", f"sweep={begun}", "seed=5,6"])


def test_a_folder_may_have_spaces(tmp_path: Path):
    place = f"'{tmp_path / 'a sweep'}'"
    assert command_line(["-m", f"sweep={place}", "seed=1"])[-1] == f"output_dir={place}"
    assert command_line(["--cfg", "job", "sweep=x"]) == ["--cfg", "job", "sweep=x"]


# ---- a job ----


def test_only_what_finished_with_the_same_choices_is_skipped(tmp_path: Path):
    overrides = ["dpo.beta=0.1", "output_dir=a", "wandb=offline"]

    def left(status: str, choices: list[str]) -> None:
        result = {"overrides": choices, "status": status, "score": 1.0, "held_out": {}, "error": None}
        (tmp_path / RESULT).write_text(json.dumps(result))

    left("finished", ["wandb=online", "dpo.beta=0.1", "output_dir=b"])
    assert begin(tmp_path, overrides, goes_on=True).score == 1.0
    assert begin(tmp_path, overrides, goes_on=False) is None
    left("failed", overrides)
    (tmp_path / "checkpoints").mkdir()
    assert begin(tmp_path, overrides, goes_on=True) is None
    assert (tmp_path / "checkpoints").exists()
    left("finished", ["dpo.beta=0.3"])
    (tmp_path / ".hydra").mkdir()
    assert begin(tmp_path, overrides, goes_on=True) is None
    assert {path.name for path in tmp_path.iterdir()} == {".hydra", RESULT}
    assert json.loads((tmp_path / RESULT).read_text())["status"] == "stopped"


def test_names_are_short_and_tell_jobs_apart(tmp_path: Path):
    (tmp_path / START).write_text(json.dumps({"overrides": [], "choices": ["dpo.beta", "model.pretrained"]}))
    assert job_name(tmp_path, ["seed=1", "dpo.beta=0.1"], 3) == "dpo.beta=0.1"
    paths = [f"model.pretrained={'/deep' * 60}/{name}/model" for name in "ab"]
    names = [job_name(tmp_path, [path], number) for number, path in enumerate(paths)]
    assert names == ["model.pretrained=model job 0", "model.pretrained=model job 1"]
    long = [job_name(tmp_path, [f"dpo.beta={'1' * 300}"], number) for number in (0, 1)]
    assert len(set(long)) == 2
    assert max(map(len, long)) < LONGEST_NAME + 10
    assert job_name(tmp_path, [], 0) == "job 0"


def test_jobs_are_read_in_the_order_of_their_numbers(tmp_path: Path):
    (tmp_path / START).write_text(json.dumps({"overrides": [], "choices": ["seed"]}))
    for number in range(11):
        (tmp_path / str(number)).mkdir()
        row = {"overrides": [f"seed={number}", "x=1"], "status": "failed", "score": None, "held_out": {}, "error": "e"}
        (tmp_path / str(number) / RESULT).write_text(json.dumps(row))
    assert [found.choices for found in read_jobs(tmp_path)] == [{"seed": str(number)} for number in range(11)]


# ---- the page's pictures ----


def test_a_heat_map_shows_means_over_what_else_varies_and_says_so():
    jobs = [
        job(n, accuracy, dpo_beta=beta, dpo_learning_rate=rate, seed=seed)
        for n, (beta, rate, seed, accuracy) in enumerate(
            [(0.1, 1e-4, 0, 0.5), (0.1, 1e-4, 1, 0.7), (0.3, 1e-4, 0, 0.8), (0.3, 1e-4, 1, 0.8), (0.1, 1e-3, 0, 1.0)]
        )
    ]
    accuracy, ranking = heat_maps(jobs)
    assert accuracy.title == "Accuracy by dpo.beta and dpo.learning_rate"
    assert "dpo.learning_rate 0.0001, dpo.beta 0.1: 60%; dpo.learning_rate 0.0001, dpo.beta 0.3: 80%" in accuracy.words
    assert (
        accuracy.note
        == "Held-out accuracy, the stronger the colour the better; each the mean of 1 to 2 jobs, over seed."
    )
    assert ">60%</text>" in accuracy.svg
    assert ranking.title.startswith("Ranking")


def test_other_numeric_choices_take_the_axes_where_these_do_not_vary():
    jobs = [job(n, 0.5, lora_r=r, dpo_beta=beta) for n, (r, beta) in enumerate([(8, 0.1), (16, 0.1), (8, 0.2)])]
    assert heat_maps(jobs)[0].title == "Accuracy by dpo.beta and lora.r"
    assert heat_maps([job(n, 0.5, dpo_beta=n, model_name=f"m{n}") for n in range(3)]) == []
    assert heat_maps([job(n, 0.5, dpo_beta=n, dpo_learning_rate=1) for n in range(3)]) == []


def test_what_a_sampler_drew_is_no_grid():
    drawn = [job(n, 0.5 + n / 100, dpo_beta=0.1 + n / 31, dpo_learning_rate=1e-4 * 1.7**n) for n in range(6)]
    svg = heat_maps(drawn)[0].svg
    assert ">55%</text>" in svg
    assert ">50%</text>" not in svg
    assert "mathdefault" not in svg


def test_labels_are_short_where_that_tells_apart():
    groups = ranked(
        [
            job(0, 0.9, dpo_beta="0.12345678901", model_pretrained="/models/llama"),
            job(1, 0.8, dpo_beta=0.3, model_pretrained="/models/gpt2"),
        ]
    )
    assert labels(groups) == ["beta=0.1235 pretrained=llama", "beta=0.3 pretrained=gpt2"]
    groups = ranked([job(n, 1 - n / 10, a_name=f"/{n}/same", b_name=n) for n in range(2)])
    assert labels(groups) == ["a.name=/0/same b.name=0", "a.name=/1/same b.name=1"]
    assert written({"x": "2025-01-01_00"}) == "x=2025-01-01_00"


def test_the_configs_of_the_first_start_are_found_again(begun: Path, tmp_path: Path):
    options = ["--config-dir", str(tmp_path / "own"), "--config-name", "mine"]
    (begun / START).write_text(json.dumps({"overrides": FIRST, "choices": ["seed"], "options": options}))
    assert command_line(["-m", f"sweep={begun}"])[:5] == ["-m", *options]
    assert command_line(["-m", *options, f"sweep={begun}"])[:5] == ["-m", *options]
    with pytest.raises(UserError, match=r"was begun with --config-dir .* --config-name mine, not --config-name other"):
        command_line(["-m", "--config-name", "other", f"sweep={begun}"])


def test_a_folder_of_ones_own_is_not_taken_for_the_shipped_configs(begun: Path, tmp_path: Path):
    with pytest.raises(UserError, match="was begun with the shipped configs, not --config-dir"):
        command_line(["-m", "--config-dir", str(tmp_path), f"sweep={begun}"])


def test_jobs_in_folders_of_their_choices_are_read(begun: Path):
    result = {"overrides": ["model=a/b"], "status": "failed", "score": None, "held_out": {}, "error": "x"}
    for name in ("0", "model.pretrained=a/b,seed=1"):
        (begun / name).mkdir(parents=True, exist_ok=True)
        (begun / name / RESULT).write_text(json.dumps(result))
    assert len(read_jobs(begun)) == 2


def sweep_config(*overrides: str):
    from hydra import compose, initialize_config_dir

    from socratic_rl.commands.mistakes import CONF, readable

    arguments = readable(["-m", "hydra/sweeper=optuna_tpe", *overrides])[1:]
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return compose("train", overrides=arguments, return_hydra_config=True)


def test_a_search_space_takes_the_place_of_the_presets():
    config = sweep_config('hydra.sweeper.params={dpo.beta: "interval(0.05, 0.5)", lora.r: "choice(8, 16, 32)"}')
    assert config.hydra.sweeper.params == {"dpo.beta": "interval(0.05, 0.5)", "lora.r": "choice(8, 16, 32)"}


@pytest.mark.parametrize(
    ("place", "told"), [("sweep=x", "the folder keeps the trials"), ("output_dir=x", "needs SQLAlchemy below 2")]
)
def test_a_database_of_trials_is_refused_where_it_cannot_be(place: str, told: str):
    config = sweep_config("hydra.sweeper.storage=sqlite:///trials.db", place)
    with pytest.raises(RefusedError, match=rf"^hydra\.sweeper\.storage: .*{told}"):
        SweepJobs().on_multirun_start(config)
