"""Group commit: what several threads want written at once goes into one transaction, by the one that came first.

Making a transaction durable costs the same for one row and for fifty. A thread that finds nobody writing writes at once;
those that come meanwhile wait, and the first of them then writes for all that wait. So nobody waits for company, and
the more there is to write, the less each of it costs.
"""

from collections import deque
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field
from threading import Event, Lock
from typing import Generic, TypeVar

W = TypeVar("W")
R = TypeVar("R")

GROUP_MOST = 64


@dataclass(eq=False)
class _Waiting(Generic[W, R]):
    work: W
    alone: Hashable
    awake: Event = field(default_factory=Event)  # Done, or given a group to write.
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
        with self._lock:
            queue = self._queues.get(together)
            if queue is None:
                self._queues[together] = deque()
                own.group = [own]
            else:
                queue.append(own)
        if not own.group:
            own.awake.wait()
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
        for each in group[1:]:
            each.awake.set()
        if following:
            following[0].group = following
            following[0].awake.set()

    def _next_group(self, together: Hashable) -> list[_Waiting[W, R]]:
        """The first that wait, taken out of their queue; none: the queue is no more."""
        group: dict[Hashable, _Waiting[W, R]] = {}
        left: deque[_Waiting[W, R]] = deque()
        for each in self._queues.pop(together):
            if each.alone in group or len(group) == GROUP_MOST:
                left.append(each)
            else:
                group[each.alone] = each
        if group:
            self._queues[together] = left
        return list(group.values())
