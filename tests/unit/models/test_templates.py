"""What published chat templates do with a system message, BOS, ends and thought, and templates that fail."""

import json
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from socratic_rl.core import templates
from socratic_rl.core.component import ModelSettings
from socratic_rl.core.dialogue import Message, PreferencePair, Turn
from socratic_rl.core.errors import UserError
from socratic_rl.core.templates import with_arguments
from socratic_rl.models import weights
from socratic_rl.models.tokens import chat_of, fit_pairs, pair_tokens, token_ids
from tests.unit.models.chat_templates import MARKS, PUBLISHED, QWEN_3

SYSTEM: Message = {"role": "system", "content": "You ask, you never tell."}
WithTemplate = Callable[..., PreTrainedTokenizerBase]


@pytest.fixture
def with_template(tiny_llama: Path, tmp_path: Path) -> WithTemplate:
    """Writes a tokenizer of bytes with a template and the marks that templates write, and loads it."""

    def load(template: str, **arguments: Any) -> PreTrainedTokenizerBase:
        tokenizer = AutoTokenizer.from_pretrained(tiny_llama)
        tokenizer.add_special_tokens({"bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>"})
        tokenizer.add_tokens(MARKS, special_tokens=True)
        tokenizer.chat_template = template
        tokenizer.save_pretrained(tmp_path / "tokenizer")
        return weights.tokenizer_from(str(tmp_path / "tokenizer"), **arguments)

    return load


def pair(exchanges: int = 1, system: bool = True) -> PreferencePair:
    turns = [Turn(speaker="student", text="What is 3 + 4?")]
    for number in range(exchanges):
        turns += [Turn(speaker="teacher", text=f"Ask {number}?"), Turn(speaker="student", text=f"Say {number}.")]
    trace: dict[str, Any] = {"conversation_id": "c", "problem_id": "p", "turn": exchanges, "rejection": "x"}
    made = PreferencePair.of(turns, "How far did you get?", "It is 7.", split="train", **trace)
    return made.model_copy(update={"prompt": [SYSTEM, *made.prompt]}) if system else made


@pytest.mark.parametrize("exchanges", [0, 1, 3])
@pytest.mark.parametrize("system", [True, False])
@pytest.mark.parametrize("name", PUBLISHED)
def test_a_reply_alone_is_trained_after_the_prompt_that_a_tutor_is_given(
    with_template: WithTemplate, name: str, system: bool, exchanges: int
):
    tokenizer = with_template(PUBLISHED[name])
    fitted = fit_pairs([pair(exchanges, system)], tokenizer, 4000)
    assert not fitted.broken
    tokens = fitted.pairs[0].tokens
    prompt, *replies = (tokenizer.decode(tokens[f"{side}_ids"]) for side in ("prompt", "chosen", "rejected"))
    assert tokens["prompt_ids"] == token_ids(tokenizer, pair(exchanges, system).prompt, prompt=True)
    assert prompt.count("You ask, you never tell.") == system
    assert prompt.count("What is 3 + 4?") == 1
    for reply, text in zip(replies, ("How far did you get?", "It is 7."), strict=True):
        assert reply.lstrip().startswith(text)
        # what is behind it is what ends it, and it is one token
        ends = {"</s>", "<|im_end|>", "<end_of_turn>", "<|eot_id|>"}
        assert reply.lstrip().removeprefix(text).strip() in ends


@pytest.mark.parametrize("name", PUBLISHED)
def test_bos_and_end_are_those_of_the_template(with_template: WithTemplate, name: str):
    chat = chat_of(with_template(PUBLISHED[name]))
    without_bos = ("chatml", "zephyr", "qwen 3", "no end", "system left out")
    assert chat.begins_with_bos == (name not in without_bos)
    assert (chat.end is None) == (name == "no end")


def test_system_text_that_would_move_goes_to_the_first_user_message(with_template: WithTemplate):
    taken = {name for name, template in PUBLISHED.items() if chat_of(with_template(template)).takes_system}
    assert set(PUBLISHED) - taken == {"mistral v1", "mistral v3", "gemma", "system left out"}


def test_a_pair_whose_dialogue_never_begins_as_its_prompt_is_broken(with_template: WithTemplate):
    # how many messages there are stands at the head
    template = "{{ messages | length if '5' in messages[0].content else '' }}" + PUBLISHED["chatml"]
    tokenizer = with_template(template)
    bad = pair(system=False).model_copy(update={"prompt": [{"role": "user", "content": "What is 5 + 4?"}]})
    fitted = fit_pairs([bad, pair()], tokenizer, 4000)
    assert fitted.broken == [bad]
    assert len(fitted.pairs) == 1
    with pytest.raises(UserError, match=r"its chat template begins the dialogue of none of 1 pairs as it begins its"):
        fit_pairs([bad], tokenizer, 4000)
    with pytest.raises(UserError, match="does not begin a dialogue as it begins the prompt of its last reply"):
        pair_tokens(bad, tokenizer)


@pytest.mark.parametrize("arguments", [None, {"enable_thinking": False}, {"enable_thinking": True}])
def test_an_empty_block_of_thought_belongs_to_the_prompt(with_template: WithTemplate, arguments: dict[str, Any] | None):
    tokenizer = with_template(QWEN_3, template_kwargs=arguments)
    tokens = pair_tokens(pair(), tokenizer)
    block = "<|im_start|>assistant\n<think>\n\n</think>\n\n"
    assert tokenizer.decode(tokens["prompt_ids"]).endswith(block)
    assert tokenizer.decode(tokens["chosen_ids"]) == "How far did you get?<|im_end|>\n"
    asked = tokenizer.decode(token_ids(tokenizer, pair().prompt, prompt=True))
    # who asks for thought leaves room for it
    assert asked.endswith("<|im_start|>assistant\n" if arguments and arguments["enable_thinking"] else block)


