from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from socratic_rl.core.dialogue import PreferencePair, Turn
from socratic_rl.core.errors import UserError
from socratic_rl.models.tokens import fit_pairs, fit_prompt, pair_tokens, token_ids
from socratic_rl.models.weights import tokenizer_from


def pair(exchanges: int, words: int = 5) -> PreferencePair:
    turns = [Turn(speaker="student", text="problem " * words)]
    for number in range(exchanges):
        turns += [Turn(speaker="teacher", text=f"ask {number}?"), Turn(speaker="student", text=f"say {number}")]
    return PreferencePair.of(
        turns, "why?", "it is 42", conversation_id="c", problem_id="p", turn=exchanges, rejection="x", split="train"
    )


def records(pairs: Sequence[PreferencePair]) -> list[dict[str, Any]]:
    return [each.to_record() for each in pairs]


def test_a_prompt_that_fits_is_left_alone(tiny_llama: Path):
    fitted = fit_pairs([pair(3)], tokenizer_from(str(tiny_llama)), 2000)
    assert records(fitted.pairs) == records([pair(3)])
    assert (fitted.shortened, fitted.dropped) == (0, [])


def test_a_long_prompt_loses_its_oldest_exchanges_and_keeps_the_problem_the_last_turn_and_the_answer(tiny_llama: Path):
    tokenizer = tokenizer_from(str(tiny_llama))
    long = pair(6)
    limit = len(token_ids(tokenizer, [*pair(2).prompt, *long.rejected]))
    fitted = fit_pairs([long], tokenizer, limit)
    (kept,) = fitted.pairs
    assert fitted.shortened == 1
    assert [m["content"] for m in kept.prompt] == [
        "problem problem problem problem problem",
        "ask 4?",
        "say 4",
        "ask 5?",
        "say 5",
    ]
    assert (kept.chosen, kept.rejected) == (long.chosen, long.rejected)
    assert max(len(token_ids(tokenizer, [*kept.prompt, *answer])) for answer in (kept.chosen, kept.rejected)) <= limit


def test_the_turn_that_is_replied_to_is_never_left_out(tiny_llama: Path):
    tokenizer = tokenizer_from(str(tiny_llama))
    limit = len(token_ids(tokenizer, pair(1).prompt, prompt=True))
    prompt = fit_prompt(pair(4).prompt, tokenizer, limit)
    assert [m["content"] for m in prompt or []] == ["problem problem problem problem problem", "ask 3?", "say 3"]
    assert fit_prompt(pair(4).prompt, tokenizer, limit - 1) is None
    assert fit_prompt(pair(0).prompt, tokenizer, limit) == pair(0).prompt


@pytest.mark.parametrize(
    ("trained_in", "told"),
    [
        ("", r"^dpo\.max_length: none of 1 pairs fits into 20 tokens; raise it$"),
        (
            "suite: own",
            r"^suite: own: none of 1 pairs fits into the 20 tokens that the tutor was trained with; one that",
        ),
    ],
)
def test_where_no_pair_fits_the_advice_is_the_commands_own(trained_in: str, told: str, tiny_llama: Path):
    with pytest.raises(UserError, match=told):
        fit_pairs([pair(1)], tokenizer_from(str(tiny_llama)), 20, trained_in)


def test_a_pair_that_cannot_fit_is_left_out_and_named(tiny_llama: Path):
    fitted = fit_pairs([pair(1), pair(0, words=200)], tokenizer_from(str(tiny_llama)), 300)
    assert records(fitted.pairs) == records([pair(1)])
    assert fitted.dropped == [pair(0, words=200)]


def test_a_system_message_is_kept_also_where_the_template_knows_none(tiny_llama: Path):
    tokenizer = tokenizer_from(str(tiny_llama))
    system = {"role": "system", "content": "Ask, do not tell."}
    told = pair(1).model_copy(update={"prompt": [system, *pair(1).prompt]})
    assert records(fit_pairs([told], tokenizer, 2000).pairs) == records([told])
    refusing = "{% if messages[0].role == 'system' %}{{ raise_exception('no system') }}{% endif %}"
    tokenizer.chat_template = refusing + str(tokenizer.chat_template)
    ((first, *rest),) = [fitted.prompt for fitted in fit_pairs([told], tokenizer, 2000).pairs]
    assert first == {"role": "user", "content": f"Ask, do not tell.\n\n{pair(1).prompt[0]['content']}"}
    assert rest == pair(1).prompt[1:]


def test_no_pair_that_fits_is_a_mistake(tiny_llama: Path):
    with pytest.raises(UserError, match=r"dpo\.max_length: none of 1 pairs fits into 30 tokens"):
        fit_pairs([pair(1)], tokenizer_from(str(tiny_llama)), 30)


def test_a_pair_that_was_fitted_before_is_fitted_anew(tiny_llama: Path):
    tokenizer, other = tokenizer_from(str(tiny_llama)), tokenizer_from(str(tiny_llama))
    other.chat_template = "{% for message in messages %}{{ message['content'] }}{% endfor %}"
    (long,) = fit_pairs([pair(6)], tokenizer, 2000).pairs
    limit = len(token_ids(tokenizer, [*pair(2).prompt, *long.rejected]))
    again, fresh = (fit_pairs([each], tokenizer, limit) for each in (long, pair(6)))
    assert again.shortened == fresh.shortened == 1
    assert records(again.pairs) == records(fresh.pairs)
    assert again.pairs[0].tokens == fresh.pairs[0].tokens
    # tokens are those of the tokenizer that is asked for
    assert pair_tokens(long, other) == pair_tokens(pair(6), other) != long.tokens
