"""Talks decoded together: what a talk hears depends on no other one, and nothing is evaluated twice."""

from collections.abc import Callable, Sequence
from functools import cache
from itertools import islice
from typing import Any

import pytest

from socratic_rl.core import embedded
from socratic_rl.core.generator import Reply, Request, Sampling, Talk
from socratic_rl.generators import LlamaCpp

HEAD = "Numbers in words: 1 is one, 2 is two, 3 is three, 4 is four, 5 is five, 6 is six, 7 is seven, 8 is eight.\n"
"""Some forty tokens that prompts share."""


def llama(width: int, **settings: Any) -> LlamaCpp:
    defaults = {"model_path": None, "n_ctx": 384, "n_threads": 1, "n_gpu_layers": 0}
    return LlamaCpp(**{**defaults, "width": width, "temperature": 0.0, "top_p": 1.0, "max_tokens": 8, **settings})


@pytest.fixture(scope="module")
def one() -> LlamaCpp:
    return llama(1)


@pytest.fixture(scope="module")
def three() -> LlamaCpp:
    return llama(3)


def replies(generator: LlamaCpp, requests: Sequence[Request]) -> list[Reply]:
    found = dict(generator.generate(requests))
    return [found[number] for number in range(len(requests))]


def read_by(generator: LlamaCpp, work: Callable[[], object]) -> int:
    """How many tokens of prompts were evaluated for it."""
    before = generator._decoder.read
    work()
    return generator._decoder.read - before


def lengths(generator: LlamaCpp, requests: Sequence[Request]) -> list[int]:
    return [len(generator._tokens(request)) for request in requests]


def talk(*sides: str, turns: int, heard: list[list[Request]] | None = None) -> Talk[list[str]]:
    """Sides that speak in turn, each with its own instructions before what both have said."""
    said: list[str] = []
    asked: list[Request] = []
    if heard is not None:
        heard.append(asked)
    for turn in range(turns):
        asked.append(Request(text=sides[turn % len(sides)] + "".join(f"{text}\n" for text in said), seed=turn))
        said.append((yield asked[-1]).text)
    return said


@cache
def by_llama_cpp_python(text: str, max_tokens: int, stop: tuple[str, ...] = ()) -> str:
    """What the library's own loop says, one prompt after another."""
    import llama_cpp

    model = llama_cpp.Llama(str(embedded.gguf_path()), n_ctx=384, n_threads=1, n_threads_batch=1, verbose=False)
    completion = model.create_completion(text, max_tokens=max_tokens, temperature=0.0, stop=list(stop))
    return str(completion["choices"][0]["text"]).strip()


TEXTS = ("The capital of France is", "1, 2, 3, 4, 5,", HEAD + "9 is", HEAD + "10 is", "Water boils at", "a b c d")


def test_the_replies_are_those_of_the_librarys_own_loop(three: LlamaCpp) -> None:
    requests = [Request(text=text, seed=0, max_tokens=4 + n) for n, text in enumerate(TEXTS)]
    assert [reply.text for reply in replies(three, requests)] == [
        by_llama_cpp_python(text, 4 + n) for n, text in enumerate(TEXTS)
    ]


def test_a_drawn_reply_depends_on_its_seed_and_not_on_its_neighbours(one: LlamaCpp, three: LlamaCpp) -> None:
    warm = {"temperature": 1.0, "top_p": 0.95}
    alone, together = (generator.model_copy(update=warm) for generator in (one, three))
    requests = [Request(text=text, seed=seed) for text in TEXTS[:3] for seed in range(2)]
    expected = replies(alone, requests)
    assert len({reply.text for reply in expected}) == 6
    assert replies(together, requests) == expected
    assert replies(together, requests[::-1]) == expected[::-1]


def test_talks_go_on_by_themselves_and_end_with_their_own_results(one: LlamaCpp, three: LlamaCpp) -> None:
    def talks() -> list[Talk[list[str]]]:
        # of unlike length, so that they end at different steps, in the middle of the places too
        return [talk(f"{HEAD}{n}: ", f"Say {n}: ", turns=turns) for n, turns in enumerate((3, 1, 5, 2, 4, 0, 3))]

    alone = {n: next(one.hold([each]))[1] for n, each in enumerate(talks())}
    assert [len(said) for said in alone.values()] == [3, 1, 5, 2, 4, 0, 3]
    assert dict(three.hold(talks())) == alone


def test_a_talk_that_ends_makes_room_at_once(three: LlamaCpp) -> None:
    ended = [number for number, _ in three.hold(talk("Count: ", turns=turns) for turns in (6, 1, 6, 1, 1))]
    assert ended == [1, 3, 4, 0, 2]


