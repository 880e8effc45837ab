"""How fast a whole audit log is verified, and what a proof out of it costs.

    python -m benchmarks.audit_verify [--records 1000000]

Starts a PostgreSQL of its own with Custos's settings in a temporary folder, copies one real record so often, each with an
id and leaf of its own, puts all of them into the log, and verifies it: every leaf computed anew from its rows, all
ciphertexts included. Goal: a million leaves within 60 s on 2 cores.
"""

import argparse
import os
import secrets
import shutil
import tempfile
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID

from benchmarks.audit_append import _prepare
from console.supervisor.postgres import PostgresServer

BATCH = 20_000


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--records", type=int, default=1_000_000)
    options = arguments.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="custos-bench-"))
    folder.chmod(0o755)  # The database runs as another account when we are root.
    password = secrets.token_hex(16)
    server = PostgresServer(folder / "postgres", password)
    server.start()
    try:
        tenant_id = _prepare(folder, server.url, password)
        print(
            f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}, {options.records:,} records", flush=True
        )
        _fill(tenant_id, server.url, options.records)
        _measure(tenant_id, options.records)
    finally:
        server.stop()
        shutil.rmtree(folder, ignore_errors=True)


def _fill(tenant_id: UUID, owner_url: str, count: int) -> None:
    """Copies of one record, spread over the day, with right leaves."""
    import psycopg

    from audit import leaf, record
    from audit.models import AuditCompletion, AuditRecord
    from audit.tree import recomputed, sequencer
    from benchmarks.audit_append import TEXT
    from tenants.actors import system_actor
    from tenants.models import Tenant
    from tenants.scope import tenant_scope

    began = time.perf_counter()
    actor = system_actor(Tenant.objects.get(pk=tenant_id), "benchmark")
    handle = record.begin(
        actor=actor,
        channel="api",
        input=[{"role": "user", "content": TEXT}],
        model="smollm2-135m-instruct",
        model_version="sha256:0123",
        route="default",
        route_reason="only route",
        parameters={"temperature": 0.2},
    )
    record.append(handle, seq=1, text=TEXT)
    record.complete(handle, status="completed", timings=record.Timings(1, 2, 3, itl_p50_ms=12.5))
    with tenant_scope(tenant_id):
        schema = AuditRecord.objects.get(id=handle.request_id).schema
        assert AuditCompletion.objects.exists()
    metadata = recomputed._metadata(schema, leaf.FIELDS[schema])
    midnight = datetime.combine(handle.day, datetime.min.time(), UTC)
    with psycopg.connect(owner_url, autocommit=True) as owner:
        owner.execute("SET session_replication_role = replica; SET synchronous_commit = off; SET jit = off")
        for start in range(0, count, BATCH):
            numbers = {"start": start, "end": min(start + BATCH, count) - 1, "id": handle.request_id}
            numbers |= {"ms": int((midnight + timedelta(milliseconds=start)).timestamp() * 1000) - start}
            new_id = "(lpad(to_hex(%(ms)s::bigint + n), 12, '0') || '7000' || '8000' || lpad(to_hex(n), 12, '0'))::uuid"
            for table, column in (
                ("audit_record", "id"),
                ("audit_chunk", "request_id"),
                ("audit_completion", "request_id"),
            ):
                names = [
                    row[0]
                    for row in owner.execute(
                        "SELECT attname FROM pg_attribute WHERE attrelid = %s::regclass AND attnum > 0 AND NOT attisdropped",
                        [table],
                    )
                ]
                values = ", ".join(new_id if name == column else f"old.{name}" for name in names)
                owner.execute(
                    f"INSERT INTO {table} ({', '.join(names)}) SELECT {values} FROM {table} AS old, "  # type: ignore[arg-type]
                    f"generate_series(%(start)s::bigint, %(end)s::bigint) AS n WHERE old.{column} = %(id)s",
                    numbers,
                )
        owner.execute(
            "UPDATE audit_completion AS c SET leaf_digest = sha256('\\x00'::bytea || "  # type: ignore[arg-type]
            f"convert_to({metadata}, 'UTF8') || c.ciphertext_digest) FROM audit_record AS r "
            "WHERE r.day = c.day AND r.id = c.request_id"
        )
        owner.execute("VACUUM ANALYZE")
    print(f"filled in {time.perf_counter() - began:.0f} s", flush=True)
    began = time.perf_counter()
    sequencer.BATCH = BATCH
    sequencer.extend(tenant_id, sign_now=True)
    seconds = time.perf_counter() - began
    print(f"sequenced in {seconds:.1f} s ({count / seconds:,.0f} a second)", flush=True)
    with psycopg.connect(owner_url, autocommit=True) as owner:
        owner.execute("VACUUM ANALYZE")


def _measure(tenant_id: UUID, count: int) -> None:
    from audit.tree import merkle, stored, verification
    from tenants.scope import tenant_scope

    session = _session()
    began, here, there = time.perf_counter(), time.process_time(), _used(session)
    report = verification.verify(tenant_id)
    seconds, here, there = time.perf_counter() - began, time.process_time() - here, _used(session) - there
    assert not report.findings, report.findings[:3]
    assert report.leaves == count + 1
    print(f"verified {report.leaves:,} leaves in {seconds:.1f} s ({report.leaves / seconds:,.0f} a second)")
    print(f"processor time: {here:.1f} s here, {there:.1f} s in the database's session", flush=True)
    with tenant_scope(tenant_id):
        for what, places in (("one after the other", 1), ("anywhere", 7919)):
            hashes, began = stored.Stored(), time.perf_counter()
            for number in range(200):
                merkle.inclusion_proof(hashes.subtree, number * places % count, count)
            print(f"a proof, {what}: {(time.perf_counter() - began) / 200 * 1000:.1f} ms", flush=True)


def _session() -> int:
    """The process of our database session."""
    from django.db import connection

    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_backend_pid()")
        return cursor.fetchone()[0]


def _used(pid: int) -> float:
    """Seconds of processor time of a process so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


if __name__ == "__main__":
    main()
