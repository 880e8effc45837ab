"""What the API refuses, in OpenAI's words, before anything is recorded or asked of the model."""

from __future__ import annotations

import asyncio
import contextlib
import json
from typing import Any

import pytest
from asgiref.sync import sync_to_async

from tenants import clock
from tenants.access import create_api_key
from tenants.models import ApiKey, Tenant
from tenants.scope import tenant_scope
from tests.api.client import EMBEDDER, MODEL, chat, http
from tests.chat.recorded import count_records
from tests.chat.stack import Stack
from tests.conftest import Company

COMPLETIONS = "/v1/chat/completions"


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (b"", 400, "invalid_json"),
        (b"{", 400, "invalid_json"),
        (b"\xff\xfe{}", 400, "invalid_encoding"),
        (b"[]", 400, "invalid_type"),
        (b"null", 400, "invalid_type"),
        ({}, 400, "missing_parameter"),
        ({"model": MODEL}, 400, "missing_parameter"),
        (chat(messages=[]), 400, "invalid_value"),
        (chat(messages="hi"), 400, "invalid_type"),
        (chat(messages=[{"role": "robot", "content": "hi"}]), 400, "invalid_value"),
        (chat(max_tokens=0), 400, "invalid_value"),
        (chat(max_tokens=-1), 400, "invalid_value"),
        (chat(max_tokens="many"), 400, "invalid_type"),
        (chat(max_tokens=10**9), 400, "invalid_value"),
        (chat(temperature=9), 400, "invalid_value"),
        (chat(n=1000), 400, "invalid_value"),
        (chat(audio={}), 400, "unsupported_parameter"),
        (chat(tool_choice="required"), 400, "invalid_value"),
        (chat(model="gpt-9"), 404, "model_not_found"),
        (chat(model=""), 400, "invalid_value"),
        (chat(messages=[{"role": "user", "content": "x" * 1_000_000}]), 413, "request_too_large"),
        (chat(messages=[{"role": "user", "content": "x" * 3_000_000}]), 413, "request_too_large"),
    ],
    ids=lambda value: str(value)[:40],
)
async def test_a_bad_request_is_a_typed_error(
    live_acme: Company, stack: Stack, key: str, body: Any, status: int, code: str
) -> None:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    async with http(stack, key) as client:
        response = await client.post(COMPLETIONS, content=content)
    assert response.status_code == status, response.text
    error = response.json()["error"]
    assert error["code"] == code
    assert set(error) == {"message", "type", "param", "code"}
    assert error["type"] == "invalid_request_error"
    assert await sync_to_async(count_records)(live_acme) == 0


async def test_token_ids_are_refused_for_a_reviewer_could_not_read_them(
    live_acme: Company, stack: Stack, key: str
) -> None:
    refused = {
        "/v1/completions": {"model": MODEL, "prompt": [[504, 3575], [30]]},
        "/v1/embeddings": {"model": EMBEDDER, "input": [504, 3575, 30]},
    }
    async with http(stack, key) as client:
        for address, body in refused.items():
            answer = await client.post(address, json=body)
            assert answer.status_code == 400
            error = answer.json()["error"]
            assert (error["code"], error["param"]) == ("unsupported_parameter", [*body][1])
    assert await sync_to_async(count_records)(live_acme) == 0


async def test_a_key_is_needed_and_a_session_is_not_enough(
    live_acme: Company, stack: Stack, key: str, client_of
) -> None:
    from tests.chat.browser import new_session

    session = await sync_to_async(new_session)(live_acme.member)
    attempts = [
        {},
        {"Authorization": ""},
        {"Authorization": "Bearer"},
        {"Authorization": f"Basic {key}"},
        {"Authorization": key},
        {"Authorization": f"Bearer {key}x"},
        {"Authorization": f"Bearer {key[:-1]}"},
        {"Authorization": "Bearer custos-00000000000000000000000000000000-abc-def"},
        {"Cookie": f"{stack.session_cookie_name}={session}"},
    ]
    async with http(stack, "") as client:
        for headers in attempts:
            for method, address in [
                ("POST", COMPLETIONS),
                ("POST", "/v1/completions"),
                ("POST", "/v1/embeddings"),
                ("POST", "/v1/tokenize"),
                ("GET", "/v1/models"),
            ]:
                response = await client.request(method, address, headers=headers, content=json.dumps(chat()))
                assert response.status_code == 401, (headers, address)
                assert response.json()["error"]["code"] == "invalid_api_key"
                assert response.headers["www-authenticate"] == "Bearer"
    assert await sync_to_async(count_records)(live_acme) == 0


async def test_a_revoked_key_and_a_suspended_tenants_key_are_no_keys(
    live_acme: Company, stack: Stack, key: str
) -> None:
    def revoke() -> None:
        with tenant_scope(live_acme.tenant.pk):
            ApiKey.objects.filter(name="robot").update(revoked=clock.now())

    def suspend() -> None:
        Tenant.objects.filter(pk=live_acme.tenant.pk).update(status=Tenant.Status.SUSPENDED)

    other = await sync_to_async(create_api_key)(tenant_slug="acme-bank", name="other")
    async with http(stack, key) as client:
        assert (await client.get("/v1/models")).status_code == 200
        await sync_to_async(revoke)()
        assert (await client.get("/v1/models")).status_code == 401
    async with http(stack, other) as client:
        assert (await client.get("/v1/models")).status_code == 200
        await sync_to_async(suspend)()
        assert (await client.get("/v1/models")).status_code == 401


async def test_other_methods_and_addresses_are_json_errors(
    live_acme: Company, stack: Stack, key: str
) -> None:
    async with http(stack, key) as client:
        for method in ("GET", "PUT", "DELETE", "PATCH", "HEAD"):
            response = await client.request(method, COMPLETIONS)
            assert response.status_code == 405
            assert response.headers["allow"] == "POST"
            assert response.headers["content-type"] == "application/json"
        assert (await client.post("/v1/models")).headers["allow"] == "GET, HEAD"
        for address in ("/v1/", "/v1/embeddings/", "/v1/chat/completions/", "/v1/chat", "/v1/models/"):
            response = await client.post(address, json=chat())
            assert response.status_code == 404, address
            assert response.json()["error"]["code"] == "unknown_url"


async def test_a_tenants_key_opens_that_tenant_alone(
    live_acme: Company, live_north: Company, stack: Stack
) -> None:
    key = await sync_to_async(create_api_key)(tenant_slug="north-fund", name="robot")
    async with http(stack, key) as client:
        response = await client.post(COMPLETIONS, json=chat(max_tokens=3))
    assert response.status_code == 200
    assert await sync_to_async(count_records)(live_north) == 1
    assert await sync_to_async(count_records)(live_acme) == 0


async def test_a_body_without_end_is_cut_off_while_it_arrives(
    live_acme: Company, stack: Stack, key: str
) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", stack.web.port)
    writer.write(
        b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
    )
    chunk = b"10000\r\n" + b"x" * 0x10000 + b"\r\n"
    sent, answer = 0, b""
    with contextlib.suppress(ConnectionError):
        while sent < 64 * 1024 * 1024 and not answer:
            writer.write(chunk)
            await writer.drain()
            sent += len(chunk)
            with contextlib.suppress(TimeoutError):
                answer = await asyncio.wait_for(reader.read(4096), 0.005)
        answer += await asyncio.wait_for(reader.read(), 5)
    writer.close()
    assert answer.startswith(b"HTTP/1.1 413 ")
    assert b"request_too_large" in answer
    assert sent < 16 * 1024 * 1024
