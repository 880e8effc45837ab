"""/v1: chat completions, completions, embeddings, models, tokenize, detokenize."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from django.http import HttpRequest, HttpResponseBase, JsonResponse
from django.views.decorators.csrf import csrf_exempt

from console.api.generations import answer_chat, answer_completion, answer_embeddings, resolved_for
from console.api.requests import error_response, operation, read_wish, unavailable
from inference.client import InferenceError, InferenceRejected
from inference.generation import quota
from inference.protocol import ChatCompletionRequest, CompletionRequest, invalid_request, model_not_found
from inference.protocol_text import DetokenizeRequest, EmbeddingRequest, TokenizeRequest
from inference.registry.models import Route
from inference.registry.selectors import Resolved, usable_routes
from tenants.access import Actor
from tenants.database import in_database
from tenants.ids import time_of
from tenants.quotas.headers import rate_limit_headers
from tenants.scope import tenant_scope


@operation("POST")
async def chat_completions(request: HttpRequest, actor: Actor) -> HttpResponseBase:
    """POST /v1/chat/completions"""
    return await answer_chat(request, actor, read_wish(request, ChatCompletionRequest))


@operation("POST")
async def completions(request: HttpRequest, actor: Actor) -> HttpResponseBase:
    """POST /v1/completions"""
    wish = read_wish(request, CompletionRequest)
    _require_text("prompt", wish.prompts)
    return await answer_completion(request, actor, wish)


@operation("POST")
async def embeddings(request: HttpRequest, actor: Actor) -> HttpResponseBase:
    """POST /v1/embeddings"""
    wish = read_wish(request, EmbeddingRequest)
    _require_text("input", wish.input)
    return await answer_embeddings(request, actor, wish)


@operation("POST")
async def tokenize(request: HttpRequest, actor: Actor) -> HttpResponseBase:
    """POST /v1/tokenize. No model reads what is sent, so none of it is recorded."""
    wish = read_wish(request, TokenizeRequest)
    resolved = await resolved_for(actor, wish.model, None)
    return await _asked(resolved.client.tokenize, actor, wish, resolved)


@operation("POST")
async def detokenize(request: HttpRequest, actor: Actor) -> HttpResponseBase:
    """POST /v1/detokenize. As tokenize."""
    wish = read_wish(request, DetokenizeRequest)
    resolved = await resolved_for(actor, wish.model, None)
    return await _asked(resolved.client.detokenize, actor, wish, resolved)


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


def _require_text(field: str, values: Sequence[Any]) -> None:
    if not all(isinstance(value, str) for value in values):
        message = "holds token ids, which nobody could read in the audit record; send text"
        raise invalid_request("unsupported_parameter", f"{field} {message}.", field)


async def _asked(
    ask: Callable[..., Awaitable[dict[str, Any]]],
    actor: Actor,
    wish: TokenizeRequest | DetokenizeRequest,
    resolved: Resolved,
) -> HttpResponseBase:
    """What the inference service answers at once; for limits it is a request without tokens. Raises ApiError."""
    body = {**wish.model_dump(exclude_unset=True, exclude_none=True), "model": resolved.served_id}
    limits = (await quota.count_request(actor, resolved)).standings
    try:
        return JsonResponse(await ask(body, tenant=str(actor.tenant_id)), headers=rate_limit_headers(limits))
    except InferenceRejected as error:
        raise error.error from None
    except InferenceError as error:
        raise unavailable(error.code) from None
