"""What the database holds about a request, for comparing it with what a reader was sent."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import psycopg
from asgiref.sync import sync_to_async

from audit import output, record
from audit.models import AuditChunk, AuditCompletion, AuditRecord
from audit.output import Part
from tenants.ids import day_of
from tenants.scope import tenant_scope
from tests.conftest import Company
from tests.support.services import services


@dataclass(frozen=True)
class Recorded:
    """One audit record, opened."""

    input: Any
    parameters: Any
    parts: list[Part]
    channel: str
    status: str | None  # None: not closed.
    error_code: str
    completion: AuditCompletion | None

    @property
    def text(self) -> str:
        return output.text_of(self.parts)


def recorded(company: Company, request_id: str | UUID) -> Recorded:
    """Raises DoesNotExist when there is no such record."""
    identifier = UUID(str(request_id))
    handle, day = record.Handle(company.tenant.pk, identifier), day_of(identifier)
    with tenant_scope(company.tenant.pk):
        intent = AuditRecord.objects.get(day=day, id=identifier)
        completion = AuditCompletion.objects.filter(day=day, request_id=identifier).first()
        chunks = AuditChunk.objects.filter(day=day, request_id=identifier).order_by("seq")
        opened = [record.open_output(handle, seq=c.seq, sealed=c.sealed) for c in chunks]
        return Recorded(
            input=record.open_json(handle, field="input", sealed=intent.input),
            parameters=record.open_json(handle, field="parameters", sealed=intent.parameters),
            parts=output.joined(part for piece in opened for part in output.decode(piece)),
            channel=intent.channel,
            status=completion and completion.status,
            error_code=completion.error_code if completion else "",
            completion=completion,
        )


async def once_closed(company: Company, request_id: str | UUID, timeout_s: float = 10) -> Recorded:
    """The record, as soon as it is closed."""
    deadline = time.monotonic() + timeout_s
    while True:
        found = await sync_to_async(recorded)(company, request_id)
        if found.status is not None:
            return found
        assert time.monotonic() < deadline, f"{request_id} was not closed within {timeout_s} s"
        await asyncio.sleep(0.05)


def count_records(company: Company) -> int:
    """All but what is recorded of keys themselves, as their first use."""
    with tenant_scope(company.tenant.pk):
        return AuditRecord.objects.exclude(kind__startswith="key.").count()


class Withdrawn:
    """While open, the application's role may not do `privilege` on `table`: the store is away, for real."""

    def __init__(self, privilege: str, table: str) -> None:
        self._what = f"{privilege} ON {table}"

    def __enter__(self) -> None:
        self._run(f"REVOKE {self._what} FROM custos_app")

    def __exit__(self, *_: object) -> None:
        self._run(f"GRANT {self._what} TO custos_app")

    def _run(self, statement: str) -> None:
        with psycopg.connect(services.postgres.url, autocommit=True) as owner:
            owner.execute(statement)
