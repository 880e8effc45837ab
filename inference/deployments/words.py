"""Why an instance failed and why a deployment has none, in words that say what to do next."""

from __future__ import annotations

from django.utils.functional import Promise
from django.utils.translation import gettext_lazy as _

FAILURES: dict[str, str | Promise] = {
    "ended": _("The process ended by itself: %(detail)s."),
    "load": _("The model could not be loaded: %(detail)s"),
    "engine": _("The model stopped working: %(detail)s"),
    "slow": _("It was not ready after %(detail)s minutes, so it was ended."),
    "hung": _("It did not answer for %(detail)s seconds, so it was ended."),
    "not_started": _("The process could not be started: %(detail)s."),
    "left": _("It ended together with the process that looks after it."),
}
TROUBLES: dict[str, str | Promise] = {
    "memory": _(
        "There is no room for another instance: one needs about %(needed)s MB, and of %(budget)s MB for models %(free)s MB "
        "are free. Stop another deployment, choose a smaller precision or less memory for context, or raise "
        "CUSTOS_INFERENCE_MEMORY_MB."
    ),
    "failing": _(
        "Its instances failed %(detail)s times in a row. The log says why; mend that, then restart the deployment. Until "
        "then it is tried again every five minutes."
    ),
    "stage": _("Its version is neither staged nor in production, so it is not started."),
    "key": _("The key of the upstream cannot be opened any more. Enter it again."),
}


def failure(code: str, detail: str) -> str:
    """The sentence of an instance's failure; "" for none."""
    return _sentence(FAILURES, code, detail)


def trouble(code: str, detail: str) -> str:
    """The sentence of a deployment's trouble; "" for none."""
    return _sentence(TROUBLES, code, detail)


def _sentence(sentences: dict[str, str | Promise], code: str, detail: str) -> str:
    if not code:
        return ""
    needed, _slash, rest = detail.partition("/")
    free, _slash, budget = rest.partition("/")
    places = {"detail": detail, "needed": needed, "free": free, "budget": budget}
    return str(sentences[code]) % places if code in sentences else code
