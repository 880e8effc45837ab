"""The dashboard: every process, and what they do, over the last minutes to 30 days."""

from dataclasses import dataclass
from datetime import timedelta
from typing import Any, NamedTuple

from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import render
from django.utils.functional import Promise
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from django.views.decorators.http import require_safe

from console import health
from console.monitoring import reading, rules
from console.monitoring.catalogue import SERIES_BY_NAME, Unit
from console.monitoring.models import SamplerState
from console.pages.platform import part_label
from console.tenancy import platform_view
from tenants import clock

# Without a sample for so long the figures are told to be old.
LATE = timedelta(seconds=30)


class Window(NamedTuple):
    """every_s: how often the page asks anew."""

    code: str
    span: timedelta
    step_s: int
    every_s: int
    label: str | Promise


WINDOWS = (
    Window("15m", timedelta(minutes=15), 15, 5, gettext_lazy("15 min")),
    Window("1h", timedelta(hours=1), 60, 5, gettext_lazy("1 hour")),
    Window("6h", timedelta(hours=6), 300, 15, gettext_lazy("6 hours")),
    Window("24h", timedelta(hours=24), 900, 60, gettext_lazy("24 hours")),
    Window("7d", timedelta(days=7), 7200, 300, gettext_lazy("7 days")),
    Window("30d", timedelta(days=30), 28800, 300, gettext_lazy("30 days")),
)
DEFAULT = WINDOWS[1]


@dataclass(frozen=True)
class Chart:
    name: str
    label: str | Promise
    series: tuple[str, ...]

    @property
    def unit(self) -> Unit:
        return SERIES_BY_NAME[self.series[0]].unit

    @property
    def headings(self) -> list[str]:
        return [str(SERIES_BY_NAME[name].label) for name in self.series]


CHARTS = (
    Chart("requests", gettext_lazy("Requests"), ("requests",)),
    Chart("errors", gettext_lazy("Error rate"), ("error_rate",)),
    Chart("ttft", gettext_lazy("Time to first token"), ("ttft_p50", "ttft_p95", "ttft_p99")),
    Chart("itl", gettext_lazy("Time between tokens"), ("itl_p50", "itl_p95", "itl_p99")),
    Chart("tokens", gettext_lazy("Throughput"), ("tokens", "tokens_read")),
    Chart("load", gettext_lazy("Queue"), ("running", "queue", "streaming")),
    Chart("cache", gettext_lazy("KV cache"), ("kv_use", "prefix_hits")),
    Chart("preemptions", gettext_lazy("Preemptions"), ("preemptions",)),
    Chart("memory", gettext_lazy("Memory"), ("memory_web", "memory_inference", "gpu_memory")),
    Chart("cpu", gettext_lazy("Processor"), ("cpu_web", "cpu_inference")),
    Chart("audit", gettext_lazy("Audit commits"), ("audit_append_p50", "audit_append_p95")),
    Chart("disk", gettext_lazy("Free disk"), ("disk_free",)),
)
CARDS = ("requests", "error_rate", "ttft_p95", "itl_p50", "tokens", "queue", "kv_use", "prefix_hits")


@require_safe
@platform_view
def page(request: HttpRequest) -> HttpResponse:
    window = _window(request)
    figures = _figures(window)
    context = {
        "title": _("Monitoring"),
        "window": window,
        "windows": WINDOWS,
        "figures": figures,
        "cards": [(SERIES_BY_NAME[name], figures["now"].get(name)) for name in CARDS],
        "charts": [(chart, _rows(chart, figures)) for chart in CHARTS],
        "shown": [
            {"name": each.name, "unit": each.unit, "series": each.series, "labels": each.headings}
            for each in CHARTS
        ],
    }
    return render(request, "monitoring/dashboard.html", context)


@require_safe
@platform_view
def data(request: HttpRequest) -> JsonResponse:
    """What the page shows, again: state, times and the values of every series, newest values, processes, alerts."""
    return JsonResponse(_figures(_window(request)))


def _window(request: HttpRequest) -> Window:
    """The window asked for by ?window=; the default for anything else."""
    return next((each for each in WINDOWS if each.code == request.GET.get("window")), DEFAULT)


def _figures(window: Window) -> dict[str, Any]:
    """state: "ok", "empty", "late" or "unreachable". `now`: of each card, the value of the whole window or the newest."""
    reader, until = reading.reader(), clock.now()
    names = list(dict.fromkeys([name for chart in CHARTS for name in chart.series]))
    try:
        points = reader.points(names, since=until - window.span, until=until, step_s=window.step_s)
    except reading.Unreachable:
        points = reading.Points([], {name: [] for name in names})
        state = "unreachable"
    else:
        state = _state(reader, points)
    return {
        "state": state,
        "source": str(reader.name),
        "step_s": window.step_s,
        "times": points.times,
        "values": points.values,
        "now": {name: _newest(points.values[name]) for name in CARDS},
        "parts": [{"name": name, "label": part_label(name), **part} for name, part in health.parts().items()],
        "firing": rules.firing(),
    }


def _state(reader: reading.Reader, points: reading.Points) -> str:
    if all(value is None for values in points.values.values() for value in values):
        return "empty"
    if isinstance(reader, reading.BuiltIn):
        newest = SamplerState.objects.values_list("at", flat=True).first()
        if newest is not None and clock.now() - newest > LATE:
            return "late"
    return "ok"


def _newest(values: list[float | None]) -> float | None:
    """Of the last steps: the very last has only begun."""
    return next((value for value in reversed(values[-3:]) if value is not None), None)


def _rows(chart: Chart, figures: dict[str, Any]) -> list[tuple[float, list[float | None]]]:
    """The table behind a chart, newest first."""
    columns = [figures["values"][name] for name in chart.series]
    rows = [(time, [column[number] for column in columns]) for number, time in enumerate(figures["times"])]
    return rows[::-1]
