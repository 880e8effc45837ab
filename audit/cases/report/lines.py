"""A report for programs: JSON, a thing a line, in UTF-8; codes and times as they are stored.

The lines are of the types case, record, file, deadline, decision, event and, last, end, which tells how many came before and
their SHA-256. A record has what an export has at its core: request_id, user_id, input, output, timestamp. What was written
and cannot be read any more is empty, and "lost" says why: altered, destroyed.
"""

from collections.abc import Iterator
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any

from audit import plain_json
from audit.cases.report.facts import Facts, Reported
from audit.tree.selectors import Place

VERSION = 1


def render(facts: Facts) -> bytes:
    body = b"".join(_line(each) for each in _things(facts))
    end = {"type": "end", "lines": body.count(b"\n"), "sha256": sha256(body).hexdigest()}
    return body + _line(end)


def _things(facts: Facts) -> Iterator[dict[str, Any]]:
    view = facts.view
    yield {
        "type": "case",
        "version": VERSION,
        "tenant": facts.tenant,
        "case_id": str(facts.case.pk),
        "number": facts.case.number,
        "as_of": {"seq": facts.seq, "time": _time(facts.as_of)},
        **_lost(view.lost),
        "title": view.title,
        "summary": view.summary,
        "typology": view.typology,
        "severity": view.version.severity,
        "status": view.version.status,
        "opened": _time(facts.case.created),
        "opened_by": view.opened_by,
        "owner": view.owner,
        "subjects": facts.subjects,
        "members": [{"user": each.label, "role": each.role} for each in view.members],
    }
    for each in facts.records:
        yield _record(each)
    for file in view.files:
        yield {
            "type": "file",
            **_lost(file.lost),
            "name": file.name,
            "media_type": file.media_type,
            "size": file.size,
            "sha256": file.sha256,
        }
    for row, said in view.deadlines:
        yield {"type": "deadline", "due": _time(row.due), "state": row.state, **said}
    for decision in view.decisions:
        signed = decision.signature
        yield {
            "type": "decision",
            **_lost(decision.lost),
            "outcome": decision.outcome,
            "by": decision.by,
            "time": _time(decision.created),
            "reason": decision.reason,
            "signature": signed
            and {
                **_lost(signed.lost),
                "by": signed.by,
                "time": _time(signed.created),
                "approved": signed.is_approved,
                "reason": signed.reason,
            },
        }
    for event in view.timeline:
        yield {
            "type": "event",
            "seq": event.seq,
            "kind": event.kind,
            "by": event.by,
            "time": _time(event.created),
            "detail": event.detail,
        }


def _record(each: Reported) -> dict[str, Any]:
    found: dict[str, Any] = {"type": "record", "request_id": str(each.request_id), "why": each.reason}
    found.update(_lost(each.lost))
    if each.view is None:
        return {**found, "state": "gone", "proof": _proof(each.place)}
    summary = each.view.summary
    return {
        **found,
        "state": str(each.view.state),
        "user_id": str(summary.user_id) if summary.user_id else None,
        "user": summary.user_label,
        "timestamp": _time(summary.created),
        "channel": summary.channel,
        "client_address": summary.client_address,
        "model": summary.model,
        "model_version": summary.model_version,
        "status": summary.status,
        "input": each.view.input,
        "output": [
            {"choice": part.choice, "kind": str(part.kind), "name": part.name, "text": part.text}
            for part in each.view.output
        ],
        "parameters": each.view.parameters,
        "passages": each.view.passages,
        "attachments": each.view.attachments,
        "proof": _proof(each.place),
    }


def _lost(why: str) -> dict[str, str]:
    return {"lost": str(why)} if why else {}


def _proof(place: Place | None) -> dict[str, Any] | None:
    if place is None:
        return None
    head = place.checkpoint
    return {
        "sequence": place.sequence,
        "leaf": place.leaf.hex(),
        "checkpoint": head and {"size": head.size, "root": head.root.hex(), "time": _time(head.created)},
    }


def _line(value: dict[str, Any]) -> bytes:
    # A lone half of a surrogate pair is no UTF-8: such text is escaped as a whole.
    text = plain_json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    try:
        return text.encode() + b"\n"
    except UnicodeEncodeError:
        return plain_json.dumps(value, separators=(",", ":")).encode() + b"\n"


def _time(when: datetime) -> str:
    return when.astimezone(UTC).isoformat(timespec="microseconds")
