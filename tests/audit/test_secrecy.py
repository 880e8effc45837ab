"""No plaintext at rest."""

from pathlib import Path

import psycopg
import pytest

from audit import record
from audit.output import text_of
from audit.selectors import open_record
from tenants.access import Actor
from tests.audit.conftest import begin
from tests.support.services import Services

pytestmark = pytest.mark.django_db(transaction=True)

CANARIES = {
    name: f"canary-{name}-4d1f0b7c9e" for name in ("input", "stop", "output", "reason", "detail", "label")
}


def test_what_people_and_models_wrote_is_in_no_file_of_the_database(
    member: Actor, reviewer: Actor, owner: psycopg.Connection, services: Services
) -> None:
    handle = begin(
        member,
        input=[{"role": "user", "content": CANARIES["input"]}],
        parameters={"stop": [CANARIES["stop"]]},
        # Stands in a plain column, so that the search below is seen to find what is there.
        route_reason=CANARIES["label"],
    )
    record.append(handle, seq=1, text=CANARIES["output"])
    record.complete(handle, status="completed")
    record.record_event(actor=member, kind="probe", detail={"text": CANARIES["detail"]})
    assert (
        text_of(open_record(reviewer, handle.request_id, reason=CANARIES["reason"]).output)
        == CANARIES["output"]
    )
    owner.execute("CHECKPOINT")
    folder = services.var_dir / "postgres" / "cluster" / "data"
    assert (folder / "pg_wal").is_dir()
    assert _found(folder) == {"label"}
    assert _found(services.var_dir / "postgres" / "postgres.log") == set()


def _found(place: Path) -> set[str]:
    files = [place] if place.is_file() else [path for path in place.rglob("*") if path.is_file()]
    assert files
    found = set()
    for path in files:
        content = path.read_bytes()
        found |= {name for name, canary in CANARIES.items() if canary.encode() in content}
    return found
