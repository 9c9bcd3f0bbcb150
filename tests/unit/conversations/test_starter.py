"""The starter set: every gold answer recomputed, every equation checked, no answer given away too early."""

import ast
import json
import operator
import re
from collections import Counter
from collections.abc import Callable, Iterator
from fractions import Fraction
from importlib.resources import files
from itertools import combinations, pairwise
from typing import Any

import pytest

from socratic_rl.core.dialogue import Problem

ROWS: list[dict[str, Any]] = [
    json.loads(line)
    for line in (files("socratic_rl.conversations") / "starter.jsonl").read_text(encoding="utf-8").splitlines()
]
TOPICS = {"arithmetic", "fractions", "percent", "ratio", "speed", "area", "equations", "data"}
ORDINALS = {"third": 3, "fifth": 5}
# What a formula may use beside the numbers of the question: parts of units, corners, halves, angles.
CONSTANTS = {1, 2, 4, 7, 10, 12, 60, 100, 180, 360, 1000}


def in_every_row(check: Callable[[dict[str, Any]], None]) -> Callable[[], None]:
    """One test of all rows, which names every row that fails the check, and why."""

    def failure(row: dict[str, Any]) -> str | None:
        try:
            check(row)
        except AssertionError as error:
            return str(error)
        return None

    def test() -> None:
        failures = {row["id"]: failure(row) for row in ROWS}
        assert {name: text for name, text in failures.items() if text is not None} == {}

    return test


OPERATORS = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
    ast.Pow: operator.pow,
    ast.USub: operator.neg,
}
FUNCTIONS = {f.__name__: f for f in (Fraction, min, max, sum, sorted, len, round)}


def evaluate(formula: str) -> Any:
    """The exact value of a plain arithmetic expression; anything else in it is an error."""

    def walk(node: ast.AST) -> Any:
        match node:
            case ast.Expression(body=body):
                return walk(body)
            case ast.Constant(value=int() | float() as value):
                return Fraction(str(value))
            case ast.List(elts=items):
                return [walk(item) for item in items]
            case ast.Subscript(value=items, slice=ast.Constant(value=int() as index)):
                return walk(items)[index]
            case ast.BinOp(left=left, op=op, right=right) if type(op) in OPERATORS:
                return OPERATORS[type(op)](walk(left), walk(right))
            case ast.UnaryOp(op=ast.USub(), operand=operand):
                return -walk(operand)
            case ast.Call(func=ast.Name(id=name), args=args, keywords=[]) if name in FUNCTIONS:
                return FUNCTIONS[name](*map(walk, args))
            case _:
                raise ValueError(f"not allowed in a formula: {ast.unparse(node)}")

    return walk(ast.parse(formula, mode="eval"))


WHOLE = r"\d+(?:,\d{3})*(?:\.\d+)?"
NUMBER = re.compile(
    rf"(?P<sign>(?<![\w)])-)?(?<![\w.])(?:(?P<mixed>\d+) (?=\d+/\d))?"
    rf"(?P<top>{WHOLE})(?:[/:](?P<bottom>{WHOLE}))?(?P<percent>%| percent)?(?![\w]*\d)"
)
COUNTING = ["one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve"]
WORDS = {word: Fraction(value) for value, word in enumerate(COUNTING, 1)}
WORDS |= {"half": Fraction(1, 2), "quarter": Fraction(1, 4)}


def digits(text: str) -> set[Fraction]:
    """Every number written in digits, the tops and bottoms of fractions apart."""
    return {Fraction(_plain(found)) for found in re.findall(WHOLE, text)}


def _plain(number: str) -> str:
    return number.replace(",", "")


def numbers(text: str) -> list[Fraction]:
    """The numbers that a text states, in digits and in words; ``25%`` stands for 25 and for 1/4."""
    found = [WORDS[word] for word in re.findall(r"[a-z]+", text.lower()) if word in WORDS]
    for match in NUMBER.finditer(text):
        value = Fraction(_plain(match["top"])) / Fraction(_plain(match["bottom"] or "1")) + int(match["mixed"] or 0)
        found.append(-value if match["sign"] else value)
        if match["percent"]:
            found.append(value / 100)
    return found


def gold(row: dict[str, Any]) -> set[Fraction]:
    """The value of the gold answer; a percentage also as a part of one."""
    return set(numbers(row["answer"]))


def test_numbers_are_read_in_every_notation_of_the_set():
    assert numbers("$1,234.50 and -7 °C, 1 2/3 cups, 3:4.") == [Fraction(2469, 2), -7, Fraction(5, 3), Fraction(3, 4)]
    assert numbers("A quarter of 8 is two, so 25%.") == [Fraction(1, 4), 2, 8, 25, Fraction(1, 4)]


