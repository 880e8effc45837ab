"""Picks tokens from rows of logits, each row by its own request's parameters and random numbers.

A row is processed in vLLM's order, which is what users of the OpenAI API know, too:

1. `logit_bias`; 2. `repetition_penalty`, then `frequency_penalty` and `presence_penalty`;
3. `min_tokens` (forbids what would end the answer) and the grammar (forbids all but what it allows);
4. greedy (`temperature` 0): the likeliest; else 5. `temperature`; 6. top-k; 7. top-p, a share of what
top-k left; 8. min-p, a share of the likeliest token's probability; 9. a draw from what is left.

Tokens exactly as likely as the last one kept are kept, too, so no choice depends on how a sort
happened to order equals. Everything is done to all rows at once; no row's outcome depends on which
others are there.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate, islice
from secrets import randbits

import numpy as np
import torch
from torch.nn.functional import pad

from inference.engine.errors import StepFailed
from inference.engine.request import SamplingParameters

# vLLM's bound: below it a division overflows, and nothing but the likeliest token has a chance.
_COLDEST = 1e-5

# How many of the likeliest tokens to look among for the end of top-k and top-p: sorting the whole
# vocabulary takes 20 times as long, and is left for rows that the smaller numbers do not settle.
_CANDIDATES = (128, 2048)

_BLOCK = 128  # Sums and maxima are first taken over blocks of so many tokens; divides most vocabularies.
_CACHED_ROWS = 8
_BITS = torch.tensor([1, 2, 4, 8, 16, 32, 64, 128], dtype=torch.uint8)


@dataclass(frozen=True, slots=True)
class TokenLogprobs:
    """Natural logarithms of probabilities: the chosen token's, and (token, …) of the likeliest in order.

    They are the log-softmax of the model's own logits, before any step above (vLLM's `raw_logprobs`).
    """

    logprob: float
    top: tuple[tuple[int, float], ...]


@dataclass(frozen=True, slots=True)
class Sampled:
    """`logprobs` is there when the request asked."""

    token: int
    logprobs: TokenLogprobs | None = None


class BadLogits(StepFailed):
    """Some rows hold no number to choose by; no sampler has moved on. `rows` are indices of samplers."""

    def __init__(self, rows: Sequence[int]) -> None:
        super().__init__("The model's output was not a number; try again, or report the model as broken.")
        self.rows = tuple(rows)


class Sampler:
    """What one request's next token depends on: parameters, tokens so far, random numbers, grammar.

    Token i of an answer uses the i-th random number of its seed, however often a row is computed
    anew. `eos_token_ids` and `stop_token_ids` are forbidden until `min_tokens`.
    """

    def __init__(
        self,
        parameters: SamplingParameters,
        prompt: Sequence[int],
        vocabulary: int,
        eos_token_ids: frozenset[int] = frozenset(),
    ) -> None:
        p = self.parameters = parameters
        self.is_greedy = p.temperature < _COLDEST
        self.num_tokens = 0
        self.matcher = p.grammar.matcher() if p.grammar else None
        self._enders = [i for i in sorted(eos_token_ids | p.stop_token_ids) if 0 <= i < vocabulary]
        bias = {token: value for token, value in p.logit_bias if 0 <= token < vocabulary}
        self.bias = (np.array(list(bias), np.int64), np.array(list(bias.values()), np.float32))
        self._counts: _Counts | None = None
        if p.repetition_penalty != 1 or p.frequency_penalty or p.presence_penalty:
            self._counts = _Counts(prompt if p.repetition_penalty != 1 else ())
        seed = randbits(64) if p.seed is None else p.seed
        # Raw output of a counter-based generator: the same with any version, machine and device.
        self._random = np.random.Philox(key=seed % 2**64)
        self._uniforms: list[float] = []

    @property
    def filters(self) -> bool:
        """Whether some tokens are too unlikely to be drawn."""
        p = self.parameters
        return p.top_k > 0 or p.top_p < 1 or p.min_p > 0

    def sample(self, logits: torch.Tensor) -> int:
        """`logits` (V,) of any float type, left unchanged. Returns a token id."""
        return sample_rows(logits[None], [self])[0].token

    def accept(self, token: int) -> bool:
        """The answer goes on with `token`. False, and nothing is done, when the grammar forbids it."""
        if self.matcher and not self.matcher.accept(token):
            return False
        self.num_tokens += 1
        if self._counts:
            self._counts.add(token)
        return True

    def positions(self, drafts: Sequence[int]) -> list[_Position]:
        """What applies to the next token and to the one after each draft, were it accepted.

        Fewer than `len(drafts)` + 1 when the grammar forbids a draft. Leaves the state as it was.
        """
        found, num_accepted = [self._position()], 0
        try:
            for token in drafts:
                if not self.accept(token):
                    break
                num_accepted += 1
                found.append(self._position())
        finally:
            self._retract(drafts[:num_accepted])
        return found

    def _retract(self, tokens: Sequence[int]) -> None:
        self.num_tokens -= len(tokens)
        if self._counts:
            for token in tokens:
                self._counts.remove(token)
        if self.matcher:
            self.matcher.rollback(len(tokens))

    def _position(self) -> _Position:
        mask = self.matcher.mask() if self.matcher else None
        # A grammar that allows nothing but the end has its way over `min_tokens`.
        must_end = self.matcher is not None and self.matcher.must_end
        early = self.num_tokens < self.parameters.min_tokens and not must_end
        return _Position(
            sampler=self,
            uniform=0.0 if self.is_greedy else self._uniform(self.num_tokens),
            counts=self._counts.snapshot() if self._counts else None,
            forbidden=self._enders if early else [],
            mask=mask,
        )

    def _uniform(self, index: int) -> float:
        """The `index`-th number of this seed, in [0, 1) with 53 random bits."""
        while index >= len(self._uniforms):
            self._uniforms += ((self._random.random_raw(64) >> np.uint64(11)) * 2.0**-53).tolist()
        return self._uniforms[index]


@dataclass(frozen=True, slots=True)
class _Position:
    """One token to choose: a row of logits will be changed and drawn from as this says."""

    sampler: Sampler
    uniform: float
    counts: tuple[np.ndarray, np.ndarray, np.ndarray] | None  # as of _Counts.snapshot
    forbidden: list[int]
    mask: np.ndarray | None  # (⌈V / 8⌉,) uint8; bit i % 8 of byte i // 8 allows token i

    @property
    def is_argmax(self) -> bool:
        """Whether the token is the likeliest of the row as it came."""
        changed = len(self.sampler.bias[0]) or self.forbidden or self.counts or self.mask is not None
        return self.sampler.is_greedy and not changed


class _Counts:
    """How often each token is in the answer, of those that are in prompt or answer."""

    def __init__(self, prompt: Sequence[int]) -> None:
        tokens = list(dict.fromkeys(prompt))
        self._at = {token: at for at, token in enumerate(tokens)}
        self._num_prompt = len(tokens)
        self._tokens = np.array(tokens + [0] * 64, np.int64)
        self._counts = np.zeros(len(self._tokens), np.float32)

    def add(self, token: int) -> None:
        at = self._at.setdefault(token, len(self._at))
        if at == len(self._tokens):
            self._tokens = np.concatenate([self._tokens, np.zeros_like(self._tokens)])
            self._counts = np.concatenate([self._counts, np.zeros_like(self._counts)])
        self._tokens[at] = token
        self._counts[at] += 1

    def remove(self, token: int) -> None:
        self._counts[self._at[token]] -= 1

    def snapshot(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(tokens, how often in the answer, whether in prompt or answer), each (num_distinct,)."""
        size = len(self._at)
        counts = self._counts[:size].copy()
        seen = counts > 0
        seen[: self._num_prompt] = True
        return self._tokens[:size], counts, seen


