"""Exports as files to download: CSV, JSON lines, and a bundle with proof. Asked for first; recorded before the first byte.

The view chooses and records, which is committed when it returns; only then is the answer's body asked for, which reads
record by record from the database while the browser takes it. A bundle records itself and is whole before it is sent.
"""

import csv
import io
import tempfile
from collections.abc import AsyncIterator
from typing import IO, Any, cast
from uuid import UUID

from django import forms
from django.contrib import messages
from django.http import Http404, HttpResponse, StreamingHttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from django.views.decorators.http import require_POST

from audit import plain_json
from audit.record import AuditUnavailable
from audit.search import engine
from audit.search import export as exports
from audit.search.asked import Asked
from audit.search.export import FIELDS, PROOF_MOST, Export
from audit.search.query import BadQuery
from console.pages.administration.forms import PageForm, status_of
from console.pages.audit import export_progress, sealing
from console.pages.audit.export_progress import Progress, Stopped
from console.pages.audit.saved import summary
from console.pages.listing import inert, selected
from console.tenancy import TenantRequest, tenant_view
from tenants import clock
from tenants.actors import NotVisible, require
from tenants.database import in_database
from tenants.roles import AUDIT_EXPORT, AUDIT_READ

CONFIRMED = "confirmed"
_TYPES = {"csv": "text/csv; charset=utf-8", "jsonl": "application/x-ndjson", "proof": "application/zip"}
_ENDINGS = {"csv": "csv", "jsonl": "jsonl", "proof": "zip"}
_PIECE = 256 * 1024
_UNRECORDED = gettext_lazy(
    "The export could not be recorded, so nothing was exported. Try again in a moment."
)


class ExportForm(PageForm):
    format = forms.ChoiceField(
        label=gettext_lazy("Format"),
        choices=[
            ("csv", gettext_lazy("CSV, for spreadsheets")),
            ("jsonl", gettext_lazy("JSON lines, exactly as recorded")),
            ("proof", gettext_lazy("With proof: a bundle that can be verified without Custos")),
        ],
    )
    reason = forms.CharField(
        label=gettext_lazy("Reason"),
        max_length=sealing.LONGEST_REASON,
        error_messages={
            "required": gettext_lazy("State a reason. It is kept with the record of this export.")
        },
    )


class _Chosen(HttpResponse):
    """What the form decided on: a bundle, which is written outside of the form's transaction."""

    def __init__(self, export: Export, asked: Asked | None, reason: str) -> None:
        super().__init__(status=500)  # Never sent.
        self.export = export
        self.asked = asked
        self.reason = reason


@require_POST
def page(request: TenantRequest, slug: str) -> HttpResponse:
    """POST s=… (what is searched for) or selected=<id>…: asks for format and reason. With `confirmed`: the file."""
    answer = _page(request, slug=slug)
    return _bundle(request, answer) if isinstance(answer, _Chosen) else answer


@tenant_view(AUDIT_EXPORT)
def _page(request: TenantRequest) -> HttpResponse:
    require(request.actor, AUDIT_READ)
    reference = request.POST.get("s", "")
    asked = sealing.open_search(request, reference) if reference else Asked()
    if asked is None:  # Never more than what was asked for.
        raise NotVisible("search")
    chosen = [] if "all" in request.POST else selected(request, UUID)
    is_confirmed = CONFIRMED in request.POST
    initial = {"format": "csv", "reason": sealing.kept_reason(request)}
    form = ExportForm(request.POST if is_confirmed else None, initial=initial)
    unavailable = ""
    if is_confirmed and form.is_valid():
        try:
            answer = _answer(request, form, asked, chosen)
        except (engine.SearchTooSlow, BadQuery) as error:
            form.add_error(None, str(error))
        except Stopped:
            return HttpResponse(status=204)  # The page stays as it is, and says so.
        except AuditUnavailable:
            unavailable = _(
                "The export could not be recorded, so nothing was exported. Try again in a moment."
            )
        else:
            if answer is not None:
                return answer
    total = request.POST.get("total", "")
    context = {
        "title": _("Export"),
        "form": form,
        "reference": reference,
        "selected": chosen,
        "total": int(total) if total.isascii() and total.isdigit() and len(total) < 12 else None,
        "told": summary(asked) if not chosen else {},
        "unavailable": unavailable,
        "back": _back(request),
    }
    return render(request, "audit/export.html", context, status=503 if unavailable else status_of(form))


