"""All that a report says, gathered once."""

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from audit.cases import selectors
from audit.cases.access import case_of
from audit.cases.models import Case
from audit.cases.report import texts
from audit.selectors import RecordView, State, Summary, open_record
from audit.tree.selectors import Place, place_of
from tenants.access import Actor, NotVisible, require
from tenants.roles import AUDIT_EXPORT, AUDIT_READ


@dataclass(frozen=True, slots=True)
class Reported:
    """A record of the case. view: None when neither the record nor its facts are there any more. lost: as of Linked."""

    request_id: UUID
    reason: str
    view: RecordView | None
    place: Place | None
    lost: str = ""

    @property
    def told_reason(self) -> str:
        return texts.lost(self.lost) or self.reason

    @property
    def summary(self) -> Summary | None:
        return self.view.summary if self.view else None

    @property
    def is_readable(self) -> bool:
        return self.view is not None and self.view.state == State.INTACT


@dataclass(frozen=True, slots=True)
class Facts:
    """tenant: its name. seq: the deed as of which the report is."""

    tenant: str
    case: Case
    view: selectors.CaseView
    records: list[Reported]
    seq: int

    @property
    def subjects(self) -> list[str]:
        """Whose records they are."""
        return sorted({each.summary.user_label for each in self.records if each.summary})

    @property
    def times(self) -> tuple[datetime, datetime] | None:
        """From the first record to the last."""
        found = [each.summary.created for each in self.records if each.summary]
        return (min(found), max(found)) if found else None

    @property
    def as_of(self) -> datetime:
        return self.view.timeline[-1].created


def gather(actor: Actor, case_id: UUID, *, address: str = "") -> Facts:
    """The facts of a case, each of its records opened and that recorded. Raises NotVisible, AuditUnavailable.

    Inside the tenant's scope; let nothing of it out before that is committed.
    """
    require(actor, AUDIT_READ)
    require(actor, AUDIT_EXPORT)
    case = case_of(actor, case_id)
    view = selectors.view(actor, case)
    records = [
        Reported(
            linked.request_id,
            linked.reason,
            opened(actor, case, linked.request_id, address=address),
            place_of(linked.request_id),
            linked.lost,
        )
        for linked in sorted(view.records, key=lambda each: each.request_id)
    ]
    return Facts(tenant=actor.tenant_name, case=case, view=view, records=records, seq=view.seq)


def opened(actor: Actor, case: Case, request_id: UUID, *, address: str = "") -> RecordView | None:
    """A record of the case with its content; None when it is gone. The opening is known inside the case alone."""
    try:
        return open_record(actor, request_id, reason=case.number, client_address=address, confined_to=case.pk)
    except NotVisible:
        return None
