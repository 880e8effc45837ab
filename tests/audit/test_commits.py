"""What many threads write at once is written together, and each gets its own answer."""

import asyncio
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from threading import Event, Lock

import psycopg
import pytest
from django.db import connection, connections

from audit import record
from audit.commits import GROUP_MOST, Commits, TaskCommits
from audit.models import AuditChunk, AuditCompletion
from tenants.access import Actor
from tenants.scope import tenant_scope
from tests.audit.conftest import begin


class Written:
    """A `commit` that waits to be let on, and remembers what it was given."""

    def __init__(self) -> None:
        self.groups: list[list[str]] = []
        self.go_on = Event()
        self.started = Event()

    def __call__(self, works: Sequence[str]) -> Sequence[str | BaseException]:
        self.groups.append(list(works))
        self.started.set()
        assert self.go_on.wait(20)
        return [ValueError(work) if work.startswith("bad") else work.upper() for work in works]


def _wait_for(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.002)


def _waiting(commits: Commits[str, str]) -> int:
    return sum(map(len, commits._queues.values()))


def test_those_that_come_while_one_writes_are_written_together_next() -> None:
    written = Written()
    commits = Commits[str, str](written)
    with ThreadPoolExecutor(10) as pool:
        first = pool.submit(commits.run, "a", together=1, alone="a")
        assert written.started.wait(20)
        later = [pool.submit(commits.run, name, together=1, alone=name) for name in ("b", "bad", "c")]
        _wait_for(lambda: _waiting(commits) == 3)
        written.go_on.set()
        assert [first.result(20), later[0].result(20), later[2].result(20)] == ["A", "B", "C"]
        with pytest.raises(ValueError, match="bad"):
            later[1].result(20)
    assert written.groups[0] == ["a"] and sorted(written.groups[1]) == ["b", "bad", "c"]
    assert not commits._queues, "a queue that nobody writes for would never be written"


def test_equal_pieces_never_share_and_groups_have_an_end() -> None:
    written = Written()
    commits = Commits[str, str](written)
    with ThreadPoolExecutor(GROUP_MOST + 10) as pool:
        pool.submit(commits.run, "first", together=1, alone="first")
        assert written.started.wait(20)
        twice = [pool.submit(commits.run, "same", together=1, alone="same") for _ in range(2)]
        _wait_for(lambda: _waiting(commits) == 2)
        many = [pool.submit(commits.run, f"n{n}", together=1, alone=n) for n in range(GROUP_MOST)]
        _wait_for(lambda: _waiting(commits) == GROUP_MOST + 2)
        written.go_on.set()
        assert {each.result(20) for each in twice} == {"SAME"}
        assert len({each.result(20) for each in many}) == GROUP_MOST
    assert max(map(len, written.groups)) == GROUP_MOST
    assert all(group.count("same") <= 1 for group in written.groups)


def test_what_does_not_go_together_does_not_wait_for_each_other() -> None:
    written = Written()
    commits = Commits[str, str](written)
    with ThreadPoolExecutor(2) as pool:
        both = [pool.submit(commits.run, name, together=name, alone=name) for name in ("a", "b")]
        _wait_for(lambda: len(written.groups) == 2)
        written.go_on.set()
        assert [each.result(20) for each in both] == ["A", "B"]


def test_an_error_of_the_whole_is_everybodys() -> None:
    def fail(works: Sequence[str]) -> Sequence[str]:
        raise OSError("no disk")

    commits = Commits[str, str](fail)
    for _ in range(2):
        with pytest.raises(OSError, match="no disk"):
            commits.run("a", together=1, alone=1)


def test_many_threads_lose_nothing_and_double_nothing() -> None:
    lock, seen, groups = Lock(), list[str](), list[int]()

    def keep(works: Sequence[str]) -> Sequence[str]:
        with lock:
            seen.extend(works)
            groups.append(len(works))
        return [work + "!" for work in works]

    commits = Commits[str, str](keep)

    def thread(number: int) -> bool:
        return all(
            commits.run(f"{number}.{n}", together=number % 3, alone=n) == f"{number}.{n}!" for n in range(200)
        )

    with ThreadPoolExecutor(16) as pool:
        assert all(pool.map(thread, range(16)))
    assert len(seen) == len(set(seen)) == 16 * 200
    assert not commits._queues