def sample_rows(logits: torch.Tensor, samplers: Sequence[Sampler]) -> list[Sampled]:
    """The next token of each sampler, which moves on by it. `logits` (B, V) on any device, unchanged.

    Raises BadLogits.
    """
    return [row[0] for row in verify_rows(logits, samplers, [()] * len(samplers))]


def verify(logits: torch.Tensor, drafts: Sequence[int], sampler: Sampler) -> list[Sampled]:
    """As `verify_rows` for one sampler: `logits` (k + 1, V); returns 1 to k + 1 tokens."""
    return verify_rows(logits, [sampler], [drafts])[0]


def verify_rows(
    logits: torch.Tensor, samplers: Sequence[Sampler], drafts: Sequence[Sequence[int]]
) -> list[list[Sampled]]:
    """Speculation: each sampler's tokens as far as its drafts were right, and the one after that.

    `logits` (Σ(kᵢ + 1), V): row j of a sampler was computed with its first j drafts as input. Every
    row is sampled as it would be without drafts, with the same random number; a draft is right
    if it is what was sampled. So the answer is the very one that no speculation gives (a draft
    x is accepted with its probability p(x), and after a refusal the token is distributed as p
    without x). Each sampler moves on by the tokens returned. Raises BadLogits.
    """
    groups = [sampler.positions(draft) for sampler, draft in zip(samplers, drafts, strict=True)]
    positions = [position for group in groups for position in group]
    starts = accumulate((len(draft) + 1 for draft in drafts), initial=0)
    rows = [start + row for start, group in zip(starts, groups, strict=False) for row in range(len(group))]
    if len(rows) < len(logits):
        logits = logits[torch.tensor(rows, device=logits.device)]
    tokens = _choose(logits, positions)
    bad = {id(position.sampler) for position, token in zip(positions, tokens, strict=True) if token < 0}
    if bad:
        raise BadLogits([index for index, sampler in enumerate(samplers) if id(sampler) in bad])
    chosen = map(Sampled, tokens, _logprobs(logits, positions, tokens))
    return [
        _keep(sampler, draft, list(islice(chosen, len(group))))
        for sampler, draft, group in zip(samplers, drafts, groups, strict=True)
    ]