def _answer(
    request: TenantRequest, form: ExportForm, asked: Asked, chosen: list[UUID]
) -> HttpResponse | None:
    """The file, once the export is recorded; None, with the reason in the form, when there is none to give."""
    wanted, reason = form.cleaned_data["format"], form.cleaned_data["reason"]
    try:
        search = asked.search() if asked.is_search and not chosen else None
        asked.filters()
    except ValueError as error:  # It was never a search that can be run.
        raise NotVisible("search") from error
    if search is not None:
        # Also how many there are, and that there are none, is told by what records say.
        engine.record_search(request.actor, search, reason=reason, client_address=_address(request))
    progress = export_progress.of(request, request.POST.get("progress", ""))
    export = exports.choose(
        request.actor, asked, chosen, found=lambda count: progress.tell(export_progress.FINDING, count)
    )
    if wanted == "proof" and export.count > PROOF_MOST:
        message = _("A bundle with proof holds %(most)s records; these are %(count)s. Narrow the search.")
        form.add_error("format", message % {"most": PROOF_MOST, "count": export.count})
    if not export.count:
        form.add_error(None, _("There is nothing to export any more."))
    if form.errors:
        export.close()
        return None
    sealing.keep_reason(request, reason)
    if wanted == "proof":
        progress.tell(export_progress.WRITING, 0, export.count)
        return _Chosen(export, None if chosen else asked, reason)
    exports.record(export, asked, chosen, form=wanted, reason=reason, client_address=_address(request))
    body = (_csv if wanted == "csv" else _json_lines)(_batches(export, progress))
    return _file(request, wanted, export.count, body)


def _bundle(request: TenantRequest, chosen: _Chosen) -> HttpResponse:
    """The bundle as a file. Whatever hinders it is told on the page that one came from."""
    file = tempfile.TemporaryFile()  # noqa: SIM115 (closed when it is sent)
    try:
        address = _address(request)
        exports.bundle(chosen.export, chosen.asked, file, reason=chosen.reason, client_address=address)
    except (AuditUnavailable, exports.Unprovable) as error:
        file.close()
        is_unprovable = isinstance(error, exports.Unprovable)
        messages.error(request, str(error) if is_unprovable else _UNRECORDED)
        return redirect(_back(request))
    except NotVisible as error:  # It went, or the right to it did, since it was chosen.
        file.close()
        raise Http404 from error
    finally:
        chosen.export.close()
    export_progress.of(request, request.POST.get("progress", "")).tell(
        export_progress.DONE, chosen.export.count, chosen.export.count
    )
    return _file(request, "proof", chosen.export.count, _pieces(file))


def _file(request: TenantRequest, wanted: str, count: int, body: AsyncIterator[bytes]) -> HttpResponse:
    answer = StreamingHttpResponse(body, content_type=_TYPES[wanted])
    name = f"audit-{request.actor.tenant_slug}-{clock.now():%Y%m%dT%H%M%SZ}.{_ENDINGS[wanted]}"
    answer.headers["Content-Disposition"] = f'attachment; filename="{name}"'
    answer.headers["X-Record-Count"] = str(count)
    return cast(HttpResponse, answer)  # Its body comes in pieces; it is treated as any other.


def _address(request: TenantRequest) -> str:
    return request.META.get("REMOTE_ADDR") or ""


def _back(request: TenantRequest) -> str:
    reference = request.POST.get("s", "")
    return reverse("audit", args=[request.actor.tenant_slug]) + (f"?s={reference}" if reference else "")


async def _batches(export: Export, progress: Progress) -> AsyncIterator[list[dict[str, Any]]]:
    """The records, read while they are sent. Once it is stopped the answer breaks off, so that no part looks whole."""
    done = 0

    def read(batch: list[UUID]) -> list[dict[str, Any]]:
        progress.tell(export_progress.WRITING, done, export.count)
        return export.read(batch)

    try:
        for batch in export.batches():
            yield await in_database(read, batch)
            done += len(batch)
        await in_database(progress.tell, export_progress.DONE, done, export.count)
    finally:
        export.close()


async def _json_lines(batches: AsyncIterator[list[dict[str, Any]]]) -> AsyncIterator[bytes]:
    async for rows in batches:
        yield b"".join(_line(row) for row in rows)


def _line(row: dict[str, Any]) -> bytes:
    # Half a surrogate pair, which a model may write, is told as an escape.
    return (plain_json.dumps(row, ensure_ascii=False) + "\n").encode(errors="backslashreplace")


async def _csv(batches: AsyncIterator[list[dict[str, Any]]]) -> AsyncIterator[bytes]:
    yield "\ufeff".encode() + _table([FIELDS])
    async for rows in batches:
        yield _table([[_cell(row[name]) for name in FIELDS] for row in rows])


def _table(rows: list[Any]) -> bytes:
    text = io.StringIO()
    csv.writer(text).writerows([inert(cell) for cell in row] for row in rows)
    return text.getvalue().encode(errors="backslashreplace")


def _cell(value: Any) -> Any:
    """For a spreadsheet: the messages of a chat as text, each under its role; anything else with parts as JSON."""
    if isinstance(value, list) and value and all(_is_message(each) for each in value):
        return "\n\n".join(f"[{each['role']}] {each['content']}" for each in value)
    if isinstance(value, list | dict):
        return plain_json.dumps(value, ensure_ascii=False) if value else ""
    return value


def _is_message(value: Any) -> bool:
    return isinstance(value, dict) and isinstance(value.get("content"), str) and "role" in value


async def _pieces(file: IO[bytes]) -> AsyncIterator[bytes]:
    try:
        file.seek(0)
        while piece := file.read(_PIECE):
            yield piece
    finally:
        file.close()
