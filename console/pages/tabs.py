"""Tabs of a part of the product that has several pages: who may open which, and what the palette finds of them."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

from django.conf import settings
from django.http import HttpRequest
from django.urls import reverse
from django.utils import translation
from django.utils.functional import Promise

from tenants.actors import Actor


class Area(NamedTuple):
    """A page with a tab. permissions: one of these opens it. waiting: how many things wait there for the actor."""

    url_name: str
    label: str | Promise
    permissions: tuple[str, ...]
    waiting: Callable[[Actor], int] | None = None


class Tab(NamedTuple):
    url: str
    label: str
    current: bool
    waiting: int = 0


def open_to(actor: Actor, areas: Sequence[Area]) -> list[Area]:
    """Those the actor may open."""
    return [area for area in areas if any(actor.can(permission) for permission in area.permissions)]


def for_palette(actor: Actor, areas: Sequence[Area]) -> list[dict[str, str]]:
    """What the command palette finds: {"label", "also", "url"}. also: the same words in every language."""
    found = []
    for area in open_to(actor, areas):
        label, also = str(area.label), []
        for language, _name in settings.LANGUAGES:
            with translation.override(language):
                also.append(str(area.label))
        url = reverse(area.url_name, args=[actor.tenant_slug])
        found.append({"label": label, "also": " ".join(also), "url": url})
    return found


def tabs(request: HttpRequest, actor: Actor, areas: Sequence[Area]) -> list[Tab]:
    """The tabs for this person, the one that is open marked: that whose address is the longest part of this one."""
    urls = {area: reverse(area.url_name, args=[actor.tenant_slug]) for area in open_to(actor, areas)}
    here = max((url for url in urls.values() if request.path.startswith(url)), key=len, default="")
    return [
        Tab(url, str(area.label), url == here, area.waiting(actor) if area.waiting else 0)
        for area, url in urls.items()
    ]