def test_both_sides_of_a_talk_keep_their_caches(one: LlamaCpp) -> None:
    heard: list[list[Request]] = []
    sides = (HEAD + "Teacher:\n", "A student answers in one word.\n")
    read = read_by(one, lambda: list(one.hold([talk(*sides, turns=6, heard=heard)])))
    longest = sum(lengths(one, heard[0][-2:]))
    # a side reads again its own reply's last token, and what another cut into tokens makes of the line's end
    assert longest - 8 * 6 < read <= longest
    assert read < sum(lengths(one, heard[0])) / 2


def test_what_prompts_share_is_evaluated_once(three: LlamaCpp) -> None:
    requests = [Request(text=f"{HEAD}{word}", seed=0) for word in ("Ten", "Eleven", "Twelve", "Thirty", "Forty")]
    head = min(lengths(three, [Request(text=HEAD, seed=0)]))
    total = sum(lengths(three, requests))
    # each reads at least its last token itself
    assert total - 4 * head <= read_by(three, lambda: replies(three, requests)) <= total - 4 * head + 4 * 2


def test_a_reply_ends_before_a_stop_string_that_several_tokens_write(three: LlamaCpp) -> None:
    counting = Request(text="1, 2, 3, 4, 5, 6, 7,", seed=0, stop=("9, 10", "never"), max_tokens=20)
    assert replies(three, [counting, counting]) == [Reply("8,", "stop")] * 2


def test_a_schema_holds_one_reply_and_not_its_neighbour(three: LlamaCpp) -> None:
    text = "Is water wet? Answer:"
    held = Request(text=text, seed=0, schema='{"enum": ["maybe so", "maybe not"]}', max_tokens=20)
    free, bound = replies(three, [Request(text=text, seed=0), held])
    assert bound.text in ('"maybe so"', '"maybe not"')
    assert bound.finish == "stop"
    assert "maybe" not in free.text


def test_a_reader_draws_what_the_library_draws_and_reads_again_only_what_is_new() -> None:
    import llama_cpp
    import torch

    from socratic_rl.generators.llama_reader import LlamaReader

    threads = torch.get_num_threads()
    library = llama_cpp.Llama(
        str(embedded.gguf_path()), n_ctx=384, n_threads=threads, n_threads_batch=threads, verbose=False
    )
    reader = LlamaReader(embedded.gguf_path(), None, 384)
    read: list[int] = []
    evaluate = reader._evaluate
    reader._evaluate = lambda tokens, every=False: read.append(len(tokens)) or evaluate(tokens, every)  # type: ignore[method-assign]
    for temperature in (0.0, 1.0):
        sampling = Sampling(temperature=temperature, top_p=0.9, max_tokens=12, width=1)
        for seed, text in enumerate((HEAD + "9 is", HEAD + "10 is", HEAD + "10 is", "Water boils at")):
            tokens = reader.tokenize(text, special=False)
            library.set_seed(seed)
            wanted = library.generate(tokens, temp=temperature, top_p=0.9, top_k=0, min_p=0.0)
            assert list(islice(reader.draw(tokens, sampling, seed), 12)) == list(islice(wanted, 12))
    first, _, again, other = read[:48:12]
    assert first > 40
    assert again == 1
    assert other == len(reader.tokenize("Water boils at", special=False))


def test_a_reply_is_handed_on_once_it_is_written(three: LlamaCpp) -> None:
    pieces: list[str] = []
    (reply,) = replies(three, [Request(text="The capital of France is", seed=0, write=pieces.append)])
    assert pieces == [reply.text]


def test_a_reply_ends_where_its_context_is_full(one: LlamaCpp) -> None:
    text = "one two three four " * 90
    room = one.n_ctx - lengths(one, [Request(text=text, seed=0)])[0]
    assert 0 < room < 100
    before = one._decoder.drawn
    assert replies(one, [Request(text=text, seed=0, max_tokens=200)])[0].finish == "length"
    assert one._decoder.drawn - before == room


def test_a_prompt_longer_than_a_batch_is_read_in_pieces() -> None:
    wide = llama(2, n_ctx=1024)
    text = "The number seven comes after the number six. " * 80
    requests = [Request(text=text, seed=0), Request(text="The capital of France is", seed=0)]
    assert lengths(wide, requests)[0] > 600
    long, short = replies(wide, requests)
    assert short.text == by_llama_cpp_python("The capital of France is", 8)
    assert "seven" in long.text


def test_what_was_held_before_leaves_nothing_behind(three: LlamaCpp) -> None:
    abandoned = three.hold(talk("Count: ", turns=4) for _ in range(5))
    next(abandoned)
    abandoned.close()
    requests = [Request(text=text, seed=0) for text in TEXTS]
    first = read_by(three, lambda: replies(three, requests))
    assert read_by(three, lambda: replies(three, requests)) == first
