"""What is measured now, as numbers by the names of the catalogue. What does not answer is itself a number: up, 0 or 1."""

import logging
import shutil
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import requests
from asgiref.sync import async_to_sync
from django import db
from django.conf import settings
from django.core.cache import cache
from prometheus_client import Metric
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector

from console.health import inference_client
from console.monitoring.catalogue import KEPT, Kept, Source
from console.tasks import HEARTBEAT_KEY
from inference.client import InferenceUnavailable
from inference.rollouts.selectors import ended_by_state, rolled_back_lately
from tenants.valkey import VALKEY_ERRORS

logger = logging.getLogger(__name__)

PATIENCE_S = 3.0
# A worker that has given no sign of life at all, or none that Valkey remembers.
NEVER_S = 3600.0

Numbers = dict[str, float]


def read() -> Numbers:
    """Every kept number that can be had now. Never raises for a source that is away."""
    with ThreadPoolExecutor(max_workers=2, thread_name_prefix="sources") as both:
        web = both.submit(_told_by, Source.WEB, web_text)
        inference = both.submit(_told_by, Source.INFERENCE, inference_text)
        return {**_of_machine(), **web.result(), **inference.result()}


def parsed(text: str, source: Source) -> Numbers:
    """What is kept of an exposition of `source`. Raises ValueError for what is none."""
    wanted = [kept for kept in KEPT if kept.source == source and kept.metric != "up"]
    by_metric: dict[str, list[Kept]] = {}
    for kept in wanted:
        by_metric.setdefault(f"{kept.metric}_bucket" if kept.is_histogram else kept.metric, []).append(kept)
    found: Numbers = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            for kept in by_metric.get(sample.name, ()):
                if any(sample.labels.get(label) not in values for label, values in kept.labels.items()):
                    continue
                name = f"{kept.name}:{sample.labels['le']}" if kept.is_histogram else kept.name
                found[name] = found.get(name, 0.0) + sample.value
    return found


def web_text() -> str:
    """The web process's own /metrics. Raises requests' errors."""
    environment = settings.ENVIRONMENT
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(environment.host, environment.host)
    host = f"[{host}]" if ":" in host and not host.startswith("[") else host
    headers = {"Authorization": f"Bearer {settings.METRICS_TOKEN}"}
    named = [name for name in settings.ALLOWED_HOSTS if name and not name.startswith((".", "*"))]
    if named and host not in named:
        headers["Host"] = named[0]
    with requests.Session() as session:
        session.trust_env = False
        answer = session.get(
            f"http://{host}:{environment.port}/metrics",
            headers=headers,
            timeout=PATIENCE_S,
            allow_redirects=False,
        )
        answer.raise_for_status()
        if answer.status_code != 200:
            raise requests.HTTPError(f"/metrics answered {answer.status_code}")
        return answer.text


def inference_text() -> str:
    """The inference process's metrics. Raises InferenceUnavailable."""
    return async_to_sync(inference_client().metrics_text)()


class Machine(Collector):
    """The figures of the machine as /metrics shows them."""

    def collect(self) -> Iterator[Metric]:
        numbers = _of_machine()
        for kept, text in _MACHINE:
            if kept.name in numbers:
                yield GaugeMetricFamily(kept.metric, text, value=numbers[kept.name])
        yield from _of_rollouts()


_TEXTS = {
    "up_valkey": "1 when Valkey answers.",
    "worker_age": "Seconds since worker and beat gave a sign of life.",
    "disk_free": "Free share of the disk that holds the installation's folder, 0 to 1.",
    "rolled_back": "Rollouts that were rolled back by themselves in the last 15 minutes.",
}
_MACHINE = [(kept, _TEXTS[kept.name]) for kept in KEPT if kept.source == Source.MACHINE]


def _told_by(source: Source, ask: Callable[[], str]) -> Numbers:
    up = f"up_{source}"
    try:
        return {up: 1.0, **parsed(ask(), source)}
    except (requests.RequestException, InferenceUnavailable, ValueError, LookupError) as error:
        logger.debug("no metrics of %s: %s", source, type(error).__name__)
        return {up: 0.0}


def _of_rollouts() -> Iterator[Metric]:
    """Counted where they are kept, so that they agree with the audit, whichever process ended one."""
    try:
        ended = ended_by_state()
    except db.Error:
        return
    family = CounterMetricFamily("custos_rollouts_ended", "Rollouts that ended, by how.", labels=["outcome"])
    for outcome, count in sorted(ended.items()):
        family.add_metric([outcome], count)
    yield family


def _of_machine() -> Numbers:
    disk = shutil.disk_usage(settings.VAR_DIR)
    found: Numbers = {"disk_free": disk.free / disk.total, "up_valkey": 1.0}
    with suppress(db.Error):
        found["rolled_back"] = float(rolled_back_lately())
    try:
        beat = cache.get(HEARTBEAT_KEY)
    except VALKEY_ERRORS:
        return {**found, "up_valkey": 0.0}
    found["worker_age"] = NEVER_S if beat is None else max(0.0, time.time() - beat)
    return found


def names(numbers: Iterable[str]) -> list[str]:
    """In the order in which places are given: as in the catalogue, buckets by bound."""
    order = {kept.name: number for number, kept in enumerate(KEPT)}

    def key(name: str) -> tuple[int, float]:
        kept, _, bound = name.partition(":")
        return order[kept], float(bound.replace("+Inf", "inf") or 0)

    return sorted(numbers, key=key)
