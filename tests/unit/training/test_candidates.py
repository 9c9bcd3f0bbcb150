"""Pairs of a tutor's own replies."""

from socratic_rl.training.best_of_n import Candidate, Candidates, pairs_of


def turn(number: int, **scored: float | None) -> Candidates:
    """Replies by their text, "nothing" saying nothing."""
    return Candidates(
        conversation_id="c",
        problem_id="p",
        turn=number,
        prompt=[{"role": "user", "content": "What is 3 * 4?"}],
        replies=tuple(
            Candidate(text="" if text == "nothing" else text, marks={}, score=score) for text, score in scored.items()
        ),
    )


def test_what_says_nothing_is_neither_chosen_nor_rejected():
    sides = {("c", number): "train" for number in range(3)}
    candidates = [
        turn(0, tells=0.1, nothing=0.4, asks_and_tells=0.2),
        turn(1, nothing=0.4, tells=0.1),
        turn(2, nothing=0.0, tells=0.1, asks=0.9),
    ]
    pairs, told = pairs_of(candidates, sides)
    found = [(pair.turn, pair.chosen[0]["content"], pair.rejected[0]["content"]) for pair in pairs]
    assert found == [(0, "asks_and_tells", "tells"), (2, "asks", "tells")]
    assert told["faults"] == "says nothing 3"
    assert told["pairs made"] == "2 of 3 turns (1 alike in score)"


def test_what_a_judge_did_not_score_is_counted():
    pairs, told = pairs_of([turn(0, one=0.2, two=None, three=0.4)], {("c", 0): "train"})
    assert (pairs[0].chosen[0]["content"], pairs[0].rejected[0]["content"]) == ("three", "one")
    assert told["faults"] == "not scored, since the judge cannot be read 1"
