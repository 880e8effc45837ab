"""Figures of the monitoring in their units."""

from datetime import UTC, datetime

from django import template
from django.template.defaultfilters import filesizeformat, floatformat
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _

from console.monitoring import rules
from console.monitoring.catalogue import Unit
from console.templatetags.custos import moment

register = template.Library()


@register.simple_tag
def firing_alerts() -> int:
    """How many alerts fire that nobody looks after."""
    return rules.firing()


@register.filter
def quantity(value: float | None, unit: str) -> str:
    """A figure of a series with its unit; a dash where there is none."""
    if value is None:
        return "–"
    match unit:
        case Unit.SHARE:
            return f"{floatformat(100 * value, '-1g')} %"
        case Unit.SECONDS:
            return f"{floatformat(1000 * value, '-1g')} ms" if value < 1 else f"{floatformat(value, '-2g')} s"
        case Unit.BYTES:
            return str(filesizeformat(value))
        case Unit.PER_SECOND:
            return f"{floatformat(value, '-2g')}/s"
        case Unit.STATE:
            return _("yes") if value >= 1 else _("no")
    return floatformat(value, "-2g")


@register.filter
def at(seconds: float) -> SafeString:
    """A time in seconds since 1970."""
    return moment(datetime.fromtimestamp(seconds, UTC))
