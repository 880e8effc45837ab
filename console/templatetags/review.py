"""How reviews are shown: severities, states, sources and deeds, each as shape and word."""

from django import template
from django.utils.safestring import SafeString

from audit.review.models import Deed, ReviewItem, Source
from console.pages.audit import review
from console.templatetags.custos import look

register = template.Library()


@register.simple_tag
def severity(name: str) -> SafeString:
    return look(review.SEVERITIES[name])


@register.simple_tag
def review_state(item: ReviewItem) -> SafeString:
    """Where an item stands; once it is closed, how it was decided."""
    return look(review.STATES[item.outcome if item.state == "closed" else item.state])


@register.simple_tag
def flag_source(name: str) -> str:
    return str(Source(name).label)


@register.simple_tag
def deed(name: str) -> str:
    return str(Deed(name).label)
