import random
from collections.abc import Callable
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate

from socratic_rl.conversations import Annotated
from socratic_rl.conversations.human_dialogues import MathDial
from socratic_rl.conversations.own_problems import Starter
from socratic_rl.conversations.problems import GSM8KSocratic, Source
from socratic_rl.core.dialogue import PreferencePair, Turn
from socratic_rl.pairs import audit
from socratic_rl.pairs.audit import Shortcut, warnings
from socratic_rl.pairs.cases import Rejection
from socratic_rl.pairs.pairing import pairs_at
from socratic_rl.pairs.rejections import Constant, Mixed, Repeated
from socratic_rl.pairs.seed_csv import Filled

CONF = Path(__file__).parents[3] / "conf"
WORDS = ["how", "what", "so", "now", "if", "and"]


def pairs(
    n: int,
    rejected: Callable[[random.Random, str], str],
    kind: str = "other",
    problems: int = 40,
    seed: int = 0,
) -> list[PreferencePair]:
    rng = random.Random(seed)
    made = []
    for number in range(n):
        chosen = text(rng)
        made.append(
            PreferencePair.of(
                [Turn(speaker="student", text="Help.")],
                chosen,
                rejected(rng, chosen),
                conversation_id=f"{number}",
                problem_id=f"{number % problems}",
                turn=0,
                rejection=kind,
                split="train",
            )
        )
    return made


def text(rng: random.Random, words: list[str] = WORDS, shortest: int = 3, longest: int = 30) -> str:
    return f"{rng.choice(words).capitalize()}, " + " ".join(["word"] * rng.randint(shortest, longest))


def found(rows: list[PreferencePair]) -> dict[tuple[str, str], Shortcut]:
    return {(shortcut.rule, shortcut.kind): shortcut for shortcut in audit.audit(rows)}


def test_what_is_drawn_alike_has_no_shortcut():
    shortcuts = audit.audit(pairs(600, lambda rng, _: text(rng)))
    assert [(s.rule, s.kind, s.n) for s in shortcuts] == [("length", "all", 600), ("first_word", "all", 600)]
    for shortcut in shortcuts:
        assert shortcut.auc == pytest.approx(0.5, abs=0.06)
        assert shortcut.within_pairs == pytest.approx(0.5, abs=0.06)
    assert list(warnings(shortcuts)) == []


def test_longer_rejected_turns_are_found():
    shortcuts = found(pairs(200, lambda rng, _: text(rng, shortest=31, longest=60)))
    assert shortcuts["length", "all"].auc == 0
    assert shortcuts["first_word", "all"].auc == pytest.approx(0.5, abs=0.12)
    (line,) = warnings(list(shortcuts.values()))
    assert line.startswith("the length alone tells chosen from rejected (AUC 1.00)")
    assert line.endswith("try rejection=mixed")


def test_a_word_more_in_every_pair_is_found_where_lengths_overlap():
    length = found(pairs(300, lambda _, chosen: chosen + " word"))["length", "all"]
    assert length.auc == pytest.approx(0.5, abs=0.06)
    assert length.within_pairs == 0
    assert length.strength == 1


def test_a_constant_is_found_by_its_first_word_and_by_kind():
    rows = pairs(150, lambda rng, _: text(rng), "other") + pairs(60, lambda *_: "Sorry, " + "word " * 15, "constant")
    shortcuts = found(rows)
    assert shortcuts["first_word", "constant"].auc == pytest.approx(1, abs=0.001)
    assert shortcuts["first_word", "constant"].n == 60
    assert shortcuts["first_word", "all"].auc < audit.WARN_AT
    (line,) = warnings(list(shortcuts.values()))
    assert line.startswith("the first word alone tells chosen from rejected in constant (1.00);")
    assert line.endswith("try a lower rejection.weights.constant")


def test_a_first_word_that_each_problem_has_of_its_own_is_no_rule():
    """What is only learned by heart does not count: the rule is judged on other problems."""

    def own(rng: random.Random, chosen: str) -> str:
        return f"W{rng.randrange(10**9)} {chosen}"

    rows = [
        pair.model_copy(update={"chosen": [{"role": "assistant", "content": f"V{pair.problem_id} word"}]})
        for pair in pairs(200, own, problems=37)
    ]
    assert found(rows)["first_word", "all"].auc < 0.6


def test_too_few_problems_give_no_figure():
    shortcut = found(pairs(60, lambda rng, _: text(rng), problems=4))["first_word", "all"]
    assert shortcut.auc is shortcut.within_pairs is None
    assert shortcut.note == "4 problems are too few; at least 5 are needed"
    assert shortcut.strength == 0.5


def test_kinds_with_few_pairs_are_not_looked_at_alone():
    rows = pairs(60, lambda rng, _: text(rng), "many") + pairs(49, lambda rng, _: text(rng), "few")
    assert {kind for _, kind in found(rows)} == {"all", "many"}


def test_of_many_pairs_some_are_drawn_and_it_says_so(monkeypatch):
    monkeypatch.setattr(audit, "MOST", 100)
    rows = pairs(300, lambda rng, _: text(rng))
    first, second = audit.audit(rows, seed=3), audit.audit(rows, seed=3)
    assert first == second
    assert {(s.n, s.note) for s in first} == {(100, "100 of 300 pairs, drawn with seed 3")}