def guess_rows(
    logits: torch.Tensor, samplers: Sequence[Sampler], drafts: Sequence[Sequence[int]]
) -> list[int]:
    """What each sampler would choose after its drafts, were row i of `logits` (B, V) the model's own.

    The same random numbers are used as when the guesses are checked, so logits that come near the model's
    give its very tokens often, at any temperature. No sampler moves on.
    """
    positions = [sampler.positions(draft)[-1] for sampler, draft in zip(samplers, drafts, strict=True)]
    return [max(0, token) for token in _choose(logits, positions)]  # Without a number any guess will do.


def _keep(sampler: Sampler, drafts: Sequence[int], sampled: list[Sampled]) -> list[Sampled]:
    """Those of `sampled` that had only right drafts before them; the sampler moves on by them."""
    kept = 0
    for kept, one in enumerate(sampled, start=1):
        sampler.accept(one.token)
        if kept > len(drafts) or one.token != drafts[kept - 1]:
            break
    return sampled[:kept]


def _choose(logits: torch.Tensor, positions: Sequence[_Position]) -> list[int]:
    """A token for each row of `logits` (R, V); -1 where there is no number to choose by."""
    tokens = [-1] * len(positions)
    argmax = [row for row, position in enumerate(positions) if position.is_argmax]
    others = [row for row, position in enumerate(positions) if not position.is_argmax]
    if argmax:
        _put(tokens, argmax, _likeliest(_rows(logits, argmax)))
    for rows in _parts(others, logits.device):
        _put(tokens, rows, _process(_rows(logits, rows), [positions[row] for row in rows]))
    return tokens


