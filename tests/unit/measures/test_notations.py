"""Gold answers in the notations of real sets: plain, in LaTeX, formulas, times, yes or no, choices."""

import pytest

from socratic_rl.measures.answers import states

PLAIN_STATED = [
    ("15:00", "3:00 pm"), ("3:00 pm", "15:00"), ("3 pm", "15:00"), ("3 p.m.", "3:00 PM"), ("3 o'clock", "3:00"),
    ("three o'clock", "3:00"), ("At 3 o’clock", "3 pm"), ("half past two", "2:30"), ("a quarter to three", "2:45"),
    ("quarter past 4", "4:15"), ("noon", "12:00 pm"), ("It is at noon.", "12 pm"), ("midnight", "12:00 am"),
    ("8:00", "8 am"), ("08:00", "8:00"), ("2:30 in the afternoon", "2:30 pm"), ("14:30", "2:30 PM"),
    ("00:30", "12:30 am"), ("10:15 am", "10:15"), ("10:15", "10:15 am"), ("3:20", "3:20"), ("2:3", "4:6"),
    ("15:20", "3:4"), ("3:4", "15:20"), ("6/12", "1:2"), ("5:12", "5 : 12"), ("8:00 to 9:00", "8:00"),
    ("21:00", "9 pm"), ("9:00 at night", "21:00"), ("1 ½", "1.5"), ("2 ⅔", "8/3"), ("8 (6/19)", "158/19"),
    ("158/19", "8 (6/19)"), ("1e6", "1000000"), ("1,000,000", "1e6"), ("2.01e-06", "0.00000201"),
    ("0.00000201", "2.01e-06"), ("1E3", "1000"), ("1.5e+3", "1500"), ("18th floor", "18"), ("18", "18th floor"),
    ("He is on the 18th floor", "18th floor"), ("the eighteenth floor", "18"), ("the fifth day", "5"),
    ("a third of an hour", "20 minutes"), ("1.5k", "1500"), ("1500", "1.5k"), ("20k", "20000"),
    ("a quarter of an hour", "15 minutes"), ("half of an hour", "30 minutes"),
    ("three quarters of an hour", "45 minutes"), ("15 minutes", "a quarter of an hour"), ("5 km/h", "5 km/h"),
    ("5 km per hour", "5 km/h"), ("5 kmph", "5 km/h"), ("10 m/s", "36 km/h"), ("5 miles per hour", "5 mph"),
    ("5", "5 km/h"), ("5 km/h", "5"), ("90°", "90"), ("20°C", "20 degrees"), ("It is 5 - x.", "5 - x"),
    ("5-x", "5 - x"), ("−x + 5", "5 - x"), ("= 5 − x", "5 - x"), ("5 minus x", "5 - x"), ("1/x", "1/x"),
    ("it is 1 over x", "1/x"), ("1 / x.", "1/x"), ("(x+1)(x-4)", "(x + 1)(x - 4)"),
    ("(x - 4)(x + 1)", "(x + 1)(x - 4)"), ("(x+1)*(x-4)", "(x + 1)(x - 4)"), ("w - 108", "w - 108"),
    ("w minus 108", "w - 108"), ("[0,1)", "[0,1)"), ("[0, 1)", "[0,1)"), ("(0, 1)", "(0,1)"),
    ("x is in [0, 1).", "[0,1)"), ("40 and 0", "(40, 0)"), ("(40,0)", "(40, 0)"), ("x is 40 and y is 0", "(40,0)"),
    ("2x + 3", "2x+3"), ("3 + 2x", "2x+3"), ("2*x + 3", "2x+3"), ("y = 2x + 1", "y = 2x + 1"),
    ("2x + 1 = y", "y = 2x + 1"), ("x > 7", "x > 7"), ("7 < x", "x > 7"), ("x is greater than 7", "x > 7"),
    ("x ≥ -2", "x ≥ -2"), ("2 < x < 5", "2 < x < 5"), ("5 > x > 2", "2 < x < 5"), ("a + b = 10", "a + b = 10"),
    ("b + a = 10", "a + b = 10"), ("3n", "3n"), ("3*n", "3n"), ("x^2 - 9", "x^2 - 9"), ("x² − 9", "x^2 - 9"),
    ("x squared minus 9", "x^2 - 9"), ("2 + 3i", "2+3i"), ("3i + 2", "2+3i"), ("6 - 5i", "6-5i"), ("p - q", "p - q"),
    ("2k+2", "2k+2"), ("4210_5", "4210_5"), ("|x| < 3", "|x| < 3"), ("x - 3 years", "x - 3 years"), ("5x", "5x"),
    ("x/2", "x/2"), ("3 b / 2", "3 b / 2"), ("2^x", "2^x"), ("x = 3", "x = 3"), ("3", "x = 3"),
    ("3 and 4", "x = 3, y = 4"), ("5 m", "5 m"), ("50p", "50p"), ("1, -2", "1,-2"), ("I think yes.", "yes"),
    ("It is B.", "B"), ("Yes, it is.", "yes"), ("Yes.", "yes"), ("yes", "Yes"), ("No, it isn't.", "no"),
    ("The answer is no.", "no"), ("So the answer is: yes", "yes"), ("So yes, it fits.", "yes"), ("It's a yes.", "yes"),
    ("You should say no.", "no"), ("Therefore, no.", "no"), ('The answer is "yes".', "yes"), ("**Yes**", "yes"),
    ("Yes, because 15 is more than 12.", "yes"), ("No, they do not.", "no"), ("It is true.", "true"),
    ("The statement is false.", "False"), ("True", "true"), ("I think no", "no"), ("B", "B"), ("(B)", "B"),
    ("The answer is B.", "B"), ("The answer is (B).", "(B)"), ("Option B is correct.", "B"),
    ("The correct option is B", "B"), ("It's C, since 3 > 2.", "C"), ("Choose B.", "B"), ("I think A.", "A"),
    ("The answer is I.", "I"), ("answer: D", "D"), ("It is D) 12", "D"), ("B is the right answer.", "B"),
    ("So, B!", "B"), ("I'd say C.", "C"), ("It is C because the line is straight", "C"),
]  # fmt: skip


