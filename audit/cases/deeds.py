"""How a deed on a case is written: into its timeline, and as an event of the audit that is known only inside the case."""

import json
from hashlib import sha256
from typing import Any
from uuid import UUID

from django.db.models import Max
from django.utils.translation import gettext as _

from audit.cases import sealing
from audit.cases.models import Case, CaseEvent, CaseVersion, Deed, Status, Typology
from audit.record import record_event
from tenants.access import Actor
from tenants.errors import Refused
from tenants.ids import uuid7
from tenants.words import clean_text

MOST_TITLE = 200
MOST_TEXT = 8000
KIND = "case."  # Of the audit's events, before the deed.


def next_seq(case: Case) -> int:
    """The place of the next deed. Nobody else takes it: deeds of a tenant come one after the other (`@change`)."""
    return (CaseEvent.objects.filter(case=case).aggregate(last=Max("seq"))["last"] or 0) + 1


def write(actor: Actor, case: Case, deed: Deed, detail: dict[str, Any]) -> int:
    """Write a deed and return its place. detail: ready for JSON; sealed.

    Inside the transaction of the deed: both are committed, or neither. Raises AuditUnavailable.
    """
    seq = next_seq(case)
    row = uuid7()
    said = {"by": actor.label, **detail}
    CaseEvent.objects.create(
        pk=row,
        case=case,
        seq=seq,
        author_id=actor.user_id,
        kind=deed,
        sealed=sealing.seal(said, tenant_id=actor.tenant_id, case_id=case.pk, row=row),
    )
    record_event(
        actor=actor,
        kind=f"{KIND}{deed}",
        detail={"case": case.number, "seq": seq, **_without_content(detail)},
        subject_id=case.pk,
        client_address=actor.address,
        confined_to=case.pk,
    )
    return seq


def current(case: Case) -> CaseVersion:
    """Where the case stands."""
    return CaseVersion.objects.filter(case=case).order_by("-seq")[0]


def facts(case: Case, version: CaseVersion) -> dict[str, Any]:
    """{"title", "summary", "typology"} of a version; of one that cannot be read the number as title, and "lost": why."""
    found = sealing.shown(version.sealed, tenant_id=case.tenant_id, case_id=case.pk, row=version.pk)
    return {"title": case.number, "summary": "", "typology": "", **found}


def put_version(
    actor: Actor,
    case: Case,
    seq: int,
    *,
    status: str,
    severity: str,
    owner_id: UUID | None,
    facts: dict[str, Any],
) -> CaseVersion:
    """What the case is from this deed on."""
    row = uuid7()
    return CaseVersion.objects.create(
        pk=row,
        case=case,
        seq=seq,
        author_id=actor.user_id,
        status=status,
        severity=severity,
        owner_id=owner_id,
        sealed=sealing.seal(facts, tenant_id=actor.tenant_id, case_id=case.pk, row=row),
    )


def move(actor: Actor, case: Case, seq: int, status: Status) -> CaseVersion:
    """The case with another status and all else as it is, also that its details are lost until somebody writes new ones."""
    now = current(case)
    return put_version(
        actor,
        case,
        seq,
        status=status,
        severity=now.severity,
        owner_id=now.owner_id,
        facts=facts(case, now),
    )


def require_open(case: Case, expected: str = "") -> CaseVersion:
    """Where the case stands, if it can be worked on now. Raises Refused.

    expected: the place of the version that whoever asks has seen; another since then is a conflict.
    """
    now = current(case)
    if now.status == Status.AWAITING:
        message = _(
            "A decision waits for its signature. Until it is signed or sent back, nothing else changes."
        )
        raise Refused("case_awaits_signature", message)
    if now.status in (Status.REPORTED, Status.NOT_REPORTED):
        raise Refused("case_closed", _("The case is closed. Reopen it first."))
    if expected and expected != str(now.seq):
        message = _("Somebody changed the case meanwhile. Look at it again, then repeat your change.")
        raise Refused("case_changed", message)
    return now


def clean_lines(text: str, *, field: str, most: int, missing: str = "") -> str:
    """What somebody wrote over several lines, without the characters that show nothing. Raises Refused.

    missing: what to say when nothing was written; "": it may be left empty.
    """
    lines = "\n".join(text[: most * 2 + 1].replace("\r\n", "\n").replace("\r", "\n").split("\n")).strip()
    if len(lines) > most:
        raise Refused("too_long", _("Use at most %(most)d characters.") % {"most": most}, field)
    if any((ord(each) < 32 and each not in "\n\t") or 0xD800 <= ord(each) < 0xE000 for each in lines):
        raise Refused("invisible", _("Take out the invisible characters."), field)
    if not lines and missing:
        raise Refused("missing", missing, field)
    return lines


def clean_facts(*, title: str, summary: str, typology: str) -> dict[str, Any]:
    """What the details of a case say, cleaned. Raises Refused."""
    title = clean_text(title, field="title", most=MOST_TITLE)
    if not title:
        raise Refused("title_missing", _("Give the case a title."), "title")
    if typology not in Typology.values:
        raise Refused("typology_unknown", _("Choose one of the kinds."), "typology")
    summary = clean_lines(summary, field="summary", most=MOST_TEXT)
    return {"title": title, "summary": summary, "typology": str(typology)}


# What of a deed the audit's own event says as well.
_CODES = frozenset(
    {
        "deadline",
        "decision",
        "due",
        "file",
        "outcome",
        "records",
        "request",
        "role",
        "sha256",
        "state",
        "status",
        "user",
    }
)


def _without_content(detail: dict[str, Any]) -> dict[str, Any]:
    """Ids and codes. The words stay under the case's key alone; their digest is what the event holds them to."""
    text = json.dumps(detail, sort_keys=True, ensure_ascii=False).encode(errors="surrogatepass")
    codes = {name: value for name, value in detail.items() if name in _CODES}
    return {**codes, "digest": sha256(text).hexdigest()}
