import io
import logging
import sys
import unicodedata
from collections.abc import Callable
from pathlib import Path

import pytest
from rich.text import Text

from socratic_rl.chat import terminal
from socratic_rl.commands import cli
from socratic_rl.core import text
from socratic_rl.core.generator import Reply, in_order
from socratic_rl.measures.figures import CriterionAgreement, Figure, LabelAgreement
from socratic_rl.pages import console
from socratic_rl.pages.sweep_jobs import Job


def test_control_characters_are_shown_and_not_obeyed():
    said = "\x1b[2J\x1b]0;title\x07red\r\n\ttab \x9b31m \u202eabc \ud800 [bold]ä 数 👩‍🏫[/bold]"
    shown = text.plain(said)
    assert shown == (
        r"\x1b[2J\x1b]0;title\x07red\r" + "\n\ttab " + r"\x9b31m \u202eabc \ud800 " + "[bold]ä 数 👩‍🏫[/bold]"
    )
    shown.encode()


def show(capsys: pytest.CaptureFixture[str]) -> list[str]:
    console.side_by_side(
        "[red]2 + 2[/red]?",
        {"base": "It is [bold]4[/bold].", "tutor": "What is\x1b[31m 1 + 1?"},
        {"base": "", "tutor": "cut off after 8 tokens"},
        {"sampling": "temperature=0.0"},
    )
    return capsys.readouterr().out.splitlines()


HOSTILE = "[bold]a[/red]\x1b[2Jb\x07\rc \u202ed:smile:"
SEEN = r"[bold]a[/red]\x1b[2Jb\x07\rc \u202ed:smile:"


def figure(name: str, kind: str) -> Figure:
    values = dict.fromkeys(("base", "tutor", "difference", "low", "high"), 0.5)
    return Figure(name=name, kind=kind, n=3, earlier=[{"name": kind, "value": 1}], **values)


def label(**names: str) -> LabelAgreement:
    values = {f"{key}{end}": 0.5 for key in ("precision", "recall", "f1", "kappa") for end in ("", "_low", "_high")}
    return LabelAgreement(n=1, dialogues=1, people=1, without_answer=0, **names, **values)


def job() -> Job:
    return Job(Path("x"), {"seed": HOSTILE}, "failed", None, {}, HOSTILE)


def logged() -> None:
    cli.prepare()
    handler = logging.StreamHandler(sys.stdout)
    logger = logging.getLogger("hostile")
    logger.addHandler(handler)
    logger.warning("%s: is back", HOSTILE)
    logger.removeHandler(handler)


def ended() -> None:
    with pytest.raises(SystemExit):
        cli._exit(HOSTILE)


PRINTED: dict[str, Callable[[], object]] = {
    "closing table": lambda: console.closing_table(HOSTILE, {HOSTILE: HOSTILE, "x": [HOSTILE]}),
    "figures": lambda: console.metrics_table(HOSTILE, [figure(HOSTILE, HOSTILE)]),
    "labels": lambda: console.print_human_labels([label(measure=HOSTILE, set=HOSTILE)]),
    "calibration": lambda: console.print_calibration(
        [CriterionAgreement(criterion=HOSTILE, kappa=None, kappa_low=None, kappa_high=None, n=0)]
    ),
    "sweep": lambda: console.print_closing_table([job()]),
    "replies": lambda: console.side_by_side(HOSTILE, {HOSTILE: HOSTILE}, {HOSTILE: HOSTILE}, {HOSTILE: HOSTILE}),
    "a screen's own text": lambda: console.console().print(Text(HOSTILE), HOSTILE),
    "a piece of a reply": lambda: console.console().out(HOSTILE, end=""),
    "a line": lambda: text.tell(HOSTILE),
    "an error": ended,
    "a log": logged,
    "a bar": lambda: in_order(iter([(0, Reply("", "stop"))]), 1, HOSTILE),
}


@pytest.mark.parametrize("name", PRINTED)
def test_whatever_is_printed_is_text(name: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("COLUMNS", "400")
    PRINTED[name]()
    printed = "".join(capsys.readouterr())
    # the bar's own carriage return, and none else
    shown = printed.replace("\r", "") if name == "a bar" else printed
    assert not {character for character in shown if unicodedata.category(character) == "Cc"} - {"\n"}
    assert "\u202e" not in shown
    # rich takes bells and returns out of its own texts
    assert name == "a bar" or SEEN in shown or SEEN.replace(r"\x07\r", "") in shown


def place(lines: list[str], text: str) -> tuple[int, int]:
    ((row, line),) = [(row, line) for row, line in enumerate(lines) if text in line]
    return row, line.index(text)


def test_replies_stand_beside_each_other(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("COLUMNS", raising=False)
    lines = show(capsys)
    base, tutor = place(lines, "It is [bold]4[/bold]."), place(lines, r"What is\x1b[31m 1 + 1?")
    assert base[0] == tutor[0]
    assert tutor[1] - base[1] > 50
    assert place(lines, "[red]2 + 2[/red]?") < base
    assert place(lines, "cut off after 8 tokens")
    assert place(lines, "sampling  temperature=0.0")


def test_replies_stand_below_each_other_in_a_narrow_terminal(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("COLUMNS", "50")
    lines = show(capsys)
    base, tutor = place(lines, "It is [bold]4[/bold]."), place(lines, "What is")
    assert tutor[0] > base[0]
    assert tutor[1] == base[1]
    assert max(map(len, lines)) <= 50


def test_piped_lines_are_taken_as_they_are(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    class Pipe(io.TextIOWrapper):
        def isatty(self) -> bool:
            return False

    monkeypatch.setattr("sys.stdin", Pipe(io.BytesIO(b"caf\xc3\xa9 \r\n\xff\x1b\nlast")))
    assert list(terminal.lines([])) == ["café", "\ufffd\x1b", "last"]
    assert capsys.readouterr().out == "student: café\nstudent: \ufffd\\x1b\nstudent: last\n"


@pytest.mark.parametrize(
    "text",
    [
        "What is 2 + 2?",
        "a, b: c = {d} (e) [f]",
        'it\'s "x"',
        "costs ${5} and $5",
        r"back\slash \${x} end\\",
        "line\nnext",
        "choice(1,2)",
        "",
        "'",
    ],
)
def test_text_comes_through_hydra_as_it_stands(text: str):
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from omegaconf import OmegaConf

    override = OverridesParser.create().parse_override(cli.as_text(f"prompt={text}"))
    assert not override.is_sweep_override()
    assert OmegaConf.create({"prompt": override.value()}).prompt == text


def test_quoted_text_and_null_stay_hydras():
    for override in ("prompt='a, b'", 'prompt="a, b"', "prompt=null"):
        assert cli.as_text(override) == override
