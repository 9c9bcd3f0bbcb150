"""A mistake names the key, or the file and line."""

import pytest

from socratic_rl.core.errors import UserError, under


def test_who_owns_a_component_puts_its_name_before_the_key_once() -> None:
    with pytest.raises(UserError, match=r"^judge\.generator\.n_ctx: too small$") as error, under("judge.generator"):
        raise UserError("too small", key="n_ctx")
    assert (error.value.key, error.value.message) == ("judge.generator.n_ctx", "too small")
    with pytest.raises(UserError, match=r"^rows\.csv:3: no answer$"), under("generator"):
        raise UserError("rows.csv:3: no answer")
