"""Looks and words of documents' codes."""

from __future__ import annotations

from dataclasses import dataclass

from console.pages.labels import State as Look
from knowledge.ingestion.failures import sentence
from knowledge.models import State, Version

FRAME = "knowledge/frame.html"

_LOOKS = {
    State.WAITING: ("", "s-time"),
    State.PARSING: ("busy", "s-busy"),
    State.INDEXING: ("busy", "s-busy"),
    State.READY: ("ok", "s-ok"),
    State.FAILED: ("bad", "s-bad"),
    State.CANCELLED: ("", "s-stop"),
}
STATES: dict[str, Look] = {str(state): Look(*_LOOKS[state], state.label) for state in State}
AT_WORK = frozenset({State.WAITING, State.PARSING, State.INDEXING})


@dataclass(frozen=True, slots=True)
class Shown:
    """How far a version is. percent: None where nothing is counted. is_found: whether words find it already."""

    look: Look
    failure: str
    percent: int | None
    is_at_work: bool
    is_found: bool


def shown(version: Version) -> Shown:
    is_at_work = version.state in AT_WORK
    counts = version.state == State.INDEXING and version.total
    return Shown(
        look=STATES[version.state],
        failure=sentence(version.error_code),
        percent=min(100, 100 * version.done // version.total) if counts else None,
        is_at_work=is_at_work,
        is_found=is_at_work and version.chunk_count > 0,
    )
