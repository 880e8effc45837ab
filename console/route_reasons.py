"""Why a deployment answered, for whoever asked: the words of an audit record's `route_reason` in their language."""

from __future__ import annotations

from collections.abc import Callable

from django.utils.translation import gettext as _
from django.utils.translation import pgettext

# By the word, or by what stands before its colon. How the route itself was found goes without saying.
_WORDS: dict[str, Callable[[str], str]] = {
    "repeated": lambda _rest: _("the model of the answer before"),
    "no_rule": lambda _rest: _("no rule of the model applied"),
    "rule": lambda rest: _("rule %(number)s of the model") % {"number": rest},
    "fast": lambda rest: _("the fast one, as asked") if rest else _("the fast one"),
    "precise": lambda rest: _("the precise one, as asked") if rest else _("the precise one"),
    "difficulty": lambda rest: _("difficulty %(figure)s") % {"figure": rest.replace("<", " < ")},
    "instead_of": lambda rest: _("instead of %(name)s, which was not available") % {"name": rest},
    "rollout": lambda _rest: _("a new version that is being tried"),
    "rollout_failed": lambda _rest: _("a new version that is being tried did not answer"),
    "not_in_documents": lambda _rest: _("no model was asked: the documents do not seem to have it"),
}


def in_words(reason: str) -> str:
    """A line such as "rule 1 of the model, the fast one, difficulty 0.18 < 0.4"; "" where there was nothing to choose."""
    found = []
    for word in reason.split():
        name, _colon, rest = word.partition(":")
        if name in _WORDS:
            found.append(_WORDS[name](rest))
    return pgettext("between parts of a list", ", ").join(found)


def class_of(reason: str) -> str:
    """ "fast", "precise", or "" where the route has no classes."""
    names = [word.partition(":")[0] for word in reason.split()]
    return next((name for name in names if name in ("fast", "precise")), "")
