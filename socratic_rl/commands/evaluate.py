"""``evaluate.py``: base and tutor on the same held-out turns, or one of the suites."""

import contextlib
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig

from socratic_rl.commands import cli
from socratic_rl.core import provenance
from socratic_rl.core.errors import UserError, shell_command
from socratic_rl.core.files import write_json
from socratic_rl.evaluation.suites import Conditions, Options, Repliers, Result, Suite
from socratic_rl.measures.figures import Figure
from socratic_rl.pages import console

if TYPE_CHECKING:
    import wandb

    from socratic_rl.commands.settings import EvaluateSettings
    from socratic_rl.models.tutor import Tutor
    from socratic_rl.pairs.dataset import SocraticPairs


def run(settings: "EvaluateSettings", cfg: DictConfig) -> float | None:
    """Measure as ``measure`` does; returns the score that sweeps rank by."""
    result = measure(settings, cfg)
    return result.score if result else None


def measure(settings: "EvaluateSettings", cfg: DictConfig) -> Result | None:
    """Run the suite, write its files, print its figures and what lies where; None where two replies are shown alone."""
    suite = settings.suite
    if suite and not suite.asks_tutor:
        return finish(suite.run(None, options_of(settings, cli.job_folder(cfg))), cli.job_folder(cfg))
    if settings.adapter is None:
        raise UserError("adapter: is needed and not set")
    if settings.prompt is not None:
        show_replies(settings, settings.prompt)
        return None
    from socratic_rl.models.tutor import Tutor
    from socratic_rl.sharing import hub

    hub.check(settings.hub)
    tutor = Tutor(Path(settings.adapter))
    return evaluate(suite or default_suite(), tutor, settings, cfg)


def evaluate(suite: Suite, tutor: "Tutor", settings: "EvaluateSettings", cfg: DictConfig) -> Result:
    """Run a suite of a tutor as a W&B run, which begins once the input is known to be right."""
    from socratic_rl.commands import tracking

    tracked_as = cli.job_place(cfg)
    folder = tracked_as["folder"]
    address: dict[str, object] = {}
    runs: list[wandb.Run] = []
    with contextlib.ExitStack() as tracked:

        def begin() -> None:
            config = provenance.resolved(cfg)
            runs.append(tracked.enter_context(tracking.track(settings.wandb, "evaluate", config, **tracked_as)))
            if settings.suite is None:
                write_json(folder / "evaluate_config.json", config)

        result = suite.run(tutor, options_of(settings, folder, tutor, begin))
        paths = result.write(folder)
        renew_report(folder, tutor)
        runs[0].summary.update(in_summary(result.figures, result.name))
        if result.conditions:
            log_comparison(runs[0], result, list(paths.values()), tutor)
            if settings.hub.push or folder == tutor.folder.parent:
                paths["model card"] = write_cards(result, tutor)
                from socratic_rl.sharing import hub

                pushed = hub.push(tutor.folder, settings.hub, "Measured results")
                address = {"hub": pushed} if pushed else {}
    result.show()
    console.closing_table(result.title, {**result.closing, **paths, **address})
    return result


def finish(result: Result, folder: Path) -> Result:
    """Write and print what a suite without a tutor found."""
    paths = result.write(folder)
    result.show()
    console.closing_table(result.title, {**result.closing, **paths})
    return result


def default_suite() -> Suite:
    """What is done without ``suite``; it loads torch, which suites without a tutor do not need."""
    from socratic_rl.evaluation.comparison import Comparison

    return Comparison()


def options_of(
    settings: "EvaluateSettings", folder: Path, tutor: Any = None, begin: Callable[[], None] = lambda: None
) -> Options:
    """What a suite is run with, beside the tutor."""

    def other_dataset(made_in: Path) -> "SocraticPairs":
        dataset: SocraticPairs
        dataset, _ = settings.dataset.prepare(made_in, settings.rejection, settings.generator, settings.seed)
        return dataset

    return Options(
        folder=folder,
        adapter=settings.adapter or "",
        sampling=settings.sampling,
        seed=settings.seed,
        resamples=settings.resamples,
        split=settings.split,
        limit=settings.limit,
        judge=settings.judge,
        repliers=partial(who_replies, settings, tutor),
        other_dataset=other_dataset if settings.dataset else None,
        fixed=settings.fixed,
        sft=settings.sft,
        begin=begin,
    )


