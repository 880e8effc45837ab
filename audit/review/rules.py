"""The states of an item, and what leads from one to the next. Pure: what is not in the table cannot be done.

OPEN ──decide──▶ SECOND ──approve──▶ CLOSED        where a second person must sign
  │                └──return, withdraw──▶ OPEN
  └───decide──▶ DECIDED ──(a moment)──▶ CLOSED     where one person decides
                   └──withdraw──▶ OPEN
CLOSED ──reopen, or a further flag──▶ OPEN
"""

from datetime import timedelta

from audit.review.models import Deed, Outcome, Severity, State

# How long a decision can be taken back before it takes effect.
UNDO = timedelta(seconds=60)
# How long an item is kept for whoever works on it; renewed while they do.
CLAIM = timedelta(minutes=10)

NEXT: dict[tuple[str, str], str] = {
    (State.OPEN, Deed.FLAGGED): State.OPEN,
    (State.OPEN, Deed.MOVED): State.OPEN,
    (State.OPEN, Deed.ASSIGNED): State.OPEN,
    (State.OPEN, Deed.UNASSIGNED): State.OPEN,
    (State.OPEN, Deed.CLAIMED): State.OPEN,
    (State.OPEN, Deed.COMMENTED): State.OPEN,
    (State.OPEN, Deed.DECIDED): State.DECIDED,  # Or SECOND: see after_decision.
    (State.SECOND, Deed.FLAGGED): State.OPEN,
    (State.SECOND, Deed.CLAIMED): State.SECOND,
    (State.SECOND, Deed.COMMENTED): State.SECOND,
    (State.SECOND, Deed.APPROVED): State.CLOSED,
    (State.SECOND, Deed.RETURNED): State.OPEN,
    (State.SECOND, Deed.WITHDRAWN): State.OPEN,
    (State.DECIDED, Deed.FLAGGED): State.OPEN,
    (State.DECIDED, Deed.COMMENTED): State.DECIDED,
    (State.DECIDED, Deed.WITHDRAWN): State.OPEN,
    (State.DECIDED, Deed.RETURNED): State.OPEN,  # It could not take effect.
    (State.DECIDED, Deed.TOOK_EFFECT): State.CLOSED,
    (State.CLOSED, Deed.FLAGGED): State.OPEN,
    (State.CLOSED, Deed.COMMENTED): State.CLOSED,
    (State.CLOSED, Deed.REOPENED): State.OPEN,
}


def needs_second(outcome: str, severity: str, *, seconds_escalations: bool) -> bool:
    """Whether a decision takes effect only when a second person has signed it."""
    return severity == Severity.HIGH or (outcome == Outcome.ESCALATE and seconds_escalations)


def after_decision(outcome: str, severity: str, *, seconds_escalations: bool) -> str:
    """The state that a decision on an open item leads to."""
    second = needs_second(outcome, severity, seconds_escalations=seconds_escalations)
    return State.SECOND if second else State.DECIDED


def after_flag(state: str, outcome: str) -> str:
    """A further flag asks anew, except where a case has taken the record over: it belongs to the case then."""
    if state == State.CLOSED and outcome == Outcome.ESCALATE:
        return State.CLOSED
    return NEXT[state, Deed.FLAGGED]
