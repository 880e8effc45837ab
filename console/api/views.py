"""/v1: chat completions, completions, models."""

from __future__ import annotations

from typing import Any, Literal

from django.http import HttpRequest, HttpResponseBase, JsonResponse, StreamingHttpResponse
from django.views.decorators.csrf import csrf_exempt

from console.api.answers import EventStream, Reader, Shape, error_of
from console.api.requests import error_response, operation, read_wish
from inference.generation import run
from inference.generation.run import Ending, Generation, Order
from inference.protocol import (
    ApiError,
    ChatCompletionRequest,
    CompletionRequest,
    invalid_request,
    model_not_found,
)
from inference.registry.models import Route
from inference.registry.selectors import Resolved, RouteNotFound, resolve, usable_routes
from tenants.access import Actor
from tenants.database import in_database
from tenants.ids import time_of
from tenants.roles import API_USE
from tenants.scope import tenant_scope


@operation("POST")
async def chat_completions(request: HttpRequest, actor: Actor) -> HttpResponseBase:
    """POST /v1/chat/completions"""
    return await _answer(request, actor, "chat", read_wish(request, ChatCompletionRequest))


@operation("POST")
async def completions(request: HttpRequest, actor: Actor) -> HttpResponseBase:
    """POST /v1/completions"""
    wish = read_wish(request, CompletionRequest)
    if not isinstance(wish.prompt, str):
        message = "is a list of token ids, which nobody could read in the audit record; send text"
        raise invalid_request("unsupported_parameter", f"prompt {message}.", "prompt")
    return await _answer(request, actor, "completion", wish)


@operation("GET", "HEAD")
async def models(request: HttpRequest, actor: Actor) -> HttpResponseBase:
    """GET /v1/models"""
    return JsonResponse({"object": "list", "data": await in_database(_models, actor)})


@operation("GET", "HEAD")
async def model(request: HttpRequest, actor: Actor, name: str) -> HttpResponseBase:
    """GET /v1/models/{name}"""
    for entry in await in_database(_models, actor):
        if entry["id"] == name:
            return JsonResponse(entry)
    raise model_not_found(name)


@csrf_exempt
async def unknown(request: HttpRequest) -> HttpResponseBase:
    """Any other address under /v1/."""
    words = f"There is nothing at {request.path}. See /v1/models and /v1/chat/completions."
    return error_response(invalid_request("unknown_url", words, status=404))


def _models(actor: Actor) -> list[dict[str, Any]]:
    with tenant_scope(actor.tenant_id):
        return [_model(actor, route) for route in usable_routes(actor)]


def _model(actor: Actor, route: Route) -> dict[str, Any]:
    created = int(time_of(route.pk).timestamp())
    return {"id": route.name, "object": "model", "created": created, "owned_by": actor.tenant_slug}


async def _answer(
    request: HttpRequest,
    actor: Actor,
    kind: Literal["chat", "completion"],
    wish: ChatCompletionRequest | CompletionRequest,
) -> HttpResponseBase:
    order = Order(
        actor=actor,
        channel="api",
        permission=API_USE,
        kind=kind,
        request=wish.model_dump(
            exclude={"model", "stream", "stream_options"}, exclude_unset=True, exclude_none=True
        ),
        resolved=await in_database(_resolve, actor, wish.model),
        client_address=request.META.get("REMOTE_ADDR") or "",
        arrived=request.arrived,  # type: ignore[attr-defined]
    )
    reader = Reader()
    generation = await run.begin(order, reader)
    generation.start()
    request_id = str(order.request_id)
    shape = Shape(kind=kind, request_id=request_id, model=order.resolved.route)
    try:
        response = await _respond(generation, reader, shape, wish)
    except ApiError as error:
        return error_response(error, request_id=request_id)
    except BaseException:  # the client went away while we waited
        generation.stop("disconnected", "client_disconnected")
        raise
    response.headers["X-Request-Id"] = request_id
    return response


async def _respond(
    generation: Generation, reader: Reader, shape: Shape, wish: ChatCompletionRequest | CompletionRequest
) -> HttpResponseBase:
    # The first event decides the status code, so that a refusal is a plain HTTP error in a stream too.
    first = await reader.next()
    if isinstance(first, Ending) and (error := error_of(first)):
        raise error
    if wish.wants_stream:
        events = EventStream(
            generation=generation, reader=reader, first=first, shape=shape, wants_usage=wish.wants_usage
        )
        headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
        return StreamingHttpResponse(events, content_type="text/event-stream", headers=headers)
    texts, item = [], first
    while isinstance(item, str):
        texts.append(item)
        item = await reader.next()
    if error := error_of(item):
        raise error
    return JsonResponse(shape.whole("".join(texts), item))


def _resolve(actor: Actor, name: str) -> Resolved:
    with tenant_scope(actor.tenant_id):
        try:
            return resolve(actor, name)
        except RouteNotFound:
            raise model_not_found(name) from None
