"""A problem with its worked solution, for the tests of what a reply points at."""

from socratic_rl.core.dialogue import Step

PROBLEM = (
    "Amara buys 4 notebooks at $2.75 each and 3 gel pens at $1.40 each for the new school year. "
    "She pays with a $20 bill. How much change should she get?"
)
STEPS = tuple(
    Step(work=work)
    for work in (
        "The notebooks cost 4 × $2.75 = $11.00.",
        "The pens cost 3 × $1.40 = $4.20.",
        "Together she spends $11.00 + $4.20 = $15.20.",
        "Her change is $20 − $15.20 = $4.80.",
    )
)