def _process(logits: torch.Tensor, positions: Sequence[_Position]) -> torch.Tensor:
    """All the steps: (R,) tokens, or -1, for rows of `logits` (R, V) that are not simply an argmax."""
    logits = logits.to(torch.float32, copy=True)
    _edit(logits, positions)
    tokens = torch.empty(len(positions), dtype=torch.int64, device=logits.device)
    greedy = [row for row, position in enumerate(positions) if position.sampler.is_greedy]
    drawn = [row for row, position in enumerate(positions) if not position.sampler.is_greedy]
    if greedy:
        tokens[greedy] = _likeliest(_rows(logits, greedy))
    if drawn:
        tokens[drawn] = _draw(_rows(logits, drawn), [positions[row] for row in drawn])
    return tokens


def _parts(rows: list[int], device: torch.device) -> Iterator[list[int]]:
    """So few rows at a time that a processor's cache holds them: 4 times as fast as all of them."""
    size = _CACHED_ROWS if device.type == "cpu" else max(len(rows), 1)
    return (rows[start : start + size] for start in range(0, len(rows), size))


def _rows(logits: torch.Tensor, rows: Sequence[int]) -> torch.Tensor:
    """`logits` itself when every row is wanted, else a copy of those that are."""
    if len(rows) == len(logits):
        return logits
    return logits[torch.tensor(rows, device=logits.device)]


def _put(tokens: list[int], rows: Sequence[int], picks: torch.Tensor) -> None:
    for row, pick in zip(rows, picks.tolist(), strict=True):
        tokens[row] = pick


def _likeliest(logits: torch.Tensor) -> torch.Tensor:
    """(R,) the argmax of each row, the first of equals; -1 where it is not a finite number."""
    values, tokens = logits.max(-1)
    return tokens.where(values.isfinite(), -1)


# --- Changes to logits, in place ------------------------------------------------------------------


def _edit(logits: torch.Tensor, positions: Sequence[_Position]) -> None:
    """Steps 1 to 3 on float32 `logits` (R, V)."""
    _add_bias(logits, positions)
    _penalise(logits, positions)
    forbidden = [(row, token) for row, position in enumerate(positions) for token in position.forbidden]
    if forbidden:
        at = torch.tensor(forbidden, device=logits.device)
        logits[at[:, 0], at[:, 1]] = -torch.inf
    masked = [row for row, position in enumerate(positions) if position.mask is not None]
    if masked:
        masks = np.stack([position.mask for position in positions if position.mask is not None])
        allowed = _unpack(torch.from_numpy(masks).to(logits.device), logits.shape[-1])
        at = torch.tensor(masked, device=logits.device)
        logits[at] = logits[at].masked_fill_(~allowed, -torch.inf)


def _add_bias(logits: torch.Tensor, positions: Sequence[_Position]) -> None:
    biased = [(row, position) for row, position in enumerate(positions) if len(position.sampler.bias[0])]
    if biased:
        rows = _repeat([(row, len(position.sampler.bias[0])) for row, position in biased], logits.device)
        tokens, values = zip(*(position.sampler.bias for _, position in biased), strict=True)
        logits[rows, _joined(tokens, logits.device)] += _joined(values, logits.device)


def _penalise(logits: torch.Tensor, positions: Sequence[_Position]) -> None:
    """Touches only tokens of prompt and answer, each of which is in `counts` once."""
    device = logits.device
    found = [(row, position) for row, position in enumerate(positions) if position.counts is not None]
    if not found:
        return
    sizes = [(at, len(position.counts[0])) for at, (_, position) in enumerate(found) if position.counts]
    tokens, counts, seen = (
        _joined(part, device) for part in zip(*(p.counts for _, p in found if p.counts), strict=True)
    )
    repetition, frequency, presence = torch.tensor(
        [
            (p.repetition_penalty, p.frequency_penalty, p.presence_penalty)
            for p in (position.sampler.parameters for _, position in found)
        ],
        device=device,
    )[_repeat(sizes, device)].unbind(-1)
    rows = torch.tensor([row for row, _ in found], device=device)[_repeat(sizes, device)]
    values = logits[rows, tokens]
    repeated = torch.where(values > 0, values / repetition, values * repetition)
    values = torch.where(seen, repeated, values)
    logits[rows, tokens] = values - frequency * counts - presence * (counts > 0)


