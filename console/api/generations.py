"""One audited generation for a program: from the validated body to the response."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from typing import Any, Literal
from uuid import UUID

from django.http import HttpRequest, HttpResponseBase, JsonResponse, StreamingHttpResponse

from console import grounding
from console.api.answers import EventStream, Reader, Shape, error_of, usage_of
from console.api.departure import departure_of
from console.api.requests import error_response
from inference.client import Delta
from inference.generation import run
from inference.generation.run import Ending, Generation, Order
from inference.protocol import (
    ApiError,
    ChatCompletionRequest,
    CompletionRequest,
    invalid_request,
    model_not_found,
)
from inference.protocol_text import EmbeddingRequest
from inference.registry.models import ModelVersion
from inference.registry.selectors import Resolved, RouteNotFound
from inference.routing.ask import ask_of
from inference.routing.choice import resolve
from inference.routing.models import RouteClass
from knowledge import asking
from tenants.access import Actor, NotVisible
from tenants.database import in_database
from tenants.quotas.headers import rate_limit_headers
from tenants.roles import API_USE
from tenants.scope import tenant_scope

_NOT_FOR_THE_MODEL = {"model", "stream", "stream_options", "knowledge"}  # The console asks for these itself.


async def answer_chat(request: HttpRequest, actor: Actor, wish: ChatCompletionRequest) -> HttpResponseBase:
    """Raises ApiError or GenerationError when nothing was recorded or asked of the model."""
    return await _answer(request, actor, wish, kind="chat", choices=wish.choices)


async def answer_completion(request: HttpRequest, actor: Actor, wish: CompletionRequest) -> HttpResponseBase:
    """As answer_chat."""
    choices = wish.choices * len(wish.prompts)
    return await _answer(request, actor, wish, kind="completion", choices=choices)


async def answer_embeddings(request: HttpRequest, actor: Actor, wish: EmbeddingRequest) -> HttpResponseBase:
    """As answer_chat."""
    order = await _order(request, actor, wish, kind="embedding", model=ModelVersion.Kind.EMBEDDING)

    async def respond(generation: Generation, reader: Reader) -> HttpResponseBase:
        ending = await reader.next()
        assert isinstance(ending, Ending)  # Nothing is written, so nothing comes before the end.
        if error := error_of(ending):
            raise error
        usage = {name: usage_of(ending)[name] for name in ("prompt_tokens", "total_tokens")}
        route = order.resolved.route
        body = {"object": "list", "data": generation.vectors, "model": route, "usage": usage}
        return JsonResponse(body)

    return await _carried_out(request, order, respond)


async def resolved_for(actor: Actor, name: str | None, kind: ModelVersion.Kind | None) -> Resolved:
    """The model that the tenant calls `name`; without a name the default one. Raises ApiError."""
    return await in_database(_resolve, actor, name, kind, None)


def _resolve(
    actor: Actor, name: str | None, kind: ModelVersion.Kind | None, asked: dict[str, Any] | None
) -> Resolved:
    """asked: the request, where a model is to answer it. Its name may end in a class of the route's rules."""
    route, _colon, wanted = (name or "").partition(":")
    if wanted and wanted not in RouteClass.values:
        raise model_not_found(name or "")
    ask = None if asked is None else ask_of("api", asked, wanted=wanted)
    with tenant_scope(actor.tenant_id):
        try:
            return resolve(actor, route if name is not None else None, kind, ask=ask)
        except RouteNotFound:
            raise model_not_found(name or "") from None


async def _answer(
    request: HttpRequest,
    actor: Actor,
    wish: ChatCompletionRequest | CompletionRequest,
    *,
    kind: Literal["chat", "completion"],
    choices: int,
) -> HttpResponseBase:
    order = await _order(request, actor, wish, kind=kind)
    sources = None
    if isinstance(wish, ChatCompletionRequest) and wish.knowledge:
        order, sources = await _grounded(order, wish, wish.knowledge)
    shape = Shape(
        kind=kind,
        request_id=str(order.request_id),
        model=order.resolved.route,
        choices=choices,
        sources=sources,
    )
    return await _carried_out(request, order, lambda _, reader: _respond(reader, shape, wish))


