"""The text of a document, as citations lead to it: the passage marked, with the pages that it stands on."""

import itertools
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from django.http import HttpResponse
from django.shortcuts import render
from django.utils.translation import gettext as _
from django.views.decorators.http import require_safe

from console.pages.knowledge import words
from console.tenancy import TenantRequest, tenant_view
from knowledge import access, documents, selectors
from knowledge.models import Version
from tenants import clock
from tenants.access import NotVisible

PART = 60_000  # Characters shown at once.


@dataclass(frozen=True, slots=True)
class Piece:
    """A run of the text. page: the number of the page that begins with it, if one does."""

    text: str
    is_marked: bool
    is_first: bool
    page: int | None


@require_safe
@tenant_view()
def page(request: TenantRequest, document_id: UUID) -> HttpResponse:
    """?version=…&start=…&end=…: text[start:end] marked; without them the newest version from its beginning."""
    actor = request.actor
    document = access.access_document(actor, document_id)
    versions = selectors.versions_of(document)
    version = _asked_for(versions, request.GET.get("version", ""))
    text, layout = selectors.text_of(version), selectors.layout_of(version)
    start, end = _number(request, "start"), _number(request, "end")
    if start is None or end is None or not start < end <= len(text):
        start = end = None
    at = _number(request, "at")
    first = min(at, len(text)) if at is not None else _beginning(text, start)
    last = min(first + PART, len(text))
    context = {
        "title": documents.name_of(document),
        "document": document,
        "base_name": selectors.one_base(actor, document.base_id).name,
        "version": version,
        "versions": versions,
        "shown": words.shown(version),
        "pieces": _pieces(text, layout, (first, last), (start, end)),
        "has_text": bool(text),
        "is_marked": start is not None,
        "is_wrong": start is None and bool(request.GET.get("start") or request.GET.get("end")),
        "start": start,
        "end": end,
        "earlier": max(0, first - PART) if first else None,
        "later": last if last < len(text) else None,
        "note": _note(version),
    }
    return render(request, "knowledge/source.html", context)


def _asked_for(versions: list[Version], asked: str) -> Version:
    if not asked:
        return versions[0]
    found = next((each for each in versions if str(each.pk) == asked), None)
    if found is None:
        raise NotVisible("version")
    return found


def _number(request: TenantRequest, name: str) -> int | None:
    text = request.GET.get(name, "")
    return int(text) if text.isascii() and text.isdecimal() and len(text) < 10 else None


def _beginning(text: str, start: int | None) -> int:
    """Where the part begins that shows the mark: with a little of what stands before it, at the beginning of a line."""
    if start is None or start <= PART // 2:
        return 0
    return text.rfind("\n", 0, start - PART // 4) + 1


def _pieces(
    text: str, layout: dict[str, Any], part: tuple[int, int], mark: tuple[int | None, int | None]
) -> list[Piece]:
    """The part, cut where pages begin and where the mark begins and ends."""
    first, last = part
    begins, ends = mark if mark[0] is not None else (-1, -1)
    assert begins is not None and ends is not None
    pages = {start: number for number, start in selectors.pages_of(layout) if first <= start < last}
    cuts = sorted({first, last, *pages, *(each for each in (begins, ends) if first < each < last)})
    pieces: list[Piece] = []
    has_mark = False
    for start, end in itertools.pairwise(cuts):
        is_marked = begins <= start < ends
        pieces.append(Piece(text[start:end], is_marked, is_marked and not has_mark, pages.get(start)))
        has_mark = has_mark or is_marked
    return pieces


def _note(version: Version) -> str:
    """That the text is not what holds today, or not there yet."""
    today = clock.now().date()
    if version.valid_until is not None and version.valid_until <= today:
        return _("This version held until %(day)s.") % {"day": version.valid_until.isoformat()}
    if version.valid_from is not None and version.valid_from > today:
        return _("This version holds from %(day)s on.") % {"day": version.valid_from.isoformat()}
    return ""
