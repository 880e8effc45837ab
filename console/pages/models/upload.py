"""What the browser's script sends of an upload: which files there will be, then one piece after the other."""

import json
from typing import Any
from uuid import UUID

from django.http import HttpRequest, JsonResponse
from django.views.decorators.http import require_POST

from console.pages.models import words
from console.tenancy import platform_view
from inference.registry import uploads
from tenants.errors import Refused

_MOST_ANNOUNCED = 200_000


@require_POST
@platform_view
def announce(request: HttpRequest, import_id: UUID) -> JsonResponse:
    """{name: bytes} as JSON; answered with what is there of each and how large a piece may be."""
    try:
        asked = json.loads(request.read(_MOST_ANNOUNCED))
    except ValueError:
        asked = None
    if not isinstance(asked, dict) or not all(type(size) is int for size in asked.values()):
        return _problem("body_invalid", "", 400)
    try:
        row = uploads.announce(by=words.acting(request), import_id=import_id, files=asked)
    except Refused as refused:
        return _problem(refused.code, refused.message, 422)
    return JsonResponse({"received": uploads.received(row), "chunk": uploads.CHUNK_BYTES})


@require_POST
@platform_view
def chunk(request: HttpRequest, import_id: UUID) -> JsonResponse:
    """?name=…&offset=…: the body is the piece, X-Chunk-SHA256 its digest. 409 tells where to go on."""
    offset = request.GET.get("offset", "")
    if not offset.isdecimal() or len(offset) > 18:
        return _problem("offset_invalid", "", 400)
    try:
        received = uploads.add_chunk(
            import_id=import_id,
            name=request.GET.get("name", ""),
            offset=int(offset),
            content=request.read(uploads.CHUNK_BYTES + 1),
            sha256=request.headers.get("X-Chunk-SHA256", ""),
        )
    except uploads.WrongPlace as wrong:
        return JsonResponse({"received": wrong.received}, status=409)
    except Refused as refused:
        return _problem(refused.code, refused.message, 422)
    return JsonResponse({"received": received})


def _problem(code: str, message: str, status: int) -> JsonResponse:
    answer: dict[str, Any] = {"code": code, "message": message}
    return JsonResponse(answer, status=status)
