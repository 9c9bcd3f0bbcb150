"""Messages and pairs as token ids, by the chat template, as TRL makes them."""

from collections.abc import Sequence

from transformers import PreTrainedTokenizerBase
from trl.data_utils import common_prefix_length

from socratic_rl.dialogue import Message, PreferencePair


def token_ids(tokenizer: PreTrainedTokenizerBase, messages: Sequence[Message], prompt: bool = False) -> list[int]:
    """Messages as token ids by the chat template; a prompt ends where the teacher's turn would begin."""
    encoded = tokenizer.apply_chat_template(
        list(messages), tokenize=True, add_generation_prompt=prompt, return_dict=True
    )
    return list(encoded["input_ids"])


def pair_tokens(pair: PreferencePair, tokenizer: PreTrainedTokenizerBase) -> dict[str, list[int]]:
    """A pair as TRL tokenises it: the completions begin where they differ from the prompt."""
    prompt = token_ids(tokenizer, pair.prompt, prompt=True)
    chosen, rejected = (token_ids(tokenizer, [*pair.prompt, *answer]) for answer in (pair.chosen, pair.rejected))
    start = min(common_prefix_length(prompt, chosen), common_prefix_length(prompt, rejected))
    return {"prompt_ids": prompt[:start], "chosen_ids": chosen[start:], "rejected_ids": rejected[start:]}
