"""What writes text: a GGUF file by llama.cpp, a model by transformers, a server, a tutor."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "llama_generator": ["LlamaCpp"],
        "openai_generator": ["OpenAI"],
        "transformers_generator": ["Transformers"],
    },
)
