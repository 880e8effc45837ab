"""What the engine is asked for."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from inference.engine.grammar import Grammar


@dataclass(frozen=True, slots=True)
class SamplingParameters:
    """How to pick tokens. Bounds are checked by `inference.protocol`, not here.

    `temperature` 0 is greedy; `top_k` ≤ 0, `top_p` 1 and `min_p` 0 consider every token; `seed` None
    draws a fresh one; `stop` strings end the answer and are not part of it, as does any of
    `stop_token_ids`; nothing ends it before `min_tokens`. `frequency_penalty` and `presence_penalty`
    are OpenAI's (over the answer so far), `repetition_penalty` is transformers' (over prompt and
    answer), and `logit_bias` is pairs of token id and what to add to its logit. `logprobs` None asks
    for none, k for those of the chosen token and of the k likeliest. A `grammar` bounds the answer's text.
    """

    max_tokens: int
    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    min_p: float = 0.0
    seed: int | None = None
    stop: tuple[str, ...] = ()
    stop_token_ids: frozenset[int] = frozenset()
    min_tokens: int = 0
    ignore_eos: bool = False
    frequency_penalty: float = 0.0
    presence_penalty: float = 0.0
    repetition_penalty: float = 1.0
    logit_bias: tuple[tuple[int, float], ...] = ()
    logprobs: int | None = None
    grammar: Grammar | None = None


@dataclass(frozen=True, slots=True)
class Request:
    """One generation. Of those that wait, a lower `priority` runs first within its `tenant`.

    `cache_salt` separates tenants in any cache shared between requests.
    """

    id: str
    prompt_token_ids: tuple[int, ...]
    sampling: SamplingParameters
    tenant: str = ""
    priority: int = 0
    cache_salt: str = field(default="", repr=False)
