"""The same series from a Prometheus that scrapes this installation with the jobs of deploy/prometheus."""

import math
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime

import requests

from console.monitoring.catalogue import KEPT_BY_NAME, SERIES_BY_NAME, Fold, Kept, Kind, Series, Source
from console.monitoring.reading import Points, Unreachable, Value

PATIENCE_S = 5.0
AT_ONCE = 8
# Scraped every 15 s: a rate needs several samples.
SHORTEST_S = 60

_JOBS = {Source.WEB: "custos", Source.INFERENCE: "custos-inference", Source.MACHINE: "custos"}
_OVER_TIME = {Fold.MEAN: "avg_over_time", Fold.MOST: "max_over_time", Fold.LEAST: "min_over_time"}


class Prometheus:
    name = "Prometheus"

    def __init__(self, url: str) -> None:
        self._url = url

    def points(self, names: Sequence[str], *, since: datetime, until: datetime, step_s: int) -> Points:
        first = math.floor(since.timestamp() / step_s) * step_s
        times = [float(start) for start in range(first, math.ceil(until.timestamp()), step_s)]
        with requests.Session() as session, ThreadPoolExecutor(AT_ONCE) as together:

            def ask(name: str) -> list[Value]:
                return self._ask(session, SERIES_BY_NAME[name], times, step_s)

            return Points(times, dict(zip(names, together.map(ask, names), strict=True)))

    def _ask(self, session: requests.Session, series: Series, times: list[float], step_s: int) -> list[Value]:
        """A step's value is what Prometheus says at its end of the span since its begin."""
        query = promql(series, window_s=max(step_s, SHORTEST_S))
        asked: dict[str, str | float] = {
            "query": query,
            "start": times[0] + step_s,
            "end": times[-1] + step_s,
            "step": step_s,
        }
        try:
            answer = session.post(
                f"{self._url}/api/v1/query_range", data=asked, timeout=PATIENCE_S, allow_redirects=False
            )
            result = answer.json()["data"]["result"]
            found = {float(time): float(value) for time, value in (result[0]["values"] if result else [])}
        except (requests.RequestException, ValueError, KeyError, TypeError, IndexError) as error:
            raise Unreachable(type(error).__name__) from error
        values = (found.get(start + step_s) for start in times)
        return [None if value is None or math.isnan(value) else value for value in values]


def promql(series: Series, *, window_s: int) -> str:
    """The series as Prometheus is asked for it."""
    kept = [KEPT_BY_NAME[name] for name in series.of]
    match series.kind:
        case Kind.VALUE:
            first = kept[0]
            return f"{_across(first)}({_OVER_TIME[first.fold]}({selector(first)}[{window_s}s]))"
        case Kind.RATE:
            return f"sum(rate({selector(kept[0])}[{window_s}s]))"
        case Kind.ADDED:
            return f"sum(increase({selector(kept[0])}[{window_s}s]))"
        case Kind.SHARE:
            part, whole = (f"sum(increase({selector(each)}[{window_s}s]))" for each in kept)
            # "or": a status that never was has no series. A whole of nothing is no share at all.
            return f"({part} or vector(0)) / ({whole} > 0)"
        case Kind.PERCENTILE:
            buckets = f"sum by (le) (rate({selector(kept[0])}[{window_s}s]))"
            return f"histogram_quantile({series.q}, {buckets})"


def _across(kept: Kept) -> str:
    """How several processes' values become one: of the machine, every web process tells the same."""
    if kept.fold == Fold.LEAST:
        return "min"
    return "max" if kept.source == Source.MACHINE else "sum"


def selector(kept: Kept) -> str:
    labels = [f'job="{_JOBS[kept.source]}"']
    labels += [f'{label}=~"{"|".join(values)}"' for label, values in kept.labels.items()]
    name = f"{kept.metric}_bucket" if kept.is_histogram else kept.metric
    return f"{name}{{{', '.join(labels)}}}"
