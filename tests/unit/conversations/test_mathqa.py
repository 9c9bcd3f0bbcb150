"""MathQA's notation undone. The texts are made up in that notation; the real rows are tried where they lie beside the
checkout."""

import json
import re

import pytest

from socratic_rl.conversations import mathqa, mathqa_text


@pytest.mark.parametrize(
    ("broken", "meant"),
    [
        ("7 ã — 8", "7 × 8"),
        ("9 â ˆ ’ 4", "9 - 4"),
        ("9 â € “ 4", "9 - 4"),
        ("x â ‰ ¤ 3 â ‡ ’ y", "x ≤ 3 ⇒ y"),
        ("â ˆ š 16", "√ 16"),
        ("ã ¢ ë † å ¡ 16", "√ 16"),  # mis-read twice
        ("â ‚ ¹ 50", "₹ 50"),
        ("2 ï € r", "2 π r"),
        ("ab â š ¥ cd", "ab ⊥ cd"),
        ("90 â ° angle", "90 ° angle"),
        ("8 cm â ²", "8 cm ²"),
        ("8 ã · 2", "8 ÷ 2"),
        ("3 â \x81 „ 4", "3 / 4"),
        ("3 â „ 4", "3 / 4"),  # the byte that cp1252 does not have went lost
        ("x â ‰ 3", "x ≠ 3"),
        ("â € œ more â € than", '" more " than'),
        ("tom â € ™ s", "tom ' s"),
        ("x ï ƒ ž y ï € ½ 5", "x ⇒ y = 5"),  # a Symbol font's private use area
        ("be æ « ng", "betting"),
        ("Ã— â†’ â‚¹5", "× → ₹5"),  # neither spaced nor lower-cased
        ("a naïve café on the château’s √ 9 × 2²", "a naïve café on the château's √ 9 × 2²"),
    ],
)
def test_mis_decoded_characters_are_repaired(broken: str, meant: str) -> None:
    assert mathqa_text.repair(broken) == meant


@pytest.mark.parametrize(
    ("tokens", "text"),
    [
        ("5 % of $ 1,000 is what ?", "5% of $1,000 is what?"),
        ("it costs rs . 40 . then , 3 men leave .", "it costs rs. 40. then, 3 men leave."),
        ("the truck ' s tank does n ' t leak , we ' ll see", "the truck's tank doesn't leak, we'll see"),
        ("( 1 / 2 ) of ( 3 : 4 ) in [ 2 , 5 ]", "(1/2) of (3:4) in [2, 5]"),
        ("at 3 1 / 2 km / hr from 6 a . m . , i . e . 2 days p . a .", "at 3 1/2 km/hr from 6 a.m., i.e. 2 days p.a."),
        ("x ^ 2 > = 3 = > y < = 4 = = > z - - > 4 !", "x^2 >= 3 => y <= 4 ==> z --> 4!"),
        ("x = - 8 and ( - 3 , 4 ) but 9 - 4", "x = -8 and (-3, 4) but 9 - 4"),
        ("x = . 5 * ( . 75 ) . 6 men", "x = .5 * (.75). 6 men"),
        ("an area of 30 m 2 , or 4 sq ft 2", "an area of 30 m², or 4 sq ft²"),
        ("1 ) a pole of 5 m 2 ) a pole of 6 m", "1) a pole of 5 m 2) a pole of 6 m"),
        ("the 1 st , 2 nd , 3 rd and 11 th , but 5 st", "the 1st, 2nd, 3rd and 11th, but 5 st"),
        ("\\ inline \\ frac { 3 x } { 4 } \\ times 2", "(3 x) / (4) × 2"),
        (
            "the ratios 1 / 2 : 1 / 3 and 3 : 4 : 5 , but divide by 3 : 63 / 3 = 21",
            "the ratios 1/2:1/3 and 3:4:5, but divide by 3 : 63/3 = 21",
        ),
        ("what is the % increase ( 3 + 4 ) % or x % ?", "what is the % increase (3 + 4)% or x%?"),
        ("so . . . 4 - - - - - 5", "so ... 4 ----- 5"),
    ],
)
def test_spaces_of_the_tokeniser_go_and_numbers_stay(tokens: str, text: str) -> None:
    assert mathqa_text.detokenise(tokens) == text


def test_detokenise_keeps_every_digit() -> None:
    tokens = "- 3.50 + . 5 of 1,200 = 4 : 5 : 6 and 7 1 / 2 % of rs . 90 . 8 men"
    assert re.sub(r"\D", "", mathqa_text.detokenise(tokens)) == re.sub(r"\D", "", tokens)


