"""``evaluate.py``: base and tutor on the same held-out turns, or one of the suites."""

from collections.abc import Mapping
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig

from socratic_rl.commands import cli
from socratic_rl.core.errors import UserError, of_component
from socratic_rl.pages import console

if TYPE_CHECKING:
    from socratic_rl.commands.settings import EvaluateSettings
    from socratic_rl.core.dialogue import Problem
    from socratic_rl.generators.tutors import TutorGenerator
    from socratic_rl.models.tutor import Tutor


def run(settings: "EvaluateSettings", cfg: DictConfig) -> float | None:
    """Check the config, compare, and write the figures, the replies and the report."""
    from socratic_rl.evaluation.human_agreement import Calibration, HumanLabels

    if isinstance(settings.suite, Calibration):
        check_judge(settings, cli.job_folder(cfg))
        return None
    if isinstance(settings.suite, HumanLabels):
        check_measures(settings, cli.job_folder(cfg))
        return None
    if settings.adapter is None:
        raise UserError("adapter: is needed and not set")
    if settings.prompt is not None:
        if settings.backend == "llama_cpp":
            raise UserError("backend: prompt=… replies by transformers; python chat.py replies by llama.cpp too")
        from socratic_rl.chat import partners
        from socratic_rl.models.tutor import Tutor

        partners.show_replies(Tutor(Path(settings.adapter)), settings.prompt, settings.sampling, settings.seed)
        return None
    from socratic_rl.sharing import hub

    hub.check(settings.hub)
    from socratic_rl.evaluation.student_gain import StudentGain
    from socratic_rl.models.tutor import Tutor

    tutor = Tutor(Path(settings.adapter))
    if isinstance(settings.suite, StudentGain):
        return measure_gain(settings, tutor, cfg)
    if settings.suite:
        return score_suite(settings, tutor, cfg)
    return compare(settings, tutor, cfg)


