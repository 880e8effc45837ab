"""How the console talks to an inference service: one HTTP client, streams in, typed errors out.

Imports httpx and `inference.protocol` only. Any OpenAI-compatible server can stand on the other
side. One pooled connection set is kept per event loop, because httpx pools belong to a loop.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Iterator
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

import httpx

from inference.protocol import ApiError

# A stream may wait this long for its next bytes; the service sends a comment line every few
# seconds while a request is queued, so a longer silence means the service hangs.
_TIMEOUT = httpx.Timeout(connect=2.0, read=60.0, write=10.0, pool=2.0)
_HEALTH_TIMEOUT = httpx.Timeout(2.0)  # Whoever asks about health waits for other parts too.
_LIMITS = httpx.Limits(max_connections=512, max_keepalive_connections=32)


@dataclass(frozen=True, slots=True)
class Usage:
    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int = 0


@dataclass(frozen=True, slots=True)
class Delta:
    """A piece of the answer; never empty, never half a character."""

    text: str


@dataclass(frozen=True, slots=True)
class Finished:
    """The end of an answer. `finish_reason` is "stop" or "length"."""

    finish_reason: str
    usage: Usage


class InferenceError(Exception):
    """Any way a generation can fail; catch this to close the audit record."""

    code = "inference_error"


class InferenceUnavailable(InferenceError):
    """Nothing was generated: the service is down, loading, failed, or misconfigured. Try later."""

    code = "inference_unavailable"


class InferenceBusy(InferenceError):
    """Nothing was generated: the waiting line is full. Try again after `retry_after` seconds."""

    code = "inference_busy"

    def __init__(self, retry_after: int) -> None:
        super().__init__(f"The inference service is busy; try again in {retry_after} s.")
        self.retry_after = retry_after


class InferenceRejected(InferenceError):
    """Nothing was generated: the request itself is at fault. `error` can be shown to its sender."""

    def __init__(self, error: ApiError) -> None:
        super().__init__(error.message)
        self.error = error
        self.code = error.code


class InferenceInterrupted(InferenceError):
    """The answer broke off after it had begun; what was received stands, the rest is lost.

    `error` holds the service's own words when it could still send them.
    """

    code = "inference_interrupted"

    def __init__(self, message: str, error: ApiError | None = None) -> None:
        super().__init__(message)
        self.error = error
        if error is not None:
            self.code = error.code


_pools: WeakKeyDictionary[asyncio.AbstractEventLoop, httpx.AsyncClient] = WeakKeyDictionary()


def _pool() -> httpx.AsyncClient:
    """The running loop's connection pool, made on first use."""
    loop = asyncio.get_running_loop()
    client = _pools.get(loop)
    if client is None or client.is_closed:
        # trust_env=False: a proxy set for the outside must never see prompts.
        client = _pools[loop] = httpx.AsyncClient(timeout=_TIMEOUT, limits=_LIMITS, trust_env=False)
    return client


async def close_pool() -> None:
    """Close the running loop's connections; call once when the loop is about to end."""
    client = _pools.pop(asyncio.get_running_loop(), None)
    if client is not None:
        await client.aclose()


