"""The audit's write path while the disk fills up: what was acknowledged is there afterwards, and nothing is doubled.

    python -m benchmarks.disk_full /mnt/small

The folder must lie on a small file system of its own, as `mount -t tmpfs -o size=500m tmpfs /mnt/small` makes one: it is
filled to the last byte while records are written, until the audit refuses them; then there is room again, and PostgreSQL
is started anew.
"""

import argparse
import secrets
import shutil
import tempfile
from pathlib import Path
from typing import Any
from uuid import UUID

from benchmarks.audit_append import TEXT, _prepare
from console.supervisor.postgres import PostgresServer

SMALL = 1 << 30  # A file system larger than this is nobody's small one.
CHUNK = 1 << 20


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("folder", type=Path, help="on a small file system, to be filled")
    small: Path = arguments.parse_args().folder
    if shutil.disk_usage(small).total > SMALL:
        raise SystemExit(f"{small} lies on a large file system: mount a small one there")
    folder = Path(tempfile.mkdtemp(prefix="custos-disk-", dir=small))
    folder.chmod(0o755)  # The database runs as another account when we are root.
    password = secrets.token_hex(16)
    server = PostgresServer(folder / "postgres", password)
    server.start()
    try:
        problems = _disk_full(_prepare(folder, server.url, password), folder, server)
    finally:
        server.stop()
        shutil.rmtree(folder, ignore_errors=True)
    print("\n".join(problems) or "nothing was lost")
    raise SystemExit(bool(problems))


def _actor(tenant_id: UUID) -> Any:
    from tenants.access import Actor
    from tenants.roles import API_USE

    return Actor(
        tenant_id=tenant_id,
        tenant_slug="bench",
        tenant_name="Bench",
        label="bench",
        role="api key",
        permissions=frozenset({API_USE}),
    )


def _disk_full(tenant_id: UUID, folder: Path, server: PostgresServer) -> list[str]:
    """Write while the disk fills up; what was acknowledged must be there once there is room again."""
    from django.db import connection

    from audit import record
    from audit.record import AuditUnavailable

    begun: set[UUID] = set()
    acknowledged: set[UUID] = set()
    ballast, refused = folder / "ballast", 0
    with ballast.open("wb", buffering=0) as file:
        while refused < 20:
            try:
                if refused == 0:
                    file.write(secrets.token_bytes(CHUNK))
            except OSError:
                pass  # Full; the database finds out by itself.
            try:
                handle = record.begin(
                    actor=_actor(tenant_id),
                    channel="api",
                    input=TEXT * 50,
                    model="m",
                    model_version="1",
                    route="r",
                    route_reason="",
                    parameters={},
                )
                begun.add(handle.request_id)
                record.append(handle, seq=1, text=TEXT)
                record.complete(handle, status="completed")
                acknowledged.add(handle.request_id)
            except AuditUnavailable:
                refused += 1
                connection.close()
    ballast.unlink()
    server.stop()
    server.start()
    connection.close()
    return _missing(tenant_id, begun, acknowledged, refused)


def _missing(tenant_id: UUID, begun: set[UUID], acknowledged: set[UUID], refused: int) -> list[str]:
    from audit.models import AuditCompletion, AuditRecord
    from tenants.scope import tenant_scope

    with tenant_scope(tenant_id):
        stored = list(AuditRecord.objects.values_list("id", flat=True))
        closed = list(AuditCompletion.objects.values_list("request_id", flat=True))
    lost = len(begun - set(stored)) + len(acknowledged - set(closed))
    doubled = len(stored) - len(set(stored)) + len(closed) - len(set(closed))
    print(
        f"disk full: {len(acknowledged):,} records acknowledged, then {refused} refused; {lost} lost, {doubled} doubled"
    )
    return ["records were lost or doubled when the disk was full"] if lost or doubled else []


if __name__ == "__main__":
    main()
