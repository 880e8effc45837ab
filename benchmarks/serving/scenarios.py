"""The loads. A scenario runs once a round against one server and returns named figures, in ms, tokens/s or plain ratios.

Every figure is a number; `errors` counts requests that failed. Rounds use different prompts, servers the same ones.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from itertools import count, takewhile
from typing import Any

from benchmarks.serving import prompts, trace
from benchmarks.serving.exchange import Address, Answer, Reads, exchange
from benchmarks.serving.figures import Run, median, percentile
from benchmarks.serving.load import Body, closed_loop, measured, open_loop, poisson_arrivals, until_done

Figures = dict[str, Any]

DECODE_TOKENS = 100
HISTORY_TOKENS = 1500
SYSTEM_TOKENS = 1000
LONG_PROMPT_TOKENS = 1500


@dataclass(frozen=True, slots=True)
class Client:
    """A server to ask, and what its requests need beyond the standard (`quirk`: body -> body)."""

    address: Address
    quirk: Callable[[Body], Body]

    def body(self, *messages: tuple[str, str], max_tokens: int) -> Body:
        return self.quirk(prompts.chat(*messages, max_tokens=max_tokens))

    def ask(self, text: str, *, max_tokens: int) -> Body:
        return self.body(("user", text), max_tokens=max_tokens)


@dataclass(frozen=True, slots=True)
class Scenario:
    """`run(client, round)`; `streams` is how many answers it has under way, so that one-stream servers are left out."""

    name: str
    what: str
    streams: int
    run: Callable[[Client, int], Awaitable[Figures]]


# --- Decode --------------------------------------------------------------------------------------


def _decode(streams: int) -> Scenario:
    requests = 3 if streams == 1 else 2 if streams <= 8 else 1

    async def run(client: Client, round_: int) -> Figures:
        bodies = [
            [
                client.ask(prompts.question(seed=("decode", round_, n, m)), max_tokens=DECODE_TOKENS)
                for m in range(requests)
            ]
            for n in range(streams)
        ]
        result = await closed_loop(client.address, bodies)
        # The pace of a stream once it runs; what comes before its first token is in `tokens_per_s` only.
        paces = [
            (answer.tokens - 1) / (answer.arrivals[-1] - answer.arrivals[0])
            for answer in result.good
            if len(answer.arrivals) > 1
        ]
        return {**result.summary(), "decode_tokens_per_s": round(median(paces), 2)}

    what = f"{streams} streams, short prompts, {DECODE_TOKENS} new tokens, {requests} requests a stream"
    return Scenario(f"decode_{streams}", what, streams, run)


# --- Prefixes ------------------------------------------------------------------------------------


async def _shared_prefix(client: Client, round_: int) -> Figures:
    """Eight streams under one system prompt; the first answer fills the cache and does not count."""
    system = ("system", prompts.passage(SYSTEM_TOKENS, seed=("system", round_)))

    def ask(name: object) -> Body:
        return client.body(system, ("user", prompts.question(seed=("shared", round_, name))), max_tokens=32)

    first = Answer.of(await exchange(client.address, ask("first")))
    result = await closed_loop(client.address, [[ask((n, m)) for m in range(3)] for n in range(8)])
    return {**result.summary(), "uncached_ttft_ms": _ms([first])}


async def _multi_turn(client: Client, round_: int) -> Figures:
    """The second turn's first token against that of the same conversation with nothing of it in the cache."""
    cached, uncached = [], []

    async def everything() -> list[Reads]:
        for conversation in range(3):
            seed = (round_, conversation)
            history = ("user", f"{prompts.passage(HISTORY_TOKENS, seed=('turn', *seed))} What is this about?")
            turn = Answer.of(await exchange(client.address, client.body(history, max_tokens=32)))
            told = ("assistant", turn.text)
            asked = ("user", "Tell me more about the second sentence.")
            cached.append(await exchange(client.address, client.body(history, told, asked, max_tokens=16)))
            other = ("user", f"{prompts.passage(HISTORY_TOKENS, seed=('new', *seed))} What is this about?")
            uncached.append(await exchange(client.address, client.body(other, told, asked, max_tokens=16)))
        return [*cached, *uncached]

    result = await measured(everything)
    second = [answer for answer in map(Answer.of, cached) if not answer.problem]
    afresh = [answer for answer in map(Answer.of, uncached) if not answer.problem]
    return {
        **result.summary(),
        "second_turn_ttft_ms": _ms(second),
        "uncached_ttft_ms": _ms(afresh),
        "ttft_ratio": round(_ms(second) / _ms(afresh), 4),
    }


def _ms(answers: list[Answer]) -> float:
    return round(median(answer.ttft for answer in answers if not answer.problem) * 1000, 2)


# --- Mixed loads ---------------------------------------------------------------------------------