def compare(settings: "EvaluateSettings", tutor: "Tutor", cfg: DictConfig) -> float:
    """Compare base, earlier rounds and tutor on held-out pairs and turns, and write figures, replies and report."""
    # the heavy imports wait until the config is known to be right
    from socratic_rl.commands import tracking
    from socratic_rl.core import files as files_module
    from socratic_rl.core import provenance
    from socratic_rl.core.files import write_jsonl
    from socratic_rl.evaluation import comparison, test_sets
    from socratic_rl.models.tokens import fit_pairs
    from socratic_rl.pages import report
    from socratic_rl.sharing import exports, hub, model_card

    place = cli.job_place(cfg)
    folder = place["folder"]
    generators, told_of = who_replies(settings, tutor)
    if settings.judge:
        # another judge's calibration is told before any weights are loaded
        settings.judge.agreement()
    dataset = tutor.dataset
    earlier, missing = tutor.earlier()
    if earlier and settings.backend == "llama_cpp":
        earlier, missing = [], "there are no files of them for llama.cpp"
    rounds = {f"round {number}": one for number, one in enumerate(earlier, 1)}
    if settings.dataset:
        chosen = settings.dataset
        dataset, _ = chosen.prepare(folder / "evaluated_on", settings.rejection, settings.generator, settings.seed)
    pairs = [pair for pair in dataset.read() if pair.split == settings.split]
    if not pairs:
        raise UserError(f"split: {dataset.path} has no {settings.split} pairs")
    told: dict[str, object] = {}
    if settings.dataset and settings.split != "train":
        pairs, told["trained on"] = test_sets.not_trained_on(pairs, tutor, f"dataset.path: {dataset.path}")
    pairs = pairs[: settings.limit]
    with tracking.track(settings.wandb, "evaluate", provenance.resolved(cfg), **place) as run:
        files_module.write_json(folder / "evaluate_config.json", provenance.resolved(cfg))
        fitted = fit_pairs(pairs, tutor.tokenizer, tutor.max_length)
        found = comparison.evaluate(
            tutor.base,
            tutor.tutor,
            tutor.tokenizer,
            fitted.pairs,
            dataset.read_problems(),
            generators,
            settings.sampling,
            seed=settings.seed,
            resamples=settings.resamples,
            earlier={name: partial(tutor.round, one) for name, one in rounds.items()},
        )
        told_rounds = {name: f"{one.folder}: {one.trained_on}" for name, one in rounds.items()}
        if missing:
            told_rounds["older rounds"] = f"left out: {missing}"
        files = {name: folder / name for name in ("evaluation.json", "replies.jsonl", "report.html")}
        facts = {
            "base": tutor.made_from["model"]["name"],
            "tutor": str(tutor.folder),
            "trained on": tutor.trained_on,
            "evaluated on": f"{dataset.path}, {settings.split} split: {len(fitted.pairs)} pairs, "
            f"{len(found.dialogues)} turns, {len({p.problem_id for p in fitted.pairs})} problems",
            **told_rounds,
            "DPO": tutor.settings_line(),
            "sampling": provenance.in_a_line(settings.sampling.as_config()),
            **told_of,
            "seed": str(settings.seed),
            "date": datetime.now().strftime("%Y-%m-%d %H:%M"),
            "versions": ", ".join(f"{name} {version}" for name, version in provenance.versions().items()),
        }
        # what is about one kind of rejection stands at the end
        measured = sorted(found.metrics, key=lambda row: row["kind"] != "all")
        # a judge that fails takes none of this along
        files_module.write_json(files["evaluation.json"], {"metrics": measured, "facts": facts})
        write_jsonl(files["replies.jsonl"], found.dialogues)
        if settings.judge:
            files["judge.jsonl"] = folder / "judge.jsonl"
            judged = comparison.judge_replies(
                settings.judge,
                found.dialogues,
                seed=settings.seed,
                resamples=settings.resamples,
                kept=files["judge.jsonl"],
            )
            measured = sorted(measured + judged.metrics, key=lambda row: row["kind"] != "all")
            facts |= judged.facts
            told |= judged.facts
            files_module.write_json(files["evaluation.json"], {"metrics": measured, "facts": facts})
            write_jsonl(files["judge.jsonl"], judged.answers)
            (folder / "judge.jsonl.partial").unlink()
        report.write(folder, tutor.folder.parent / "training_log.jsonl")

        run.summary.update(in_summary(measured))
        columns = ("topic", "question", "turn", "base", "tutor")
        tracking.log_table(
            run,
            "replies",
            [
                {column: str(row[column]) for column in (*columns, "base_marks", "tutor_marks")}
                for row in found.dialogues
            ],
        )
        tracking.log_artifact(
            run,
            provenance.artifact_name("evaluation", list(files.values())[:2]),
            "evaluation",
            list(files.values()),
            inputs=[tutor.made_from["dataset_artifact"], provenance.artifact_name("adapter", [tutor.folder])],
        )
        address = None
        if settings.hub.push or folder == tutor.folder.parent:
            on = facts["evaluated on"].replace(dataset.path, Path(dataset.path).name)
            found_here = model_card.Measured(measured, on, facts["sampling"], facts.get("judge", ""))
            model_card.write_card(tutor.folder, found_here)
            files["model card"] = tutor.folder / provenance.CARD
            # what was exported before has a card too
            exports.renew_cards(tutor.folder)
            address = hub.push(tutor.folder, settings.hub, "Measured results")
    console.metrics_table(f"Tutor against base, {len(fitted.pairs)} pairs and {len(found.dialogues)} turns", measured)
    console.closing_table("Evaluation", told_rounds | told | files | ({"hub": address} if address else {}))
    return float(measured[0]["tutor"])


def who_replies(settings: "EvaluateSettings", tutor: "Tutor") -> tuple[Mapping[str, "TutorGenerator"], dict[str, str]]:
    """Base and tutor by the backend, and what the facts tell of it.

    Raises:
        UserError: llama.cpp is to reply and a file is missing.
    """
    from socratic_rl.chat import partners
    from socratic_rl.sharing import exports

    if settings.backend == "transformers":
        return partners.tutor_and_base(tutor, settings.sampling).generators, {}
    files = exports.exported(tutor, settings.gguf, settings.base_gguf)
    if files.base is None:
        raise UserError(f"base_gguf: there is no GGUF file of the base, {tutor.settings.name}: base_gguf=FILE")
    tutors = f"{files.adapter.name} on {files.model.name}" if files.adapter else files.model.name
    told = f"by llama.cpp: base {files.base.name}, tutor {tutors}; log-probabilities by transformers"
    return partners.tutor_and_base(tutor, settings.sampling, files).generators, {"replies": told}


