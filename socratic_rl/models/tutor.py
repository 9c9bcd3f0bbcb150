"""A trained tutor and the base it came from, as evaluation reads them."""

import contextlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from functools import cached_property
from pathlib import Path

from peft import LoraConfig
from transformers import PreTrainedModel, PreTrainedTokenizerBase
from trl.trainer.utils import use_adapter

from socratic_rl.core.component import ModelSettings, tutor_folder
from socratic_rl.core.dialogue import Problem
from socratic_rl.core.errors import UserError
from socratic_rl.core.files import refuse_pointer
from socratic_rl.core.provenance import MADE_FROM, digest, in_a_line
from socratic_rl.models import adapters, policy, weights
from socratic_rl.models.record import TutorRecord
from socratic_rl.pairs.dataset import SocraticPairs


class Tutor:
    """Base and tutor, loaded when first opened; with LoRA they share one set of base weights.

    Args:
        folder: What ``train.py`` left: an adapter, or without LoRA a whole model.
        quantised: Whether the base is read as it was in training; False reads its weights as they come.

    Raises:
        UserError: The folder is missing or was not made by ``train.py``.
    """

    def __init__(self, folder: Path, quantised: bool = True) -> None:
        try:
            tutor_folder(str(folder))
        except ValueError as error:
            raise UserError(f"adapter: {error}") from None
        refuse_pointer(folder, "adapter")
        self.folder = folder
        self.record = TutorRecord.read(folder)
        self.settings = self.record.model
        if not quantised:
            self.settings = self.settings.model_copy(update={"quantization": None})

    @property
    def dataset(self) -> SocraticPairs:
        """The data set it was trained on."""
        return self.record.dataset

    def held_out_problems(self) -> list[Problem]:
        """The problems of its data set's test side; none where the data does not lie where it was."""
        if self.dataset.mistakes():
            return []
        held_out = {pair.problem_id for pair in self.dataset.read() if pair.split == "test"}
        return [problem for problem in self.dataset.read_problems().values() if problem.id in held_out]

    @property
    def trained_on(self) -> str:
        """How many pairs about how many problems, from which file, and what that was made from."""
        pairs, source = self.dataset.path, self.record.pairs_made_from
        file = pairs if source == pairs else f"{pairs}, made from {source}"
        counts = self.record.trained_on
        return f"{counts.pairs} pairs about {counts.problems} problems, {file}" if counts else file

    @property
    def max_length(self) -> int:
        """Tokens of prompt and answer together in training."""
        return int(self.record.dpo["max_length"])

    @cached_property
    def tokenizer(self) -> PreTrainedTokenizerBase:
        """The tokenizer saved with it."""
        return weights.tokenizer_from(str(self.folder))

    @cached_property
    def _base(self) -> PreTrainedModel:
        return weights.load_base(self.settings)

    @cached_property
    def _tutor(self) -> PreTrainedModel:
        if not weights.has_adapter(self.folder):
            return weights.load_base(self._own_weights)
        base = self._base if self._keeps_base else weights.load_base(self.settings)
        return adapters.load_adapter(base, self.folder)

    @cached_property
    def _keeps_base(self) -> bool:
        """Whether it is an adapter that gives its base back when it is switched off."""
        return weights.has_adapter(self.folder) and policy.keeps_base(self._lora)

    @property
    def _lora(self) -> LoraConfig:
        return adapters.adapter_settings(self.folder)

    @property
    def _own_weights(self) -> ModelSettings:
        """The tutor's own weights, where it is no adapter."""
        return self.settings.model_copy(update={"pretrained": str(self.folder), "revision": None})

    @cached_property
    def digest(self) -> str:
        """What tells its files from others, as it names its artifact."""
        return digest([self.folder])

    def earlier(self) -> tuple[list["Tutor"], str | None]:
        """The tutors that it was trained on top of, oldest first; and why older ones are missing, None if none is."""
        previous = self.record.previous
        if previous is None:
            return [], None
        folder = Path(previous.adapter)
        if not (folder / MADE_FROM).exists():
            return [], f"{folder} is gone"
        before = Tutor(folder)
        if before.digest != previous.sha256:
            return [], f"{folder} was trained anew since"
        older, missing = before.earlier()
        return [*older, before], missing

    @contextlib.contextmanager
    def round(self, earlier: "Tutor") -> Iterator[PreTrainedModel]:
        """A tutor that it was trained on top of, for as long as the block lasts; adapters share their base's weights.

        Args:
            earlier: One of ``earlier()``.
        """
        if not weights.has_adapter(earlier.folder):
            yield weights.load_base(earlier._own_weights)
            return
        if not (self._keeps_base and earlier._keeps_base):
            yield adapters.load_adapter(weights.load_base(self.settings), earlier.folder)
            return
        if earlier.digest not in self._tutor.peft_config:
            adapters.add_adapter(self._tutor, earlier.folder, earlier.digest)
        with use_adapter(self._tutor, earlier.digest):
            yield self._tutor

    def policy(self) -> PreTrainedModel:
        """A model of its own to train further: the base with the adapter, or the whole model."""
        if not weights.has_adapter(self.folder):
            return policy.load_policy(self._own_weights, None)
        base = policy.load_policy(self.settings, self._lora)
        return adapters.load_adapter(base, self.folder, trainable=True)

    def weights_identity(self) -> str:
        """What tells its weights from others: the base's and the adapter's, or the whole model's."""
        if not weights.has_adapter(self.folder):
            return weights.weights_identity(self._own_weights)
        return f"{weights.weights_identity(self.settings)} {self.digest}"

    @contextlib.contextmanager
    def base(self) -> Iterator[PreTrainedModel]:
        """The base, for as long as the block lasts."""
        if self._keeps_base:
            with self._tutor.disable_adapter():
                yield self._tutor
        else:
            yield self._base

    @contextlib.contextmanager
    def tutor(self) -> Iterator[PreTrainedModel]:
        """The tutor, for as long as the block lasts."""
        yield self._tutor

    def settings_line(self) -> str:
        """What it was trained with, in a line."""
        dpo, lora = self.record.dpo, self.record.lora
        named = {key: dpo[key] for key in ("beta", "learning_rate", "loss_type", "max_length")}
        adapter = f"LoRA r={lora['r']}, alpha={lora['lora_alpha']}" if lora else "all weights"
        return f"{in_a_line(named)}; {adapter}"


Opened = Callable[[], AbstractContextManager[PreTrainedModel]]
"""Opens base or tutor for as long as it is read."""
