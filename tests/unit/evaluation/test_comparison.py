"""Which rows of an evaluation are measured together."""

from socratic_rl.core.dialogue import Problem
from socratic_rl.evaluation.preferences import by_topic


def problems(**topics: str) -> dict[str, Problem]:
    return {
        name: Problem(id=name, question="?", solution="", answer="1", topic=topic, source="test")
        for name, topic in topics.items()
    }


def test_topics_of_few_problems_go_together() -> None:
    known = problems(a="area", b="area", c="area", d="ratio", e="")
    ids = ["a", "d", "b", "a", "c", "e", "gone"]
    assert dict(by_topic(ids, known)) == {"topic: area": [0, 2, 3, 4], "topic: other": [1, 5, 6]}


def test_one_topic_is_no_division() -> None:
    assert list(by_topic(["a", "b", "c"], problems(a="area", b="area", c="area"))) == []
    assert list(by_topic(["a", "b"], problems(a="area", b="ratio"))) == []
    assert list(by_topic(["a"], {})) == []