# Tasks; their writing thread looks after its connection, so there has to be a database.


def _in_tasks(
    commit: Callable[[Sequence[str]], Sequence[str | BaseException]], works: Sequence[str]
) -> list[object]:
    """Results or errors of works given at once by tasks of one loop, and whether a queue is left over."""

    async def run() -> list[object]:
        commits = TaskCommits[str, str](commit)
        given = [commits.run(work, together=1, alone=work[-1]) for work in works]
        found: list[object] = list(await asyncio.gather(*given, return_exceptions=True))
        assert not commits._queues, "a queue that nobody writes for would never be written"
        return found

    return asyncio.run(run())


@pytest.mark.django_db(transaction=True)
def test_tasks_that_come_while_one_is_written_share_and_equal_ones_do_not() -> None:
    groups: list[list[str]] = []

    def keep(works: Sequence[str]) -> Sequence[str | BaseException]:
        groups.append(list(works))
        time.sleep(0.02)
        return [ValueError(work) if work.startswith("bad") else work.upper() for work in works]

    found = _in_tasks(keep, ["a1", "b2", "bad3", "c2", "d4"])
    assert [found[0], found[1], found[3], found[4]] == ["A1", "B2", "C2", "D4"]
    assert isinstance(found[2], ValueError)
    assert groups == [["a1", "b2", "bad3", "d4"], ["c2"]]


@pytest.mark.django_db(transaction=True)
def test_an_error_of_the_whole_is_that_of_all_tasks() -> None:
    def fail(works: Sequence[str]) -> Sequence[str]:
        raise OSError("no disk")

    assert [type(each) for each in _in_tasks(fail, ["a1", "b2"])] == [OSError, OSError]


@pytest.mark.django_db(transaction=True)
def test_what_a_cancelled_task_gave_is_written() -> None:
    written: list[str] = []

    def keep(works: Sequence[str]) -> Sequence[str]:
        time.sleep(0.05)
        written.extend(works)
        return works

    async def run() -> str:
        commits = TaskCommits[str, str](keep)
        first = asyncio.create_task(commits.run("a", together=1, alone=1))
        await asyncio.sleep(0.01)
        first.cancel()
        return await commits.run("b", together=1, alone=2)

    assert asyncio.run(run()) == "b"
    assert written == ["a", "b"]


# The record


def _in_threads(calls: Sequence[Callable[[], object]]) -> list[object]:
    """Results or errors of calls made at once, each in a thread of its own."""

    def one(call: Callable[[], object]) -> object:
        try:
            return call()
        except Exception as error:
            return error
        finally:
            connections.close_all()

    with ThreadPoolExecutor(len(calls)) as pool:
        return list(pool.map(one, calls))


@pytest.mark.django_db(transaction=True)
def test_one_refused_piece_refuses_no_other(member: Actor, monkeypatch: pytest.MonkeyPatch) -> None:
    """Twelve answers at once, one of which has left out a piece: eleven are recorded, in fewer transactions."""
    groups: list[int] = []
    monkeypatch.setattr(record, "_commits", Commits(_slowly(groups)))
    handles = [begin(member) for _ in range(12)]
    places = [1] * 11 + [2]
    results = _in_threads(
        [
            partial(record.append, handle, seq=seq, text=f"said {handle.request_id}")
            for handle, seq in zip(handles, places, strict=True)
        ]
    )
    assert isinstance(results[-1], record.AuditRefused)
    for handle, sealed in zip(handles[:11], results[:11], strict=True):
        assert isinstance(sealed, bytes)
        assert record.open_output(handle, seq=1, sealed=sealed) == f"said {handle.request_id}"
    with tenant_scope(member.tenant_id):
        assert AuditChunk.objects.count() == 11
    assert max(groups) > 1, "nothing was written together, so this shows nothing"