def test_question_joins_its_hyphens() -> None:
    assert (
        mathqa_text.tidy('" . how many 3 - digit numbers are non - zero ? "')
        == "how many 3-digit numbers are non-zero?"
    )
    assert mathqa_text.tidy(". 5 of 8 is ?") == ".5 of 8 is?"


OPTIONS = [
    ("a ) 38 , b ) 27.675 , c ) 9,000 , d ) no data , e ) none", ["38", "27.675", "9,000", "no data", "none"]),
    ("a ) a ) 8 , b ) b ) 10 , c ) c ) 12 , d ) d ) 14 , e ) e ) 16", ["8", "10", "12", "14", "16"]),
    ("['a ) 32 min', 'b ) 1,500', 'c ) 3 : 4', 'd ) -7', 'e ) 0.5 %']", ["32 min", "1,500", "3 : 4", "-7", "0.5 %"]),
    ('["a ) tom \' s", "b ) 2", "c ) 3", "d ) 4"]', ["tom ' s", "2", "3", "4"]),
    ("A) 5 B) 6 C) 7 D) 8 E) 9", ["5", "6", "7", "8", "9"]),
    ("a ) ( a + b ) , b ) 2 b , c ) b - a , d ) a / b , e ) 1", ["( a + b )", "2 b", "b - a", "a / b", "1"]),
    ("a )5feet,b )6 feet, c)7 feet , d ) 8 feet", ["5feet", "6 feet", "7 feet", "8 feet"]),
    ("five or six", []),
]


@pytest.mark.parametrize(("text", "found"), OPTIONS)
def test_options(text: str, found: list[str]) -> None:
    assert mathqa.options(text) == dict(zip("abcde", found, strict=False))


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("$ 94,000", "$94,000"),
        ("1 / 2", "1/2"),
        ("3 : 4", "3:4"),
        ("3 1 / 2", "3 1/2"),
        ("-120", "-120"),
        ("- 120", "-120"),
        ("0.7 %", "0.7%"),
        ("27.2 % .", "27.2%"),
        ("10 min .", "10 min"),
        ("rs . 1,250.50", "Rs. 1,250.50"),
        ("s . 150", "Rs. 150"),
        ("rs 90", "Rs. 90"),
        ("$ . 90", "$0.90"),
        (". 2", "0.2"),
        (".2", "0.2"),
        (". 2 .", "0.2"),
        (". 25 %", "0.25%"),
        (". 05 cm", "0.05 cm"),
        ("- . 2", "-0.2"),
        ("x = . 5", "0.5"),
        (". 2 : . 3", "0.2:0.3"),
        (". 2 and . 3", "0.2 and 0.3"),
        ("2 . 5", "2.5"),
        ("0 . 2", "0.2"),
        (". 1 / 2", "1/2"),
        (", 12", "12"),
        ("rs . 50", "Rs. 50"),
        ("rs . . 50", "Rs. 0.50"),
        (". friday", "friday"),
        (". none of these", None),
        ("50 km / hr", "50 km/hr"),
        ("288 cm 2", "288 cm²"),
        ("1200 m ^ 2", "1200 m²"),
        ("45 °", "45°"),
        ("10 v 2", "10√2"),
        ("t = 32", "32"),
        ("7 and 5", "7 and 5"),
        ("( 40 , 0 )", "(40, 0)"),
        ("friday", "friday"),
        ("none of these", None),
        ("none", None),
        ("none of the above", None),
        ("it can not be determined from the information given", None),
        ("can ' t say", "can't say"),
        ("data inadequate", None),
        ("", None),
        (" . ", None),
    ],
)
def test_value_of_an_option(option: str, value: str | None) -> None:
    assert mathqa.value(option, ["1", "2", option]) == value


def test_none_among_number_words_is_zero() -> None:
    assert mathqa.value("none", ["none", "one", "two"]) == "0"


WORK = "there are 4 boxes of 6 , so 4 * 6 = 24"


@pytest.mark.parametrize(
    "written",
    [
        f'"{WORK} answer : b"',
        f"explanation : {WORK} answer b",
        f"explanation {WORK} . answer is b .",
        f"solution : {WORK} hence , the correct answer is option ( b ) .",
        f"soln : {WORK} ans - b",
        f"sol . {WORK} ans . ( b )",
        f"official solution : ( b ) {WORK} the answer is b .",
        f"{WORK} hence , option b .",
        f"{WORK} option b",
        f"{WORK} correct option is b",
        f"{WORK} so , b is the correct answer .",
        f"{WORK} b is correct",
        f"{WORK} b",
        f"{WORK} ( b )",
        f"{WORK} b )",
        f"{WORK} = b",
        f"{WORK} answer : b ) 24",
        f"{WORK} answer is b : 24",
        f"{WORK} answer : 24",
        f"{WORK} b . 24",
        f"{WORK} b . 24 apples",
        f"{WORK} so . answer will be b .",
        f"solution : = > {WORK} answer : b",
        f"{WORK} hence b . answer : b",
        f"{WORK} view answer discuss in forum answer : b",
        f"{WORK} \\ answer : b",
        f"answer : b {WORK}",
        f"answer {WORK} correct option : b",
        f"b 24 {WORK}",
        f"option b {WORK}",
    ],
)
def test_rationale_loses_heads_and_letters(written: str) -> None:
    assert mathqa.rationale(written, "b", "24").rstrip(".") == mathqa_text.detokenise(WORK)