def _joined(parts: Sequence[np.ndarray], device: torch.device) -> torch.Tensor:
    return torch.from_numpy(np.concatenate(parts)).to(device)


def _repeat(sizes: Sequence[tuple[int, int]], device: torch.device) -> torch.Tensor:
    """Each number as often as said with it."""
    numbers, times = zip(*sizes, strict=True)
    return torch.from_numpy(np.repeat(np.array(numbers), np.array(times))).to(device)


def _unpack(masks: torch.Tensor, vocabulary: int) -> torch.Tensor:
    """(R, ⌈T / 8⌉) bits as (R, V) booleans; tokens that the masks do not know are False."""
    allowed = (masks[:, :, None] & _BITS.to(masks.device) != 0).flatten(1)
    missing = vocabulary - allowed.shape[1]
    return pad(allowed, (0, missing)) if missing > 0 else allowed[:, :vocabulary]


# --- Drawing --------------------------------------------------------------------------------------


def _draw(logits: torch.Tensor, positions: Sequence[_Position]) -> torch.Tensor:
    """Steps 5 to 9: (R,) tokens; -1 where a row holds no number. Changes float32 `logits` (R, V)."""
    temperatures, uniforms = _columns(
        logits.device, [(p.sampler.parameters.temperature, p.uniform) for p in positions]
    )
    # From the maximum down first, so that no division overflows. A weight is a share of the largest.
    weights = logits.sub_(logits.amax(-1, keepdim=True)).div_(temperatures.float()[:, None]).exp_()
    weights = pad(weights, (0, -weights.shape[-1] % _BLOCK))
    filtered = [row for row, position in enumerate(positions) if position.sampler.filters]
    if filtered:
        least = torch.zeros(len(positions), device=logits.device)
        parameters = [positions[row].sampler.parameters for row in filtered]
        least[filtered] = _least_kept(_rows(weights, filtered), parameters)
        weights = weights * (weights >= least[:, None])
    return _inverse(weights, uniforms)


def _columns(device: torch.device, rows: Sequence[tuple[float, ...]]) -> tuple[torch.Tensor, ...]:
    """float64, one (R,) tensor for each of a row's numbers."""
    return torch.tensor(rows, dtype=torch.float64, device=device).unbind(-1)


def _least_kept(weights: torch.Tensor, parameters: Sequence[SamplingParameters]) -> torch.Tensor:
    """(R,) the smallest weight that top-k, top-p and min-p keep in each row of (R, V)."""
    top_k, top_p, min_p = _columns(
        weights.device, [(p.top_k if p.top_k > 0 else torch.inf, p.top_p, p.min_p) for p in parameters]
    )
    least = min_p.float()  # The largest weight is 1.
    rows = [row for row, p in enumerate(parameters) if p.top_k > 0 or p.top_p < 1]
    for limit in (*_CANDIDATES, weights.shape[-1]):
        if not rows:
            break
        left = _rows(weights, rows)
        likeliest = _largest(left, min(limit, weights.shape[-1]))
        cut = _cut(likeliest, left.sum(-1), top_k[rows], top_p[rows])
        # Settled when something lighter was among the candidates: then all that is kept was, too.
        settled = (cut > likeliest[:, -1]) | (limit >= weights.shape[-1])
        least[rows] = torch.where(settled, torch.maximum(least[rows], cut), least[rows])
        rows = [row for row, done in zip(rows, settled.tolist(), strict=True) if not done]
    return least


