"""Picks one token from one row of logits, by one request's parameters and random numbers."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from inference.engine.request import SamplingParameters

# The likeliest tokens nearly always hold all of `top_p`; sorting just these instead of the whole
# vocabulary makes a sampled step 5 times as fast, and the full sort remains for when they do not.
_NUCLEUS_GUESS = 256


class Sampler:
    """Owned by one request: its generator and token counts depend on no other request."""

    def __init__(self, parameters: SamplingParameters, prompt: Sequence[int], vocabulary: int) -> None:
        self._parameters = parameters
        self._generator = torch.Generator()  # On the CPU, so a seed means the same with any device.
        if parameters.seed is None:
            self._generator.seed()
        else:
            self._generator.manual_seed(parameters.seed)
        self._penalised = (
            parameters.frequency_penalty or parameters.presence_penalty or parameters.repetition_penalty != 1
        )
        if self._penalised:
            self._counts = torch.zeros(vocabulary)  # (V,) how often each token is in the answer
            self._seen = torch.zeros(vocabulary, dtype=torch.bool)  # (V,) in prompt or answer
            self._seen[torch.tensor(prompt)] = True

    @property
    def is_plain_greedy(self) -> bool:
        """True when the token is simply the argmax, which a whole batch can take at once."""
        return self._parameters.temperature == 0 and not self._penalised

    def sample(self, logits: torch.Tensor) -> int:
        """`logits` (V,) of any float type, left unchanged. Returns a token id."""
        logits = logits.float().cpu()
        if self._penalised:
            logits = self._penalise(logits)
        token = self._greedy(logits) if self._parameters.temperature == 0 else self._draw(logits)
        if self._penalised:
            self._counts[token] += 1
            self._seen[token] = True
        return token

    def _greedy(self, logits: torch.Tensor) -> int:
        return int(logits.argmax())

    def _draw(self, logits: torch.Tensor) -> int:
        p = self._parameters
        probabilities = torch.softmax(logits / p.temperature, dim=-1)
        if p.top_k > 0 or p.top_p < 1:
            probabilities, tokens = self._likeliest(probabilities)
            return int(tokens[self._pick(probabilities)])
        return self._pick(probabilities)

    def _pick(self, weights: torch.Tensor) -> int:
        """An index drawn in proportion to `weights`, which need not sum to 1."""
        return int(torch.multinomial(weights, 1, generator=self._generator))

    def _likeliest(self, probabilities: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The tokens left by top-k, then by top-p (the smallest set reaching it), likeliest first."""
        p, vocabulary = self._parameters, len(probabilities)
        limit = min(p.top_k, vocabulary) if p.top_k > 0 else vocabulary
        if p.top_p >= 1:
            return probabilities.topk(limit)
        kept, tokens = probabilities.topk(min(limit, _NUCLEUS_GUESS))
        # With top-k, top-p is a share of what top-k left.
        target = p.top_p * (1.0 if limit == vocabulary else float(probabilities.topk(limit).values.sum()))
        if len(kept) < limit and float(kept.sum()) < target:
            kept, tokens = probabilities.topk(limit)
        before = kept.cumsum(-1) - kept
        within = before < target  # The token that crosses the target is kept too.
        within[0] = True
        return kept[within], tokens[within]

    def _penalise(self, logits: torch.Tensor) -> torch.Tensor:
        p = self._parameters
        if p.repetition_penalty != 1:
            penalised = torch.where(logits > 0, logits / p.repetition_penalty, logits * p.repetition_penalty)
            logits = torch.where(self._seen, penalised, logits)
        return logits - p.frequency_penalty * self._counts - p.presence_penalty * (self._counts > 0)
