"""GGUF files that a disk or a stranger damaged, handed to chat.py, export.py and a generator: one line each."""

from collections.abc import Callable
from pathlib import Path

import gguf
import pytest
from transformers import AutoModelForCausalLM

from socratic_rl.core.errors import UserError
from socratic_rl.core.generator import Request
from socratic_rl.generators import LlamaCpp
from socratic_rl.generators.llama_reader import LlamaReader
from socratic_rl.models import weights
from socratic_rl.sharing import exports, gguf_files
from tests.damage import damaged_bytes, in_one_line
from tests.unit.sharing.test_exports import whole

__all__ = ["whole"]

Use = Callable[[Path], object]


def chat(tutor: object) -> Use:
    def use(path: Path) -> None:
        files = exports.exported(tutor, str(path), None)
        reader = LlamaReader(files.model, files.adapter, 64)
        reader.tokenize("2 + 2? <|im_end|>", special=True)
        reader.close()

    return use


def take_over(tutor: object) -> Use:
    model = AutoModelForCausalLM.from_pretrained(tutor.folder)

    def use(path: Path) -> None:
        gguf_files.write_model(model, tutor.tokenizer, path.with_name("x.gguf"), "x", "float16", path)

    return use


def write_by(tutor: object) -> Use:
    def use(path: Path) -> None:
        llama = LlamaCpp(
            model_path=str(path), n_ctx=128, width=1, n_threads=1, n_gpu_layers=0, temperature=0, top_p=1, max_tokens=2
        )
        dict(llama.generate([Request(messages=({"role": "user", "content": "2 + 2?"},), seed=0)]))

    return use


@pytest.mark.parametrize("way", [chat, take_over, write_by])
def test_a_damaged_file_is_told_in_one_line(whole: object, tmp_path: Path, way: Callable[[object], Use]):
    path = tmp_path / "damaged" / "model.gguf"
    path.parent.mkdir()
    model = AutoModelForCausalLM.from_pretrained(whole.folder)
    gguf_files.write_model(model, weights.tokenizer_from(str(whole.folder)), path, "x", "float32", None)
    size = path.stat().st_size
    copies = damaged_bytes(path.read_bytes())
    # the file's own length and header are right; weights are not looked at
    harmless = {"twice"} | {f"{what} {place}" for what in ("zeros from", "ones at") for place in (size // 4, size // 2)}
    harmless |= {f"zeros from {size - 1}", f"ones at {size - 1}"}
    assert len(copies) - len(harmless) >= 22
    use = way(whole)
    for damage, content in copies.items():
        path.write_bytes(content)
        try:
            use(path)
        except (UserError, ValueError) as error:
            # that a file does not begin as one is told with all other mistakes of a config
            assert isinstance(error, UserError) or "not a GGUF file" in str(error), damage
            assert isinstance(error, ValueError) or not list(in_one_line(error)), damage
            assert str(path) in str(error), damage
        else:
            # what takes the header over needs no weights of it
            assert damage in harmless or way is take_over, damage


def test_what_a_file_calls_itself_reaches_nobody_as_more_than_text(whole: object, tmp_path: Path):
    path = tmp_path / "model.gguf"
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_string("general.architecture\x1b[2J", "x")
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    with pytest.raises(UserError) as error:
        chat(whole)(path)
    assert len(str(error.value).splitlines()) == 1