def expression(text: str) -> Fraction | None:
    """The value of an expression as the steps write it; None where an unknown was cut off from it."""
    text = text.strip(" .,;:")
    if not text or re.match(r"[×÷+)−]|- ", text) or re.search(r"[×÷+(−-]$", text) or text.count("(") != text.count(")"):
        return None
    text = re.sub(r"(?<=\d),(?=\d{3})", "", text.replace("$", ""))
    text = re.sub(r"(\d+) (\d+)/(\d+)", r"(\1 + Fraction(\2, \3))", text)
    text = re.sub(r"(?<![\d.])(\d+)[/:](\d+)", r"Fraction(\1, \2)", text)
    text = re.sub(r"([\d.]+)%", r"(\1 / 100)", text)
    return evaluate(text.translate(str.maketrans("×÷−", "*/-")))


def equations(work: str) -> Iterator[tuple[Fraction, Fraction]]:
    """Both sides of every equation between numbers; equations with an unknown are left out."""
    plain = r"[\d\s.,;$%()×÷+−/:-]*"
    for before, after in pairwise(work.split("=")):
        left = expression(re.split(r"[,;.:] ", re.search(plain + "$", before)[0])[-1])
        right = expression(re.split(r"[,;.:] ", re.match(plain, after)[0])[0])
        if left is not None and right is not None:
            yield left, right


def test_equations_are_found_and_unknowns_left_out():
    assert list(equations("In 2 × 6 = 12 days, 1 1/2 + 25% = 7/4.")) == [(12, 12), (Fraction(7, 4), Fraction(7, 4))]
    assert list(equations("4 × x − 7 = 45, so x = (45 + 7) ÷ 4 = 13.")) == [(13, 13)]
    assert list(equations("3 × 4 = 13")) == [(12, 13)]


@pytest.mark.parametrize("formula", ["open('x')", "().__class__", "a + 1", "[1][i]", "'a' * 3", "round(1, ndigits=2)"])
def test_a_formula_is_arithmetic_only(formula):
    with pytest.raises(ValueError, match="not allowed"):
        evaluate(formula)


def test_size_and_balance():
    counts = Counter(row["topic"] for row in ROWS)
    assert len(ROWS) >= 120
    assert set(counts) == TOPICS
    assert len(set(counts.values())) == 1


@pytest.mark.parametrize("key", ["id", "question", "solution"])
def test_unique(key):
    assert len({row[key].casefold() for row in ROWS}) == len(ROWS)


def test_no_near_duplicates():
    def shingles(text: str) -> set[tuple[str, ...]]:
        words = re.findall(r"[a-z]+|#", re.sub(r"[\d.,]*\d", "#", text.lower()))
        return set(zip(words, words[1:], words[2:], strict=False))

    seen = [(row["id"], shingles(row["question"])) for row in ROWS]
    close = [(a, b) for (a, x), (b, y) in combinations(seen, 2) if len(x & y) > 0.2 * len(x | y)]
    assert not close


def test_teacher_questions_are_varied():
    asked = [step["question"] for row in ROWS for step in row["steps"]]
    first = Counter(re.match(r"[\w']+", question)[0] for question in asked)
    assert len(set(asked)) == len(asked)
    assert max(first.values()) < 0.25 * len(asked)


@in_every_row
def test_row_is_a_problem(row):
    problem = Problem.model_validate({key: value for key, value in row.items() if key != "formula"})
    assert problem.id.startswith(problem.topic + "-")
    assert problem.source == "starter"
    assert problem.solution == " ".join(step.work for step in problem.steps)
    assert 20 <= len(problem.question.split()) <= 50
    assert 2 <= len(problem.steps) <= 5
    for step in problem.steps:
        assert step.question and step.reply
        assert step.question.endswith("?")
        assert not step.reply.endswith("?")


@in_every_row
def test_gold_answer_follows_from_the_numbers_of_the_question(row):
    assert evaluate(row["formula"]) == numbers(row["answer"])[0]
    used = digits(re.sub(r"\)\[\d\]", ")", row["formula"]))
    given = digits(row["question"]) | {abs(value) for value in numbers(row["question"])}
    named = {value for word, value in ORDINALS.items() if word in row["question"]}
    assert used <= given | named | CONSTANTS


@in_every_row
def test_equations_are_true(row):
    found = [list(equations(step["work"])) for step in row["steps"]]
    assert [(left, right) for pairs in found for left, right in pairs if left != right] == []
    assert sum(map(bool, found)) >= len(found) / 2


@in_every_row
def test_only_the_last_reply_states_the_gold_answer(row):
    *earlier, last = [step["reply"] for step in row["steps"]]
    for text in [row["question"], *(step["question"] for step in row["steps"]), *earlier]:
        assert not gold(row) & set(numbers(text)), text
    assert gold(row) & set(numbers(last)), last
    assert gold(row) & set(numbers(row["steps"][-1]["work"]))


@in_every_row
def test_no_question_states_a_result_that_it_leads_to(row):
    results = [[right for _, right in equations(step["work"])][-1:] for step in row["steps"]]
    for number, step in enumerate(row["steps"]):
        to_come = {value for result in results[number:] for value in result}
        assert not to_come & set(numbers(step["question"])), step["question"]
