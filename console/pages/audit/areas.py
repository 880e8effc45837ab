"""The tabs of the audit, in one place: a page is found by adding a line here and one in urls.py."""

from django.utils.translation import gettext_lazy as _

from audit.readers import alerts
from console.pages.tabs import Area
from tenants.roles import AUDIT_LIST, AUDIT_READ, REVIEW_WORK

AREAS: tuple[Area, ...] = (
    Area("audit", _("Records"), (AUDIT_LIST,)),
    Area("review", _("Review"), (REVIEW_WORK,)),
    Area("cases", _("Cases"), (REVIEW_WORK,)),
    Area("retention", _("Retention"), (AUDIT_LIST,)),
    Area("audit_proof", _("Proof"), (AUDIT_LIST,)),
    Area("audit_keys", _("Keys"), (AUDIT_LIST,)),
    Area("audit_readers", _("Readers"), (AUDIT_READ,), waiting=alerts.count_open),
)
