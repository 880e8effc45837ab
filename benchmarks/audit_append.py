"""How fast the audit record is written: latency of one append, and records a second.

    python -m benchmarks.audit_append [--seconds 5] [--writers 1x1 1x4 1x16 2x16]

Starts a PostgreSQL of its own with Custos's settings (fsync on) in a temporary folder, and writers: "2x16" is two
processes that record sixteen answers at once each, from tasks of one event loop, as a web process does. Each record is
begun, given one chunk of 200 bytes and completed: three durable steps. Goal, on 2 cores: append p99 ≤ 5 ms, and
1,000 records a second. The last two columns are the processor time of one record, in the writers and in PostgreSQL:
unlike the others, they mean something on a machine that is busy with other things.
"""

import argparse
import asyncio
import multiprocessing
import os
import secrets
import shutil
import statistics
import tempfile
import time
from contextlib import suppress
from itertools import pairwise
from multiprocessing.synchronize import Barrier
from pathlib import Path
from uuid import UUID

from console.supervisor.postgres import PostgresServer

OPERATIONS = ("begin", "append", "complete")
TEXT = "x" * 200
WARM_UP_RECORDS = 50  # of a process

WRITER, DATABASE = "writer", "database"

Samples = dict[
    str, list[float]
]  # operation -> seconds of each call; WRITER and DATABASE: seconds of processor time


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--seconds", type=float, default=5.0, help="how long each row of the table runs")
    arguments.add_argument(
        "--writers",
        type=_writers,
        nargs="+",
        default=[(1, 1), (1, 4), (1, 16), (2, 16)],
        help="processes x tasks in each",
    )
    options = arguments.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="custos-bench-"))
    folder.chmod(0o755)  # The database runs as another account when we are root.
    password = secrets.token_hex(16)
    server = PostgresServer(folder / "postgres", password)
    server.start()
    try:
        tenant_id = _prepare(folder, server.url, password)
        load = os.getloadavg()[0]
        print(
            f"{os.cpu_count()} cores, load {load:.1f}, {options.seconds:g} s a row; times in ms (p50 / p99)\n"
        )
        print(
            "writers  records/s" + "".join(f"{name:>16}" for name in OPERATIONS) + "  CPU: writer  PostgreSQL"
        )
        assert server.pid is not None
        for writers in options.writers:
            samples = _measure(tenant_id, server.pid, writers, options.seconds)
            print(_row(samples, writers, options.seconds), flush=True)
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


def _writers(told: str) -> tuple[int, int]:
    processes, _, threads = told.partition("x")
    return int(processes), int(threads or 1)


def _measure(tenant_id: UUID, postmaster: int, shape: tuple[int, int], seconds: float) -> Samples:
    processes, tasks = shape
    context = multiprocessing.get_context("spawn")
    ready = context.Barrier(processes + 1)
    results: multiprocessing.Queue[Samples] = context.Queue()
    writers = [
        context.Process(target=_write, args=(tenant_id, tasks, seconds, ready, results))
        for _ in range(processes)
    ]
    for writer in writers:
        writer.start()
    ready.wait()
    before = _time_of_children(postmaster)
    samples = [results.get() for _ in writers]
    database = _time_of_children(postmaster) - before
    ready.wait()  # Until now the writers kept their sessions, whose time would be gone with them.
    for writer in writers:
        writer.join()
    return {name: [taken for each in samples for taken in each[name]] for name in samples[0]} | {
        DATABASE: [database]
    }


def _write(
    tenant_id: UUID, tasks: int, seconds: float, ready: Barrier, results: "multiprocessing.Queue[Samples]"
) -> None:
    """One process: records until the time is over, and reports how long each call took."""
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
    results.put(asyncio.run(_record_all(actor, tasks, seconds, ready)))
    ready.wait()  # Sessions end with their threads, and their time with them.


async def _record_all(actor: object, tasks: int, seconds: float, ready: Barrier) -> Samples:
    samples: Samples = {name: [] for name in OPERATIONS}

    async def record_until(end: float) -> None:
        while time.perf_counter() < end:
            for name, taken in zip(OPERATIONS, await _record(actor), strict=True):
                samples[name].append(taken)

    async def warm_up() -> None:
        for _ in range(WARM_UP_RECORDS // tasks + 1):
            await _record(actor)

    await asyncio.gather(*(warm_up() for _ in range(tasks)))
    ready.wait()
    before = time.process_time()
    end = time.perf_counter() + seconds
    await asyncio.gather(*(record_until(end) for _ in range(tasks)))
    return samples | {WRITER: [time.process_time() - before]}


def _time_of_children(pid: int) -> float:
    """Processor seconds that a process's children have used, so far as they still run."""
    ticks = 0
    for status in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            fields = status.read_text().rpartition(")")[2].split()
            if int(fields[1]) == pid:
                ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


async def _record(actor: object) -> list[float]:
    """Seconds that begin, append and complete took."""
    from audit import record
    from tenants.database import in_database

    times = [time.perf_counter()]
    handle = await in_database(
        record.begin,
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
    await record.aappend(handle, seq=1, text=TEXT)
    times.append(time.perf_counter())
    await record.acomplete(handle, status="completed")
    times.append(time.perf_counter())
    return [after - before for before, after in pairwise(times)]


def _row(samples: Samples, writers: tuple[int, int], seconds: float) -> str:
    count = len(samples["begin"])
    cells = ""
    for name in OPERATIONS:
        percentiles = statistics.quantiles(samples[name], n=100)
        cells += f"{percentiles[49] * 1000:>8.2f} /{percentiles[98] * 1000:6.2f}"
    writer, database = (1000 * sum(samples[name]) / count for name in (WRITER, DATABASE))
    return f"{'x'.join(map(str, writers)):>7}{count / seconds:>11,.0f}{cells}{writer:>13.2f}{database:>12.2f}"


if __name__ == "__main__":
    main()
