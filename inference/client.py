"""How the console talks to an inference service: one HTTP client, streams in, typed errors out.

Imports httpx, `inference.exchange`, `inference.protocol` and the parts of an answer from `audit.output` only. Any
OpenAI-compatible server can stand on the other side. One pooled connection set is kept per event
loop, because httpx pools belong to a loop.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Iterable, Iterator
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from dataclasses import dataclass, field, replace
from enum import StrEnum
from hashlib import sha256
from typing import Any
from weakref import WeakKeyDictionary

import httpx

from audit.output import Kind, Part
from inference.exchange import Exchange
from inference.protocol import ApiError

# A stream may wait this long for its next bytes; the service sends a comment line every few
# seconds while a request is queued, so a longer silence means the service hangs.
_TIMEOUT = httpx.Timeout(connect=2.0, read=60.0, write=10.0, pool=2.0)
_HEALTH_TIMEOUT = httpx.Timeout(2.0)  # Whoever asks about health waits for other parts too.
# What vLLM and our own service take and OpenAI does not know, whose server refuses what it does not know.
_BEYOND_OPENAI = {
    *("ignore_eos", "min_p", "min_tokens", "repetition_penalty", "stop_token_ids", "top_k"),
}
_LIMITS = httpx.Limits(max_connections=512, max_keepalive_connections=32)


class Software(StrEnum):
    """What stands on the other side, and so what it understands beside OpenAI's fields."""

    CUSTOS = "custos"
    VLLM = "vllm"
    OTHER = "other"


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens. Those served from the prefix cache are among the prompt's, those of reasoning among the answer's."""

    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int = 0
    reasoning_tokens: int = 0


@dataclass(frozen=True, slots=True)
class Delta(Part):
    """A piece of one choice's answer; never empty, never half a character.

    `logprobs` are those of its tokens in OpenAI's shape, lists of equal length: they come with the text they are of.
    """

    logprobs: dict[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Finished:
    """The end of an answer: each choice's "stop", "length" or "tool_calls", and the usage of all of them."""

    finish_reasons: dict[int, str]
    usage: Usage


@dataclass(frozen=True, slots=True)
class Vectors:
    """The embeddings of all inputs, each an object of OpenAI's `data`, in the inputs' order."""

    data: list[dict[str, Any]] = field(repr=False)


Event = Delta | Vectors | Finished