def in_summary(metrics: list[dict[str, Any]], prefix: str = "") -> dict[str, Any]:
    """An evaluation's figures as a run's summary has them; those by topic are in the file alone."""
    from socratic_rl.measures.replies import TOPIC

    sides = ("base", "tutor", "difference", "low", "high", "n")
    rows = [row for row in metrics if not row["kind"].startswith(TOPIC)]
    summary = {f"{prefix}{row['name']}/{row['kind']}/{side}": row[side] for row in rows for side in sides}
    # a judge's score is worth what its agreement with people is
    judged = {row["name"]: row["agreement"] for row in rows if "agreement" in row}
    return summary | {
        f"{prefix}{name}/all/kappa": agreed["kappa"] if agreed else "not calibrated" for name, agreed in judged.items()
    }


def score_suite(settings: "EvaluateSettings", tutor: "Tutor", cfg: DictConfig) -> float:
    """Score base and tutor on the pairs of an outside test set, without those about problems trained on."""
    from socratic_rl.commands import tracking
    from socratic_rl.core import files as files_module
    from socratic_rl.core import provenance
    from socratic_rl.evaluation import comparison, test_sets
    from socratic_rl.models.tokens import fit_pairs
    from socratic_rl.pairs.audit import audit_rows

    suite, place = settings.suite, cli.job_place(cfg)
    fresh, trained_on = test_sets.not_trained_on(list(suite.pairs()), tutor, f"suite: {suite.name}")
    with tracking.track(settings.wandb, "evaluate", provenance.resolved(cfg), **place) as run:
        fitted = fit_pairs(fresh[: settings.limit], tutor.tokenizer, tutor.max_length)
        rows = comparison.compare_preferences(
            tutor.base,
            tutor.tutor,
            tutor.tokenizer,
            fitted.pairs,
            {},
            settings.sampling.width,
            seed=settings.seed,
            resamples=settings.resamples,
        )
        told: dict[str, object] = {
            "pairs": f"{len(fitted.pairs)} about {len({pair.problem_id for pair in fitted.pairs})} problems",
            "too long": len(fitted.dropped),
            "trained on": trained_on,
        }
        # its warnings are about what one may train on
        told |= {rule: auc for rule, auc in audit_rows(fitted.pairs, settings.seed)[0].items() if rule != "warning"}
        path = place["folder"] / "suites" / f"{suite.name}.json"
        facts = {"suite": suite.path, "tutor": settings.adapter, "base": tutor.made_from["model"]["name"], **told}
        files_module.write_json(path, {"name": suite.name, "metrics": rows, "facts": facts})
        run.summary.update(in_summary(rows, f"{suite.name}/"))
        renew_report(place["folder"], tutor)
    console.metrics_table(f"{suite.name}: tutor against base, {len(fitted.pairs)} pairs", rows)
    console.closing_table("Suite", {**told, "figures": path})
    return float(rows[0]["tutor"])


def measure_gain(settings: "EvaluateSettings", tutor: "Tutor", cfg: DictConfig) -> float:
    """Let a simulated student talk with base and tutor, and compare what it solves before and after."""
    from socratic_rl.commands import tracking
    from socratic_rl.core import files as files_module
    from socratic_rl.core import provenance
    from socratic_rl.core.files import write_jsonl
    from socratic_rl.evaluation import student_gain

    suite, place = settings.suite, cli.job_place(cfg)
    problems = problems_to_try(settings, tutor, place["folder"])[: suite.limit]
    generators, _ = who_replies(settings, tutor)
    with tracking.track(settings.wandb, "evaluate", provenance.resolved(cfg), **place) as run:
        teachers = {name: student_gain.teacher(generator, f"{name} replies") for name, generator in generators.items()}
        with of_component("suite"):
            tries = suite.tries(problems, teachers, settings.seed)
        rows = student_gain.compare(tries, seed=settings.seed, resamples=settings.resamples)
        told = {
            "attempts": f"{len(tries)} at {len(problems)} held-out problems, {suite.attempts} each",
            "exchanges": str(suite.turns),
            "sampling": provenance.in_a_line(settings.sampling.as_config()),
        }
        path = place["folder"] / "suites" / f"{suite.name}.json"
        student = provenance.in_a_line(suite.generator.identity())
        facts = {"tutor": settings.adapter, "base": tutor.made_from["model"]["name"], "student": student, **told}
        files_module.write_json(path, {"name": suite.name, "metrics": rows, "facts": facts})
        write_jsonl(path.with_suffix(".jsonl"), (one.to_record() for one in tries))
        run.summary.update(in_summary(rows, f"{suite.name}/"))
        renew_report(place["folder"], tutor)
    console.metrics_table(f"{suite.name}: {told['attempts']}", rows)
    console.closing_table("Suite", {**told, "figures": path, "dialogues": path.with_suffix(".jsonl")})
    return float(rows[2]["tutor"])


