"""Makes a report, and records its digest inside the case before it is given away."""

from hashlib import sha256
from io import BytesIO
from typing import NamedTuple
from uuid import UUID

from django.utils import translation
from django.utils.translation import gettext as _

from audit.cases.access import case_of
from audit.cases.models import Looked
from audit.cases.opening import linked_records
from audit.cases.readings import record_reading
from audit.cases.report import lines, pdf
from audit.cases.report.facts import gather
from audit.tree import bundle
from audit.tree.stored import Broken
from tenants.access import Actor, require
from tenants.errors import Refused
from tenants.roles import AUDIT_EXPORT, AUDIT_READ
from tenants.scope import tenant_scope

FORMS = ("pdf", "jsonl")


class Made(NamedTuple):
    name: str
    media_type: str
    content: bytes
    sha256: str


def make_report(actor: Actor, case_id: UUID, *, form: str, language: str, address: str = "") -> Made:
    """The report as "pdf" in a language, or "jsonl". Raises NotVisible, Refused, AuditUnavailable. Inside the tenant's scope.

    Its SHA-256 stands in an event confined to the case, and so in the log: whoever holds a report can be shown that it is
    the one that was made.
    """
    if form not in FORMS:
        raise Refused("form_unknown", _("Choose PDF or JSONL."), "form")
    facts = gather(actor, case_id, address=address)
    if form == "pdf":
        with translation.override(language):
            content = pdf.render(facts)
        media_type = "application/pdf"
    else:
        content, media_type = lines.render(facts), "application/jsonl"
    digest = sha256(content).hexdigest()
    detail = {"form": form, "language": language, "seq": facts.seq, "sha256": digest}
    record_reading(actor, facts.case, Looked.REPORT, detail=detail)
    return Made(f"case-{facts.case.number}.{form}", media_type, content, digest)


def make_bundle(actor: Actor, case_id: UUID, *, address: str = "") -> Made:
    """The records of a case with all that proves them, for the verifier. Outside of transactions. As `make_report`."""
    require(actor, AUDIT_READ)
    require(actor, AUDIT_EXPORT)
    with tenant_scope(actor.tenant_id):
        case = case_of(actor, case_id)
        request_ids = list(linked_records(case))
    if not request_ids:
        raise Refused("no_records", _("No record is in this case yet."))
    file = BytesIO()
    try:
        bundle.write(
            file,
            actor=actor,
            request_ids=request_ids,
            reason=case.number,
            client_address=address,
            confined_to=case.pk,
        )
    except Broken as error:
        message = _(
            "The log does not fit together, so nothing can be proven. Tell your platform administrator."
        )
        raise Refused("log_broken", message) from error
    content = file.getvalue()
    digest = sha256(content).hexdigest()
    detail = {"sha256": digest, "records": [str(each) for each in request_ids]}
    with tenant_scope(actor.tenant_id):
        record_reading(actor, case, Looked.BUNDLE, detail=detail)
    return Made(f"case-{case.number}-proof.zip", "application/zip", content, digest)