def test_the_table_shows_what_the_warning_shows():
    longer = pairs(200, lambda rng, _: text(rng, shortest=31, longest=60))
    rows, figures = audit.audit_rows(longer, 0)
    assert rows["length alone"] == "AUC 1.00 (chosen are the shorter)"
    assert figures["audit/length"] == 1
    assert "(AUC 1.00)" in str(rows["warning"])
    shorter = audit.audit_rows(pairs(200, lambda rng, _: "No."), 0)[0]
    assert shorter["length alone"] == "AUC 1.00"
    # the figure within pairs is the larger one in both
    by_a_word = audit.audit_rows(pairs(300, lambda _, chosen: chosen + " word"), 0)[0]
    assert by_a_word["length alone"] == "AUC 1.00 (chosen are the shorter)"
    assert "(AUC 1.00)" in str(by_a_word["warning"])


@pytest.mark.parametrize(("n", "note"), [(1, "1 pair is too few"), (2, "2 pairs are too few")])
def test_of_one_pair_nothing_is_said(n: int, note: str):
    rows, figures = audit.audit_rows(pairs(n, lambda *_: "No."), 0)
    assert rows["length alone"] == f"not measured ({note})"
    assert figures["audit/length"] == 0.5
    assert "warning" not in rows


REJECTIONS = {
    "other": Mixed(
        kinds={"constant": Constant(text="No."), "repeated": Repeated()}, weights={"constant": 1, "repeated": 1}
    ),
    "constant": Constant(text="No."),
}


@pytest.mark.parametrize(
    ("rejection", "kinds", "advice"),
    [
        (REJECTIONS["other"], [], "other rejection.weights"),
        (REJECTIONS["other"], ["constant"], "a lower rejection.weights.constant"),
        (REJECTIONS["constant"], [], "rejection=mixed"),
        (REJECTIONS["constant"], ["constant"], "rejection=mixed"),
        (Filled(rejection=REJECTIONS["other"]), ["annotated"], "other bad answers in the rows"),
        (Filled(rejection=REJECTIONS["other"]), ["annotated", "constant"], "a lower rejection.weights.constant"),
        (Filled(rejection=REJECTIONS["constant"]), [], "rejection=mixed"),
    ],
)
def test_the_advice_fits_the_rejection(rejection: Rejection, kinds: list[str], advice: str):
    assert rejection.against_shortcut(kinds) == advice


def test_a_warning_without_a_remedy_ends_there():
    rows, _ = audit.audit_rows(pairs(200, lambda *_: "No."), 0, audit.no_remedy)
    assert str(rows["warning"]).splitlines()[0].endswith("a model can learn that instead of teaching")


def labelled(n: int, **labels: Callable[[int], tuple[str, str]]) -> list[PreferencePair]:
    rows = pairs(n, lambda rng, _: text(rng))
    sides = [{name: label(number) for name, label in labels.items()} for number in range(n)]
    return [pair.model_copy(update={"labels": label}) for pair, label in zip(rows, sides, strict=True)]


def test_labels_that_pairs_carry_are_known():
    rows = labelled(
        200,
        author=lambda n: ("Ann", f"model {n % 3}"),
        source=lambda n: ("web", "web"),
        tone=lambda n: ("calm", "loud") if n % 2 else ("loud", "calm"),
    )
    told, figures = audit.audit_rows(rows + pairs(50, lambda rng, _: text(rng), seed=1), 0)
    assert {name: told[f"{name} alone"] for name in ("author", "source")} == {
        "author": "AUC 1.00",
        "source": "AUC 0.50",
    }
    assert figures["audit/author"] == 1
    # what does not hold on other problems is no rule
    assert figures["audit/tone"] == pytest.approx(0.5, abs=0.1)
    assert "the author alone tells chosen from rejected (AUC 1.00)" in str(told["warning"])
    assert "author alone" not in audit.audit_rows(pairs(50, lambda rng, _: text(rng)), 0)[0]


def test_labels_are_kept_with_a_pair():
    (pair,) = labelled(1, author=lambda _: ("Ann", "Ben"))
    assert PreferencePair.model_validate_json(pair.model_dump_json()) == pair
    assert "labels" not in pairs(1, lambda *_: "No.")[0].to_record()


def test_no_pairs_have_no_shortcuts():
    assert audit.audit([]) == []


@pytest.mark.parametrize(
    ("said", "word"), [("**How** many?", "how"), ("“So,” she said", "so"), ("… What's up?", "what's"), ("3 × 4?", "3")]
)
def test_first_word(said: str, word: str):
    assert audit.first_word(said) == [word]


def default_pairs(source: Source) -> list[PreferencePair]:
    with initialize_config_dir(str(CONF), version_base="1.3"):
        cfg = compose("generate")
    problems = list(source.read())
    conversations = list(Annotated().write(problems, None, 0, ()))
    by_id = {problem.id: problem for problem in problems}
    pairing = instantiate(cfg.pairs)
    places = pairing.places(conversations)
    return list(pairs_at(places, pairing.split_of, by_id, instantiate(cfg.rejection), None, 0))


def assert_no_shortcut(rows: list[PreferencePair]) -> None:
    shortcuts = audit.audit(rows)
    assert {s.rule for s in shortcuts if s.auc is not None} == {"length", "first_word"}
    assert list(warnings(shortcuts)) == []


def test_the_default_rejections_leave_no_shortcut():
    rows = default_pairs(Starter(name="starter"))
    assert {pair.rejection for pair in rows} == {"direct_answer", "premature", "irrelevant", "repeated"}
    assert_no_shortcut(rows)


@pytest.mark.parametrize(("kind", "file"), [(GSM8KSocratic, "gsm8k_socratic.jsonl"), (MathDial, "mathdial.jsonl")])
def test_nor_do_they_on_real_rows(kind: type[Source], file: str, shared_data: Callable[[str], Path]):
    assert_no_shortcut(default_pairs(kind(name=file, path=str(shared_data(file)))))