def show_replies(settings: "EvaluateSettings", prompt: str) -> None:
    """Print what base and tutor reply to a prompt, and leave no files.

    Raises:
        UserError: llama.cpp is to reply.
    """
    if settings.backend == "llama_cpp":
        raise UserError(f"backend: prompt=… replies by transformers; {shell_command('chat')} replies by llama.cpp too")
    from socratic_rl.chat import partners
    from socratic_rl.models.tutor import Tutor

    partners.show_replies(Tutor(Path(str(settings.adapter))), prompt, settings.sampling, settings.seed)


def who_replies(settings: "EvaluateSettings", tutor: "Tutor") -> Repliers:
    """Base and tutor by the backend.

    Raises:
        UserError: llama.cpp is to reply and a file is missing.
    """
    from socratic_rl.chat import partners
    from socratic_rl.sharing import exports

    if settings.backend == "transformers":
        return Repliers(partners.tutor_and_base(tutor, settings.sampling).generators, {})
    files = exports.exported(tutor, settings.gguf, settings.base_gguf)
    if files.base is None:
        raise UserError(f"base_gguf: there is no GGUF file of the base, {tutor.settings.name}: base_gguf=FILE")
    tutor_files = f"{files.adapter.name} on {files.model.name}" if files.adapter else files.model.name
    line = f"by llama.cpp: base {files.base.name}, tutor {tutor_files}; log-probabilities by transformers"
    generators = partners.tutor_and_base(tutor, settings.sampling, files).generators
    return Repliers(generators, {"replies": line}, "there are no files of them for llama.cpp")


def renew_report(folder: Path, tutor: "Tutor") -> None:
    """Let the report of the folder, where it has an evaluation, show what lies there now."""
    from socratic_rl.pages import report

    if (folder / "evaluation.json").exists():
        report.write(folder, tutor.folder.parent / "training_log.jsonl")


def in_summary(figures: Sequence[Figure], prefix: str = "") -> dict[str, Any]:
    """The figures as a run's summary has them; those by topic are in the file alone."""
    sides = ("base", "tutor", "difference", "low", "high", "n")
    rows = [figure for figure in figures if not figure.by_topic]
    summary = {
        f"{prefix}{figure.name}/{figure.kind}/{side}": getattr(figure, side) for figure in rows for side in sides
    }
    # a judge's score is worth what its agreement with people is
    agreements = {figure.name: figure.agreement for figure in rows if figure.judged}
    return summary | {
        f"{prefix}{name}/all/kappa": agreement.kappa if agreement else "not calibrated"
        for name, agreement in agreements.items()
    }


def log_comparison(run: "wandb.Run", result: Result, files: Sequence[Path], tutor: "Tutor") -> None:
    """Log the replies of a comparison as a table and its files as an artifact."""
    from socratic_rl.commands import tracking

    columns = ("topic", "question", "turn", "base", "tutor", "base_marks", "tutor_marks")
    rows: Any = result.files["replies.jsonl"].content
    tracking.log_table(run, "replies", [{column: str(row[column]) for column in columns} for row in rows])
    tracking.log_artifact(
        run,
        provenance.artifact_name("evaluation", files[:2]),
        "evaluation",
        files,
        inputs=[tutor.record.dataset_artifact, provenance.artifact_name("adapter", [tutor.folder])],
    )


def write_cards(result: Result, tutor: "Tutor") -> Path:
    """Write the model card of a compared tutor anew, and those of what was exported before; returns the first."""
    from socratic_rl.sharing import exports, model_card

    conditions = result.conditions or Conditions("", "", "")
    model_card.write_card(tutor.folder, model_card.Measured(result.figures, *conditions))
    exports.renew_cards(tutor.folder)
    return tutor.folder / provenance.CARD
