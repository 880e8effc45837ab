"""Inviting many people from a file: a look at every row first, then all of them or none."""

import csv
import io
from typing import Any

from django import forms
from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import redirect, render
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext
from django.views.decorators.http import require_http_methods

from console import mail
from console.pages.administration.confirm import is_confirmed
from console.pages.administration.forms import FAILED, PageForm, attempt, posted, status_of
from console.pages.administration.invitations import send_later
from console.pages.administration.people import may_manage
from console.pages.administration.people_forms import roles_to_give
from console.tenancy import TenantRequest, tenant_view
from tenants import people
from tenants.actors import NotVisible
from tenants.models import Group
from tenants.roles import PEOPLE_MANAGE

MOST_BYTES = 1_500_000
SHOWN = 20
ERRORS_SHOWN = 500
COLUMNS = ("email", "role", "groups")

Rows = list[dict[str, str]]


class ImportForm(PageForm):
    """A file, or text that was pasted; `rows` is what it says, once the form is valid."""

    is_either_or = True

    file = forms.FileField(
        label=gettext_lazy("CSV file"),
        required=False,
        widget=forms.FileInput(attrs={"accept": ".csv,.txt,.tsv,text/csv"}),
        help_text=gettext_lazy("With the columns email, role and groups; only email is needed."),
    )
    text = forms.CharField(
        label=gettext_lazy("Or paste it"),
        required=False,
        max_length=MOST_BYTES,
        widget=forms.Textarea(attrs={"rows": 8, "spellcheck": "false", "class": "input mono"}),
    )

    def clean_file(self) -> Any:
        file = self.cleaned_data["file"]
        if file and file.size > MOST_BYTES:
            raise forms.ValidationError(_("The file is larger than 1.5 MB. Divide it."))
        return file

    def clean(self) -> dict[str, Any]:
        values = super().clean() or {}
        if self.errors:
            return values
        field = "file" if values["file"] else "text"
        text = decoded(values["file"].read()) if values["file"] else values["text"]
        try:
            if text is None:
                raise forms.ValidationError(_("This is not text. Save it as CSV in UTF-8."))
            self.rows, values["text"] = parsed(text), text
        except forms.ValidationError as error:
            self.add_error(field, error)
        return values


def decoded(content: bytes) -> str | None:
    """The text of a file as spreadsheets save it: UTF-8, else the Chinese encoding; None when it is no text."""
    if b"\x00" in content:
        return None
    for encoding in ("utf-8-sig", "gb18030"):
        try:
            return content.decode(encoding)
        except UnicodeDecodeError:
            continue
    return None


def parsed(text: str) -> Rows:
    """The rows by column. Without a heading the columns are email, role, groups. Raises ValidationError."""
    lines = text.lstrip("\ufeff").strip().splitlines()
    if not lines:
        raise forms.ValidationError(_("Choose a file or paste its text."))
    delimiter = next((each for each in "\t,;" if each in lines[0]), ",")
    try:
        table = [
            row
            for row in csv.reader(io.StringIO("\n".join(lines)), delimiter=delimiter, strict=True)
            if any(row)
        ]
    except csv.Error:
        raise forms.ValidationError(
            _("A quotation mark is opened and not closed, or stands in the middle.")
        ) from None
    heading = [cell.strip().lower() for cell in table[0]]
    if "@" in table[0][0]:
        heading, body = list(COLUMNS), table
    else:
        body = table[1:]
    if "email" not in heading:
        raise forms.ValidationError(_("The first line must name the columns, among them “email”."))
    if not body:
        raise forms.ValidationError(_("There is a heading and no row below it."))
    return [dict(zip(heading, row, strict=False)) for row in body]


@require_http_methods(["GET", "HEAD", "POST"])
@tenant_view()
def page(request: TenantRequest) -> HttpResponse:
    """The form; after the first POST the rows as they were understood; after the second, confirmed, it is done."""
    if not may_manage(request.actor):
        raise NotVisible(PEOPLE_MANAGE)
    form = ImportForm(*posted(request))
    context: dict[str, Any] = {"title": _("Import people"), "form": form, "most": people.IMPORT_MOST}
    if form.is_bound and form.is_valid():
        dry_run = not is_confirmed(request)
        report = attempt(
            form, lambda: people.import_members(actor=request.actor, rows=form.rows, dry_run=dry_run)
        )
        if report is not FAILED:
            assert isinstance(report, people.ImportReport)
            if report.invited:
                return _done(request, report)
            return _preview(request, form, report)
    groups = Group.objects.filter(is_everyone=False).order_by("name").values_list("name", flat=True)
    context |= {"example_group": groups.first(), "roles": roles_to_give(request.actor)}
    return render(request, "administration/import.html", context, status=status_of(form))


def _preview(request: TenantRequest, form: ImportForm, report: people.ImportReport) -> HttpResponse:
    wrong = {error.row for error in report.errors}
    context = {
        "title": _("Import people"),
        "form": form,
        "report": report,
        "errors": [(error, form.rows[error.row - 1]) for error in report.errors[:ERRORS_SHOWN]],
        "hidden_errors": max(0, len(report.errors) - ERRORS_SHOWN),
        "good": [(number, row) for number, row in enumerate(form.rows, start=1) if number not in wrong][
            :SHOWN
        ],
        "good_count": report.rows - len(wrong),
        "bad_count": len(wrong),
    }
    return render(
        request, "administration/import_preview.html", context, status=422 if report.errors else 200
    )


def _done(request: TenantRequest, report: people.ImportReport) -> HttpResponse:
    count = len(report.invited)
    # The tokens made here are dropped: those that go out are made when they are mailed.
    send_later(request, [invitation.pk for invitation, _token in report.invited])
    message = ngettext(
        "%d person is invited. The e-mail goes out now.",
        "%d people are invited. Their e-mails go out now.",
        count,
    )
    messages.success(request, message % count)
    if not mail.is_delivering():
        warning = _("No mail server is set up, so the e-mails are only printed where Custos runs.")
        messages.warning(request, warning)
    return redirect("invitations", request.actor.tenant_slug)
