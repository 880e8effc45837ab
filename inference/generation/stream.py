"""The bounded Valkey stream of one generation: sealed chunks, then an end marker.

Keys, all below `custos:{tenant}:generation:{id}`:
    (itself)  the stream; each entry is {seq, chunk: sealed bytes} and the last one {seq, end: JSON}
    :alive    present while a process works on the generation; the audit reaper looks at it
    :stop     present once somebody asked to stop

The end marker carries status, usage and timings but no content: no plaintext is ever written to Valkey.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from audit.reaper import alive_key
from audit.record import Handle
from inference.generation.errors import StreamUnavailable
from tenants import valkey

MAX_ENTRIES = 4096  # A chunk holds at least one token, and the chat asks for fewer tokens than this.
KEEP_S = 600  # After the end: long enough to reload a page or open another device.
ALIVE_S = 15
BLOCK_MS = 1000

StreamKey = tuple[UUID, UUID]  # (tenant, generation)


class StreamGone(Exception):
    """No end marker will come: the stream expired, or the process that wrote it died."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry: `sealed` for a chunk, `end` for the end marker; never both."""

    seq: int
    sealed: bytes = b""
    end: dict[str, Any] | None = None


def _key(key: StreamKey, suffix: str = "") -> str:
    tenant, generation = key
    return f"custos:{tenant}:generation:{generation}{suffix}"


def _alive(key: StreamKey) -> str:
    # The reaper's own: were the two to differ, it would close the records of answers that are being written.
    return alive_key(Handle(*key))


async def publish(key: StreamKey, *, seq: int, sealed: bytes, expire_s: int) -> None:
    """Append one sealed chunk. Raises StreamUnavailable, also when Valkey lost the chunks before it."""
    await _append(key, {"seq": seq, "chunk": sealed}, expire_s if seq == 1 else None)


async def publish_end(key: StreamKey, *, seq: int, end: dict[str, Any]) -> None:
    """Append the end marker and let the stream expire KEEP_S later. Raises StreamUnavailable."""
    await _append(key, {"seq": seq, "end": json.dumps(end)}, KEEP_S)


async def _append(key: StreamKey, fields: dict[Any, Any], expire_s: int | None) -> None:
    # A stream begins with the first entry and never anew: a reader would miss what a restarted Valkey forgot.
    begun = fields["seq"] > 1
    try:
        async with valkey.client().pipeline(transaction=False) as pipe:
            pipe.xadd(_key(key), fields, maxlen=MAX_ENTRIES, approximate=False, nomkstream=begun)
            if expire_s is not None:
                pipe.expire(_key(key), expire_s)
            added, *_ = await pipe.execute()
    except valkey.VALKEY_ERRORS as error:
        raise StreamUnavailable(str(error)) from error
    if added is None:
        raise StreamUnavailable("the stream is gone")


async def read(key: StreamKey) -> AsyncIterator[list[Entry]]:
    """Yield entries from the start, several at a time, until the end marker.

    Raises StreamGone when no end marker can come any more, StreamUnavailable when Valkey is away.
    """
    last = b"0"
    while True:
        rows = await _rows_after(key, last, block_ms=BLOCK_MS)
        if not rows and not await is_alive(key):
            # The end marker is written before :alive is removed, so one more look settles it.
            rows = await _rows_after(key, last, block_ms=None)
            if not rows:
                raise StreamGone
        if rows:
            last = rows[-1][0]
            entries = _parse(rows)
            yield entries
            if entries[-1].end is not None:
                return


async def _rows_after(key: StreamKey, last: bytes, *, block_ms: int | None) -> list[Any]:
    try:
        answer: Any = await valkey.client().xread({_key(key): last}, block=block_ms)
    except valkey.VALKEY_ERRORS as error:
        raise StreamUnavailable(str(error)) from error
    return answer[0][1] if answer else []


def _parse(rows: list[tuple[bytes, dict[bytes, bytes]]]) -> list[Entry]:
    return [
        Entry(
            seq=int(fields[b"seq"]),
            sealed=fields.get(b"chunk", b""),
            end=json.loads(fields[b"end"]) if b"end" in fields else None,
        )
        for _identifier, fields in rows
    ]


async def set_alive(keys: Iterable[StreamKey]) -> None:
    """Tell the reaper that these generations are being worked on. Raises StreamUnavailable."""
    try:
        async with valkey.client().pipeline(transaction=False) as pipe:
            for key in keys:
                pipe.set(_alive(key), b"1", ex=ALIVE_S)
            await pipe.execute()
    except valkey.VALKEY_ERRORS as error:
        raise StreamUnavailable(str(error)) from error


async def clear_alive(key: StreamKey) -> None:
    """The generation is over. Raises StreamUnavailable."""
    try:
        await valkey.client().delete(_alive(key), _key(key, ":stop"))
    except valkey.VALKEY_ERRORS as error:
        raise StreamUnavailable(str(error)) from error


async def is_alive(key: StreamKey) -> bool:
    """Whether some process works on the generation. Raises StreamUnavailable."""
    try:
        return bool(await valkey.client().exists(_alive(key)))
    except valkey.VALKEY_ERRORS as error:
        raise StreamUnavailable(str(error)) from error


def alive_among(keys: list[StreamKey]) -> set[StreamKey]:
    """Synchronous: those of `keys` that some process works on. Raises StreamUnavailable."""
    if not keys:
        return set()
    try:
        marks = valkey.sync_client().mget([_alive(key) for key in keys])
    except valkey.VALKEY_ERRORS as error:
        raise StreamUnavailable(str(error)) from error
    return {key for key, mark in zip(keys, marks, strict=True) if mark is not None}


async def request_stop(key: StreamKey) -> None:
    """Ask whichever process runs the generation to stop it. Raises StreamUnavailable."""
    try:
        await valkey.client().set(_key(key, ":stop"), b"1", ex=60)
    except valkey.VALKEY_ERRORS as error:
        raise StreamUnavailable(str(error)) from error


async def stops_among(keys: list[StreamKey]) -> set[StreamKey]:
    """Those of `keys` that somebody asked to stop. Raises StreamUnavailable."""
    try:
        marks = await valkey.client().mget([_key(key, ":stop") for key in keys])
    except valkey.VALKEY_ERRORS as error:
        raise StreamUnavailable(str(error)) from error
    return {key for key, mark in zip(keys, marks, strict=True) if mark is not None}
