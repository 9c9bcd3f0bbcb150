"""Compare a trained tutor with the base it came from: ``python evaluate.py --help``."""

from collections.abc import Mapping
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import hydra
from omegaconf import DictConfig

from socratic_rl import cli
from socratic_rl.errors import UserError, of_component

if TYPE_CHECKING:
    from socratic_rl.config import EvaluateSettings
    from socratic_rl.dialogue import Problem
    from socratic_rl.speakers import Speaker
    from socratic_rl.tutors import Tutor


@hydra.main(version_base="1.3", config_path="conf", config_name="evaluate")
@cli.task
def main(cfg: DictConfig) -> float | None:
    """Check the config, compare, and write the figures, the replies and the report."""
    from socratic_rl.config import EvaluateSettings, parse

    settings = parse(EvaluateSettings, cfg)
    from socratic_rl.calibration import Calibration
    from socratic_rl.human_labels import HumanLabels

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
        from socratic_rl import talking
        from socratic_rl.tutors import Tutor

        talking.show_replies(Tutor(Path(settings.adapter)), settings.prompt, settings.sampling, settings.seed)
        return None
    from socratic_rl import hub

    hub.check(settings.hub)
    from socratic_rl.student_gain import StudentGain
    from socratic_rl.tutors import Tutor

    tutor = Tutor(Path(settings.adapter))
    if isinstance(settings.suite, StudentGain):
        return measure_gain(settings, tutor, cfg)
    if settings.suite:
        return score_suite(settings, tutor, cfg)
    return compare(settings, tutor, cfg)


def compare(settings: "EvaluateSettings", tutor: "Tutor", cfg: DictConfig) -> float:
    """Compare base, earlier rounds and tutor on held-out pairs and turns, and write figures, replies and report."""
    # the heavy imports wait until the config is known to be right
    from socratic_rl import evaluation, exporting, hub, model_card, record, report, suites, tracking
    from socratic_rl.fitting import fit_pairs
    from socratic_rl.storage import write_jsonl

    place = cli.job_place(cfg)
    folder = place["folder"]
    speakers, told_of = who_replies(settings, tutor)
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
        pairs, told["trained on"] = suites.not_trained_on(pairs, tutor, f"dataset.path: {dataset.path}")
    pairs = pairs[: settings.limit]
    with tracking.track(settings.wandb, "evaluate", record.resolved(cfg), **place) as run:
        record.write_json(folder / "evaluate_config.json", record.resolved(cfg))
        fitted = fit_pairs(pairs, tutor.tokenizer, tutor.max_length)
        found = evaluation.evaluate(
            tutor.base,
            tutor.tutor,
            tutor.tokenizer,
            fitted.pairs,
            dataset.read_problems(),
            speakers,
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
            "sampling": record.in_a_line(settings.sampling.model_dump()),
            **told_of,
            "seed": str(settings.seed),
            "date": datetime.now().strftime("%Y-%m-%d %H:%M"),
            "versions": ", ".join(f"{name} {version}" for name, version in record.versions().items()),
        }
        # what is about one kind of rejection stands at the end
        measured = sorted(found.metrics, key=lambda row: row["kind"] != "all")
        # a judge that fails takes none of this along
        record.write_json(files["evaluation.json"], {"metrics": measured, "facts": facts})
        write_jsonl(files["replies.jsonl"], found.dialogues)
        if settings.judge:
            files["judge.jsonl"] = folder / "judge.jsonl"
            judged = evaluation.judge_replies(
                settings.judge,
                found.dialogues,
                seed=settings.seed,
                resamples=settings.resamples,
                kept=files["judge.jsonl"],
            )
            measured = sorted(measured + judged.metrics, key=lambda row: row["kind"] != "all")
            facts |= judged.facts
            told |= judged.facts
            record.write_json(files["evaluation.json"], {"metrics": measured, "facts": facts})
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
            tracking.artifact_name("evaluation", list(files.values())[:2]),
            "evaluation",
            list(files.values()),
            inputs=[tutor.made_from["dataset_artifact"], tracking.artifact_name("adapter", [tutor.folder])],
        )
        address = None
        if settings.hub.push or folder == tutor.folder.parent:
            on = facts["evaluated on"].replace(dataset.path, Path(dataset.path).name)
            found_here = model_card.Measured(measured, on, facts["sampling"], facts.get("judge", ""))
            model_card.write_card(tutor.folder, found_here)
            files["model card"] = tutor.folder / record.CARD
            # what was exported before has a card too
            exporting.renew_cards(tutor.folder)
            address = hub.push(tutor.folder, settings.hub, "Measured results")
    cli.metrics_table(f"Tutor against base, {len(fitted.pairs)} pairs and {len(found.dialogues)} turns", measured)
    cli.closing_table("Evaluation", told_rounds | told | files | ({"hub": address} if address else {}))
    return float(measured[0]["tutor"])


