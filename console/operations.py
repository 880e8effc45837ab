"""Endpoints for operators and their tools: liveness, readiness, metrics."""

import hmac
import os

import prometheus_client
from asgiref.sync import async_to_sync
from django.conf import settings
from django.http import Http404, HttpRequest, HttpResponse, JsonResponse
from django.views.decorators.http import require_safe
from prometheus_client import multiprocess

from console import health
from console.monitoring import sources
from inference.client import InferenceUnavailable


@require_safe
def healthz(request: HttpRequest) -> HttpResponse:
    """The process is alive."""
    return HttpResponse("ok\n", content_type="text/plain")


@require_safe
def readyz(request: HttpRequest) -> HttpResponse:
    """Whether all parts work: 200 or 503, with JSON by part, open to load balancers: it tells nothing of a tenant."""
    parts = health.parts()
    ready = all(part["ok"] for part in parts.values())
    response = JsonResponse({"ready": ready, "parts": parts}, status=200 if ready else 503)
    response._has_been_logged = True  # type: ignore[attr-defined]  # Django would log an error at every question while starting
    return response


@require_safe
def metrics(request: HttpRequest) -> HttpResponse:
    """Prometheus metrics of all web and worker processes, and of the machine."""
    _require_operator(request)
    return HttpResponse(
        prometheus_client.generate_latest(_registry()), content_type=prometheus_client.CONTENT_TYPE_LATEST
    )


@require_safe
def inference_metrics(request: HttpRequest) -> HttpResponse:
    """Prometheus metrics of the inference process, passed on."""
    _require_operator(request)
    try:
        text = async_to_sync(health.inference_client().metrics_text)()
    except InferenceUnavailable:
        return HttpResponse("the inference process does not answer\n", status=503, content_type="text/plain")
    return HttpResponse(text, content_type=prometheus_client.CONTENT_TYPE_LATEST)


def _registry() -> prometheus_client.CollectorRegistry:
    registry = prometheus_client.CollectorRegistry()
    registry.register(sources.Machine())
    if "PROMETHEUS_MULTIPROC_DIR" in os.environ:
        multiprocess.MultiProcessCollector(registry)
        # Of the process that answers: it is no sum over processes.
        prometheus_client.ProcessCollector(registry=registry)
    else:
        registry.register(prometheus_client.REGISTRY)
    return registry


def _require_operator(request: HttpRequest) -> None:
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    if scheme == "Bearer" and hmac.compare_digest(token.encode(), settings.METRICS_TOKEN.encode()):
        return
    if request.user.is_authenticated and request.user.is_platform_administrator:
        return
    raise Http404