def joined_logprobs(pieces: Iterable[dict[str, Any] | None]) -> dict[str, Any] | None:
    """The logprobs of pieces of one choice that follow each other, list by list; None when there are none."""
    whole: dict[str, Any] = {}
    for name, value in (item for piece in pieces for item in (piece or {}).items()):
        if isinstance(value, list):
            whole[name] = whole.get(name) or []
            whole[name] += value
        else:
            whole.setdefault(name, value)
    return whole or None


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

    def __init__(self, base_url: str, token: str = "", software: Software = Software.CUSTOS) -> None:
        self.base_url = base_url.rstrip("/")
        self.software = software
        self._token = token

    async def stream_chat(
        self, request: dict[str, Any], *, request_id: str = "", tenant: str = "", priority: int = 0
    ) -> AsyncGenerator[Event, None]:
        """POST `request` (a ChatCompletionRequest as a dict) and yield Deltas, then one Finished.

        Of waiting requests of one tenant those with a lower `priority` go first.
        Closing the iterator, or cancelling the task that reads it, closes the connection, which
        cancels the generation. Raises the four InferenceError kinds.
        """
        headers, body = self._headers(request_id, tenant, priority), self._said(request, tenant)
        async with aclosing(self._stream("/v1/chat/completions", body, headers)) as items:
            async for item in items:
                yield item

    async def stream_completion(
        self, request: dict[str, Any], *, request_id: str = "", tenant: str = "", priority: int = 0
    ) -> AsyncGenerator[Event, None]:
        """As `stream_chat`, for a CompletionRequest."""
        headers, body = self._headers(request_id, tenant, priority), self._said(request, tenant)
        async with aclosing(self._stream("/v1/completions", body, headers)) as items:
            async for item in items:
                yield item

    async def stream_embeddings(
        self, request: dict[str, Any], *, request_id: str = "", tenant: str = "", priority: int = 0
    ) -> AsyncGenerator[Event, None]:
        """POST an OpenAI embeddings request; yields one Vectors and one Finished. Otherwise as `stream_chat`."""
        body = await self._post("/v1/embeddings", request, self._headers(request_id, tenant, priority))
        yield Vectors(body["data"])
        yield Finished({}, _usage(body.get("usage") or {}))

    async def tokenize(self, request: dict[str, Any], *, tenant: str = "") -> dict[str, Any]:
        """vLLM's /tokenize. Raises the first three InferenceError kinds."""
        return await self._post("/tokenize", request, self._headers(tenant=tenant))

    async def detokenize(self, request: dict[str, Any], *, tenant: str = "") -> dict[str, Any]:
        """vLLM's /detokenize. As `tokenize`."""
        return await self._post("/detokenize", request, self._headers(tenant=tenant))

    async def health(self) -> dict[str, Any]:
        """The service's /health; also answered while loading. Of vLLM, which says nothing, {}.

        Raises InferenceUnavailable.
        """
        response = await self._get("/health")
        if response.status_code not in (200, 503):
            raise InferenceUnavailable(f"/health answered {response.status_code}.")
        if response.status_code == 200 and not response.content and self.software != Software.CUSTOS:
            return {}
        found = _json_or_none(response.text)
        if not isinstance(found, dict):
            raise InferenceUnavailable("/health did not answer with JSON.")
        return found

    async def models(self) -> list[dict[str, Any]]:
        """The entries of /v1/models. Raises InferenceUnavailable."""
        response = await self._get("/v1/models")
        if response.status_code != 200:
            raise InferenceUnavailable(f"/v1/models answered {response.status_code}.")
        found = _json_or_none(response.text)
        listed = found.get("data") if isinstance(found, dict) else None
        if not isinstance(listed, list):
            raise InferenceUnavailable("/v1/models did not answer with a list of models.")
        return [entry for entry in listed if isinstance(entry, dict) and isinstance(entry.get("id"), str)]

    async def metrics_text(self) -> str:
        """The service's metrics in Prometheus text format. Raises InferenceUnavailable."""
        response = await self._get("/metrics")
        if response.status_code != 200:
            raise InferenceUnavailable(f"/metrics answered {response.status_code}.")
        return response.text

    async def _get(self, path: str) -> httpx.Response:
        try:
            return await _pool().get(
                self.base_url + path, headers=self._authorised({}), timeout=_HEALTH_TIMEOUT
            )
        except httpx.TransportError as error:
            raise _unavailable(error) from error

    async def _post(self, path: str, request: dict[str, Any], headers: dict[str, str]) -> dict[str, Any]:
        """The JSON object that answers a request whose answer comes at once."""
        async with self._asked(path, request, headers) as exchange:
            try:
                body = _json_or_none(await exchange.read())
            except httpx.TransportError as error:
                raise _unavailable(error) from error
        if not isinstance(body, dict):
            raise InferenceUnavailable(f"{path} did not answer with a JSON object.")
        return body

    @asynccontextmanager
    async def _asked(
        self, path: str, request: dict[str, Any], headers: dict[str, str]
    ) -> AsyncGenerator[Exchange, None]:
        """An exchange whose answer is a good one, its body unread. Raises the first three InferenceError kinds."""
        client = _pool()
        sent = client.build_request(
            "POST", self.base_url + path, json=request, headers=self._authorised(headers)
        )
        async with AsyncExitStack() as stack:
            try:
                exchange = await stack.enter_async_context(Exchange(client, sent))
                if exchange.response.status_code != 200:
                    await exchange.read()
            except httpx.PoolTimeout as error:
                raise InferenceBusy(1) from error
            except httpx.TransportError as error:
                raise _unavailable(error) from error
            if exchange.response.status_code != 200:
                raise _refusal(exchange.response)
            yield exchange

    def _said(self, request: dict[str, Any], tenant: str) -> dict[str, Any]:
        """What of a request the other side understands; vLLM also, whose prompts may share cached prefixes."""
        if self.software == Software.VLLM and tenant:
            return {**request, "cache_salt": sha256(f"custos tenant {tenant}".encode()).hexdigest()}
        if self.software == Software.OTHER:
            return {name: value for name, value in request.items() if name not in _BEYOND_OPENAI}
        return request

    def _headers(self, request_id: str = "", tenant: str = "", priority: int = 0) -> dict[str, str]:
        """What is told beside the body. Whose request it is, no server but our own is told."""
        said = {"X-Request-Id": request_id}
        if self.software == Software.CUSTOS:
            said |= {"X-Custos-Tenant": tenant, "X-Custos-Priority": str(priority or "")}
        return {name: value for name, value in said.items() if value}

    def _authorised(self, headers: dict[str, str]) -> dict[str, str]:
        return {**headers, "Authorization": f"Bearer {self._token}"} if self._token else headers

    async def _stream(
        self, path: str, request: dict[str, Any], headers: dict[str, str]
    ) -> AsyncGenerator[Event, None]:
        body = {**request, "stream": True, "stream_options": {"include_usage": True}}
        async with self._asked(path, body, headers) as exchange:
            reader = _AnswerReader()
            try:
                async for data in exchange.chunks():
                    for item in reader.feed(data):
                        yield item
            except httpx.TransportError as error:
                raise InferenceInterrupted(f"The connection broke mid-answer: {error!r}.") from error
            if not reader.done:
                raise InferenceInterrupted("The inference service closed the connection mid-answer.")


