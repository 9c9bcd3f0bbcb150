"""The page that closes a sweep, in a real browser: it stays in its window, and nothing in it runs or loads."""

import math
import random
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser

from socratic_rl.pages.sweep_jobs import Job
from socratic_rl.pages.sweep_page import Sweep, render
from tests.e2e.conftest import overflow

INJECTION = "</script><script>document.title = 'taken'</script><img src=x onerror=\"document.title = 'taken'\"> $x$"
WINDOWS = [(1200, "light"), (1200, "dark"), (390, "light"), (390, "dark")]


def sample() -> Sweep:
    """A sweep like a real one, with what people and models may write in it."""
    rng = random.Random(3)
    jobs, curves = [], {}
    choices = [
        {"model": model, "dpo.beta": beta, "dpo.learning_rate": rate, "seed": seed}
        for model in ("smollm2_135m", INJECTION)
        for beta in ("0.05", "0.1", "0.3")
        for rate in ("5e-5", "2e-4", "1e-3")
        for seed in ("0", "1")
    ]
    for number, chosen in enumerate(choices):
        folder = Path(str(number))
        if number % 17 == 5:
            jobs.append(Job(folder, chosen, "failed", None, {}, f"dpo: {INJECTION} {'x' * 400}"))
            continue
        skill = rng.gauss(0.7, 0.1) + 0.08 * math.log10(float(chosen["dpo.learning_rate"]) / 5e-5)
        figures = {"eval_rewards/accuracies": min(skill, 1), "eval_ranking_accuracy": skill / 2, "eval_n": 40}
        jobs.append(Job(folder, chosen, "finished", min(skill, 1), figures | {"eval_rewards/margins": 3 * skill}, None))
        curves[folder] = [
            {"step": step, "loss": 0.7 * 0.97 ** (step * skill), "rewards/accuracies": 1 - 0.5 * 0.9**step}
            for step in range(1, 31)
        ]
    dialogue = [
        {"role": "user", "content": "A jacket costs $80 and is 15% cheaper in the sale. What is due?"},
        {"role": "assistant", "content": "What does 15% of a price mean?"},
        {"role": "user", "content": INJECTION},
    ]
    samples = [
        {"prompt": dialogue[:1], "reply": "What is 10% of 80?", "teacher": "What does percent mean?"},
        {"prompt": dialogue, "reply": INJECTION, "teacher": "x" * 300},
    ]
    facts = {"started by": f"python train.py -m model=smollm2_135m,{INJECTION} {'/deep' * 60}", "jobs": "34 finished"}
    return Sweep(f"Sweep {INJECTION}", facts, jobs, curves, samples)


@pytest.fixture(scope="module")
def page_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("sweep") / "sweep.html"
    path.write_text(render(sample()), encoding="utf-8")
    return path


@pytest.mark.parametrize(("width", "scheme"), WINDOWS)
def test_fits_its_window_and_is_readable(browser: Browser, page_file: Path, width: int, scheme: Any):
    complaints: list[str] = []
    requests: list[str] = []
    # without the content security policy, so that what is not escaped would run
    page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme, bypass_csp=True)
    page.on("console", lambda message: complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("request", lambda request: requests.append(request.url))
    page.goto(page_file.as_uri())
    page.evaluate("document.querySelectorAll('details').forEach(d => d.open = true)")
    assert overflow(page) == 0
    cut = page.evaluate(
        """[...document.querySelectorAll('body *')].filter(e => !e.closest('.scroll, svg, .question')
             && e.getBoundingClientRect().right > innerWidth + 0.5).map(e => e.className)"""
    )
    assert cut == []
    sizes = page.evaluate(
        """[...document.querySelectorAll('figure svg')].map(
             s => 12 * s.getBoundingClientRect().width / s.viewBox.baseVal.width)"""
    )
    assert len(sizes) == 4
    assert all(10 <= size <= 16 for size in sizes)
    outside = page.evaluate(
        """[...document.querySelectorAll('figure svg')].flatMap(s => [...s.querySelectorAll('text')].filter(t => {
             const [a, b] = [s.getBoundingClientRect(), t.getBoundingClientRect()];
             return b.left < a.left - 1 || b.right > a.right + 1 || b.bottom > a.bottom + 1;
           }).map(t => t.textContent))"""
    )
    assert outside == []
    assert page.locator("script, img, iframe, object").count() == 0
    assert page.locator(".reply.tutor .text").last.inner_text() == INJECTION
    assert page.title() == f"Sweep {INJECTION}"
    page.close()
    assert complaints == []
    assert set(requests) == {page_file.as_uri()}


def test_the_jobs_come_in_groups_of_seeds_best_first(browser: Browser, page_file: Path):
    page = browser.new_page(viewport={"width": 1200, "height": 900})
    page.goto(page_file.as_uri())
    assert page.locator("tr.group").count() == 18
    assert page.locator("tr.member").count() == 36
    shares = [float(text.partition("%")[0]) for text in page.locator("tr.group td:nth-child(2)").all_text_contents()]
    assert shares == sorted(shares, reverse=True)
    assert page.locator("tr.member .chip.worse").all_text_contents() == ["failed"] * 2
    assert page.locator("tr.member .error").first.inner_text().startswith("dpo: </script>")
    # eight series have colours of their own, the rest is told as one
    assert page.locator("#curves figure").first.locator(".key").count() == 9
    assert page.locator("#curves .key").nth(8).inner_text() == "10 others"
    colours = page.locator("#curves .key").evaluate_all(
        "all => all.map(k => getComputedStyle(k, '::before').borderTopColor)"
    )
    assert len(set(colours)) == 9
    page.close()


def test_light_and_dark_differ_in_the_pictures(browser: Browser, page_file: Path):
    found = []
    for scheme in ("light", "dark"):
        page = browser.new_page(color_scheme=scheme)
        page.goto(page_file.as_uri())
        found.append(
            page.evaluate(
                """[getComputedStyle(document.querySelector('#choices svg text')).fill,
                    getComputedStyle(document.querySelector('#curves svg path[style*=hue1]')).stroke]"""
            )
        )
        page.close()
    assert not set(found[0]) & set(found[1])
