"""Misuse of a real websocket: every bad message is a typed error, and the socket goes on working."""

from __future__ import annotations

import asyncio
import contextlib
import json
import uuid

import httpx
import pytest
import websockets
from asgiref.sync import sync_to_async

from tests.chat.browser import Browser, Tab
from tests.chat.recorded import count_records, once_closed
from tests.chat.stack import Stack
from tests.conftest import Company

SHORT = "Say hello."


async def works(tab: Tab) -> bool:
    await tab.send(type="ping")
    return (await tab.receive())["type"] == "pong"


@pytest.mark.parametrize(
    ("frame", "code"),
    [
        ("", "json_invalid"),
        ("not json", "json_invalid"),
        ("[]", "field_invalid"),
        ('{"type":"nonsense"}', "type_unknown"),
        ('{"type":"ask","client_id":5,"text":"x"}', "field_invalid"),
        (json.dumps({"type": "ask", "client_id": str(uuid.uuid4()), "text": "x" * 40_000}), "text_too_long"),
        ("x" * 1_000_000, "frame_too_large"),
        (b"\x00\x01", "binary_message"),
        (b"", "binary_message"),
    ],
    ids=["empty", "no-json", "list", "unknown", "wrong-type", "long", "1MB", "binary", "empty-binary"],
)
async def test_a_bad_frame_is_a_typed_error_and_the_socket_stays_usable(
    live_acme: Company, browser: Browser, frame: str | bytes, code: str
) -> None:
    tab = await browser.open(live_acme.member, "acme-bank")
    await tab.connection.send(frame)
    error = await tab.receive()
    assert (error["type"], error["code"]) == ("error", code)
    assert error["message"]
    assert await works(tab)


async def send_many(tab: Tab, frame: str | bytes, *, count: int, pause_s: float = 0) -> None:
    with contextlib.suppress(websockets.ConnectionClosed):
        for _ in range(count):
            await tab.connection.send(frame)
            await asyncio.sleep(pause_s)


async def told_until_closed(tab: Tab) -> set[str]:
    """The kinds of frames, and the codes of errors, that come before the server closes."""
    with contextlib.suppress(websockets.ConnectionClosed):
        while True:
            await tab.receive()
    return {frame.get("code", frame["type"]) for frame in tab.frames}


async def test_a_flood_is_slowed_and_then_closed(live_acme: Company, browser: Browser) -> None:
    tab = await browser.open(live_acme.member, "acme-bank")
    told, _ = await asyncio.gather(
        told_until_closed(tab), send_many(tab, '{"type":"ping"}', count=1000, pause_s=0.001)
    )
    assert told == {"hello", "pong", "too_many_messages"}
    assert tab.connection.close_code == 4400


async def test_repeated_binary_messages_close_the_socket(live_acme: Company, browser: Browser) -> None:
    tab = await browser.open(live_acme.member, "acme-bank")
    # Below the flood limit: it is the kind of message that counts here.
    told, _ = await asyncio.gather(told_until_closed(tab), send_many(tab, b"x", count=60, pause_s=0.055))
    assert told == {"hello", "binary_message"}
    assert tab.connection.close_code == 4400


async def test_a_quick_but_reasonable_browser_is_not_slowed(live_acme: Company, browser: Browser) -> None:
    tab = await browser.open(live_acme.member, "acme-bank")
    for _ in range(30):
        await tab.send(type="ping")
    assert [(await tab.receive())["type"] for _ in range(30)] == ["pong"] * 30


async def test_what_belongs_to_others_does_not_exist(
    live_acme: Company, live_north: Company, browser: Browser
) -> None:
    owner = await browser.open(live_acme.member, "acme-bank")
    accepted = await owner.ask(SHORT)
    await owner.until("done")
    conversation, generation = accepted["conversation"]["id"], accepted["generation"]
    records = await sync_to_async(count_records)(live_acme)
    attempts = [
        {"type": "ask", "client_id": str(uuid.uuid4()), "conversation": conversation, "text": SHORT},
        {
            "type": "regenerate",
            "client_id": str(uuid.uuid4()),
            "conversation": conversation,
            "answer": accepted["answer"]["id"],
        },
        {"type": "stop", "generation": generation},
        {"type": "resume", "generation": generation, "after": 0},
        {"type": "resume", "generation": str(uuid.uuid4()), "after": 0},
    ]
    for person, slug in [(live_acme.administrator, "acme-bank"), (live_north.member, "north-fund")]:
        tab = await browser.open(person, slug)
        for attempt in attempts:
            await tab.send(**attempt)
            error = await tab.receive()
            assert (error["type"], error["code"]) == ("error", "not_found"), attempt
        assert await works(tab)
    assert await sync_to_async(count_records)(live_acme) == records
    # The same requests are answered for the owner, so it is ownership that they fail on.
    await owner.send(type="resume", generation=generation, after=0)
    await owner.until("done")


