"""Group commit: what is wanted written at the same time goes into one transaction.

Making a transaction durable costs the same for one row and for fifty. Who finds nobody writing is written at once; those
that come meanwhile wait, and are then written together. So nobody waits for company, and the more there is to write, the
less each of it costs. `Commits` is for threads, of which the first writes for all that wait; `TaskCommits` for the tasks of
an event loop, for which one thread writes.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field
from threading import Lock
from typing import Generic, NamedTuple, TypeVar

from tenants.database import in_database

W = TypeVar("W")
R = TypeVar("R")

GROUP_MOST = 64


@dataclass(eq=False)
class _Waiting(Generic[W, R]):
    work: W
    alone: Hashable
    asleep: Lock = field(default_factory=Lock)  # Held until it is done, or given a group to write.
    group: "list[_Waiting[W, R]]" = field(default_factory=list)
    result: R | BaseException | None = None


class Commits(Generic[W, R]):
    """Runs `commit`, which is given pieces of work and returns their results or errors in the same order.

    An error that it raises is that of all the pieces.
    """

    def __init__(self, commit: Callable[[Sequence[W]], Sequence[R | BaseException]]) -> None:
        self._commit = commit
        self._lock = Lock()
        # What waits, by what goes together. There is a queue, maybe an empty one, while somebody writes for it.
        self._queues: dict[Hashable, deque[_Waiting[W, R]]] = {}

    def run(self, work: W, *, together: Hashable, alone: Hashable) -> R:
        """The result of `work`, or its error, raised.

        Only pieces with equal `together` share a transaction, one such at a time, and never two with equal `alone`.
        """
        own = _Waiting[W, R](work, alone)
        own.asleep.acquire()
        with self._lock:
            queue = self._queues.get(together)
            if queue is None:
                self._queues[together] = deque()
                own.group = [own]
            else:
                queue.append(own)
        if not own.group:
            own.asleep.acquire()
        if own.group:
            self._write(own.group, together)
        if isinstance(own.result, BaseException):
            raise own.result
        return own.result  # type: ignore[return-value]

    def _write(self, group: Sequence[_Waiting[W, R]], together: Hashable) -> None:
        results: Sequence[R | BaseException]
        try:
            results = self._commit([each.work for each in group])
        except BaseException as error:
            results = [error] * len(group)
        for each, result in zip(group, results, strict=True):
            each.result = result
        with self._lock:
            following = self._next_group(together)
        if following:  # First: the database has nothing to do until then.
            following[0].group = following
            following[0].asleep.release()
        for each in group[1:]:
            each.asleep.release()

    def _next_group(self, together: Hashable) -> list[_Waiting[W, R]]:
        """The first that wait, taken out of their queue; none: the queue is no more."""
        queue = self._queues[together]
        group = _taken(queue)
        if not group:
            del self._queues[together]
        return group


class _Task(NamedTuple, Generic[W, R]):
    work: W
    alone: Hashable
    result: "asyncio.Future[R]"


class TaskCommits(Generic[W, R]):
    """As Commits, for the tasks of one event loop; `commit` runs in a thread."""

    def __init__(self, commit: Callable[[Sequence[W]], Sequence[R | BaseException]]) -> None:
        self._commit = commit
        self._queues: dict[Hashable, deque[_Task[W, R]]] = {}
        self._writing: set[asyncio.Task[None]] = set()

    async def run(self, work: W, *, together: Hashable, alone: Hashable) -> R:
        """As Commits.run. What was given is written even when the task that waits for it is cancelled."""
        own = _Task[W, R](work, alone, asyncio.get_running_loop().create_future())
        queue = self._queues.get(together)
        if queue is not None:
            queue.append(own)
        else:
            self._queues[together] = deque([own])
            writing = asyncio.create_task(self._write(together))
            self._writing.add(writing)
            writing.add_done_callback(self._writing.discard)
        return await own.result

    async def _write(self, together: Hashable) -> None:
        queue = self._queues[together]
        try:
            while group := _taken(queue):
                results: Sequence[R | BaseException]
                try:
                    results = await in_database(self._commit, [each.work for each in group])
                except Exception as error:
                    results = [error] * len(group)
                except asyncio.CancelledError:  # The loop ends: nobody knows any more what was written.
                    queue.extend(group)
                    raise
                for each, result in zip(group, results, strict=True):
                    if each.result.done():  # Whoever waited was cancelled.
                        continue
                    if isinstance(result, BaseException):
                        each.result.set_exception(result)
                    else:
                        each.result.set_result(result)
        finally:
            del self._queues[together]
            for each in queue:
                each.result.cancel()


_Each = TypeVar("_Each", _Waiting, _Task)


def _taken(queue: "deque[_Each]") -> "list[_Each]":
    """The first that wait, out of their queue: GROUP_MOST at most, and no two that are to be alone."""
    group: dict[Hashable, _Each] = {}
    left: deque[_Each] = deque()
    while queue and len(group) < GROUP_MOST:
        each = queue.popleft()
        if each.alone in group:
            left.append(each)
        else:
            group[each.alone] = each
    queue.extendleft(reversed(left))
    return list(group.values())