async def _order(
    request: HttpRequest,
    actor: Actor,
    wish: ChatCompletionRequest | CompletionRequest | EmbeddingRequest,
    *,
    kind: Literal["chat", "completion", "embedding"],
    model: ModelVersion.Kind = ModelVersion.Kind.TEXT,
) -> Order:
    """Raises ApiError."""
    asked = wish.model_dump(exclude=_NOT_FOR_THE_MODEL, exclude_unset=True, exclude_none=True, by_alias=True)
    return Order(
        actor=actor,
        channel="api",
        permission=API_USE,
        kind=kind,
        request=asked,
        resolved=await in_database(_resolve, actor, wish.model, model, asked),
        client_address=request.META.get("REMOTE_ADDR") or "",
        arrived=request.arrived,  # type: ignore[attr-defined]
    )


async def _grounded(
    order: Order, wish: ChatCompletionRequest, names: Sequence[str]
) -> tuple[Order, dict[str, Any]]:
    """The order with what the bases hold on its last message, and that for the answer. Raises ApiError."""
    base_ids = tuple(UUID(name) for name in names)
    said = [message.content or "" for message in wish.messages if message.role == "user"]
    try:
        found = await asking.aask(order.actor, base_ids, said[-1], earlier=said[:-1])
    except NotVisible:
        detail = "There is no such knowledge base, or this key may not ask it. GET /api/v1/knowledge-bases lists them."
        raise invalid_request("knowledge_not_found", detail, "knowledge", status=404) from None
    answer_tokens = wish.token_limit or order.resolved.context_tokens // 2
    made = grounding.grounded(said[-1], found, order.resolved, answer_tokens=answer_tokens)
    messages = [
        {"role": "system", "content": made.prompt.system},
        *order.request["messages"][:-1],
        {"role": "user", "content": made.prompt.question},
    ]
    asked = replace(
        order,
        request={**order.request, "messages": messages},
        resolved=made.resolved,
        needs=order.needs | grounding.needs_of(base_ids),
        passages=made.passages,
    )
    return asked, made.sources


async def _carried_out(
    request: HttpRequest, order: Order, respond: Callable[[Generation, Reader], Awaitable[HttpResponseBase]]
) -> HttpResponseBase:
    """Run a generation and let `respond` make the response of it, which then carries the record's id.

    A generation that has not ended when the client leaves is stopped.
    """
    reader = Reader()
    generation = await run.begin(order, reader)
    generation.start()
    departure_of(request).then(lambda: generation.stop("disconnected", "client_disconnected"))
    request_id, limits = str(order.request_id), generation.reservation.standings
    try:
        response = await respond(generation, reader)
    except ApiError as error:
        return error_response(error, request_id=request_id, limits=limits)
    response.headers["X-Request-Id"] = request_id
    answering = generation.order.resolved  # Who was asked last, where others failed before.
    response.headers["X-Custos-Route"] = f"{answering.deployment}; {answering.reason}"
    for name, value in rate_limit_headers(limits).items():
        response.headers[name] = value
    return response


async def _respond(
    reader: Reader, shape: Shape, wish: ChatCompletionRequest | CompletionRequest
) -> HttpResponseBase:
    # The first event decides the status code, so that a refusal is a plain HTTP error in a stream too.
    first = await reader.next()
    if isinstance(first, Ending) and (error := error_of(first)):
        raise error
    if wish.wants_stream:
        events = EventStream(reader=reader, first=first, shape=shape, wants_usage=wish.wants_usage)
        headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
        return StreamingHttpResponse(events, content_type="text/event-stream", headers=headers)
    deltas: list[Delta] = []
    item = first
    while not isinstance(item, Ending):
        deltas += item
        item = await reader.next()
    if error := error_of(item):
        raise error
    return JsonResponse(shape.whole(deltas, item))