@pytest.mark.django_db(transaction=True)
def test_tasks_record_as_threads_do(member: Actor, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten answers at once in one event loop, one of which has left out a piece."""
    groups: list[int] = []
    monkeypatch.setattr(record, "_commit", _slowly(groups, record._commit))
    handles = [begin(member) for _ in range(10)]

    async def write() -> list[object]:
        pieces = [
            record.aappend(handle, seq=seq, text=f"said {seq}")
            for handle, seq in zip(handles, [1] * 9 + [2], strict=True)
        ]
        found: list[object] = list(await asyncio.gather(*pieces, return_exceptions=True))
        await asyncio.gather(*(record.acomplete(handle, status="completed") for handle in handles))
        await record.acomplete(handles[0], status="failed")
        return found

    found = asyncio.run(write())
    assert isinstance(found[-1], record.AuditRefused)
    for handle, sealed in zip(handles[:9], found[:9], strict=True):
        assert isinstance(sealed, bytes)
        assert record.open_output(handle, seq=1, sealed=sealed) == "said 1"
    with tenant_scope(member.tenant_id):
        closed = AuditCompletion.objects.filter(request_id__in=[handle.request_id for handle in handles])
        assert sorted(closed.values_list("status", "chunk_count")) == [
            ("completed", 0),
            *[("completed", 1)] * 9,
        ]
    assert max(groups) > 1, "nothing was written together, so this shows nothing"


@pytest.mark.django_db(transaction=True)
def test_closed_together_each_has_its_own_leaf(member: Actor, monkeypatch: pytest.MonkeyPatch) -> None:
    groups: list[int] = []
    monkeypatch.setattr(record, "_commits", Commits(_slowly(groups)))
    handles = [begin(member) for _ in range(8)]
    for handle in handles[::2]:
        record.append(handle, seq=1, text="x")
    ended = _in_threads(
        [partial(record.complete, handle, status="completed") for handle in [*handles, *handles]]
    )
    assert all(not isinstance(each, Exception) for each in ended), ended
    assert [each.request_id for each in ended] == [handle.request_id for handle in handles] * 2  # type: ignore[attr-defined]
    assert [each.chunk_count for each in ended[:8]] == [1, 0] * 4  # type: ignore[attr-defined]
    assert [each.leaf_digest for each in ended[:8]] == [bytes(each.leaf_digest) for each in ended[8:]]  # type: ignore[attr-defined]
    assert len({bytes(each.leaf_digest) for each in ended}) == 8  # type: ignore[attr-defined]
    assert max(groups) > 1, "nothing was written together, so this shows nothing"


@pytest.mark.django_db(transaction=True)
def test_a_lost_connection_fails_all_that_were_written_together(
    member: Actor, monkeypatch: pytest.MonkeyPatch, owner: psycopg.Connection
) -> None:
    """Nobody is told that something is recorded which is not; the next ones are written again."""
    groups: list[int] = []
    slowly = _slowly(groups)

    def cut(writes: Sequence[record._Write | record._Ending]) -> Sequence[object]:
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_backend_pid()")
            pid = cursor.fetchone()[0]
        owner.execute("SELECT pg_terminate_backend(%s, 5000)", [pid])
        return slowly(writes)

    handles = [begin(member) for _ in range(6)]
    monkeypatch.setattr(record, "_commits", Commits(cut))
    results = _in_threads([partial(record.append, handle, seq=1, text="x") for handle in handles])
    assert all(type(each) is record.AuditUnavailable for each in results), results
    with tenant_scope(member.tenant_id):
        assert not AuditChunk.objects.exists()
    monkeypatch.setattr(record, "_commits", Commits(slowly))
    again = _in_threads([partial(record.append, handle, seq=1, text="x") for handle in handles])
    assert all(isinstance(each, bytes) for each in again)


def _slowly(
    groups: list[int], really: Callable[..., Sequence[object]] | None = None
) -> Callable[[Sequence[record._Write | record._Ending]], Sequence[object]]:
    """As the record commits, but late enough that others come to wait."""

    def commit(writes: Sequence[record._Write | record._Ending]) -> Sequence[object]:
        time.sleep(0.05)
        groups.append(len(writes))
        return (really or record._commit)(writes)

    return commit
