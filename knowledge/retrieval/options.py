"""A base's settings of retrieval, as its `options` keep them."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError


class Options(BaseModel):
    """passages: of an answer at most. meaning: the share of vectors in a passage's score, the rest is that of words.
    enough: the confidence below which the product says that the documents do not have it. docs/benchmarks.md says how
    the defaults were chosen.
    """

    model_config = ConfigDict(extra="ignore", frozen=True)

    passages: int = Field(default=5, ge=1, le=20)
    meaning: float = Field(default=0.25, ge=0, le=1)
    enough: float = Field(default=0.6, ge=0, le=1)


def options_of(stored: dict[str, Any]) -> Options:
    """What is stored, or the defaults where it is of an earlier shape."""
    try:
        return Options.model_validate(stored or {})
    except ValidationError:
        return Options()
