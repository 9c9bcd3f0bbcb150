"""What writes text: a GGUF file by llama.cpp, a model by transformers, or a server that speaks OpenAI's protocol."""

from socratic_rl.generators.base import Generator, InRounds, Reply, Request, Talk, in_order
from socratic_rl.generators.llama_cpp import LlamaCpp
from socratic_rl.generators.openai import OpenAI
from socratic_rl.generators.transformers import Transformers, decode, stream

__all__ = [
    "Generator",
    "InRounds",
    "LlamaCpp",
    "OpenAI",
    "Reply",
    "Request",
    "Talk",
    "Transformers",
    "decode",
    "in_order",
    "stream",
]
