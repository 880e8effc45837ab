"""What the engine is asked for."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class SamplingParameters:
    """How to pick tokens. Bounds are checked by `inference.protocol`, not here.

    `temperature` 0 is greedy; `top_k` ≤ 0 and `top_p` 1 consider every token; `seed` None draws a
    fresh one; `stop` strings end the answer and are not part of it; the penalties are OpenAI's
    (over the answer so far) and `repetition_penalty` is transformers' (over prompt and answer).
    """

    max_tokens: int
    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    seed: int | None = None
    stop: tuple[str, ...] = ()
    frequency_penalty: float = 0.0
    presence_penalty: float = 0.0
    repetition_penalty: float = 1.0
    ignore_eos: bool = False


@dataclass(frozen=True, slots=True)
class Request:
    """One generation. `cache_salt` separates tenants in any cache shared between requests."""

    id: str
    prompt_token_ids: tuple[int, ...]
    sampling: SamplingParameters
    cache_salt: str = field(default="", repr=False)
