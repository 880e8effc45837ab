"""What `manage.py monitor` does until it is stopped: sample, hold rules against samples, fold, prune, tell.

Telling may take as long as somebody else's server does, so it has a thread of its own: no sample waits for it.
"""

import logging
import threading
import time
from collections.abc import Callable

from django.db import close_old_connections, connection
from django.db.utils import Error as DatabaseError

from console.monitoring import evaluation, notices, rules, sampler

logger = logging.getLogger(__name__)

EVALUATE_EVERY_S = 15.0
FOLD_EVERY_S = 60.0
PRUNE_EVERY_S = 600.0
DELIVER_EVERY_S = 5.0


class Loop:
    """One process's monitoring. Only the one that holds the lock does anything; the others stand by."""

    def __init__(self, stopped: threading.Event) -> None:
        self._stopped = stopped
        self._sampler = sampler.Sampler()
        self._evaluator = evaluation.Evaluator()
        self._is_ours = False
        self._due: dict[str, float] = {}

    def run(self) -> None:
        delivering = threading.Thread(target=self._deliver, name="notices", daemon=True)
        delivering.start()
        following = time.monotonic()
        while not self._stopped.is_set():
            self.step()
            following += sampler.EVERY_S
            # What could not be done in time is left out, not made up for.
            following = max(following, time.monotonic())
            self._stopped.wait(following - time.monotonic())

    def step(self) -> None:
        """One turn of five seconds. What fails is tried again in the next."""
        try:
            close_old_connections()
            was_ours, self._is_ours = self._is_ours, sampler.is_ours()
            if not self._is_ours:
                return
            if not was_ours:
                rules.ensure_defaults()
            self._sampler.tick()
            self._every("evaluate", EVALUATE_EVERY_S, self._evaluator.look)
            self._every("fold", FOLD_EVERY_S, sampler.fold)
            self._every("prune", PRUNE_EVERY_S, _prune)
        except DatabaseError as error:
            logger.warning("the database could not be used: %s", type(error).__name__)
            self._is_ours = False
            connection.close()
        except Exception:
            logger.exception("monitoring goes on with its next turn")

    def _every(self, name: str, seconds: float, work: Callable[[], object]) -> None:
        if time.monotonic() >= self._due.get(name, 0.0):
            self._due[name] = time.monotonic() + seconds - sampler.EVERY_S / 2
            work()

    def _deliver(self) -> None:
        while not self._stopped.wait(DELIVER_EVERY_S):
            if not self._is_ours:
                continue
            try:
                close_old_connections()
                notices.deliver()
            except DatabaseError as error:
                logger.warning("notices wait for the database: %s", type(error).__name__)
                connection.close()
            except Exception:
                logger.exception("notices are tried again")


def _prune() -> None:
    sampler.prune()
    notices.prune()
