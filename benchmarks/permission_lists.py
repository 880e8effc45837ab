"""What permissions on single objects cost: lists, pages of the matrix, single objects, watching, explanations.

    python -m benchmarks.permission_lists [--objects 5000] [--grants 500] [--rounds 30]

Starts a PostgreSQL of its own with Custos's settings in a temporary folder, and in it a tenant with conversations of
50 people, and shares of them: to people, to groups nested three deep, to everyone. Times are of the data part of a
request, from Python and back; "ratio" compares with reading as many rows without any permission. Goal, on 2 cores:
every list under 200 ms, with the same number of queries however much there is.
"""

import argparse
import os
import secrets
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import UUID

from benchmarks.audit_append import _prepare
from console.supervisor.postgres import PostgresServer

PEOPLE, GROUPS, NESTED = 50, 30, 3
PAGE = 50
WATCHED = 200


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--objects", type=int, default=5000)
    arguments.add_argument("--grants", type=int, default=500, help="beside those of the owners")
    arguments.add_argument("--rounds", type=int, default=30)
    options = arguments.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="custos-bench-"))
    folder.chmod(0o755)  # The database runs as another account when we are root.
    password = secrets.token_hex(16)
    server = PostgresServer(folder / "postgres", password)
    server.start()
    try:
        tenant_id = _prepare(folder, server.url, password)
        _report(tenant_id, options.objects, options.grants, options.rounds)
    finally:
        server.stop()
        shutil.rmtree(folder, ignore_errors=True)


def _report(tenant_id: UUID, objects: int, shares: int, rounds: int) -> None:
    from tenants.scope import tenant_scope

    print(f"{os.cpu_count()} cores; {objects} objects, {shares} shares, {rounds} rounds; milliseconds\n")
    print(f"{'':<38}{'p50':>8}{'p95':>8}{'ratio':>8}{'queries':>9}")
    _fill(tenant_id, objects, shares)
    plain: dict[int, float] = {}
    with tenant_scope(tenant_id):
        for name, act, rows in _acts(tenant_id, objects):
            times, queries = _measure(act, rounds)
            median = statistics.median(times)
            if name.startswith("without"):
                plain[rows] = median
            ratio = f"{median / plain[rows]:.1f}" if rows in plain else ""
            p95 = statistics.quantiles(times, n=20)[18]
            print(f"{name:<38}{median:>8.1f}{p95:>8.1f}{ratio:>8}{queries:>9}", flush=True)


def _measure(act: Callable[[], object], rounds: int) -> tuple[list[float], int]:
    """Milliseconds of each round, after one that warms up; and how many queries a round makes."""
    from django.db import connection
    from django.test.utils import CaptureQueriesContext

    with CaptureQueriesContext(connection) as queries:
        act()
    times = []
    for _ in range(rounds):
        before = time.perf_counter()
        act()
        times.append((time.perf_counter() - before) * 1000)
    return times, len(queries)


def _acts(tenant_id: UUID, objects: int) -> list[tuple[str, Callable[[], object], int]]:
    """What is measured, and how many rows it reads, by which it is compared."""
    from console.chat.models import CONVERSATIONS, Conversation
    from tenants.access import Level, Need, access_object, actor_for_user, lost, visible_objects
    from tenants.explain import explain
    from tenants.grants import matrix
    from tenants.models import User

    person, administrator = (
        User.objects.get(email=f"{name}@bench.example") for name in ("0", "administrator")
    )
    actor, manager = (actor_for_user(user=user, tenant_slug="bench") for user in (person, administrator))
    view = CONVERSATIONS.permission(Level.VIEWER)
    rows = Conversation.objects.order_by("-updated", "-pk")
    mine = list(visible_objects(actor, rows, view))
    some = rows[objects // 2]
    held = [(actor, Need(Conversation, each.pk, view)) for each in mine[:WATCHED]]

    def whole_matrix() -> Any:
        return matrix(actor=manager, kind=CONVERSATIONS, page_size=objects)

    return [
        (f"without permissions: a page of {PAGE}", lambda: list(rows[:PAGE]), PAGE),
        (f"without permissions: {len(mine)}", lambda: list(rows[: len(mine)]), len(mine)),
        (f"without permissions: all {objects}", lambda: list(rows.all()), objects),
        (f"visible: a page of {PAGE}", lambda: list(visible_objects(actor, rows, view)[:PAGE]), PAGE),
        (f"visible: all of them, {len(mine)}", lambda: list(visible_objects(actor, rows, view)), len(mine)),
        (f"matrix: a page of {PAGE}", lambda: matrix(actor=manager, kind=CONVERSATIONS), PAGE),
        (f"matrix: all {objects} on one page", whole_matrix, objects),
        ("one object", lambda: access_object(actor, rows, view, pk=mine[0].pk), 0),
        (f"what {len(held)} answers depend on", lambda: lost(tenant_id, held), 0),
        ("why somebody can see an object", lambda: explain(actor=manager, obj=some, subject=person), 0),
    ]


def _fill(tenant_id: UUID, objects: int, shares: int) -> None:
    from django.db import connection

    from console.chat.models import Conversation
    from tenants.access import Level, put_grant
    from tenants.lifecycle import furnish
    from tenants.models import Group, GroupMember, Membership, Tenant, User
    from tenants.roles import Role
    from tenants.scope import tenant_scope

    furnish(Tenant.objects.get(pk=tenant_id))
    names = ["administrator", *map(str, range(PEOPLE))]
    users = User.objects.bulk_create(User(email=f"{name}@bench.example") for name in names)
    with tenant_scope(tenant_id):
        Membership.objects.bulk_create(
            Membership(user=user, role=Role.MEMBER if number else Role.ADMINISTRATOR)
            for number, user in enumerate(users)
        )
        people = users[1:]
        groups: list[Group] = []
        for number in range(GROUPS):
            above = groups[-1] if number % NESTED else None
            groups.append(Group.objects.create(name=f"Group {number}", parent=above))
        members = list(Membership.objects.filter(role=Role.MEMBER))
        GroupMember.objects.bulk_create(
            GroupMember(group=group, membership=membership)
            for number, membership in enumerate(members)
            for group in groups[NESTED - 1 + number % NESTED :: GROUPS // 3]
        )
        owned = Conversation.objects.bulk_create(
            Conversation(owner=people[number % PEOPLE], sealed_title=b"x" * 80) for number in range(objects)
        )
        for conversation in owned:
            put_grant(conversation, conversation.owner, Level.OWNER)
        everyone = Group.objects.get(is_everyone=True)
        for number in range(shares):
            to = (people[number % PEOPLE], groups[number % GROUPS], everyone)[number % 3]
            put_grant(owned[number * objects // shares], to, Level.VIEWER)
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE")


if __name__ == "__main__":
    main()