def problems_to_try(settings: "EvaluateSettings", tutor: "Tutor", folder: Path) -> "list[Problem]":
    """Problems with answers that the tutor's data set held out, or that another one holds out and nobody trained on.

    Raises:
        UserError: There are none.
    """
    from socratic_rl.evaluation import test_sets

    if settings.dataset is None:
        problems = tutor.held_out_problems()
    else:
        chosen = settings.dataset
        dataset, _ = chosen.prepare(folder / "evaluated_on", settings.rejection, settings.generator, settings.seed)
        pairs = [pair for pair in dataset.read() if pair.split == settings.split]
        fresh, _ = test_sets.not_trained_on(pairs, tutor, f"dataset.path: {dataset.path}")
        known = dataset.read_problems()
        problems = [known[id_] for id_ in dict.fromkeys(pair.problem_id for pair in fresh) if id_ in known]
    answered = [problem for problem in problems if problem.answer]
    if not answered:
        raise UserError(
            f"suite: no problem with an answer was held out from the training of {settings.adapter}; those of other "
            "pairs: dataset=socratic dataset.path=PAIRS.jsonl"
        )
    return answered


def renew_report(folder: Path, tutor: "Tutor") -> None:
    """Let the report of the folder, where it has one, show what lies there now."""
    from socratic_rl.pages import report

    if (folder / "evaluation.json").exists():
        report.write(folder, tutor.folder.parent / "training_log.jsonl")


def check_measures(settings: "EvaluateSettings", folder: Path) -> None:
    """Compare the judge-free measures with what people say."""
    from socratic_rl.core import files as files_module
    from socratic_rl.core.files import write_jsonl
    from socratic_rl.evaluation import human_agreement

    rows, disagreements = human_agreement.compare(list(settings.suite.read()), settings.resamples, settings.seed)
    files = {name: folder / name for name in ("human_labels.json", "disagreements.jsonl")}
    files_module.write_json(files["human_labels.json"], rows)
    write_jsonl(files["disagreements.jsonl"], disagreements)
    human_agreement.print_human_labels(rows)
    console.closing_table("Files", files)


def check_judge(settings: "EvaluateSettings", folder: Path) -> None:
    """Compare the judge with what people say."""
    from socratic_rl.core import files as files_module
    from socratic_rl.core.files import write_jsonl
    from socratic_rl.evaluation import human_agreement

    if settings.judge is None:
        raise UserError("judge: is needed with suite=calibrate: judge=socratic_llm or judge=mrbench")
    judge = settings.judge
    files = {name: folder / name for name in ("calibration.json", "judge.jsonl")}
    cases, kept = list(settings.suite.cases()), files["judge.jsonl"]
    found = human_agreement.calibrate(judge, cases, settings.resamples, settings.seed, kept)
    files_module.write_json(files["calibration.json"], {"judge": judge.identity(), "criteria": found.criteria})
    write_jsonl(files["judge.jsonl"], found.answers)
    (folder / "judge.jsonl.partial").unlink()
    human_agreement.print_calibration(found.criteria)
    unreadable = sum(answer["labels"] is None for answer in found.answers)
    console.closing_table("Judge", {"answers": f"{len(found.answers)}, of which {unreadable} unreadable", **files})
