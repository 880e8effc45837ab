"""No question and no answer is ever written to Valkey in the clear."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import redis
from asgiref.sync import sync_to_async

from tests.chat.browser import Browser
from tests.chat.recorded import once_closed
from tests.conftest import Company

CANARY = "Zanzibarcanary"


@contextmanager
def everything_said_to_valkey(url: str) -> Iterator[list[bytes]]:
    """Every command that any client sends while open, as MONITOR shows it."""
    commands: list[bytes] = []
    client = redis.Redis.from_url(url)
    connection = client.connection_pool.get_connection()
    connection.send_command("MONITOR")
    assert connection.read_response() == b"OK"

    def listen() -> None:
        while True:
            try:
                commands.append(connection.read_response())
            except (redis.RedisError, OSError, ValueError, AttributeError):
                return

    listener = threading.Thread(target=listen, daemon=True)
    listener.start()
    try:
        yield commands
        with redis.Redis.from_url(url) as last:
            last.echo("the end")
        for _ in range(100):
            if any(b"the end" in command for command in commands):
                break
            threading.Event().wait(0.02)
    finally:
        connection.disconnect()
        listener.join(2)


async def test_valkey_sees_sealed_text_only(live_acme: Company, browser: Browser, services: Any) -> None:
    with everything_said_to_valkey(services.valkey.url) as commands:
        watching = await browser.open(live_acme.member, "acme-bank")
        tab = await browser.open(live_acme.member, "acme-bank")
        accepted = await tab.ask(f"Repeat this word and nothing else: {CANARY}")
        await watching.until("started")
        await tab.until("done")
    record = await once_closed(live_acme, accepted["generation"])
    assert "canary" in record.text.lower() or len(record.text) > 10
    said = b"\n".join(commands)
    # The listener heard this very answer and the hint about it …
    assert f"custos:{live_acme.tenant.pk}:generation:{accepted['generation']}".encode() in said
    assert b"XADD" in said.upper()
    assert accepted["answer"]["id"].encode() in said
    # … and of its words not one.
    assert CANARY.encode() not in said
    words = {word for word in record.text.split() if len(word) > 5}
    assert [word for word in words if word.encode() in said] == []

    def kept() -> bytes:
        with redis.Redis.from_url(services.valkey.url) as valkey:
            return b"".join(bytes(valkey.dump(key) or b"") for key in valkey.scan_iter())

    stored = await sync_to_async(kept)()
    assert len(stored) > 100
    assert CANARY.encode() not in stored
