"""Failures on demand, for tests of what stands in front: with `--faults` alone, and for whoever holds the token."""

from __future__ import annotations

import asyncio
import json
import random

from inference.protocol import ApiError, invalid_request

LONGEST_MS = 600_000


class Faults:
    """Which share of requests fails, and how long each waits before it is begun."""

    def __init__(self) -> None:
        self._error_rate, self._delay_ms = 0.0, 0

    def set(self, body: bytes) -> None:
        """{"error_rate": 0 to 1, "delay_ms": …}; what is left out is nothing. Raises ApiError."""
        try:
            asked = json.loads(body)
            error_rate, delay_ms = float(asked.get("error_rate", 0)), int(asked.get("delay_ms", 0))
        except (ValueError, TypeError, AttributeError):
            raise invalid_request("invalid_value", 'Send {"error_rate": 0.5, "delay_ms": 0}.') from None
        if not (0 <= error_rate <= 1 and 0 <= delay_ms <= LONGEST_MS):
            raise invalid_request("invalid_value", "error_rate is from 0 to 1, delay_ms from 0 to 600000.")
        self._error_rate, self._delay_ms = error_rate, delay_ms

    def described(self) -> dict[str, float]:
        return {"error_rate": self._error_rate, "delay_ms": self._delay_ms}

    async def strike(self) -> None:
        """Raises ApiError as often as it was asked for."""
        if self._delay_ms:
            await asyncio.sleep(self._delay_ms / 1000)
        if random.random() < self._error_rate:
            raise ApiError(500, "provoked", "server_error", "This failure was asked for.")
