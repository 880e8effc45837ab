"""How fast the audit record is written: latency of one append, and records a second.

    python -m benchmarks.audit_append [--seconds 5] [--writers 1 2 4 8]

Starts a PostgreSQL of its own with Custos's settings (fsync on) in a temporary folder, and writers as processes. Each
record is begun, given one chunk of 200 bytes and completed: three durable transactions. Goal, on 2 cores: append p99
≤ 5 ms, and 1,000 records a second. The last two columns are the processor time of one record, in the writer and in its
database session: unlike the others, they mean something on a machine that is busy with other things.
"""

import argparse
import multiprocessing
import os
import secrets
import shutil
import statistics
import tempfile
import time
from itertools import pairwise
from multiprocessing.synchronize import Barrier
from pathlib import Path
from uuid import UUID

from console.supervisor.postgres import PostgresServer

OPERATIONS = ("begin", "append", "complete")
TEXT = "x" * 200
WARM_UP_RECORDS = 50

WRITER, SESSION = "writer", "session"

Samples = dict[
    str, list[float]
]  # operation -> seconds of each call; WRITER and SESSION: seconds of processor time


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--seconds", type=float, default=5.0, help="how long each row of the table runs")
    arguments.add_argument("--writers", type=int, nargs="+", default=[1, 2, 4, 8], help="processes at once")
    options = arguments.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="custos-bench-"))
    folder.chmod(0o755)  # The database runs as another account when we are root.
    password = secrets.token_hex(16)
    server = PostgresServer(folder / "postgres", password)
    server.start()
    try:
        tenant_id = _prepare(folder, server.url, password)
        print(f"{os.cpu_count()} cores, {options.seconds:g} s a row; times in ms (p50 / p99)\n")
        print(
            "writers  records/s  commits/s"
            + "".join(f"{name:>16}" for name in OPERATIONS)
            + "  CPU: writer  session"
        )
        for writers in options.writers:
            print(_row(_measure(tenant_id, writers, options.seconds), writers, options.seconds), flush=True)
    finally:
        server.stop()
        shutil.rmtree(folder, ignore_errors=True)


def _prepare(folder: Path, owner_url: str, password: str) -> UUID:
    """A migrated database with one tenant, whose id comes back; the environment leads writers to it."""
    os.environ.update(
        CUSTOS_VAR_DIR=str(folder),
        DATABASE_URL=owner_url,
        CUSTOS_APP_DATABASE_URL=owner_url.replace(
            owner_url.partition("@")[0], f"postgresql://custos_app:{password}"
        ),
        DJANGO_SETTINGS_MODULE="console.settings",
    )
    import django

    django.setup()
    from django.db import connections

    from console.management.commands.prepare import prepare_schema
    from tenants.models import Tenant

    prepare_schema(connections["owner"], verbosity=0)
    tenant = Tenant.objects.create(slug="bench", name="Bench")
    connections.close_all()
    return tenant.pk


def _measure(tenant_id: UUID, writers: int, seconds: float) -> Samples:
    context = multiprocessing.get_context("spawn")
    ready = context.Barrier(writers)
    results: multiprocessing.Queue[Samples] = context.Queue()
    processes = [
        context.Process(target=_write, args=(tenant_id, seconds, ready, results)) for _ in range(writers)
    ]
    for process in processes:
        process.start()
    samples = [results.get() for _ in processes]
    for process in processes:
        process.join()
    return {name: [taken for each in samples for taken in each[name]] for name in samples[0]}


def _write(
    tenant_id: UUID, seconds: float, ready: Barrier, results: "multiprocessing.Queue[Samples]"
) -> None:
    """One writer: records until the time is over, and reports how long each call took."""
    import django

    django.setup()
    from tenants.access import Actor

    actor = Actor(
        tenant_id=tenant_id,
        tenant_slug="bench",
        tenant_name="Bench",
        label="bench",
        role="api key",
        permissions=frozenset(),
    )
    for _ in range(WARM_UP_RECORDS):
        _record(actor)
    ready.wait()
    samples: Samples = {name: [] for name in OPERATIONS}
    before = time.process_time(), _session_time()
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        for name, taken in zip(OPERATIONS, _record(actor), strict=True):
            samples[name].append(taken)
    samples[WRITER] = [time.process_time() - before[0]]
    samples[SESSION] = [_session_time() - before[1]]
    results.put(samples)


def _session_time() -> float:
    """Processor seconds that the server process of our connection has used."""
    from django.db import connection

    fields = (
        Path(f"/proc/{connection.connection.info.backend_pid}/stat").read_text().rpartition(")")[2].split()
    )
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _record(actor: object) -> list[float]:
    """Seconds that begin, append and complete took."""
    from audit import record

    times = [time.perf_counter()]
    handle = record.begin(
        actor=actor,  # type: ignore[arg-type]
        channel="api",
        input=[{"role": "user", "content": TEXT}],
        model="m",
        model_version="1",
        route="r",
        route_reason="",
        parameters={"temperature": 0.2},
    )
    times.append(time.perf_counter())
    record.append(handle, seq=1, text=TEXT)
    times.append(time.perf_counter())
    record.complete(handle, status="completed")
    times.append(time.perf_counter())
    return [after - before for before, after in pairwise(times)]


def _row(samples: Samples, writers: int, seconds: float) -> str:
    records = len(samples["begin"]) / seconds
    cells = ""
    for name in OPERATIONS:
        percentiles = statistics.quantiles(samples[name], n=100)
        cells += f"{percentiles[49] * 1000:>8.2f} /{percentiles[98] * 1000:6.2f}"
    writer, session = (1000 * sum(samples[name]) / len(samples["begin"]) for name in (WRITER, SESSION))
    return f"{writers:>7}{records:>11,.0f}{records * 3:>11,.0f}{cells}{writer:>13.2f}{session:>9.2f}"


if __name__ == "__main__":
    main()