PLAIN_NOT_STATED = [
    ("It opens at 8:00", "3:00"), ("1:15", "2:30"), ("2:30", "1:15"), ("2:30 am", "2:30 PM"), ("2:30 pm", "2:30 am"),
    ("midnight", "12:00 pm"), ("3:00 am", "15:00"), ("8:00 am", "8:00 pm"), ("2:30 in the afternoon", "2:30 am"),
    ("4:10", "2:05"), ("12:30", "12"), ("0:45", "3/4"), ("9:45", "9:15"), ("it takes 8 hours", "8:00"),
    ("6:00", "12:00"), ("7 am", "7 pm"), ("8", "8 (6/19)"), ("1", "1e6"), ("6", "1e6"), ("on the 1st day", "24 hours"),
    ("the 2nd day", "2 days"), ("1.5k", "1.5"), ("5 km/h", "5 km"), ("5 km per hour", "5 km"),
    ("5 km an hour", "5 km"), ("5 km", "5 km/h"), ("5 m/s", "5 m"), ("12 litres per minute", "12 litres"),
    ("5 mph", "5 miles"), ("60 miles per hour", "60 miles"), ("3 g/ml", "3 g"), ("So 5 apples", "5 - x"),
    ("It is 5.", "5 - x"), ("25 - x", "5 - x"), ("5 - x + 2", "5 - x"), ("5 - x^2", "5 - x"), ("3(5 - x)", "5 - x"),
    ("1", "1/x"), ("1/x^2", "1/x"), ("1 and 4", "(x + 1)(x - 4)"), ("x + 1", "(x + 1)(x - 4)"), ("108", "w - 108"),
    ("w = 108", "w - 108"), ("(0,1)", "[0,1)"), ("0 and 1", "[0,1)"), ("[0,1)", "(0,1)"), ("(0,1]", "(0,1)"),
    ("[0,1]", "[0,1)"), ("(0, 40)", "(40, 0)"), ("3", "2x+3"), ("2", "2x + 3"), ("1", "y = 2x + 1"), ("7", "x > 7"),
    ("x ≥ 7", "x > 7"), ("-2", "x ≥ -2"), ("2 and 5", "2 < x < 5"), ("10", "a + b = 10"), ("3", "3n"), ("3", "3 n"),
    ("9", "x^2 - 9"), ("5", "5√2"), ("2", "2+3i"), ("q - p", "p - q"), ("4210", "4210_5"), ("3", "|x| < 3"),
    ("3 years", "x - 3 years"), ("5", "5x"), ("half of x", "x/2"), ("2", "x/2"), ("b / 2", "3 b / 2"), ("2", "2^{x}"),
    ("Yes, well spotted. How large is a pear?", "yes"), ("No problem! Let's begin.", "no"),
    ("A good way to begin is a drawing.", "A"), ("I see", "I"), ("Yes! Great job. What next?", "yes"),
    ("Yes, you are right.", "yes"), ("Yes, that's correct.", "yes"), ("No worries, take your time.", "no"),
    ("No, try again.", "no"), ("There is no way.", "no"), ("Is it yes or no?", "yes"), ("It is no problem.", "no"),
    ("Is that true?", "true"), ("No one can tell.", "no"), ("Yes, exactly! And then?", "yes"),
    ("I have no idea", "no"), ("I know", "no"), ("What is B?", "B"), ("Is it A or B?", "B"), ("Look at point B.", "B"),
    ("a good thing", "A"), ("It is A good thing", "A"), ("I think so", "I"), ("So I think it is 5.", "I"),
    ("Which of A, B, C or D is right?", "B"), ("What does option B say?", "B"), ("Plan B is to draw.", "B"),
    ("Let A be the area.", "A"), ("Angle A is 30 degrees.", "A"), ("A train leaves.", "A"),
]  # fmt: skip


