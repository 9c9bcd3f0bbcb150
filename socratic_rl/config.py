"""Schemas of our own keys, and one check that reports every mistake at once."""

from pydantic import BaseModel, ConfigDict


class Component(BaseModel):
    """What a user swaps by ``_target_``: immutable, its fields are the YAML keys, an unknown key is an error.

    Making one is cheap: weights and files are opened when they are first needed, so that a config can be checked whole.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