def _cut(
    likeliest: torch.Tensor, total: torch.Tensor, top_k: torch.Tensor, top_p: torch.Tensor
) -> torch.Tensor:
    """(R,) the last weight that top-k and top-p keep of `likeliest` (R, C), which falls along C.

    `total` (R,) is of all weights. The result is the last candidate where they do not reach the end
    of what is kept.
    """
    last = likeliest.shape[-1] - 1
    by_rank = likeliest.gather(1, (top_k - 1).clamp(max=last).long()[:, None])
    reached = likeliest.double().where(likeliest >= by_rank, 0).cumsum(-1)
    total = torch.where(top_k.isinf(), total.double(), reached[:, -1])
    needed = (reached < (top_p * total)[:, None]).sum(-1, keepdim=True).clamp(max=last)
    return torch.maximum(by_rank, likeliest.gather(1, needed))[:, 0]


def _largest(values: torch.Tensor, count: int) -> torch.Tensor:
    """(R, count) the largest of each row of (R, V), in falling order; V divides into blocks.

    The `count` largest lie in the `count` blocks with the largest maxima: a third of the time.
    """
    blocks = values.unflatten(-1, (-1, _BLOCK // 2))
    if count >= blocks.shape[1]:
        return values.topk(count, dim=-1).values
    best = blocks.amax(-1).topk(count, dim=-1, sorted=False).indices
    return (
        blocks.gather(1, best[:, :, None].expand(-1, -1, blocks.shape[-1]))
        .flatten(1)
        .topk(count, dim=-1)
        .values
    )


def _inverse(weights: torch.Tensor, uniforms: torch.Tensor) -> torch.Tensor:
    """(R,) where `uniforms` (R,) fall in the running sums of `weights` (R, V); -1 for rows without a sum.

    First among the sums of blocks, then within a block; running sums in float64, as float32
    would lose the unlikely tokens of a large vocabulary.
    """
    blocks = weights.unflatten(-1, (-1, _BLOCK))
    sums = blocks.sum(-1).double().cumsum(-1)
    total = sums[:, -1]
    target = uniforms * total
    block = _first_above(sums, target)
    before = pad(sums, (1, 0)).gather(1, block[:, None])[:, 0]
    inside = blocks[torch.arange(len(block), device=block.device), block].double().cumsum(-1)
    return (block * _BLOCK + _first_above(inside, target - before)).where(total.isfinite() & (total > 0), -1)


def _first_above(sums: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """(R,) the first index where running `sums` (R, N) exceed `target`; the last rise if rounding hides it."""
    above = (sums <= target[:, None]).sum(-1)
    return torch.minimum(above, (sums < sums[:, -1:]).sum(-1))


# --- Log probabilities ----------------------------------------------------------------------------


def _logprobs(
    logits: torch.Tensor, positions: Sequence[_Position], tokens: Sequence[int]
) -> list[TokenLogprobs | None]:
    """Of the chosen `tokens` and the likeliest, for the rows of `logits` (R, V) that ask for them."""
    found: list[TokenLogprobs | None] = [None] * len(positions)
    counts = [position.sampler.parameters.logprobs for position in positions]
    for rows in _parts([row for row, count in enumerate(counts) if count is not None], logits.device):
        normalised = torch.log_softmax(_rows(logits, rows).float(), dim=-1)
        chosen = torch.tensor([tokens[row] for row in rows], device=logits.device)
        values = normalised.gather(1, chosen[:, None])[:, 0].tolist()
        most = min(max(counts[row] or 0 for row in rows), normalised.shape[-1])
        top = normalised.topk(most, dim=-1)
        for row, value, *best in zip(rows, values, top.indices.tolist(), top.values.tolist(), strict=True):
            found[row] = TokenLogprobs(value, tuple(zip(*best, strict=True))[: counts[row]])
    return found
