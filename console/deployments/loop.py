"""What `manage.py deployments run` does until it is stopped: a step of the reconciler each second, and of open rollouts.

Only the process that holds the lock does anything; others stand by. A database that is away ends no instance: they
answer without it, and only when another process has taken over by then are they ended.
"""

import logging
import threading
import time

from django.db import close_old_connections, connection
from django.db.utils import Error as DatabaseError

from console.deployments.reconciler import Reconciler
from inference.rollouts import decide

logger = logging.getLogger(__name__)

EVERY_S = 1.0
PRUNE_EVERY_S = 3600.0
# Any number, as long as every version uses the same.
LOCK = 0x437573446570


class Loop:
    def __init__(self, stopped: threading.Event) -> None:
        self._stopped = stopped
        self._reconciler = Reconciler()
        self._is_ours = False
        self._prune_at = 0.0

    def run(self) -> None:
        self._reconciler.watching.start()
        try:
            while not self._stopped.is_set():
                began = time.monotonic()
                self.step()
                self._stopped.wait(max(0.0, EVERY_S - (time.monotonic() - began)))
        finally:
            self._reconciler.watching.stop()
            self._reconciler.end_all()

    def step(self) -> None:
        try:
            if not self._is_ours:
                close_old_connections()
                self._is_ours = _is_ours()
                if not self._is_ours:
                    self._reconciler.end_all()
                    return
                self._reconciler.take_over()
            self._reconciler.step()
            decide.tick()
            if time.monotonic() >= self._prune_at:
                self._prune_at = time.monotonic() + PRUNE_EVERY_S
                decide.prune()
        except DatabaseError as error:
            # The lock went with the connection.
            logger.warning("the database could not be used: %s", type(error).__name__)
            self._is_ours = False
            connection.close()
        except Exception:
            logger.exception("deployments are looked after again in the next turn")


def _is_ours() -> bool:
    """Whether this process looks after deployments; it stays so while its connection lasts."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_try_advisory_lock(%s)", [LOCK])
        return bool(cursor.fetchone()[0])