async def _interference(client: Client, round_: int) -> Figures:
    """Four answers stream all the time; after a few seconds long prompts arrive by chance among them."""

    def stream(name: int) -> Iterator[Body]:
        for n in count():
            yield client.ask(prompts.question(seed=("running", round_, name, n)), max_tokens=200)

    arrivals = poisson_arrivals(rate=0.4, count=6, seed=round_)
    long = [
        (3.0 + after, client.ask(prompts.passage(LONG_PROMPT_TOKENS, seed=("long", round_, n)), max_tokens=1))
        for n, after in enumerate(arrivals)
    ]
    running, arriving = await until_done(
        client.address, [stream(n) for n in range(4)], open_loop(client.address, long)
    )
    under_prefill: list[float] = []
    alone: list[float] = []
    for answer in running.good:
        for until, gap in zip(answer.arrivals[1:], answer.gaps, strict=True):
            beside = any(other.asked < until and until - gap < other.arrivals[0] for other in arriving.good)
            (under_prefill if beside else alone).append(gap)
    p99, middle, undisturbed = percentile(under_prefill, 99), median(under_prefill + alone), median(alone)
    return {
        **Run(running.answers + arriving.answers, running.client_cpu).summary(),
        "gaps_under_prefill": len(under_prefill),
        "itl_p99_under_prefill_ms": round(p99 * 1000, 2),
        "itl_median_ms": round(middle * 1000, 2),
        "itl_median_alone_ms": round(undisturbed * 1000, 2),
        "itl_ratio": round(p99 / middle, 3),
        "itl_ratio_alone": round(p99 / undisturbed, 3),
        "long_ttft_ms": _ms(arriving.good),
    }


async def _quoting(client: Client, round_: int) -> Figures:
    """One stream whose answers repeat their passage: what prompt lookup lives on.

    A model this small only quotes when shown how, so the passage is asked for twice, and answered once in the prompt.
    """
    passages = [prompts.passage(120, seed=("quote", round_, n)) for n in range(3)]
    bodies = [
        client.body(
            ("user", f"Copy the text.\n\n{text}"),
            ("assistant", text),
            ("user", f"Copy the text.\n\n{text}"),
            max_tokens=DECODE_TOKENS,
        )
        for text in passages
    ]
    result = await closed_loop(client.address, [bodies])
    quoted = [
        _common_prefix(answer.text, text) / len(answer.text)
        for answer, text in zip(result.answers, passages, strict=True)
        if not answer.problem
    ]
    return {**result.summary(), "quoted_share": round(median(quoted), 3)}


def _common_prefix(text: str, other: str) -> int:
    """How many characters the two begin with alike."""
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(text, other, strict=False)))


async def _poisson(client: Client, round_: int) -> Figures:
    """Requests come by chance, four a second on average, each with some 60 tokens of prompt and 40 of answer."""
    arrivals = poisson_arrivals(rate=4.0, count=60, seed=round_)
    schedule = [
        (after, client.ask(f"{prompts.passage(48, seed=('poisson', round_, n))} Go on.", max_tokens=40))
        for n, after in enumerate(arrivals)
    ]
    return (await open_loop(client.address, schedule)).summary()


async def _code_trace(client: Client, round_: int) -> Figures:
    schedule = [
        (
            arrival.after_s,
            client.ask(
                prompts.passage(arrival.prompt_tokens, seed=("trace", round_, n)),
                max_tokens=arrival.output_tokens,
            ),
        )
        for n, arrival in enumerate(trace.scaled())
    ]
    return (await open_loop(client.address, schedule)).summary()


SCENARIOS = {
    scenario.name: scenario
    for scenario in (
        _decode(1),
        _decode(8),
        _decode(32),
        _decode(64),
        Scenario(
            "shared_prefix",
            f"8 streams under one system prompt of ~{SYSTEM_TOKENS} tokens",
            8,
            _shared_prefix,
        ),
        Scenario(
            "multi_turn", f"second turn after ~{HISTORY_TOKENS} tokens, and the same uncached", 1, _multi_turn
        ),
        Scenario(
            "interference",
            f"4 streams while prompts of ~{LONG_PROMPT_TOKENS} tokens arrive",
            8,
            _interference,
        ),
        Scenario("quoting", "1 stream, answers that repeat their passage", 1, _quoting),
        Scenario("poisson", "open loop, 4 requests/s, ~60 tokens in, 40 out", 64, _poisson),
        Scenario("code_trace", "open loop, production arrivals and lengths at scale", 64, _code_trace),
    )
}


async def warm_up(client: Client, streams: int) -> None:
    """A short answer on each of `streams` streams, so that what a server compiles or allocates lazily is there."""
    bodies = [[client.ask(prompts.question(seed=("warm-up", n)), max_tokens=8)] for n in range(streams)]
    await closed_loop(client.address, bodies)