def who_replies(settings: "EvaluateSettings", tutor: "Tutor") -> tuple[Mapping[str, "Speaker"], dict[str, str]]:
    """Base and tutor by the backend, and what the facts tell of it.

    Raises:
        UserError: llama.cpp is to reply and a file is missing.
    """
    from socratic_rl import exporting, talking

    if settings.backend == "transformers":
        return talking.tutor_and_base(tutor).speakers, {}
    files = exporting.exported(tutor, settings.gguf, settings.base_gguf)
    if files.base is None:
        raise UserError(f"base_gguf: there is no GGUF file of the base, {tutor.settings.name}: base_gguf=FILE")
    tutors = f"{files.adapter.name} on {files.model.name}" if files.adapter else files.model.name
    told = f"by llama.cpp: base {files.base.name}, tutor {tutors}; log-probabilities by transformers"
    return talking.tutor_and_base(tutor, files).speakers, {"replies": told}


def in_summary(metrics: list[dict[str, Any]], prefix: str = "") -> dict[str, Any]:
    """An evaluation's figures as a run's summary has them; those by topic are in the file alone."""
    from socratic_rl.metrics import TOPIC

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
    from socratic_rl import evaluation, record, suites, tracking
    from socratic_rl.fitting import fit_pairs
    from socratic_rl.stages import audit_rows

    suite, place = settings.suite, cli.job_place(cfg)
    fresh, trained_on = suites.not_trained_on(list(suite.pairs()), tutor, f"suite: {suite.name}")
    with tracking.track(settings.wandb, "evaluate", record.resolved(cfg), **place) as run:
        fitted = fit_pairs(fresh[: settings.limit], tutor.tokenizer, tutor.max_length)
        rows = evaluation.compare_preferences(
            tutor.base,
            tutor.tutor,
            tutor.tokenizer,
            fitted.pairs,
            {},
            settings.sampling.batch_size,
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
        record.write_json(path, {"name": suite.name, "metrics": rows, "facts": facts})
        run.summary.update(in_summary(rows, f"{suite.name}/"))
        renew_report(place["folder"], tutor)
    cli.metrics_table(f"{suite.name}: tutor against base, {len(fitted.pairs)} pairs", rows)
    cli.closing_table("Suite", {**told, "figures": path})
    return float(rows[0]["tutor"])


def measure_gain(settings: "EvaluateSettings", tutor: "Tutor", cfg: DictConfig) -> float:
    """Let a simulated student talk with base and tutor, and compare what it solves before and after."""
    from socratic_rl import record, student_gain, tracking
    from socratic_rl.storage import write_jsonl

    suite, place = settings.suite, cli.job_place(cfg)
    problems = problems_to_try(settings, tutor, place["folder"])[: suite.limit]
    speakers, _ = who_replies(settings, tutor)
    with tracking.track(settings.wandb, "evaluate", record.resolved(cfg), **place) as run:
        teachers = {
            name: student_gain.teacher(speaker, tutor.tokenizer, settings.sampling, f"{name} replies")
            for name, speaker in speakers.items()
        }
        with of_component("suite"):
            tries = suite.tries(problems, teachers, settings.seed)
        rows = student_gain.compare(tries, seed=settings.seed, resamples=settings.resamples)
        told = {
            "attempts": f"{len(tries)} at {len(problems)} held-out problems, {suite.attempts} each",
            "exchanges": str(suite.turns),
            "sampling": record.in_a_line(settings.sampling.model_dump()),
        }
        path = place["folder"] / "suites" / f"{suite.name}.json"
        student = record.in_a_line(suite.generator.identity())
        facts = {"tutor": settings.adapter, "base": tutor.made_from["model"]["name"], "student": student, **told}
        record.write_json(path, {"name": suite.name, "metrics": rows, "facts": facts})
        write_jsonl(path.with_suffix(".jsonl"), (one.to_record() for one in tries))
        run.summary.update(in_summary(rows, f"{suite.name}/"))
        renew_report(place["folder"], tutor)
    cli.metrics_table(f"{suite.name}: {told['attempts']}", rows)
    cli.closing_table("Suite", {**told, "figures": path, "dialogues": path.with_suffix(".jsonl")})
    return float(rows[2]["tutor"])


def problems_to_try(settings: "EvaluateSettings", tutor: "Tutor", folder: Path) -> "list[Problem]":
    """Problems with answers that the tutor's data set held out, or that another one holds out and nobody trained on.

    Raises:
        UserError: There are none.
    """
    from socratic_rl import suites

    if settings.dataset is None:
        problems = tutor.held_out_problems()
    else:
        chosen = settings.dataset
        dataset, _ = chosen.prepare(folder / "evaluated_on", settings.rejection, settings.generator, settings.seed)
        pairs = [pair for pair in dataset.read() if pair.split == settings.split]
        fresh, _ = suites.not_trained_on(pairs, tutor, f"dataset.path: {dataset.path}")
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
    from socratic_rl import report

    if (folder / "evaluation.json").exists():
        report.write(folder, tutor.folder.parent / "training_log.jsonl")


def check_measures(settings: "EvaluateSettings", folder: Path) -> None:
    """Compare the judge-free measures with what people say."""
    from socratic_rl import human_labels, record
    from socratic_rl.storage import write_jsonl

    rows, disagreements = human_labels.compare(list(settings.suite.read()), settings.resamples, settings.seed)
    files = {name: folder / name for name in ("human_labels.json", "disagreements.jsonl")}
    record.write_json(files["human_labels.json"], rows)
    write_jsonl(files["disagreements.jsonl"], disagreements)
    human_labels.show(rows)
    cli.closing_table("Files", files)


def check_judge(settings: "EvaluateSettings", folder: Path) -> None:
    """Compare the judge with what people say."""
    from socratic_rl import calibration, record
    from socratic_rl.storage import write_jsonl

    if settings.judge is None:
        raise UserError("judge: is needed with suite=calibrate: judge=socratic_llm or judge=mrbench")
    judge = settings.judge
    files = {name: folder / name for name in ("calibration.json", "judge.jsonl")}
    cases, kept = list(settings.suite.cases()), files["judge.jsonl"]
    found = calibration.calibrate(judge, cases, settings.resamples, settings.seed, kept)
    record.write_json(files["calibration.json"], {"judge": judge.identity(), "criteria": found.criteria})
    write_jsonl(files["judge.jsonl"], found.answers)
    (folder / "judge.jsonl.partial").unlink()
    calibration.show(found.criteria)
    unreadable = sum(answer["labels"] is None for answer in found.answers)
    cli.closing_table("Judge", {"answers": f"{len(found.answers)}, of which {unreadable} unreadable", **files})


if __name__ == "__main__":
    cli.run(main, "EvaluateSettings", text="prompt")
