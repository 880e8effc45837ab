"""What the browser's script sends of a file: that it comes, then one piece after the other, then that it is whole."""

import json
from typing import Any
from uuid import UUID

from django.http import JsonResponse
from django.urls import reverse
from django.utils.dateparse import parse_date
from django.views.decorators.http import require_POST

from console.tenancy import TenantRequest, tenant_view
from knowledge import access, uploads
from tenants.errors import Refused

_MOST_ASKED = 20_000


class _Unreadable(Exception):
    pass


@require_POST
@tenant_view()
def begin(request: TenantRequest, base_id: UUID) -> JsonResponse:
    """{"name", "size", "folder", "document"} as JSON; answered with where to send pieces, and how large they are."""
    access.access_base(request.actor, base_id)
    try:
        asked = _asked(request)
        size = asked.get("size")
        if type(size) is not int or not isinstance(asked.get("name"), str):
            raise _Unreadable
        upload = uploads.begin(
            actor=request.actor,
            base_id=base_id,
            name=asked["name"],
            size=size,
            folder_id=_id(asked.get("folder")),
            document_id=_id(asked.get("document")),
        )
    except _Unreadable:
        return _problem("body_invalid", "", 400)
    except Refused as refused:
        return _problem(refused.code, refused.message, 422)
    place = [request.actor.tenant_slug, upload.pk]
    return JsonResponse(
        {
            "piece": uploads.PIECE_BYTES,
            "piece_url": reverse("knowledge_upload_piece", args=place),
            "finish_url": reverse("knowledge_upload_finish", args=place),
            "drop_url": reverse("knowledge_upload_drop", args=place),
        }
    )


@require_POST
@tenant_view()
def piece(request: TenantRequest, upload_id: UUID) -> JsonResponse:
    """?offset=…: the body is the piece. 409 tells where to go on."""
    uploads.upload_of(request.actor, upload_id)
    offset = request.GET.get("offset", "")
    if not offset.isascii() or not offset.isdecimal() or len(offset) > 12:
        return _problem("offset_invalid", "", 400)
    content = request.read(uploads.PIECE_BYTES + 1)
    try:
        received = uploads.add_piece(
            actor=request.actor, upload_id=upload_id, offset=int(offset), content=content
        )
    except uploads.WrongPlace as wrong:
        return JsonResponse({"received": wrong.received}, status=409)
    except Refused as refused:
        return _problem(refused.code, refused.message, 422)
    return JsonResponse({"received": received})


@require_POST
@tenant_view()
def finish(request: TenantRequest, upload_id: UUID) -> JsonResponse:
    """{"twice", "valid_from", "valid_until"} as JSON. 409: the base has this file, as "name"; sent with `twice` it is kept."""
    slug = request.actor.tenant_slug
    uploads.upload_of(request.actor, upload_id)
    try:
        asked = _asked(request)
        version = uploads.finish(
            actor=request.actor,
            upload_id=upload_id,
            twice=asked.get("twice") is True,
            valid_from=_day(asked.get("valid_from")),
            valid_until=_day(asked.get("valid_until")),
        )
    except _Unreadable:
        return _problem("body_invalid", "", 400)
    except uploads.Duplicate as duplicate:
        url = reverse("knowledge_document", args=[slug, duplicate.document_id])
        return _problem(duplicate.code, duplicate.message, 409, name=duplicate.name, url=url)
    except Refused as refused:
        return _problem(refused.code, refused.message, 422)
    return JsonResponse({"url": reverse("knowledge_document", args=[slug, version.document_id])})


@require_POST
@tenant_view()
def drop(request: TenantRequest, upload_id: UUID) -> JsonResponse:
    uploads.drop(actor=request.actor, upload_id=upload_id)
    return JsonResponse({})


def _asked(request: TenantRequest) -> dict[str, Any]:
    try:
        asked = json.loads(request.read(_MOST_ASKED))
    except ValueError:
        raise _Unreadable from None
    if not isinstance(asked, dict):
        raise _Unreadable
    return asked


def _id(value: Any) -> UUID | None:
    if value in (None, ""):
        return None
    try:
        return UUID(value)
    except (ValueError, AttributeError, TypeError):
        raise _Unreadable from None


def _day(value: Any) -> Any:
    if value in (None, ""):
        return None
    try:
        day = parse_date(value)
    except (ValueError, TypeError):
        day = None
    if day is None:
        raise _Unreadable
    return day


def _problem(code: str, message: str, status: int, **more: Any) -> JsonResponse:
    return JsonResponse({"code": code, "message": message, **more}, status=status)
