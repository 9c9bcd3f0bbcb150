"""The reference's log-probabilities: computed once for weights, pairs and template, kept, and read by later jobs.

They depend neither on β nor on the loss, the learning rate or the adapter.
"""

import contextlib
import copy
import hashlib
import json
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from accelerate.utils import is_peft_model
from filelock import FileLock
from peft import LoraConfig
from safetensors.numpy import load_file, save_file
from transformers import PreTrainedModel, PreTrainedTokenizerBase
from trl import DPOConfig

from socratic_rl.core import provenance
from socratic_rl.core.dialogue import PreferencePair
from socratic_rl.core.files import whole_file
from socratic_rl.core.text import tell
from socratic_rl.models import processes, weights
from socratic_rl.models.scoring import PairScores, score_pairs
from socratic_rl.models.tokens import pair_tokens


def saves_passes(args: DPOConfig, pairs: int, jobs: int) -> bool:
    """Whether ``jobs`` trainings read as many pairs as there are, so that one pass over all costs no more.

    Where TRL's reference is not these log-probabilities, it is no.
    """
    if args.ld_alpha is not None or args.sync_ref_model or processes.sharded():
        return False
    step = args.per_device_train_batch_size * args.gradient_accumulation_steps * args.world_size
    reads = args.max_steps * step if args.max_steps > 0 else args.num_train_epochs * pairs
    return bool(jobs * reads >= pairs)


def reference_scores(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    pairs: Sequence[PreferencePair],
    args: DPOConfig,
    identity: str | None,
    label: str,
) -> PairScores:
    """The log-probabilities of n pairs under the base, read where an earlier job has left them.

    Several processes share the work; all must call this.

    Args:
        model: The base, without an adapter.
        tokenizer: With a chat template.
        pairs: n pairs.
        args: Their batch size and precision are the trainer's.
        identity: What tells the base's weights from others; None keeps nothing.
        label: What the pairs are called.
    """
    if identity is None:
        return _score(model, tokenizer, pairs, args, label)
    path = weights.cache() / "reference" / f"{_key(model, tokenizer, pairs, args, identity)}.safetensors"
    path.parent.mkdir(parents=True, exist_ok=True)
    # another job that wants the same waits and reads; beside the main process all wait for that one
    with FileLock(path.with_suffix(".lock")) if processes.is_main() else contextlib.nullcontext():
        earlier = processes.from_main(lambda: PairScores(**load_file(path)) if path.exists() else None)
        if earlier is not None:
            tell(f"reference log-probabilities of {len(pairs)} {label}: read from {path}")
            return earlier
        started = time.monotonic()
        scores = _score(model, tokenizer, pairs, args, label)
        if processes.is_main():
            with whole_file(path) as temporary:
                save_file(vars(scores), temporary)
        seconds = time.monotonic() - started
        tell(f"reference log-probabilities of {len(pairs)} {label}: computed in {seconds:.1f} s, kept in {path}")
        return scores


def reference_model(model: PreTrainedModel, lora: LoraConfig | None, needed: bool) -> PreTrainedModel | None:
    """What is asked in place of the policy with its new adapter off or its old one as it was; None where TRL does that.

    Args:
        model: What training begins with.
        lora: A new adapter; None where the one that the model may have is trained further.
        needed: Whether switching the adapter off does not give the base back.
    """
    if lora is None and is_peft_model(model):
        # TRL copies an adapter that is trained further by names with ``.default.``, and beside biases stands no copy
        names = [name for name, parameter in model.named_parameters() if parameter.requires_grad]
        needed = needed or not all(".default." in name for name in names)
    if not needed:
        return None
    copied = copy.deepcopy(model)
    return copied.get_base_model() if is_peft_model(copied) else copied


def _score(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    pairs: Sequence[PreferencePair],
    args: DPOConfig,
    label: str,
) -> PairScores:
    # as the trainer computes
    half = torch.float16 if args.fp16 else torch.bfloat16
    with torch.autocast(model.device.type, half, enabled=args.fp16 or args.bf16):
        return score_pairs(model, tokenizer, pairs, args.per_device_eval_batch_size, f"reference on {label}")


def _key(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    pairs: Sequence[PreferencePair],
    args: DPOConfig,
    identity: str,
) -> str:
    """A digest of all that shapes the log-probabilities, to the last bit: the template by the tokens that it makes."""
    shaped_by: dict[str, Any] = {
        "weights": identity,
        "config": model.config.to_dict(),
        "attention": model.config._attn_implementation,
        "dtype": model.dtype,
        "autocast": [args.fp16, args.bf16],
        "device": model.device.type,
        "batches": [args.per_device_eval_batch_size, processes.count()],
        "versions": provenance.versions(),
    }
    digest = hashlib.sha256(json.dumps(shaped_by, sort_keys=True, default=str).encode())
    for pair in pairs:
        for name, ids in pair_tokens(pair, tokenizer).items():
            digest.update(name.encode() + np.array(ids).tobytes())
    return digest.hexdigest()[:32]
