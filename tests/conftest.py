"""What several tests stand on."""

import gc
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from filelock import FileLock

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerFast

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="session")
def shared_data() -> Callable[[str], Path]:
    """The path of a file of real rows that lie beside a developer's checkout; the test skips where they do not."""

    def path(name: str) -> Path:
        found = ROOT.parent / "shared" / "data" / name
        if not found.exists():
            pytest.skip(f"needs the rows of {name}, which do not come with the project")
        return found

    return path


LONGEST = (
    "test_processes.py",
    "test_suites.py",
    "test_data_sets.py",
    "test_web_page.py",
    "test_mistakes.py",
    "test_report_page.py",
    "test_export.py",
    "test_forest_equality.py",
    "test_llama_decoder.py",
    "test_sweeps.py",
    "test_served.py",
    "test_policy.py",
    "test_reference.py",
    "test_rounds.py",
    "test_pipeline.py",
    "test_million_rows.py",
    "test_configs.py",
    "test_judge.py",
    "test_shards.py",
)
"""Files by the time that they took, the longest first: begun late, one of them would keep a single worker busy."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the files that take longest; ``--dist loadfile`` gives each to one worker, in this order."""
    ranks = {name: rank for rank, name in enumerate(LONGEST)}
    items.sort(key=lambda item: ranks.get(item.path.name, len(ranks)))


def pytest_collection_finish() -> None:
    """Leave what was imported out of what the garbage collector looks at, which training calls again and again."""
    gc.collect()
    gc.freeze()


Once = Callable[[str, Callable[[Path], object]], Path]


@pytest.fixture(scope="session")
def once(tmp_path_factory: pytest.TempPathFactory) -> Once:
    """Makes a folder once for all workers: who comes first fills it, the others wait."""
    base = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        base = base.parent

    def folder(name: str, fill: Callable[[Path], object]) -> Path:
        path, filled = base / "shared" / name, base / "shared" / f"{name}.filled"
        path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{path}.lock"):
            if not filled.exists():
                fill(path)
                filled.touch()
        return path

    return folder


CHAT_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


TinyModel = Callable[..., Path]


@pytest.fixture(scope="session")
def tiny_model(once: Once) -> TinyModel:
    """Writes a model of two layers and random weights into a folder, with a tokenizer of bytes.

    ``architecture`` is llama (grouped-query attention), mistral (a window of 16 tokens) or gpt2 (Conv1D in place of
    linear layers); ``chat_template=False`` leaves the template out, as base models do.
    """

    def write(folder: Path, architecture: str, chat_template: bool) -> None:
        import torch
        from transformers import AutoConfig, AutoModelForCausalLM

        tokenizer = _byte_tokenizer()
        tokenizer.chat_template = CHAT_TEMPLATE if chat_template else None
        tokenizer.save_pretrained(folder)
        sizes = {
            "hidden_size": 32,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "max_position_embeddings": 4096,
        }
        if architecture != "gpt2":
            sizes |= {"intermediate_size": 64, "num_key_value_heads": 2}
        if architecture == "mistral":
            sizes |= {"sliding_window": 16, "head_dim": 16}
        config = AutoConfig.for_model(
            architecture,
            vocab_size=len(tokenizer),
            bos_token_id=None,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
            **sizes,
        )
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            AutoModelForCausalLM.from_config(config).save_pretrained(folder)

    def folder(architecture: str, chat_template: bool = True) -> Path:
        name = f"{'chat' if chat_template else 'plain'}/tiny-{architecture}"
        return once(name, lambda path: write(path, architecture, chat_template))

    return folder


SharpModel = Callable[[str], "PreTrainedModel"]


@pytest.fixture(scope="session")
def sharp_model(tiny_model: TinyModel) -> SharpModel:
    """Loads a tiny model with weights that make its next token depend on what it reads, which fresh ones hardly do.

    mistral is without a window here, since llama.cpp knows none.
    """

    def load(architecture: str) -> "PreTrainedModel":
        import torch
        from transformers import AutoModelForCausalLM

        window = {"sliding_window": None} if architecture == "mistral" else {}
        model = AutoModelForCausalLM.from_pretrained(tiny_model(architecture), dtype=torch.float32, **window)
        with torch.random.fork_rng(devices=[]), torch.no_grad():
            torch.manual_seed(1)
            for weight in model.parameters():
                weight.normal_(1, 0.3) if weight.ndim == 1 else weight.normal_(0, 0.3)
        return model.eval()

    return load


def _byte_tokenizer() -> "PreTrainedTokenizerFast":
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    # llama.cpp wants a merge; two bytes of 255 are in no text
    tokens = [*sorted(pre_tokenizers.ByteLevel.alphabet()), "ÿÿ"]
    backend = Tokenizer(models.BPE(vocab={token: number for number, token in enumerate(tokens)}, merges=[("ÿ", "ÿ")]))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    backend.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        eos_token=AddedToken("<|im_end|>", special=True),
        pad_token=AddedToken("<|pad|>", special=True),
        additional_special_tokens=[AddedToken("<|im_start|>", special=True)],
        clean_up_tokenization_spaces=False,
    )


@pytest.fixture(scope="session")
def tiny_llama(tiny_model: TinyModel) -> Path:
    """A folder with a tiny Llama and a chat template."""
    return tiny_model("llama")
