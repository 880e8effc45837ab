"""Which days of the audit have keys, and which were destroyed and why. No key is shown, and nothing about cases."""

from django.http import HttpResponse
from django.shortcuts import render
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from django.views.decorators.http import require_safe

from audit.record import Keeping
from console.pages.labels import State
from console.pages.listing import Column, Listing
from console.tenancy import TenantRequest, tenant_view
from tenants.keyring import inspection
from tenants.roles import AUDIT_LIST

COLUMNS = (
    Column("day", gettext_lazy("Day (UTC)")),
    Column("purpose", gettext_lazy("What it seals")),
    Column("state", gettext_lazy("Key")),
    Column("when", gettext_lazy("Since")),
)
# Keys of cases are left out: that there is one would tell that there is a case.
PURPOSES = {
    Keeping.REQUESTS: gettext_lazy("Requests and answers"),
    Keeping.CHANGES: gettext_lazy("Changes"),
    Keeping.READINGS: gettext_lazy("Readings"),
}
KEPT = State("ok", "s-ok", gettext_lazy("Kept"))
DESTROYED = State("", "s-off", gettext_lazy("Destroyed"))


@require_safe
@tenant_view(AUDIT_LIST)
def page(request: TenantRequest) -> HttpResponse:
    days = inspection.days(tuple(PURPOSES))
    listing = Listing(request, days, COLUMNS)
    context = {
        "title": _("Keys"),
        "listing": listing,
        "rows": [
            (day, PURPOSES[Keeping(day.purpose)], DESTROYED if day.destroyed else KEPT)
            for day in listing.page
        ],
        "kept": sum(day.destroyed is None for day in days),
        "destroyed": sum(day.destroyed is not None for day in days),
    }
    return render(request, "audit/keys.html", context)
