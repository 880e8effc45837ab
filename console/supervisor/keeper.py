"""Keeps the database and Valkey servers running."""

import asyncio
import time
from collections.abc import Callable
from typing import Protocol

from console.supervisor.child import Backoff
from console.supervisor.errors import ServerError
from console.supervisor.output import Output

POLL_SECONDS = 0.25


class Server(Protocol):
    """What PostgresServer and ValkeyServer have in common."""

    @property
    def running(self) -> bool: ...

    def start(self) -> None: ...

    def stop(self) -> None: ...


class ServerKeeper:
    """Starts a server, starts it again when it ends, stops it: never two of these at once."""

    def __init__(self, name: str, server: Server, output: Output) -> None:
        self.name = name
        self._server = server
        self._output = output
        self._busy = asyncio.Lock()
        self._stopping = False

    async def start(self) -> None:
        """Raises ServerError when the server cannot run here."""
        async with self._busy:
            if not self._stopping:
                await _to_its_end(self._server.start)

    async def keep_running(self) -> None:
        """Returns after `stop`."""
        backoff = Backoff()
        started = time.monotonic()
        while not self._stopping:
            await asyncio.sleep(POLL_SECONDS)
            if self._server.running or self._stopping:
                continue
            wait = backoff.after(lived=time.monotonic() - started)
            self._output.say(f"the {self.name} server ended; starting it again in {wait:.0f} s")
            await asyncio.sleep(wait)
            started = time.monotonic()
            try:
                await self.start()
            except ServerError as error:
                self._output.say(str(error))

    async def stop(self) -> None:
        self._stopping = True
        async with self._busy:
            await _to_its_end(self._server.stop)


async def _to_its_end(call: Callable[[], None]) -> None:
    """Run a blocking call in a thread; when cancelled, be cancelled only after it has finished."""
    task = asyncio.ensure_future(asyncio.to_thread(call))
    try:
        await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait({task})
        raise