def test_arguments_of_a_template_are_saved_with_it(with_template: WithTemplate, tmp_path: Path):
    template = "\n{{ date }}{{ tools | length }}{{ n }}{{ other.a[1] }}" + PUBLISHED["chatml"]
    values = {"date": 'a "quoted" \\ % } ü\n', "tools": ["a", None, True], "n": 1.5, "other": {"a": [1, "b"]}}
    tokenizer = with_template(template, template_kwargs=values)
    tokenizer.save_pretrained(tmp_path / "saved")
    saved = weights.tokenizer_from(str(tmp_path / "saved"))
    text = AutoTokenizer.from_pretrained(tmp_path / "saved").apply_chat_template(
        [{"role": "user", "content": "x"}], tokenize=False
    )
    assert text == f"\n{values['date']}31.5b<|im_start|>user\nx<|im_end|>\n"
    assert saved.decode(token_ids(saved, [{"role": "user", "content": "x"}])) == text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"enable_thinkin": False}, r"template_kwargs\.enable_thinkin: .* no such argument; did you mean enable_think"),
        ({"zebra": 1}, r"^model\.template_kwargs\.zebra: the model's chat template has no such argument$"),
        ({"messages": []}, r"^model\.template_kwargs\.messages: is set for each dialogue"),
    ],
)
def test_arguments_that_a_template_does_not_have_are_refused(arguments: dict[str, Any], message: str):
    with pytest.raises(UserError, match=message):
        with_arguments(QWEN_3, arguments)


def test_templates_by_name_give_the_one_for_chats(with_template: WithTemplate):
    tokenizer = with_template({"default": PUBLISHED["chatml"], "tool_use": "{{ tools }}"})  # type: ignore[arg-type]
    assert tokenizer.chat_template == PUBLISHED["chatml"]


@pytest.mark.parametrize(
    ("template", "reason"),
    [
        ("{{ raise_exception('never\nat all') }}", "never at all"),
        ("{% for m in messages %}{{ m.content }}", "Unexpected end of template"),
        ("{{ messages[0].content.zebra.stripes }}", "has no attribute 'zebra'"),
        ("{{ zebra.stripes }}", "'zebra' is undefined"),
        ("{{ 'a' + none }}", "TypeError: can only concatenate str"),
        ("{{ 1 / 0 }}", "ZeroDivisionError"),
        ("{{ messages[7].content }}", "has no element 7"),
        ("{{ messages[0].content | nosuchfilter }}", "No filter named 'nosuchfilter'"),
        ("{% macro a() %}{{ a() }}{% endmacro %}{{ a() }}", "RecursionError"),
        ("{{ ''.__class__.__mro__ }}", "unsafe"),
        ("{% include 'x' %}", "no loader"),
    ],
)
def test_a_template_that_fails_is_one_line_when_it_is_loaded(with_template: WithTemplate, template: str, reason: str):
    with pytest.raises(UserError, match=r"^model\.pretrained: .*: its chat template fails: ") as error:
        with_template(template)
    assert reason in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "loops",
    [
        "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
        "{% set l = range(99999) | list %}{% for a in l %}{% for b in l %}{% set c = a %}{% endfor %}{% endfor %}",
    ],
)
def test_a_template_that_never_ends_is_ended(with_template: WithTemplate, monkeypatch: pytest.MonkeyPatch, loops: str):
    monkeypatch.setattr(templates, "SECONDS", 0.3)
    start = time.monotonic()
    with pytest.raises(UserError, match="its chat template fails: it takes more than 0 seconds over one dialogue"):
        with_template(loops)
    assert time.monotonic() - start < 5

    def in_thread() -> None:
        try:
            with_template(loops)
        except UserError as error:
            raised.append(str(error))

    raised: list[str] = []
    thread = threading.Thread(target=in_thread)
    thread.start()
    thread.join(5)
    assert len(raised) == 1


def test_a_template_that_fails_at_one_pair_names_it(with_template: WithTemplate):
    tokenizer = with_template("{% if messages | length > 4 %}{{ zebra.a }}{% endif %}" + PUBLISHED["chatml"])
    with pytest.raises(UserError, match=r"at conversation c, turn 3 its chat template fails: .*'zebra' is undefined$"):
        fit_pairs([pair(3)], tokenizer, 4000)


def test_a_template_without_an_end_is_told_and_gets_one(
    with_template: WithTemplate, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    tokenizer = with_template(PUBLISHED["no end"])
    assert pair_tokens(pair(), tokenizer)["chosen_ids"][-1] == tokenizer.eos_token_id
    settings = ModelSettings.model_validate(
        {"name": "mine", "pretrained": "mine", "revision": None, "dtype": "auto", "attn_implementation": "sdpa"}
    )
    config = {"model_type": "llama", "vocab_size": len(tokenizer)}
    (tmp_path / "tokenizer" / "config.json").write_text(json.dumps(config))
    monkeypatch.setattr(weights, "weights_folder", lambda _: str(tmp_path / "tokenizer"))
    weights.load_tokenizer(settings)
    assert capsys.readouterr().out == "mine: its chat template ends no reply, so </s> is put behind each\n"
    tokenizer.eos_token = None
    tokenizer.save_pretrained(tmp_path / "endless")
    with pytest.raises(UserError, match="its chat template ends no reply, and its tokenizer has no end token"):
        weights.tokenizer_from(str(tmp_path / "endless"))
