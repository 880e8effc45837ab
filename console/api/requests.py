"""The request side of every operation: method, key and body are checked here, and errors become JSON."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Coroutine, Sequence
from functools import wraps
from typing import Any, TypeVar

from django import db
from django.core.exceptions import RequestDataTooBig
from django.http import HttpRequest, HttpResponseBase, JsonResponse
from django.views.decorators.csrf import csrf_exempt

from audit.record import AuditUnavailable
from inference.generation.errors import GenerationError, OverQuota, explain
from inference.protocol import (
    ApiError,
    ChatCompletionRequest,
    CompletionRequest,
    body_too_large,
    invalid_request,
    parse_request,
)
from inference.protocol_text import DetokenizeRequest, EmbeddingRequest, TokenizeRequest
from tenants.access import Actor, actor_for_key
from tenants.database import in_database
from tenants.envelope import KeysUnavailable
from tenants.quotas.counters import Standing
from tenants.quotas.headers import rate_limit_headers
from tenants.roles import API_USE

logger = logging.getLogger(__name__)

Operation = Callable[..., Coroutine[Any, Any, HttpResponseBase]]
Wish = TypeVar(
    "Wish", ChatCompletionRequest, CompletionRequest, EmbeddingRequest, TokenizeRequest, DetokenizeRequest
)


def operation(*methods: str) -> Callable[[Operation], Operation]:
    """Run an async view `view(request, actor, …)` for a valid key; whatever goes wrong is OpenAI's error JSON."""

    def decorate(view: Operation) -> Operation:
        @csrf_exempt
        @wraps(view)
        async def wrapped(request: HttpRequest, **kwargs: Any) -> HttpResponseBase:
            request.arrived = time.monotonic()  # type: ignore[attr-defined]
            try:
                if request.method not in methods:
                    return _method_not_allowed(methods)
                return await view(request, await _actor(request), **kwargs)
            except ApiError as error:
                return error_response(error)
            except OverQuota as error:
                return error_response(_over_quota(error), limits=error.refusal.standings)
            except GenerationError as error:
                return error_response(unavailable(error.code))
            except (db.Error, AuditUnavailable, KeysUnavailable):
                logger.exception("an API request failed in the database")
                return error_response(unavailable("audit_unavailable"))
            except Exception:
                logger.exception("an API request failed")
                return error_response(
                    ApiError(500, "internal_error", "server_error", explain("internal_error"))
                )

        return wrapped

    return decorate


def _method_not_allowed(methods: tuple[str, ...]) -> JsonResponse:
    allowed = ", ".join(methods)
    response = error_response(invalid_request("method_not_allowed", f"Use {allowed} here.", status=405))
    response.headers["Allow"] = allowed
    return response


async def _actor(request: HttpRequest) -> Actor:
    scheme, _, key = request.headers.get("Authorization", "").partition(" ")
    address = request.META.get("REMOTE_ADDR") or ""
    actor = await in_database(actor_for_key, key.strip(), address) if scheme.lower() == "bearer" else None
    if actor is None or not actor.can(API_USE):
        raise ApiError(
            401,
            "invalid_api_key",
            "authentication_error",
            "The API key is missing, wrong or revoked. Send 'Authorization: Bearer <key>'; "
            "an administrator of your tenant makes keys.",
        )
    return actor


def read_wish(request: HttpRequest, kind: type[Wish]) -> Wish:
    """The validated body. Raises ApiError."""
    try:
        body = request.body
    except RequestDataTooBig:
        raise body_too_large() from None
    return parse_request(kind, body)


def unavailable(code: str) -> ApiError:
    """A refusal that is not the caller's fault; trying again may help."""
    return ApiError(503, code, "server_error", explain(code), retry_after=2)


def _over_quota(error: OverQuota) -> ApiError:
    kind = error.code
    if kind == "rate_limit_exceeded":
        kind = "tokens" if error.refusal.standing.rule.counts_tokens else "requests"
    return ApiError(429, error.code, kind, error.explained(), retry_after=error.refusal.retry_after)


def error_response(error: ApiError, *, request_id: str = "", limits: Sequence[Standing] = ()) -> JsonResponse:
    headers = error.headers() | rate_limit_headers(limits)
    if error.status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    if request_id:
        headers["X-Request-Id"] = request_id
    return JsonResponse(error.body(), status=error.status, headers=headers)
