"""Messages and pairs as token ids, by the chat template, as TRL makes them."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from pydantic import Field
from transformers import PreTrainedTokenizerBase
from trl.data_utils import common_prefix_length

from socratic_rl.core.dialogue import Message, PreferencePair, shortened, teacher_message, without_system
from socratic_rl.core.errors import UserError
from socratic_rl.core.templates import BadTemplateError, ChatTemplate, NoPrefixError


class Chat(ChatTemplate):
    """A tokenizer's chat template, and which tokens it frames dialogues with.

    Args:
        tokenizer: With a chat template.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self.template = tokenizer.chat_template
        super().__init__(str(self.template), partial(_rendered, tokenizer))
        marks = {number for number, token in tokenizer.added_tokens_decoder.items() if token.content.strip()}
        ends = (token for token in _ids(tokenizer, self.closing) if token in marks | {tokenizer.eos_token_id})
        self.end = next(ends, None)
        """The token that the template writes behind a reply; None where it writes none."""
        bos = tokenizer.bos_token
        self.begins_with_bos = bool(bos) and self.prompt([{"role": "user", "content": "?"}]).startswith(bos)
        """Whether the template begins a dialogue with the tokenizer's BOS."""


def _rendered(tokenizer: PreTrainedTokenizerBase, messages: Sequence[Message], prompt: bool) -> str:
    return str(tokenizer.apply_chat_template(list(messages), tokenize=False, add_generation_prompt=prompt))


def chat_of(tokenizer: PreTrainedTokenizerBase) -> Chat:
    """A tokenizer's chat template, looked into once.

    Raises:
        UserError: It fails.
    """
    # it lies at the tokenizer, so that a copy of one takes a copy of the other along
    chat = vars(tokenizer).get(_CHAT)
    if not isinstance(chat, Chat) or chat.template != tokenizer.chat_template:
        try:
            chat = vars(tokenizer)[_CHAT] = Chat(tokenizer)
        except BadTemplateError as error:
            raise UserError(f"{tokenizer.name_or_path}: {error}") from error
    return chat


_CHAT = "_socratic_rl_chat"
_ROWS = "_socratic_rl_rows"


def token_ids(tokenizer: PreTrainedTokenizerBase, messages: Sequence[Message], prompt: bool = False) -> list[int]:
    """Messages as token ids by the chat template; a prompt ends where the teacher's reply would begin.

    A system message that the template does not take goes to the head of the user's first one.

    Raises:
        UserError: The template fails.
    """
    chat = chat_of(tokenizer)
    try:
        return _ids(tokenizer, chat.prompt(messages) if prompt else chat.dialogue(messages))
    except BadTemplateError as error:
        raise UserError(f"{tokenizer.name_or_path}: {error}") from error


