"""Every error as problem details (RFC 9457), `application/problem+json`."""

from __future__ import annotations

import logging
from collections.abc import Callable
from http import HTTPStatus
from typing import Any

from django import db
from django.core.exceptions import RequestDataTooBig
from django.http import Http404, HttpRequest, JsonResponse
from django.utils.translation import gettext as _
from ninja import NinjaAPI
from ninja.errors import HttpError, ValidationError
from pydantic import BaseModel
from redis import RedisError

from audit.record import AuditUnavailable
from console.pace import TooFast
from tenants.actors import NotVisible
from tenants.envelope import KeysUnavailable
from tenants.errors import Refused

logger = logging.getLogger(__name__)

MEDIA_TYPE = "application/problem+json"

# What was asked is sound by itself, but something that is there already stands in its way.
_CONFLICTS = frozenset({"already_invited", "already_member", "name_taken", "slug_taken"})


class FieldError(BaseModel):
    """What is wrong with one field of the body, or one parameter."""

    field: str
    message: str


class Problem(BaseModel):
    """An error. `code` is stable and for programs; `detail` is for people, in the language they accept."""

    type: str
    title: str
    status: int
    detail: str
    code: str
    errors: list[FieldError]


def problem(
    status: int, code: str, detail: str, errors: list[FieldError] | None = None, **headers: str
) -> JsonResponse:
    """An error response. headers: by their names, with underscores for hyphens."""
    body = Problem(
        type="about:blank",
        title=HTTPStatus(status).phrase,
        status=status,
        detail=detail,
        code=code,
        errors=errors or [],
    )
    response = JsonResponse(body.model_dump(), status=status, content_type=MEDIA_TYPE)
    for name, value in headers.items():
        response.headers[name.replace("_", "-")] = value
    return response


def not_found(request: HttpRequest, **anything: object) -> JsonResponse:
    """Missing and forbidden look the same, and so does an address that is none."""
    return problem(404, "not_found", _("There is nothing here, or nothing for this key."))


def unauthenticated(request: HttpRequest) -> JsonResponse:
    detail = _(
        "The key is missing, wrong or no longer valid. Send it as “Authorization: Bearer …”; an administrator makes "
        "keys."
    )
    return problem(401, "invalid_api_key", detail, WWW_Authenticate="Bearer")


def unavailable(request: HttpRequest) -> JsonResponse:
    return problem(503, "unavailable", _("A part of Custos does not answer. Try again."), Retry_After="2")


def refused(error: Refused) -> JsonResponse:
    """422 for bad input; 409 for what clashes with the present state of things."""
    status = 409 if error.field is None or error.code in _CONFLICTS else 422
    errors = [FieldError(field=error.field, message=error.message)] if error.field else []
    return problem(status, error.code, error.message, errors)


def add_handlers(api: NinjaAPI) -> None:
    """Answer whatever an operation raises with a problem."""
    handlers: dict[type[Exception], Callable[[HttpRequest, Any], JsonResponse]] = {
        NotVisible: lambda request, error: not_found(request),
        Http404: lambda request, error: not_found(request),
        Refused: lambda request, error: refused(error),
        ValidationError: lambda request, error: _invalid(error),
        HttpError: _of_ninja,
        RequestDataTooBig: lambda request, error: _too_large(),
        TooFast: lambda request, error: _too_fast(error),
        RedisError: _of_database,
        db.Error: _of_database,
        AuditUnavailable: _of_database,
        KeysUnavailable: _of_database,
        Exception: _unexpected,
    }
    for kind, handler in handlers.items():
        api.add_exception_handler(kind, handler)


def _invalid(error: ValidationError) -> JsonResponse:
    errors = [FieldError(field=_place(each["loc"]), message=each["msg"]) for each in error.errors]
    return problem(422, "invalid", _("Mend what “errors” names, and send it again."), errors)


def _place(location: tuple[str | int, ...]) -> str:
    """Where in the body or the query it is: what pydantic says, without the names of our own arguments."""
    parts = [str(part) for part in location]
    return ".".join(parts[2:] if parts[0] == "body" and len(parts) > 2 else parts[1:])


def _of_ninja(request: HttpRequest, error: HttpError) -> JsonResponse:
    if error.status_code == 401:
        return unauthenticated(request)
    return problem(error.status_code, "unreadable", _("The body is not valid JSON."))


def _too_large() -> JsonResponse:
    return problem(413, "too_large", _("The body is too large. Send less at a time."))


def _too_fast(error: TooFast) -> JsonResponse:
    return problem(
        429, "too_fast", _("Too many requests. Wait a moment."), Retry_After=str(error.retry_after)
    )


def _of_database(request: HttpRequest, error: Exception) -> JsonResponse:
    logger.exception("a management operation failed in the database or in Valkey", exc_info=error)
    return unavailable(request)


def _unexpected(request: HttpRequest, error: Any) -> JsonResponse:
    logger.exception("a management operation failed", exc_info=error)
    return problem(500, "internal_error", _("Something is wrong with Custos. Its log says what."))
