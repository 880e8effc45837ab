"""The service's URLs."""

from __future__ import annotations

import asyncio
import hmac
import re
import time
import uuid
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from inference.engine.errors import EngineError
from inference.engine.stream import Stream
from inference.protocol import (
    MAX_BODY_BYTES,
    ApiError,
    ChatCompletionRequest,
    CompletionRequest,
    body_too_large,
    invalid_request,
    model_not_found,
    parse_request,
)
from inference.protocol_text import DetokenizeRequest, EmbeddingRequest, TokenizeRequest
from inference.server.answers import Answer, AnswerResponse, error_response, to_api_error
from inference.server.faults import Faults
from inference.server.metrics import outcome_of
from inference.server.requests import Wire, needs_grammar, plan
from inference.server.service import Service
from inference.server.shapes import shape_of
from inference.server.tokens import detokenize, tokenize

# What may appear in a log line; anything else is replaced rather than trusted.
_PLAIN = re.compile(r"[\w.:-]{1,128}", re.ASCII)

# A schema may take seconds to compile; those who send some must not hold up those who send none.
_GRAMMAR_THREADS = ThreadPoolExecutor(2, thread_name_prefix="grammar")

Handler = Callable[[Request], Awaitable[Response]]


def create_app(service: Service, token: str = "", *, faults: bool = False) -> Starlette:
    """The ASGI application. With a `token`, all but /health need it as a bearer token.

    faults: POST /faults makes chats and completions fail or wait, for tests.
    """
    provoked = Faults()

    async def health(request: Request) -> Response:
        body = service.health()
        return JSONResponse(body, 200 if body["state"] == "ready" else 503)

    async def metrics(request: Request) -> Response:
        return Response(generate_latest(service.metrics.registry), media_type=CONTENT_TYPE_LATEST)

    async def models(request: Request) -> Response:
        return JSONResponse({"object": "list", "data": service.models()})

    async def model(request: Request) -> Response:
        name = request.path_params["name"]
        for entry in service.models():
            if entry["id"] == name:
                return JSONResponse(entry)
        raise model_not_found(name)

    async def chat(request: Request) -> Response:
        await provoked.strike()
        return await _generate(service, request, ChatCompletionRequest)

    async def completions(request: Request) -> Response:
        await provoked.strike()
        return await _generate(service, request, CompletionRequest)

    async def embeddings(request: Request) -> Response:
        service.ready()
        wire = parse_request(EmbeddingRequest, await _read_body(request))
        return await service.embeddings.answer(wire, request.receive, _request_id(request))

    async def tokens(request: Request) -> Response:
        service.ready()
        wire = parse_request(TokenizeRequest, await _read_body(request))
        return JSONResponse(await asyncio.to_thread(tokenize, service, wire))

    async def text(request: Request) -> Response:
        service.ready()
        wire = parse_request(DetokenizeRequest, await _read_body(request))
        return JSONResponse(await asyncio.to_thread(detokenize, service, wire))

    async def provoke(request: Request) -> Response:
        provoked.set(await _read_body(request))
        return JSONResponse(provoked.described())

    def guarded(handler: Handler) -> Handler:
        async def check(request: Request) -> Response:
            _check_token(request, token)
            return await handler(request)

        return check

    return Starlette(
        routes=[
            Route("/health", health),
            Route("/metrics", guarded(metrics)),
            Route("/v1/models", guarded(models)),
            Route("/v1/models/{name}", guarded(model)),
            Route("/v1/chat/completions", guarded(chat), methods=["POST"]),
            Route("/v1/completions", guarded(completions), methods=["POST"]),
            Route("/v1/embeddings", guarded(embeddings), methods=["POST"]),
            *(Route(f"{prefix}/tokenize", guarded(tokens), methods=["POST"]) for prefix in ("", "/v1")),
            *([Route("/faults", guarded(provoke), methods=["POST"])] if faults else []),
            *(Route(f"{prefix}/detokenize", guarded(text), methods=["POST"]) for prefix in ("", "/v1")),
        ],
        exception_handlers={
            ApiError: _on_api_error,
            HTTPException: _on_http_error,
            ClientDisconnect: _on_disconnect,
            Exception: _on_crash,
        },
    )


