"""Limits and refusals in words for the person who asked."""

from __future__ import annotations

from django.utils.formats import number_format
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from tenants.quotas.counters import Standing
from tenants.quotas.errors import QuotaExceeded
from tenants.quotas.models import Metric, SubjectKind
from tenants.quotas.rules import Rule


def amount(metric: Metric, value: int) -> str:
    """A limit as a figure with its unit."""
    words = {
        Metric.REQUESTS_PER_MINUTE: _("%(value)s requests per minute"),
        Metric.TOKENS_PER_MINUTE: _("%(value)s tokens per minute"),
        Metric.TOKENS_PER_DAY: _("%(value)s tokens per day"),
        Metric.TOKENS_PER_MONTH: _("%(value)s tokens per month"),
        Metric.CONCURRENT_STREAMS: _("%(value)s answers at a time"),
        Metric.STORAGE_BYTES: _("%(value)s bytes of storage"),
    }
    return words[metric] % {"value": number_format(value, use_l10n=True, force_grouping=True)}


def subject(rule: Rule) -> str:
    """Whose limit it is, to the person whom it binds."""
    words = {
        SubjectKind.TENANT: _("your workspace"),
        SubjectKind.GROUP: _("the group “%(name)s”") % {"name": rule.name},
        SubjectKind.MEMBER: _("you"),
        SubjectKind.KEY: _("this API key"),
    }
    return words[rule.kind]


def refusal(error: QuotaExceeded) -> str:
    """Which limit has no room, and when to try again."""
    standing = error.standing
    known = {"limit": amount(standing.rule.metric, standing.rule.value), "subject": subject(standing.rule)}
    if error.retry_after is None:
        words = _(
            "This may need more than the whole limit of %(limit)s for %(subject)s. "
            "Ask your administrator for more; a program can ask for a shorter answer."
        )
        return words % known
    if standing.remaining > 0:
        words = _("This may need more than is left of %(limit)s for %(subject)s. Try again in %(wait)s.")
    else:
        words = _("The limit of %(limit)s for %(subject)s is reached. Try again in %(wait)s.")
    return words % {**known, "wait": duration(error.retry_after)}


def warning(standing: Standing) -> str:
    """That a limit is nearly or quite used up."""
    rule = standing.rule
    known = {
        "limit": amount(rule.metric, rule.value),
        "subject": subject(rule),
        "percent": standing.percent,
    }
    if not standing.remaining:
        return _("The limit of %(limit)s for %(subject)s is used up.") % known
    return _("%(percent)s%% of the limit of %(limit)s for %(subject)s is used.") % known


def duration(seconds: int) -> str:
    """Rounded up to seconds, minutes, hours or days, whichever is coarse enough to be read at a glance."""
    minutes, hours, days = -(-seconds // 60), -(-seconds // 3600), -(-seconds // 86_400)
    if seconds < 120:
        return ngettext("%(count)d second", "%(count)d seconds", seconds) % {"count": seconds}
    if minutes < 120:
        return ngettext("%(count)d minute", "%(count)d minutes", minutes) % {"count": minutes}
    if hours < 48:
        return ngettext("%(count)d hour", "%(count)d hours", hours) % {"count": hours}
    return ngettext("%(count)d day", "%(count)d days", days) % {"count": days}