class InferenceClient:
    """One inference service. Cheap to make: connections are pooled per event loop, not per client."""

    def __init__(self, base_url: str, token: str = "") -> None:
        self.base_url = base_url.rstrip("/")
        self._token = token

    async def stream_chat(
        self, request: dict[str, Any], *, request_id: str = "", tenant: str = ""
    ) -> AsyncGenerator[Delta | Finished, None]:
        """POST `request` (a ChatCompletionRequest as a dict) and yield Deltas, then one Finished.

        Closing the iterator, or cancelling the task that reads it, closes the connection, which
        cancels the generation. Raises the four InferenceError kinds.
        """
        async for item in self._stream("/v1/chat/completions", request, request_id, tenant):
            yield item

    async def stream_completion(
        self, request: dict[str, Any], *, request_id: str = "", tenant: str = ""
    ) -> AsyncGenerator[Delta | Finished, None]:
        """As `stream_chat`, for a CompletionRequest."""
        async for item in self._stream("/v1/completions", request, request_id, tenant):
            yield item

    async def health(self) -> dict[str, Any]:
        """The service's /health; also answered while loading. Raises InferenceUnavailable."""
        response = await self._get("/health")
        if response.status_code not in (200, 503):
            raise InferenceUnavailable(f"/health answered {response.status_code}.")
        try:
            return response.json()
        except ValueError:
            raise InferenceUnavailable("/health did not answer with JSON.") from None

    async def metrics_text(self) -> str:
        """The service's metrics in Prometheus text format. Raises InferenceUnavailable."""
        response = await self._get("/metrics")
        if response.status_code != 200:
            raise InferenceUnavailable(f"/metrics answered {response.status_code}.")
        return response.text

    async def _get(self, path: str) -> httpx.Response:
        try:
            return await _pool().get(
                self.base_url + path, headers=self._headers("", ""), timeout=_HEALTH_TIMEOUT
            )
        except httpx.TransportError as error:
            raise InferenceUnavailable(f"The inference service does not answer: {error!r}.") from error

    def _headers(self, request_id: str, tenant: str) -> dict[str, str]:
        headers = {"Authorization": f"Bearer {self._token}"} if self._token else {}
        if request_id:
            headers["X-Request-Id"] = request_id
        if tenant:
            headers["X-Custos-Tenant"] = tenant
        return headers

    async def _stream(
        self, path: str, request: dict[str, Any], request_id: str, tenant: str
    ) -> AsyncGenerator[Delta | Finished, None]:
        body = {**request, "stream": True, "stream_options": {"include_usage": True}}
        exchange = _pool().stream(
            "POST", self.base_url + path, json=body, headers=self._headers(request_id, tenant)
        )
        try:
            response = await exchange.__aenter__()
        except httpx.PoolTimeout as error:
            raise InferenceBusy(1) from error
        except httpx.TransportError as error:
            raise InferenceUnavailable(f"The inference service does not answer: {error!r}.") from error
        try:
            if response.status_code != 200:
                await _raise_for_status(response)
            reader = _AnswerReader()
            async for data in response.aiter_bytes():
                for item in reader.feed(data):
                    yield item
            if not reader.done:
                raise InferenceInterrupted("The inference service closed the connection mid-answer.")
        except httpx.TransportError as error:
            raise InferenceInterrupted(f"The connection broke mid-answer: {error!r}.") from error
        finally:
            await exchange.__aexit__(None, None, None)


async def _raise_for_status(response: httpx.Response) -> None:
    await response.aread()
    error = _api_error(response.status_code, _json_or_none(response.text))
    if response.status_code == 429:
        raise InferenceBusy(_retry_after(response))
    if response.status_code in (401, 403):
        # Our own token is at fault, not the user's: they must not be told to sign in again.
        raise InferenceUnavailable("The inference service refused our token.")
    if response.status_code >= 500:
        raise InferenceUnavailable(error.message)
    raise InferenceRejected(error)


def _retry_after(response: httpx.Response) -> int:
    value = response.headers.get("Retry-After", "")
    return int(value) if value.isdecimal() else 1


def _json_or_none(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return None


def _api_error(status: int, body: Any) -> ApiError:
    error = body.get("error") if isinstance(body, dict) else None
    if not isinstance(error, dict):
        return ApiError(status, "upstream_error", "server_error", f"The inference service answered {status}.")
    return ApiError(
        status,
        str(error.get("code") or "upstream_error"),
        str(error.get("type") or "server_error"),
        str(error.get("message") or f"The inference service answered {status}."),
        error.get("param"),
    )


class _AnswerReader:
    """Turns the bytes of an SSE answer into Deltas and one Finished, whatever the chunk borders."""

    def __init__(self) -> None:
        self.done = False
        self._rest = b""
        self._finish_reason = "stop"
        self._usage = Usage(0, 0)

    def feed(self, data: bytes) -> Iterator[Delta | Finished]:
        # Split on b"\n" only: str.splitlines would also split on U+2028 inside an answer.
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            if line.startswith(b"data:"):
                yield from self._event(line[5:].strip())

    def _event(self, data: bytes) -> Iterator[Delta | Finished]:
        if data == b"[DONE]":
            self.done = True
            yield Finished(self._finish_reason, self._usage)
            return
        event = _json_or_none(data.decode("utf-8", "replace"))
        if not isinstance(event, dict):
            raise InferenceInterrupted("The inference service sent a line that is not JSON.")
        if "error" in event:
            error = _api_error(500, event)
            raise InferenceInterrupted(error.message, error)
        if event.get("usage"):
            self._usage = _usage(event["usage"])
        for choice in event.get("choices") or []:
            self._finish_reason = choice.get("finish_reason") or self._finish_reason
            text = choice.get("text") or (choice.get("delta") or {}).get("content")
            if text:
                yield Delta(text)


def _usage(data: dict[str, Any]) -> Usage:
    details = data.get("prompt_tokens_details") or {}
    return Usage(
        int(data.get("prompt_tokens") or 0),
        int(data.get("completion_tokens") or 0),
        int(details.get("cached_tokens") or 0),
    )
