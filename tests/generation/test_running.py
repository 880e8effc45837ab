"""The edges of a generation's life in its process: begun before a shutdown, watched when a part is away."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from inference.generation import running, stream
from inference.generation.errors import StreamUnavailable
from tenants import hints
from tenants.ids import uuid7


class Stoppable:
    """As much of a generation as its watcher sees."""

    def __init__(self) -> None:
        request_id = uuid7()
        self.order = SimpleNamespace(
            request_id=request_id,
            key=(uuid7(), request_id),
            claim="something of somebody",
            actor=SimpleNamespace(tenant_id=uuid7()),
        )
        self.stopped: list[tuple[str, ...]] = []

    def stop(self, *reason: str) -> None:
        self.stopped.append(reason)

    async def wait(self) -> None:
        pass


@pytest.fixture
def watched() -> running.Running:
    return running.Running()


async def test_what_was_begun_before_a_shutdown_and_starts_after_it_is_ended(watched: Any) -> None:
    await watched.shut_down()
    late = Stoppable()
    watched.add(late)
    assert late.stopped == [("interrupted", "shutting_down")]
    watched.discard(late)


@pytest.mark.django_db(transaction=True)  # its threads look after their connections
async def test_access_is_withdrawn_while_valkey_is_away(
    watched: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def away(keys: Any) -> set[Any]:
        raise StreamUnavailable("away")

    monkeypatch.setattr(stream, "stops_among", away)
    monkeypatch.setattr(running, "withdrawn", set)
    generation = Stoppable()
    watched.add(generation)
    await asyncio.sleep(running.ACCESS_EVERY_S + 0.5)
    assert ("stopped", "access_revoked") in generation.stopped
    watched.discard(generation)


@pytest.mark.django_db(transaction=True)
async def test_a_change_of_its_own_tenant_is_heeded_before_the_next_look(
    watched: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(running, "withdrawn", set)
    of_it, of_another = Stoppable(), Stoppable()
    watched._checks = {watched._heed_changes: running.HINTS_EVERY_S}  # and no look on its own
    for generation in (of_it, of_another):
        watched.add(generation)
    await asyncio.sleep(3 * running.HINTS_EVERY_S)
    assert not of_it.stopped, "nothing has changed"
    await asyncio.to_thread(hints.changed, of_it.order.actor.tenant_id)
    await asyncio.sleep(0.5)
    assert of_it.stopped[0] == ("stopped", "access_revoked")
    assert not of_another.stopped
    for generation in (of_it, of_another):
        watched.discard(generation)


async def test_a_stream_that_valkey_lost_is_not_begun_anew() -> None:
    key = uuid7(), uuid7()
    await stream.publish(key, seq=1, sealed=b"one", expire_s=60)
    await stream.publish(key, seq=2, sealed=b"two", expire_s=60)
    lost = uuid7(), uuid7()
    with pytest.raises(StreamUnavailable):
        await stream.publish(lost, seq=2, sealed=b"two", expire_s=60)
    with pytest.raises(StreamUnavailable):
        await stream.publish_end(lost, seq=3, end={})
    await stream.publish_end(lost, seq=1, end={})  # An answer may end before its first piece.
