"""Each model of the presets by its own tokenizer: loaded, saved, read by llama.cpp, trained and evaluated alike."""

import contextlib
import math
from pathlib import Path

import pytest
from transformers import AutoConfig, AutoModelForCausalLM

from socratic_rl.core.errors import UserError
from socratic_rl.generators.llama_reader import LlamaReader
from socratic_rl.models import tokenizers, weights
from socratic_rl.models.tokens import chat_of, token_ids
from socratic_rl.sharing import gguf_files
from tests.unit.models import real_tokenizers
from tests.unit.models.test_tokenizers import DIALOGUE
from tests.unit.models.test_weights import settings
from tests.unit.training.test_same_tokens import margins

pytestmark = pytest.mark.slow


@pytest.fixture(params=real_tokenizers.ROWS)
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """The folder of a model of one small layer with this tokenizer."""
    real_tokenizers.write(request.param, tmp_path / "model")
    architecture, rows, _ = real_tokenizers.ROWS[request.param]
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    if architecture != "gpt2":
        sizes |= {"intermediate_size": 32, "num_key_value_heads": 2, "head_dim": 8}
    config = AutoConfig.for_model(architecture, vocab_size=rows, tie_word_embeddings=True, **sizes)
    AutoModelForCausalLM.from_config(config).save_pretrained(tmp_path / "model")
    return tmp_path / "model"


def test_tokens_are_the_same_everywhere(place: Path, tmp_path: Path):
    base = settings(str(place))
    # which compares them with those of the model's own file
    tokenizer = weights.load_tokenizer(base)
    tokenizer.save_pretrained(tmp_path / "saved")
    tokenizers.hold_saved(tokenizer, tmp_path / "saved")
    model = AutoModelForCausalLM.from_pretrained(place)
    try:
        gguf_files.write_model(model, tokenizer, tmp_path / "model.gguf", "tiny", "float16", None)
    except UserError as error:
        # its vocabulary is taken from a file of the base
        assert str(error).startswith("base_gguf: for ")
    else:
        with contextlib.closing(LlamaReader(tmp_path / "model.gguf", None, 64)) as llama:
            for messages in (DIALOGUE[:2], DIALOGUE, DIALOGUE[1:2], DIALOGUE[1:]):
                prompt = token_ids(tokenizer, messages, prompt=True)
                assert llama.tokenize(llama.render(messages), special=True) == prompt
            for text in tokenizers.SAMPLE:
                assert llama.encode(text, special=True) == tokenizer(text, add_special_tokens=False)["input_ids"]
            assert llama.ends(chat_of(tokenizer).end or tokenizer.eos_token_id)
    trained, evaluated = margins(place, tmp_path / "run")
    assert math.isclose(trained, evaluated, rel_tol=1e-4, abs_tol=1e-5)
