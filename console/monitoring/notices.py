"""Telling of alerts: written down with the alert in one transaction, sent afterwards, and again if it was not taken."""

import logging
from datetime import datetime, timedelta
from typing import Any

from django.conf import settings
from django.core.mail import EmailMessage
from django.db import transaction
from django.db.models import Q
from django.template.loader import render_to_string
from django.utils import translation
from django.utils.translation import gettext as _

from console.mail import MAIL_ERRORS, is_delivering
from console.monitoring import evaluation, webhooks
from console.monitoring.catalogue import SERIES_BY_NAME
from console.monitoring.models import Alert, Channel, Notice, Severity
from tenants import clock

logger = logging.getLogger(__name__)

# Waits before the next attempt; after the last it is given up, and the page says so.
BACK_OFF = tuple(timedelta(seconds=s) for s in (10, 30, 120, 600, 1800, 3600, 7200, 14400))
A_TURN = 20
KEPT_TESTS = 100


def tell(alert: Alert, event: str) -> None:
    """Write down that the channels are to be told. Inside the transaction of the alert's change."""
    for channel in Channel.objects.filter(enabled=True, removed=None):
        if channel.least == Severity.CRITICAL and alert.severity != Severity.CRITICAL:
            continue
        Notice.objects.create(channel=channel, alert=alert, event=event, body=_body(alert, event))


def try_out(channel: Channel) -> Notice:
    """A notice that says only that it is a test."""
    body = {"version": 1, "event": Notice.Event.TEST, "installation": settings.AUDIT_LOG_NAME, "alert": None}
    return Notice.objects.create(channel=channel, event=Notice.Event.TEST, body=body)


def deliver() -> int:
    """Send what is due; how many were taken. Nothing is locked and no transaction is open while somebody answers."""
    taken = 0
    for notice in _claimed(clock.now()):
        error = _send(notice)
        row = Notice.objects.filter(pk=notice.pk)
        if error is None:
            row.update(delivered=clock.now(), next_attempt=None, error="")
            taken += 1
        elif notice.attempts > len(BACK_OFF):
            row.update(next_attempt=None, error=error)
            logger.error("a notice was given up after %d attempts: %s", notice.attempts, error)
        else:
            row.update(error=error)
    return taken


def prune() -> None:
    """Alerts that are no longer kept, with their notices; and old tests."""
    evaluation.prune()
    tests = Notice.objects.filter(event=Notice.Event.TEST).order_by("-pk")
    oldest = tests.values_list("pk", flat=True)[KEPT_TESTS : KEPT_TESTS + 1].first()
    if oldest is not None:
        Notice.objects.filter(event=Notice.Event.TEST, pk__lte=oldest).delete()


@transaction.atomic
def _claimed(now: datetime) -> list[Notice]:
    """What is due, its next attempt already set: if this process dies meanwhile, it is sent again."""
    # Set by a clock that was ahead: not later than the longest wait from now.
    due = Q(next_attempt__lte=now) | Q(next_attempt__gt=now + BACK_OFF[-1])
    waiting = Notice.objects.select_for_update(skip_locked=True, of=("self",)).select_related("channel")
    found = list(waiting.filter(due).order_by("pk")[:A_TURN])
    for notice in found:
        wait = BACK_OFF[min(notice.attempts, len(BACK_OFF) - 1)]
        notice.attempts += 1
        notice.next_attempt = now + wait
        notice.save(update_fields=["attempts", "next_attempt"])
    return found


def _send(notice: Notice) -> str | None:
    """None when it was taken, else why not."""
    channel = notice.channel
    if channel.removed or not channel.enabled:
        return "the channel is off"
    try:
        if channel.kind == Channel.Kind.WEBHOOK:
            secret = webhooks.secret_of(channel.pk)
            webhooks.post(channel.target, secret=secret, notice_id=notice.pk, body=notice.body)
        else:
            mail(notice).send()
            if not is_delivering():
                return "no mail server is set (CUSTOS_EMAIL_URL)"
    except webhooks.NotSent as error:
        return str(error)
    except MAIL_ERRORS as error:
        return f"not mailed ({type(error).__name__})"
    return None


def mail(notice: Notice) -> EmailMessage:
    """The notice as text, in every language of the product."""
    subjects, texts = [], []
    context = {**notice.body, "link": _link()}
    for language, _name in settings.LANGUAGES:
        with translation.override(language):
            told = notice.body["alert"]
            words = {
                Notice.Event.FIRING: _("Alert: %(rule)s"),
                Notice.Event.RESOLVED: _("Over: %(rule)s"),
                Notice.Event.TEST: _("A test of alerts"),
            }[Notice.Event(notice.event)]
            subjects.append(words % {"rule": told["rule"]} if told else words)
            if told:
                context["label"] = str(SERIES_BY_NAME[told["series"]].label)
                context["severity"] = str(Severity(told["severity"]).label)
            texts.append(render_to_string("mail/alert.txt", context).strip())
    return EmailMessage(
        subject="[Custos] " + " · ".join(dict.fromkeys(subjects)),
        body=f"\n\n{'-' * 60}\n\n".join(texts) + "\n",
        to=addresses(notice.channel.target),
    )


def addresses(target: str) -> list[str]:
    """The e-mail addresses of a channel, as they are written with commas between them."""
    return [word.strip() for word in target.split(",") if word.strip()]


def _link() -> str:
    origin = next(iter(settings.CSRF_TRUSTED_ORIGINS), "")
    return f"{origin}/platform/alerts/" if origin else ""


def _body(alert: Alert, event: str) -> dict[str, Any]:
    rule = alert.rule
    return {
        "version": 1,
        "event": event,
        "installation": settings.AUDIT_LOG_NAME,
        "alert": {
            "id": str(alert.pk),
            "rule": rule.name,
            "series": rule.series,
            "unit": SERIES_BY_NAME[rule.series].unit,
            "severity": alert.severity,
            "value": alert.value,
            "worst": alert.worst,
            "comparison": rule.comparison,
            "threshold": rule.threshold,
            "began": alert.began.isoformat(),
            "fired": alert.fired.isoformat() if alert.fired else None,
            "resolved": alert.resolved.isoformat() if alert.resolved else None,
        },
    }
