"""Looks and words of deployments' codes."""

from typing import NamedTuple

from django.utils.functional import Promise
from django.utils.translation import gettext_lazy as _
from django.utils.translation import pgettext_lazy

from console.pages.labels import State
from inference.deployments import words
from inference.deployments.models import Instance

FRAME = "deployments/base.html"

STATES: dict[str, State] = {
    "ready": State("ok", "s-ok", pgettext_lazy("state of a deployment", "Ready")),
    "partly": State("warn", "s-warn", pgettext_lazy("state of a deployment", "Partly ready")),
    "starting": State("busy", "s-busy", pgettext_lazy("state of a deployment", "Starting")),
    "waiting": State("busy", "s-time", pgettext_lazy("state of a deployment", "Waits to be started")),
    "draining": State("busy", "s-time", pgettext_lazy("state of a deployment", "Draining")),
    "stopped": State("", "s-stop", pgettext_lazy("state of a deployment", "Stopped")),
    "asleep": State("", "s-off", pgettext_lazy("state of a deployment", "Loaded on demand")),
    "failing": State("bad", "s-bad", pgettext_lazy("state of a deployment", "Failing")),
    "away": State("bad", "s-off", pgettext_lazy("state of a deployment", "Does not answer")),
    "unknown": State("warn", "s-warn", pgettext_lazy("state of a deployment", "Not known")),
}
_LOOKS = {
    "starting": ("busy", "s-busy"),
    "loading": ("busy", "s-busy"),
    "ready": ("ok", "s-ok"),
    "away": ("bad", "s-off"),
    "draining": ("busy", "s-time"),
    "stopping": ("busy", "s-time"),
    "stopped": ("", "s-stop"),
    "failed": ("bad", "s-bad"),
}
INSTANCES: dict[str, State] = {str(state): State(*_LOOKS[state], state.label) for state in Instance.State}


class Turn(NamedTuple):
    """What can be done with a deployment. The words have a place for its %(name)s."""

    title: str | Promise
    text: str | Promise
    button: str | Promise
    done: str | Promise
    is_danger: bool = False


TURNS: dict[str, Turn] = {
    "start": Turn(
        _("Start %(name)s?"),
        _("Its instances are started, and requests go there again."),
        pgettext_lazy("a deployment", "Start"),
        _("It is being started."),
    ),
    "restart": Turn(
        _("Restart %(name)s?"),
        _(
            "New instances are started, and take over once they are ready; answers that are under way end undisturbed. "
            "Where memory is too short for both, nobody answers in between."
        ),
        pgettext_lazy("a deployment", "Restart"),
        _("It is being restarted."),
    ),
    "scale": Turn(
        _("How many instances of %(name)s?"),
        _("Each has the model in memory once more. What is too many drains first."),
        pgettext_lazy("a deployment", "Scale"),
        _("It is being scaled."),
    ),
    "drain": Turn(
        _("Drain %(name)s?"),
        _("It takes no new requests. Its instances end once the last answer has."),
        pgettext_lazy("a deployment", "Drain"),
        _("It drains, then stops."),
        is_danger=True,
    ),
    "stop": Turn(
        _("Stop %(name)s?"),
        _("It takes no new requests. Answers that are under way have half a minute, then its instances end."),
        pgettext_lazy("a deployment", "Stop"),
        _("It is being stopped."),
        is_danger=True,
    ),
}

failure = words.failure
trouble = words.trouble
