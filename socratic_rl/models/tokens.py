"""Messages and pairs as token ids, by the chat template, as TRL makes them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from jinja2 import TemplateError
from pydantic import Field
from transformers import PreTrainedTokenizerBase
from trl.data_utils import common_prefix_length

from socratic_rl.core.dialogue import Message, PreferencePair, shortened, templated, without_system
from socratic_rl.core.errors import UserError


def token_ids(tokenizer: PreTrainedTokenizerBase, messages: Sequence[Message], prompt: bool = False) -> list[int]:
    """Messages as token ids by the chat template; a prompt ends where the teacher's turn would begin.

    A system message that the template refuses goes to the head of the user's first one.

    Raises:
        UserError: The template fails.
    """
    try:
        return templated(lambda rows: _template_ids(tokenizer, rows, prompt), messages, (TemplateError,))
    except TemplateError as error:
        raise UserError(f"{tokenizer.name_or_path}: its chat template fails: {error}") from error


def _template_ids(tokenizer: PreTrainedTokenizerBase, messages: Sequence[Message], prompt: bool = False) -> list[int]:
    encoded = tokenizer.apply_chat_template(
        list(messages), tokenize=True, add_generation_prompt=prompt, return_dict=True
    )
    return list(encoded["input_ids"])


PairTokens = dict[str, list[int]]
"""``prompt_ids``, ``chosen_ids`` and ``rejected_ids`` of a pair, as TRL's collator takes them."""


class TokenizedPair(PreferencePair):
    """A pair with its token ids, so that no later stage runs the chat template again."""

    tokens: PairTokens = Field(exclude=True, repr=False)
    tokenizer: Any = Field(exclude=True, repr=False)
    """What made the tokens; they are no other tokenizer's."""


def pair_tokens(pair: PreferencePair, tokenizer: PreTrainedTokenizerBase) -> PairTokens:
    """A pair as TRL tokenises it: the completions begin where they differ from the prompt."""
    if isinstance(pair, TokenizedPair) and pair.tokenizer is tokenizer:
        return pair.tokens
    prompt = token_ids(tokenizer, pair.prompt, prompt=True)
    chosen, rejected = (token_ids(tokenizer, [*pair.prompt, *answer]) for answer in (pair.chosen, pair.rejected))
    start = min(common_prefix_length(prompt, chosen), common_prefix_length(prompt, rejected))
    return {"prompt_ids": prompt[:start], "chosen_ids": chosen[start:], "rejected_ids": rejected[start:]}


@dataclass(frozen=True)
class Fitted:
    """Pairs that fit, and what was done to make them."""

    pairs: list[TokenizedPair]
    shortened: int
    """How many prompts lost turns from their middle."""
    dropped: list[PreferencePair]
    """Pairs that do not fit even with the problem and the last exchange alone."""


def fit_pairs(pairs: Sequence[PreferencePair], tokenizer: PreTrainedTokenizerBase, max_length: int) -> Fitted:
    """Shorten prompts until prompt and answer fit into ``max_length`` tokens.

    The problem (everything up to the first student turn) and the last exchange stay; the oldest exchanges after the
    problem go first. TRL itself would keep the start and cut the answer off.

    A system message goes to the head of the user's first one where the chat template knows none.

    Args:
        pairs: What to fit.
        tokenizer: With a chat template.
        max_length: Tokens of prompt and answer together, as ``DPOConfig.max_length``.

    Raises:
        UserError: Not one pair fits.
    """
    fitted: list[TokenizedPair] = []
    dropped: list[PreferencePair] = []
    shortened = 0
    if any(pair.prompt[0]["role"] == "system" for pair in pairs) and not _knows_system(tokenizer):
        pairs = [pair.model_copy(update={"prompt": without_system(pair.prompt)}) for pair in pairs]
    for pair in pairs:
        tokenized = _fit(pair, tokenizer, max_length)
        if tokenized is None:
            dropped.append(pair)
            continue
        shortened += len(tokenized.prompt) < len(pair.prompt)
        fitted.append(tokenized)
    if pairs and not fitted:
        raise UserError(f"dpo.max_length: none of {len(pairs)} pairs fits into {max_length} tokens; raise it")
    return Fitted(fitted, shortened, dropped)


def _knows_system(tokenizer: PreTrainedTokenizerBase) -> bool:
    """Whether the chat template takes a system message; those that do not raise an error."""
    try:
        _template_ids(tokenizer, [{"role": role, "content": role} for role in ("system", "user", "assistant")])
    except TemplateError:
        return False
    return True


def _fit(pair: PreferencePair, tokenizer: PreTrainedTokenizerBase, max_length: int) -> TokenizedPair | None:
    for prompt in shortened(pair.prompt):
        # without tokens, which a pair that was fitted before has of its longer prompt
        fields = {name: getattr(pair, name) for name in PreferencePair.model_fields} | {"prompt": prompt}
        candidate = PreferencePair.model_construct(**fields)
        tokens = pair_tokens(candidate, tokenizer)
        if len(tokens["prompt_ids"]) + max(len(tokens["chosen_ids"]), len(tokens["rejected_ids"])) <= max_length:
            return TokenizedPair.model_construct(**fields, tokens=tokens, tokenizer=tokenizer)
    return None


def fit_prompt(prompt: Sequence[Message], tokenizer: PreTrainedTokenizerBase, max_length: int) -> list[Message] | None:
    """A prompt in at most ``max_length`` tokens, shortened as ``fit_pairs`` does; None where even that is too long."""
    short = (left for left in shortened(prompt) if len(token_ids(tokenizer, left, prompt=True)) <= max_length)
    return next(short, None)