@pytest.mark.parametrize(
    "work",
    [
        "let x be the speed of train b",
        "a + 5 = b",
        "so the total is given by b",
        "so the answer is 24",
        "solution x is 20 % salt and solution y is 30 % salt",
        "2 * 12 = 24",
    ],
)
def test_rationale_keeps_what_belongs_to_the_work(work: str) -> None:
    assert mathqa.rationale(work, "b", "24") == mathqa_text.detokenise(work)
    assert mathqa.rationale(f"{work} . answer : b", "b", "24").rstrip(".") == mathqa_text.detokenise(work)


def test_after_the_answer_a_letter_by_itself_belongs_to_the_work() -> None:
    assert mathqa.rationale("so 24 is the speed of boat b answer : b", "b", "24") == "so 24 is the speed of boat b"


@pytest.mark.parametrize("written", ['"answer : b"', "answer : b ) 24", "option ' b '", ""])
def test_rationale_that_is_only_the_answer_is_empty(written: str) -> None:
    assert mathqa.rationale(written, "b", "24") == ""


def test_answer_in_the_middle_goes() -> None:
    written = "2 + 2 = 4 . the correct answer is b . this shows how sums work ."
    assert mathqa.rationale(written, "b", "4") == "2 + 2 = 4. this shows how sums work."


@pytest.mark.parametrize(
    ("solution", "steps"),
    [
        ("he has 6 cups. then he buys 4. so he has 10", ["he has 6 cups.", "then he buys 4. so he has 10"]),
        ("3 x = 12 => x = 4 => 2 x = 8", ["3 x = 12", "x = 4", "2 x = 8"]),
        ("3 x = 12 => x = 4 => 8", ["3 x = 12", "x = 4 => 8"]),  # "8" says nothing alone
        ("(3 x => y = 4) it is 5", ["(3 x => y = 4) it is 5"]),
        (
            "it costs rs. x at no. of sq. metres, i.e. 5 of them",
            ["it costs rs. x at no. of sq. metres, i.e. 5 of them"],
        ),
        ("0.5 of 8 is 4", ["0.5 of 8 is 4"]),
        ("", []),
    ],
)
def test_steps(solution: str, steps: list[str]) -> None:
    assert mathqa.split_steps(solution) == steps


def test_real_rows(shared_data) -> None:
    """Shares over the real rows; gold values against the set's own parse of its options."""
    rows = [json.loads(line) for line in shared_data("mathqa.jsonl").read_text(encoding="utf-8").splitlines()]
    misread = letters = wrong = 0
    for row in rows:
        options = mathqa.options(row["options"])
        option = options[row["correct"]]
        value = mathqa.value(option, list(options.values()))
        solution = mathqa.rationale(row["Rationale"], row["correct"], option)
        misread += bool(re.search("[âãï\ue000-\uf8ff\x80-\x9f]|ë|‡|‹", mathqa_text.tidy(row["Problem"]) + solution))
        letters += bool(re.search(r"\b(?:answer|ans|option|choice)\W*(?:is|:|-|=|\s)*\W*[a-e]\W*$", solution))
        number = row["processed_options"]["abcde".index(row["correct"])]
        if value is not None and number is not None:
            wrong += not any(abs(abs(found) - abs(number)) <= 1e-3 * max(1, abs(number)) for found in _readings(value))
    assert misread <= len(rows) // 500
    assert letters <= len(rows) // 500
    assert wrong <= len(rows) // 200


def _readings(value: str) -> list[float]:
    """A value as the set's authors read it: a mixed number, a quotient or its first number."""
    plain = re.sub(r"(?<=\d),(?=\d{3})", "", value.removeprefix("Rs. "))
    if mixed := re.match(r"(\d+) (\d+)/(\d+)", plain):
        return [int(mixed[1]) + int(mixed[2]) / int(mixed[3])]
    if quotient := re.search(r"(-?[\d.]+)[:/]([\d.]*[1-9][\d.]*)", plain):
        return [float(quotient[1]) / float(quotient[2])]
    return [float(number) for number in re.findall(r"-?\d+(?:\.\d+)?", plain)]