async def test_a_strangers_stop_does_not_stop(
    live_acme: Company, live_north: Company, browser: Browser
) -> None:
    owner = await browser.open(live_acme.member, "acme-bank")
    accepted = await owner.ask("Write a very long story about a river.")
    thief = await browser.open(live_north.member, "north-fund")
    await thief.send(type="stop", generation=accepted["generation"])
    assert (await thief.receive())["code"] == "not_found"
    seen = len(owner.frames)
    await owner.until(lambda frame: frame["type"] == "delta" and len(owner.frames) > seen + 20)
    await owner.send(type="stop", generation=accepted["generation"])
    assert (await owner.until("done"))["status"] == "stopped"


async def test_an_unknown_model_is_refused_before_anything_is_recorded(
    live_acme: Company, browser: Browser
) -> None:
    tab = await browser.open(live_acme.member, "acme-bank")
    client_id = str(uuid.uuid4())
    await tab.send(type="ask", client_id=client_id, conversation=None, text=SHORT, route="gpt-9")
    error = await tab.receive()
    assert (error["code"], error["client_id"]) == ("route_not_found", client_id)
    assert await sync_to_async(count_records)(live_acme) == 0


async def test_only_our_own_pages_may_connect(live_acme: Company, browser: Browser, stack: Stack) -> None:
    for origin in ("https://evil.example", "http://127.0.0.1.evil.example", "null"):
        with pytest.raises(websockets.InvalidStatus) as refused:
            await browser.open_raw(live_acme.member, "acme-bank", origin=origin)
        assert refused.value.response.status_code == 403
    assert await works(await browser.open(live_acme.member, "acme-bank"))


async def test_who_may_not_chat_is_told_by_the_close_code(
    live_acme: Company, live_north: Company, stranger, browser: Browser
) -> None:
    cases = [
        (live_acme.member, "acme-bank", "", 4401),
        (live_acme.member, "acme-bank", "no-such-session-key-at-all", 4401),
        (live_acme.reviewer, "acme-bank", None, 4404),
        (live_north.member, "acme-bank", None, 4404),
        (stranger, "acme-bank", None, 4404),
        (live_acme.member, "no-such-tenant", None, 4404),
    ]
    for person, slug, key, code in cases:
        tab = await browser.open_raw(person, slug, session_key=key)
        assert await tab.close_code() == code, (person.email, slug, key)
        assert tab.frames == []


async def test_other_websocket_addresses_are_refused(live_acme: Company, stack: Stack) -> None:
    for path in ("/ws/", "/ws/t/acme-bank/", "/", "/ws/t/acme-bank/chat/more/"):
        with pytest.raises(websockets.InvalidStatus) as refused:
            await websockets.connect(
                stack.web.url.replace("http", "ws") + path, proxy=None, origin=stack.web.url
            )
        assert refused.value.response.status_code == 403


async def test_open_sockets_and_ended_answers_are_counted(
    live_acme: Company, browser: Browser, stack: Stack, settings
) -> None:
    tab = await browser.open(live_acme.member, "acme-bank")
    accepted = await tab.ask(SHORT)
    await tab.until("done")
    await once_closed(live_acme, accepted["generation"])
    headers = {"Authorization": f"Bearer {settings.METRICS_TOKEN}"}
    expected = {
        "custos_chat_sockets_active 1.0",  # Once those of the tests before are gone.
        "custos_generations_active 0.0",
        'custos_generations_total{channel="chat",model="smollm2-135m-instruct",status="completed"}',
    }
    missing = expected
    async with httpx.AsyncClient(trust_env=False) as client, asyncio.timeout(10):
        while missing:
            text = (await client.get(stack.web.url + "/metrics", headers=headers)).text
            missing = {line for line in expected if line not in text}