LATEX_STATED = [
    ("$1.5k", "$1500"), ("$5 per hour", "$5"), (r"-\frac{3}{8}", "-3/8"), ("-3/8", r"-\frac{3}{8}"),
    ("-0.375", r"-\frac{3}{8}"), ("28%", r"$28\%$"), ("5 cm", "$x = 5$ cm"), ("-18", "$- 18$"), ("4/3", r"\frac43"),
    ("5/9", r"\frac 59"), ("10080", r"10,\!080"), ("10,080", r"10,\!080"), ("300000", r"3\times10^5"),
    ("300,000", r"3 \times 10^{5}"), ("90", r"90^\circ"), ("90 degrees", r"90^\circ"), ("90°", r"90^\circ"),
    (r"90^\circ", "90 degrees"), ("Evelyn", r"\text{Evelyn}"), ("It is Evelyn.", r"\text{Evelyn}"),
    (r"It is \text{Evelyn}.", "Evelyn"), ("(2,12) ∪ (12,102)", r"(2,12) \cup (12,102)"),
    (r"$(2, 12) \cup (12, 102)$", r"(2,12) \cup (12,102)"), ("the rest is $5 - x$.", "5 - x"), (r"\frac{1}{x}", "1/x"),
    ("x ≤ 3", r"x \le 3"), ("x <= 3", r"x \le 3"), ("x is less than or equal to 3", r"x \le 3"), ("3 ≥ x", r"x \le 3"),
    (r"so $x \leq 3$.", r"x \le 3"), ("x ≠ 4", r"x \neq 4"), ("x != 4", r"x \neq 4"),
    ("x is not equal to 4", r"x \neq 4"), ("(2, ∞)", r"(2, \infty)"), ("(2, infinity)", r"(2, \infty)"),
    ("5√2", r"5\sqrt{2}"), (r"5\sqrt2", r"5\sqrt{2}"), ("5 * sqrt(2)", r"5\sqrt{2}"), ("10π", r"10\pi"),
    ("10 pi", r"10\pi"), (r"\frac{\sqrt{3}}{2}", r"\frac{\sqrt3}{2}"), ("√3/2", r"\frac{\sqrt{3}}{2}"),
    (r"\begin{pmatrix} 1 \\ 2 \end{pmatrix}", r"\begin{pmatrix} 1 \\ 2 \end{pmatrix}"),
    (r"so $\begin{pmatrix}1\\2\end{pmatrix}$.", r"\begin{pmatrix} 1 \\ 2 \end{pmatrix}"),
    (r"\sin x + 1", r"1 + \sin x"), (r"(-\infty, -5] \cup [5, \infty)", r"(-\infty,-5]\cup[5,\infty)"),
    ("(-∞, -5] U [5, ∞)", r"(-\infty,-5]\cup[5,\infty)"), (r"x \in [-2,7]", r"x \in [-2,7]"),
    ("[-2, 7]", r"x \in [-2,7]"), (r"\left(3, \frac{\pi}{2}\right)", r"\left( 3, \frac{\pi}{2} \right)"),
    ("(3, π/2)", r"\left( 3, \frac{\pi}{2} \right)"), (r"\frac{x}{2}", "x/2"), (r"\frac{x+1}{x-2}", "(x+1)/(x-2)"),
    ("(x + 1)/(x - 2)", r"\frac{x+1}{x-2}"), ("±3", r"\pm 3"), (r"\{1, 2\}", r"\{1,2\}"), ("1 and 2", r"\{1,2\}"),
    (r"\textbf{(B)}", "B"), ("It is B.", r"\text{(B)}"),
]  # fmt: skip