def _ids(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    """A text's tokens; what begins and ends it the template has written."""
    ids = list(tokenizer(text, add_special_tokens=False)["input_ids"])
    if (rows := vars(tokenizer).get(_ROWS)) and max(ids, default=0) >= rows:
        _refuse_rowless(tokenizer, [number for number in ids if number >= rows], rows)
    return ids


def limit_rows(tokenizer: PreTrainedTokenizerBase, rows: int) -> None:
    """Have a tokenizer make no token for which its model has no row.

    Some have a token more than the model, such as Gemma 3's for pictures: it is refused where a text holds it.

    Args:
        tokenizer: With a chat template.
        rows: Of the model's embedding.

    Raises:
        UserError: Words of the vocabulary, or what the chat template writes, have no row.
    """
    vars(tokenizer)[_ROWS] = rows
    added = tokenizer.added_tokens_decoder
    rowless = [number for number in tokenizer.get_vocab().values() if number >= rows]
    end_tokens = {tokenizer.bos_token_id, tokenizer.eos_token_id, chat_of(tokenizer).end}
    if refused := [number for number in rowless if number not in added or number in end_tokens]:
        _refuse_rowless(tokenizer, refused, rows)
    question: Message = {"role": "user", "content": "?"}
    for messages in ([question], [{"role": "system", "content": "?"}, question]):
        token_ids(tokenizer, messages, prompt=True)
    token_ids(tokenizer, [question, teacher_message("?")])
    if tokenizer.pad_token_id in rowless:
        # it is masked, and looked up in the embedding all the same
        tokenizer.pad_token = tokenizer.eos_token or tokenizer.convert_ids_to_tokens(chat_of(tokenizer).end)


def _refuse_rowless(tokenizer: PreTrainedTokenizerBase, numbers: Sequence[int], rows: int) -> None:
    first = min(numbers)
    token = tokenizer.convert_ids_to_tokens(first)
    raise UserError(
        f"model.pretrained: {tokenizer.name_or_path}: its tokenizer makes the token {first}, {token!r}, for which the"
        f" model has no row: it has {rows}; they are not of one model"
    )


PairTokens = dict[str, list[int]]
"""``prompt_ids``, ``chosen_ids`` and ``rejected_ids`` of a pair, as TRL's collator takes them."""


class TokenizedPair(PreferencePair):
    """A pair with its token ids, so that no later stage runs the chat template again."""

    tokens: PairTokens = Field(exclude=True, repr=False)
    tokenizer: Any = Field(exclude=True, repr=False)
    """What made the tokens; they are no other tokenizer's."""


def pair_tokens(pair: PreferencePair, tokenizer: PreTrainedTokenizerBase) -> PairTokens:
    """A pair as TRL tokenises it: the completions begin where they differ from the prompt.

    Where the template ends no reply, the tokenizer's end token does.

    Raises:
        UserError: The template fails, or does not begin a dialogue with its prompt.
    """
    if isinstance(pair, TokenizedPair) and pair.tokenizer is tokenizer:
        return pair.tokens
    try:
        return _pair_tokens(pair, tokenizer)
    except (BadTemplateError, NoPrefixError) as error:
        raise UserError(f"{tokenizer.name_or_path}: {error}") from error


def _pair_tokens(pair: PreferencePair, tokenizer: PreTrainedTokenizerBase) -> PairTokens:
    chat = chat_of(tokenizer)
    begun, *texts = chat.pair(pair.prompt, pair.chosen, pair.rejected)
    end = [] if chat.end is not None or tokenizer.eos_token_id is None else [tokenizer.eos_token_id]
    prompt, chosen, rejected = (_ids(tokenizer, text) for text in (begun, *texts))
    start = min(common_prefix_length(prompt, chosen), common_prefix_length(prompt, rejected))
    return {"prompt_ids": prompt[:start], "chosen_ids": chosen[start:] + end, "rejected_ids": rejected[start:] + end}


@dataclass(frozen=True)
class Fitted:
    """Pairs that fit, and what was done to make them."""

    pairs: list[TokenizedPair]
    shortened: int
    """How many prompts lost turns from their middle."""
    dropped: list[PreferencePair]
    """Pairs that do not fit even with the problem and the last exchange alone."""
    broken: list[PreferencePair] = field(default_factory=list)
    """Pairs whose dialogue does not begin, in the chat template's words, as its prompt does."""


def fit_pairs(
    pairs: Sequence[PreferencePair], tokenizer: PreTrainedTokenizerBase, max_length: int, trained_in: str = ""
) -> Fitted:
    """Shorten prompts until prompt and answer fit into ``max_length`` tokens.

    The problem (everything up to the first student turn) and the last exchange stay; the oldest exchanges after the
    problem go first. TRL itself would keep the start and cut the answer off.

    A system message goes to the head of the user's first one where the chat template does not take it. A pair whose
    dialogue then still does not begin as its prompt does is broken: part of the prompt would be trained as its reply.

    Args:
        pairs: What to fit.
        tokenizer: With a chat template.
        max_length: Tokens of prompt and answer together, as ``DPOConfig.max_length``.
        trained_in: Where the pairs come from, as a mistake names it, when the length is a trained tutor's.

    Raises:
        UserError: The chat template fails, or not one pair fits.
    """
    fitted: list[TokenizedPair] = []
    dropped: list[PreferencePair] = []
    broken: list[PreferencePair] = []
    shortened = 0
    if any(pair.prompt[0]["role"] == "system" for pair in pairs) and not chat_of(tokenizer).takes_system:
        pairs = [pair.model_copy(update={"prompt": without_system(pair.prompt)}) for pair in pairs]
    for pair in pairs:
        try:
            tokenized = _fit(pair, tokenizer, max_length)
        except NoPrefixError:
            broken.append(pair)
            continue
        except BadTemplateError as error:
            where = f"conversation {pair.conversation_id}, turn {pair.turn}"
            raise UserError(f"{tokenizer.name_or_path}: at {where} {error}") from error
        if tokenized is None:
            dropped.append(pair)
            continue
        shortened += len(tokenized.prompt) < len(pair.prompt)
        fitted.append(tokenized)
    if pairs and not fitted:
        if not dropped:
            raise UserError(
                f"{tokenizer.name_or_path}: its chat template begins the dialogue of none of {len(pairs)} pairs as it"
                " begins its prompt, so nothing tells what to train; another template in the model's folder can"
            )
        if trained_in:
            raise UserError(
                f"{trained_in}: none of {len(pairs)} pairs fits into the {max_length} tokens that the tutor was trained"
                " with; one that is trained on longer dialogues reads more"
            )
        raise UserError(f"dpo.max_length: none of {len(pairs)} pairs fits into {max_length} tokens; raise it")
    return Fitted(fitted, shortened, dropped, broken)


def _fit(pair: PreferencePair, tokenizer: PreTrainedTokenizerBase, max_length: int) -> TokenizedPair | None:
    for prompt in shortened(pair.prompt):
        # without tokens, which a pair that was fitted before has of its longer prompt
        fields = {name: getattr(pair, name) for name in PreferencePair.model_fields} | {"prompt": prompt}
        candidate = PreferencePair.model_construct(**fields)
        tokens = _pair_tokens(candidate, tokenizer)
        if len(tokens["prompt_ids"]) + max(len(tokens["chosen_ids"]), len(tokens["rejected_ids"])) <= max_length:
            return TokenizedPair.model_construct(**fields, tokens=tokens, tokenizer=tokenizer)
    return None


def fit_prompt(prompt: Sequence[Message], tokenizer: PreTrainedTokenizerBase, max_length: int) -> list[Message] | None:
    """A prompt in at most ``max_length`` tokens, shortened as ``fit_pairs`` does; None where even that is too long."""
    short = (left for left in shortened(prompt) if len(token_ids(tokenizer, left, prompt=True)) <= max_length)
    return next(short, None)