async def _generate(
    service: Service, request: Request, kind: type[ChatCompletionRequest | CompletionRequest]
) -> Response:
    """Everything that can still be answered by a status; what comes after is AnswerResponse's."""
    arrived_at = time.monotonic()
    try:
        service.ready()
        wire = parse_request(kind, await _read_body(request))
        return AnswerResponse(await _start(service, request, wire, arrived_at))
    except (ApiError, EngineError) as error:
        param = "messages" if kind is ChatCompletionRequest else "prompt"
        refusal = to_api_error(error, param) if isinstance(error, EngineError) else error
        service.metrics.requests.labels(outcome_of(refusal.status)).inc()
        raise refusal from error
    except ClientDisconnect:
        service.metrics.requests.labels("cancelled").inc()
        return Response(status_code=499)  # Nobody is there to read it.


async def _start(service: Service, request: Request, wire: Wire, arrived_at: float) -> Answer:
    """Put every choice of a request in line, or none. Raises ApiError and EngineError."""
    request_id, tenant = _request_id(request), _plain_header(request, "x-custos-tenant")
    ready = service.ready()
    planned = partial(
        plan, wire, ready, request_id=request_id, tenant=tenant, priority=_priority(request, wire)
    )
    threads = _GRAMMAR_THREADS if needs_grammar(wire) else None
    asked = await asyncio.get_running_loop().run_in_executor(threads, planned)
    streams: list[Stream] = []
    try:
        for engine_request in asked.requests:
            streams.append(ready.engine.submit(engine_request))
    except EngineError:
        for stream in streams:
            stream.cancel()
        raise
    return Answer(
        streams,
        shape=shape_of(wire, ready.vocabulary, request_id=request_id, choices=len(streams)),
        reading=asked.reading,
        per_prompt=asked.per_prompt,
        wants_stream=wire.wants_stream,
        wants_usage=wire.wants_usage,
        request_id=request_id,
        tenant=tenant,
        arrived_at=arrived_at,
        metrics=service.metrics,
    )


def _priority(request: Request, wire: Wire) -> int:
    """The header's, which a gateway sets, or else the body's."""
    given = request.headers.get("x-custos-priority")
    if given is None:
        return wire.priority or 0
    if not re.fullmatch(r"-?[0-9]{1,10}", given):
        raise invalid_request(
            "invalid_value", "X-Custos-Priority must be a whole number.", "X-Custos-Priority"
        )
    return int(given)


async def _read_body(request: Request) -> bytes:
    """The body, given up as soon as it is known to be too large."""
    declared = request.headers.get("content-length", "")
    if declared.isdecimal() and int(declared) > MAX_BODY_BYTES:
        raise body_too_large()
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > MAX_BODY_BYTES:
            raise body_too_large()
    return bytes(body)


def _request_id(request: Request) -> str:
    return _plain_header(request, "x-request-id") or uuid.uuid4().hex


def _plain_header(request: Request, name: str) -> str:
    value = request.headers.get(name, "")
    return value if _PLAIN.fullmatch(value) else ""


def _check_token(request: Request, token: str) -> None:
    scheme, _, given = request.headers.get("authorization", "").partition(" ")
    if token and not (scheme.lower() == "bearer" and hmac.compare_digest(given.encode(), token.encode())):
        raise ApiError(
            401,
            "invalid_api_key",
            "authentication_error",
            "The bearer token is missing or wrong. Send the service's token as 'Authorization: Bearer …'.",
        )


async def _on_api_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, ApiError)
    return error_response(error)


async def _on_http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    code = {404: "not_found", 405: "method_not_allowed"}.get(error.status_code, "http_error")
    message = f"{request.method} {request.url.path}: {error.detail}"
    return error_response(invalid_request(code, message, status=error.status_code))


async def _on_disconnect(request: Request, error: Exception) -> Response:
    return Response(status_code=499)  # Nobody is there to read it.


async def _on_crash(request: Request, error: Exception) -> Response:
    return error_response(ApiError(500, "internal_error", "server_error", "The service failed; try again."))
