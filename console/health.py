"""Whether each part of the product works, for `/readyz`, the platform page and the doctor."""

import time
from collections.abc import Callable
from typing import Any, TypedDict

from asgiref.sync import async_to_sync
from django.conf import settings
from django.core.cache import cache
from django.db import connection
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from console.tasks import HEARTBEAT_KEY
from inference.client import InferenceClient
from tenants import isolation

HEARTBEAT_LATE_S = 20.0

INFERENCE_STATES = {
    "loading": gettext_lazy("loading the model"),
    "ready": gettext_lazy("ready"),
    "failed": gettext_lazy("the model could not be loaded"),
}


class Part(TypedDict):
    ok: bool
    detail: str


def parts() -> dict[str, Part]:
    """Every part by name: ok, and in a few words what it is doing or what is wrong. Never raises."""
    checks: dict[str, Callable[[], Part]] = {
        "database": _database,
        "valkey": _valkey,
        "inference": _inference,
        "worker": _worker,
    }
    return {name: _guarded(check) for name, check in checks.items()}


def inference_client() -> InferenceClient:
    """The inference service that this installation runs."""
    return InferenceClient(settings.INFERENCE_URL, settings.INFERENCE_TOKEN)


def inference() -> dict[str, Any]:
    """Its own figures: state, model, running, waiting, capacity. Raises InferenceUnavailable."""
    return async_to_sync(inference_client().health)()


def inference_state(state: str) -> str:
    """A state of the inference service in the reader's language."""
    return str(INFERENCE_STATES.get(state, state))


def _guarded(check: Callable[[], Part]) -> Part:
    try:
        return check()
    except Exception as error:  # whatever is wrong with the part is the answer
        return Part(ok=False, detail=_("not reachable (%(error)s)") % {"error": type(error).__name__})


def _database() -> Part:
    found = isolation.violations(connection)
    return Part(ok=not found, detail="; ".join(found) or _("tenant isolation holds"))


def _valkey() -> Part:
    cache.set("ready", "1", timeout=10)
    return Part(ok=cache.get("ready") == "1", detail=_("answers"))


def _inference() -> Part:
    figures = inference()
    state = figures["state"]
    detail = f"{inference_state(state)}: {figures.get('model') or ''}".strip(": ")
    return Part(ok=state == "ready", detail=detail)


def _worker() -> Part:
    beat = cache.get(HEARTBEAT_KEY)
    if beat is None:
        return Part(ok=False, detail=_("no sign of life yet"))
    age = time.time() - beat
    if age > HEARTBEAT_LATE_S:
        return Part(ok=False, detail=_("last sign of life %(seconds)d s ago") % {"seconds": age})
    return Part(ok=True, detail=_("worker and beat are alive"))
