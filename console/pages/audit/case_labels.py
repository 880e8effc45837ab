"""Words, shapes and colours for what cases name by code."""

from typing import Any

from django.utils.translation import gettext as _
from django.utils.translation import pgettext_lazy

from audit.cases.models import (
    DeadlineState,
    Deed,
    Looked,
    MemberRole,
    Outcome,
    Severity,
    Status,
    Typology,
)
from audit.cases.selectors import Event
from console.pages.labels import State

STATUSES: dict[str, State] = {
    Status.OPEN: State("busy", "s-busy", Status.OPEN.label),
    Status.UNDER_REVIEW: State("busy", "eye", Status.UNDER_REVIEW.label),
    Status.AWAITING: State("warn", "s-time", Status.AWAITING.label),
    Status.REPORTED: State("ok", "s-ok", Status.REPORTED.label),
    Status.NOT_REPORTED: State("", "s-stop", Status.NOT_REPORTED.label),
    Status.REOPENED: State("busy", "again", Status.REOPENED.label),
}
SEVERITIES: dict[str, State] = {
    Severity.LOW: State("", "s-off", Severity.LOW.label),
    Severity.MEDIUM: State("", "s-stop", Severity.MEDIUM.label),
    Severity.HIGH: State("warn", "s-warn", Severity.HIGH.label),
    Severity.CRITICAL: State("bad", "s-bad", Severity.CRITICAL.label),
}
DEADLINES: dict[str, State] = {
    DeadlineState.OPEN: State("", "s-time", DeadlineState.OPEN.label),
    DeadlineState.MET: State("ok", "s-ok", DeadlineState.MET.label),
    DeadlineState.DROPPED: State("", "s-no", DeadlineState.DROPPED.label),
}
FIELDS: dict[str, Any] = {
    "title": pgettext_lazy("of a case", "Title"),
    "summary": pgettext_lazy("of a case", "Summary"),
    "typology": pgettext_lazy("of a case", "Kind"),
    "severity": pgettext_lazy("of a case", "Severity"),
    "owner": pgettext_lazy("of a case", "Owner"),
}


def typology(code: str) -> str:
    return str(dict(Typology.choices).get(code, code))


def outcome(code: str) -> str:
    return str(dict(Outcome.choices).get(code, code))


def member_role(code: str) -> str:
    return str(dict(MemberRole.choices).get(code, code))


def looked(code: str) -> str:
    return str(dict(Looked.choices).get(code, code))


def told(event: Event, names: dict[Any, str]) -> dict[str, Any]:
    """A deed for the timeline: {event, title, lines, text}. lines: facts beside it; text: what was written."""
    detail = event.detail
    lines: list[str] = []
    if lost := detail.get("lost"):
        return {"event": event, "title": dict(Deed.choices).get(event.kind, event.kind), "lost": lost}
    match event.kind:
        case Deed.RECORDS_LINKED:
            lines = list(detail["records"])
        case Deed.RECORD_UNLINKED:
            lines = [detail["request"]]
        case Deed.FILE_ADDED:
            lines = [detail["name"]]
        case Deed.MEMBER_SET:
            lines = [f"{detail['who']} · {member_role(detail['role'])}"]
        case Deed.MEMBER_REMOVED:
            lines = [detail.get("who") or names.get(detail["user"], "")]
        case Deed.DEADLINE_SET | Deed.DEADLINE_CLOSED:
            state = DEADLINES.get(detail.get("state", ""))
            lines = [" · ".join(str(each) for each in (detail["label"], state and state.label) if each)]
        case Deed.REMINDED:
            lines = [_("Days left: %(days)d") % {"days": detail["days"]}]
        case Deed.DECIDED | Deed.SIGNED | Deed.SENT_BACK:
            lines = [outcome(detail["outcome"])]
        case Deed.CHANGED:
            lines = [str(FIELDS.get(name, name)) for name in detail["after"]]
    text = detail.get("text") or detail.get("reason") or ""
    return {
        "event": event,
        "title": dict(Deed.choices).get(event.kind, event.kind),
        "lines": lines,
        "text": text,
    }
