"""Limits as programs and people meet them: over the real API and the real websocket."""

import openai
import pytest
from asgiref.sync import sync_to_async

from audit.models import AuditRecord
from tenants import clock, valkey
from tenants.quotas import usage
from tenants.quotas.models import UsageDay
from tenants.quotas.usage import Consumer, Use
from tenants.scope import tenant_scope
from tests.api.client import CHAT, EMBEDDER, MODEL, SHORT, chat, http, official
from tests.chat.browser import Browser
from tests.chat.stack import Stack
from tests.conftest import Company
from tests.quotas.conftest import limited

AGAIN = "00000000-0000-4000-8000-000000000001"
OPENAI_HEADERS = {
    f"x-ratelimit-{what}-{of}" for what in ("limit", "remaining", "reset") for of in ("requests", "tokens")
}


def usage_of(company: Company) -> dict[str, int]:
    with tenant_scope(company.tenant.pk):
        names = ("requests", "prompt_tokens", "completion_tokens", "refused")
        rows = UsageDay.objects.values(*names)
        return {name: sum(row[name] for row in rows) for name in names}


def used_up(company: Company, tokens: int) -> None:
    consumer = Consumer(
        tenant_id=company.tenant.pk,
        day=clock.today(),
        user_id=company.member.pk,
        key_id=None,
        route="r",
        model="m",
    )
    usage.add(consumer, Use(prompt_tokens=tokens))
    # As a restart of Valkey does, after which counters begin with what the database knows.
    valkey.sync_client().flushall()


def count_records(company: Company) -> int:
    with tenant_scope(company.tenant.pk):
        return AuditRecord.objects.exclude(kind__startswith="quota.").count()


async def test_an_answer_tells_what_is_left_and_a_refusal_when_to_come_back(
    live_acme: Company, stack: Stack, key: str
) -> None:
    await sync_to_async(limited)(live_acme, "requests_per_minute", 2)
    await sync_to_async(limited)(live_acme, "tokens_per_minute", 100_000)
    async with official(stack, key) as client:
        ask = client.chat.completions.with_raw_response.create
        whole = await ask(model=MODEL, messages=SHORT, max_tokens=20)
        assert set(whole.headers) >= OPENAI_HEADERS
        assert whole.headers["x-ratelimit-limit-requests"] == "2"
        assert whole.headers["x-ratelimit-remaining-requests"] == "1"
        assert '"tenant-requests-per-minute";q=2;qu="requests";w=60' in whole.headers["ratelimit-policy"]
        assert '"tenant-requests-per-minute";r=1;t=' in whole.headers["ratelimit"]
        told = whole.parse().usage
        streamed = await client.chat.completions.create(
            model=MODEL, messages=SHORT, max_tokens=2, stream=True
        )
        left = int(streamed.response.headers["x-ratelimit-remaining-tokens"])
        # What the first did not use was given back; the second holds all that it may need.
        assert left > 100_000 - told.total_tokens - 1_000
        async for _chunk in streamed:
            pass
        with pytest.raises(openai.RateLimitError) as refused:
            await ask(model=MODEL, messages=SHORT)
    response, body = refused.value.response, refused.value.response.json()["error"]
    assert (body["code"], body["type"], body["param"]) == ("rate_limit_exceeded", "requests", None)
    assert body["message"].startswith("The limit of 2 requests per minute for your workspace is reached.")
    assert 1 <= int(response.headers["retry-after"]) <= 61
    assert response.headers["x-ratelimit-remaining-requests"] == "0"
    assert set(response.headers) >= OPENAI_HEADERS
    found = await sync_to_async(usage_of)(live_acme)
    assert (found["requests"], found["refused"]) == (2, 1)
    assert found["prompt_tokens"] == 2 * told.prompt_tokens
    # Nobody read what was refused, so there is no record of it.
    assert await sync_to_async(count_records)(live_acme) == 2


@pytest.mark.parametrize(
    ("path", "body"),
    [
        (CHAT, chat()),
        (CHAT, chat(stream=True)),
        ("/v1/completions", {"model": MODEL, "prompt": "One, two", "max_tokens": 4}),
        ("/v1/embeddings", {"model": EMBEDDER, "input": "One, two"}),
    ],
    ids=["chat", "stream", "completion", "embedding"],
)
async def test_a_days_tokens_that_are_used_up_refuse_everything(
    live_acme: Company, stack: Stack, key: str, path: str, body: dict[str, object]
) -> None:
    await sync_to_async(limited)(live_acme, "tokens_per_day", 1)
    async with http(stack, key) as client:
        response = await client.post(path, json=body)
        assert response.status_code == 429
        error = response.json()["error"]
        assert (error["code"], error["type"]) == ("insufficient_quota", "insufficient_quota")
        assert "1 tokens per day for your workspace" in error["message"]
        # The request alone is more than the limit: waiting would not help.
        assert "retry-after" not in response.headers
        # No model reads this.
        response = await client.post("/v1/tokenize", json={"model": MODEL, "prompt": "One"})
        assert response.status_code == 200


async def test_tokenizing_is_a_request(live_acme: Company, stack: Stack, key: str) -> None:
    await sync_to_async(limited)(live_acme, "requests_per_minute", 1)
    async with http(stack, key) as client:
        answers = [await client.post("/v1/tokenize", json={"model": MODEL, "prompt": "1"}) for _ in range(2)]
    assert [answer.status_code for answer in answers] == [200, 429]
    assert answers[0].headers["x-ratelimit-remaining-requests"] == "0"


async def test_the_chat_says_which_limit_and_warns_before(live_acme: Company, browser: Browser) -> None:
    tab = await browser.open(live_acme.member, "acme-bank")
    await tab.ask("Say hello.")
    assert (await tab.until("quota"))["quota"] is None
    used = await sync_to_async(usage_of)(live_acme)
    total = used["prompt_tokens"] + used["completion_tokens"]
    await sync_to_async(limited)(live_acme, "tokens_per_day", total, "member")
    await tab.send(type="ask", client_id=AGAIN, text="Again.")
    error = await tab.until("error")
    assert (error["code"], error["client_id"]) == ("insufficient_quota", AGAIN)
    assert f"{total:,} tokens per day for you" in error["message"]
    # With room for one more the banner comes with its answer.
    await sync_to_async(used_up)(live_acme, 90_000)
    await sync_to_async(limited)(live_acme, "tokens_per_day", 100_000, "member")
    await tab.ask("Say hello.")
    quota = (await tab.until("quota"))["quota"]
    assert (quota["level"], quota["percent"]) == ("warning", 90)
    assert quota["message"] == "90% of the limit of 100,000 tokens per day for you is used."
