"""How upstreams are. Looked at in a thread of its own: nobody waits for a server or a name that does not answer."""

import logging
import threading
from collections.abc import Mapping
from uuid import UUID

from inference.client import InferenceClient
from inference.deployments import upstreams
from inference.deployments.looks import Look, look_at_all
from tenants.errors import Refused

logger = logging.getLogger(__name__)

EVERY_S = 2.0


class Watching:
    """`wanted` is set by whoever is interested, `seen` is what was last found; whole dictionaries each."""

    def __init__(self) -> None:
        self.wanted: Mapping[UUID, InferenceClient] = {}
        self.seen: Mapping[UUID, Look] = {}
        self._stopped = threading.Event()

    def start(self) -> None:
        threading.Thread(target=self._run, name="upstreams", daemon=True).start()

    def stop(self) -> None:
        self._stopped.set()

    def look(self) -> None:
        wanted, found, allowed = dict(self.wanted), dict[UUID, Look](), dict[UUID, InferenceClient]()
        for key, client in wanted.items():
            try:
                # Each time anew: a name may lead elsewhere by now.
                upstreams.check(client.base_url)
                allowed[key] = client
            except Refused as error:
                found[key] = Look("away", error.message)
        self.seen = {**found, **look_at_all(allowed)}

    def _run(self) -> None:
        while not self._stopped.wait(EVERY_S):
            try:
                self.look()
            except Exception:
                logger.exception("upstreams are looked at again")