LATEX_NOT_STATED = [
    (r"-\frac{3}{8}", "3/8"), ("3/8", r"-\frac{3}{8}"), ("$28", r"$28\%$"), ("28 dollars", r"$28\%$"),
    ("$5", "$x = 5$ cm"), ("18", "$- 18$"), ("43", r"\frac43"), ("80", r"10,\!080"), ("3", r"3\times10^5"),
    ("90 cm", r"90^\circ"), ("2, 12 and 102", r"(2,12) \cup (12,102)"), ("(2,102)", r"(2,12) \cup (12,102)"),
    ("3", r"x \le 3"), ("x = 3", r"x \le 3"), ("x < 3", r"x \le 3"), (r"x \le 30", r"x \le 3"),
    ("x ≤ 3.5", r"x \le 3"), ("4", r"x \neq 4"), ("x = 4", r"x \neq 4"), ("2", r"(2, \infty)"),
    (r"[2, \infty)", r"(2, \infty)"), ("x > 2", r"(2, \infty)"), ("2", r"5\sqrt{2}"), ("10", r"10\pi"),
    ("3/2", r"\frac{\sqrt{3}}{2}"), ("1 and 2", r"\begin{pmatrix} 1 \\ 2 \end{pmatrix}"),
    (r"\begin{pmatrix} 2 \\ 1 \end{pmatrix}", r"\begin{pmatrix} 1 \\ 2 \end{pmatrix}"),
    ("5", r"(-\infty,-5]\cup[5,\infty)"), ("(-2, 7)", r"x \in [-2,7]"), ("7", r"x \in [-2,7]"),
    ("3", r"\left( 3, \frac{\pi}{2} \right)"), ("x + 1/x - 2", r"\frac{x+1}{x-2}"), ("3", r"\pm 3"), ("1", r"\{1,2\}"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "answer"), PLAIN_STATED + LATEX_STATED)
def test_states(text: str, answer: str) -> None:
    assert states(text, answer)


@pytest.mark.parametrize(("text", "answer"), PLAIN_NOT_STATED + LATEX_NOT_STATED)
def test_does_not_state(text: str, answer: str) -> None:
    assert not states(text, answer)