def _unavailable(error: httpx.TransportError) -> InferenceUnavailable:
    return InferenceUnavailable(f"The inference service does not answer: {error!r}.")


def _refusal(response: httpx.Response) -> InferenceError:
    """What an answer other than 200, whose body has been read, means."""
    error = _api_error(response.status_code, _json_or_none(response.text))
    if response.status_code == 429:
        return InferenceBusy(_retry_after(response))
    if response.status_code in (401, 403):
        # Our own token is at fault, not the user's: they must not be told to sign in again.
        return InferenceUnavailable("The inference service refused our token.")
    if not 400 <= response.status_code < 500:
        return InferenceUnavailable(error.message)
    return InferenceRejected(error)


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
        self._finish_reasons: dict[int, str] = {}
        self._usage = Usage(0, 0)
        self._waiting: dict[
            int, dict[str, Any]
        ] = {}  # By choice: logprobs of tokens whose text is yet to come.

    def feed(self, data: bytes) -> Iterator[Delta | Finished]:
        # Split on b"\n" only: str.splitlines would also split on U+2028 inside an answer.
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            if line.startswith(b"data:"):
                yield from self._event(line[5:].strip())

    def _event(self, data: bytes) -> Iterator[Delta | Finished]:
        if data == b"[DONE]":
            self.done = True
            yield Finished(self._finish_reasons or {0: "stop"}, self._usage)
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
            yield from self._choice(choice)

    def _choice(self, choice: dict[str, Any]) -> Iterator[Delta]:
        index = int(choice.get("index") or 0)
        if reason := choice.get("finish_reason"):
            self._finish_reasons[index] = reason
        # Logprobs name tokens, so they are text too: without their text they wait for it.
        logprobs = joined_logprobs([self._waiting.pop(index, None), choice.get("logprobs")])
        deltas = list(_deltas(index, choice))
        if deltas:
            yield from deltas[:-1]
            yield replace(deltas[-1], logprobs=logprobs)
        elif logprobs:
            self._waiting[index] = logprobs


def _deltas(index: int, choice: dict[str, Any]) -> Iterator[Delta]:
    """What a chunk of one choice says, in the order in which a model says it."""
    delta = choice.get("delta") or {}
    # vLLM calls it `reasoning`, DeepSeek and most others `reasoning_content`.
    if reasoning := delta.get("reasoning_content") or delta.get("reasoning"):
        yield Delta(reasoning, index, Kind.REASONING)
    if text := choice.get("text") or delta.get("content"):
        yield Delta(text, index)
    for call in delta.get("tool_calls") or []:
        function = call.get("function") or {}
        piece = Delta(
            function.get("arguments") or "",
            index,
            Kind.TOOL_CALL,
            call=int(call.get("index") or 0),
            id=call.get("id") or "",
            name=function.get("name") or "",
        )
        if piece.text or piece.name or piece.id:
            yield piece


def _usage(data: dict[str, Any]) -> Usage:
    prompt, completion = (data.get(f"{side}_tokens_details") or {} for side in ("prompt", "completion"))
    return Usage(
        int(data.get("prompt_tokens") or 0),
        int(data.get("completion_tokens") or 0),
        int(prompt.get("cached_tokens") or 0),
        int(completion.get("reasoning_tokens") or 0),
    )
