"""Looks and words of rollouts, and what the comparison of the two says."""

from dataclasses import dataclass
from typing import NamedTuple

from django.utils.formats import number_format
from django.utils.functional import Promise
from django.utils.translation import gettext as _t
from django.utils.translation import gettext_lazy as _
from django.utils.translation import ngettext, pgettext, pgettext_lazy

from console.pages.labels import State
from inference.rollouts import models
from inference.rollouts.models import Rollout
from inference.rollouts.selectors import FIRST, Side, Standing
from inference.rollouts.sequential import Comparison, Share
from inference.rollouts.words import reason_in_words

FRAME = "rollouts/base.html"

STATES: dict[str, State] = {
    models.State.SHADOW: State("busy", "s-off", models.State.SHADOW.label),
    models.State.SHARE: State("busy", "s-busy", models.State.SHARE.label),
    models.State.PROMOTED: State("ok", "s-ok", models.State.PROMOTED.label),
    models.State.ROLLED_BACK: State("bad", "s-bad", models.State.ROLLED_BACK.label),
    models.State.UNDECIDED: State("", "s-stop", models.State.UNDECIDED.label),
}


class Turn(NamedTuple):
    """What can be done with a rollout. The words have places for %(candidate)s and %(baseline)s."""

    title: str | Promise
    text: str | Promise
    button: str | Promise
    done: str | Promise
    is_danger: bool = False


TURNS: dict[str, Turn] = {
    "share": Turn(
        _("How many of a hundred requests is %(candidate)s to answer?"),
        _("The same conversations and programs stay with it. What it fails to begin, the baseline answers."),
        pgettext_lazy("a rollout", "Set its share"),
        _("The share is in force within seconds."),
    ),
    "promote": Turn(
        _("Let %(candidate)s answer everything?"),
        _("In every workspace the routes that lead to %(baseline)s lead to it. One click takes that back."),
        pgettext_lazy("a rollout", "Promote"),
        _("The routes lead to the candidate."),
    ),
    "back": Turn(
        _("Let %(baseline)s answer everything?"),
        _("%(candidate)s gets no more requests. Answers that are under way end undisturbed."),
        pgettext_lazy("a rollout", "Roll back"),
        _("The baseline answers everything again within seconds."),
        is_danger=True,
    ),
    "undo": Turn(
        _("Take the promotion of %(candidate)s back?"),
        _("In every workspace the routes that lead to it lead to %(baseline)s again."),
        pgettext_lazy("a rollout", "Take back"),
        _("The routes lead to the baseline again."),
        is_danger=True,
    ),
}

CRITERIA: dict[str, str | Promise] = {
    "errors": _("Requests that failed"),
    "slow_start": _("Answers that began late"),
    "slow_tokens": _("Answers that came slowly"),
}
NO_WORSE = State("ok", "s-ok", pgettext_lazy("what a test says", "No worse"))
WORSE = State("bad", "s-bad", pgettext_lazy("what a test says", "Worse"))
OPEN = State("", "s-time", pgettext_lazy("what a test says", "Not known yet"))


@dataclass(frozen=True)
class Row:
    """One criterion: both shares with what they may truly be, and what that means."""

    label: str
    limit: str
    baseline: str
    candidate: str
    look: State
    sentence: str


def rows(rollout: Rollout, standing: Standing) -> list[Row]:
    return [_row(rollout, name, standing.comparisons.get(name)) for name in CRITERIA]


def _row(rollout: Rollout, name: str, found: Comparison | None) -> Row:
    label, limit = str(CRITERIA[name]), _limit(rollout, name)
    if found is None:
        sentence = ngettext(
            "What is slow is told by the baseline’s first %(count)d answer.",
            "What is slow is told by the baseline’s first %(count)d answers.",
            FIRST,
        )
        return Row(label, limit, "–", "–", OPEN, sentence % {"count": FIRST})
    look, sentence = _meaning(found)
    return Row(
        label, limit, _interval(found.baseline, found), _interval(found.candidate, found), look, sentence
    )


def _limit(rollout: Rollout, name: str) -> str:
    """What counts as slow."""
    value = {"slow_start": rollout.slow_ttft_ms, "slow_tokens": rollout.slow_itl_ms}.get(name)
    if value is None:
        return ""
    return _t("slower than %(time)s") % {"time": milliseconds(value)}


def _meaning(found: Comparison) -> tuple[State, str]:
    rise = percent(found.rise)
    if found.is_worse:
        sentence = _t("At least %(least)s of requests more than with the baseline; %(rise)s are allowed.")
        return WORSE, sentence % {"least": percent(found.least_difference), "rise": rise}
    if found.is_no_worse:
        sentence = _t("At most %(most)s of requests more than with the baseline; %(rise)s are allowed.")
        return NO_WORSE, sentence % {"most": percent(max(found.most_difference, 0.0)), "rise": rise}
    sentence = _t("Between %(least)s and %(most)s; more than %(rise)s would be too much.")
    return OPEN, sentence % {
        "least": percent(found.least_difference),
        "most": percent(found.most_difference),
        "rise": rise,
    }


def _interval(share: Share, found: Comparison) -> str:
    if share.value is None:
        return "–"
    low, high = share.bounds(found.alpha / 2)
    return _t("%(value)s (%(low)s to %(high)s)") % {
        "value": percent(share.value),
        "low": percent(low),
        "high": percent(high),
    }


def summary(rollout: Rollout) -> str:
    """Where the rollout stands, in a sentence."""
    if not rollout.is_open:
        last = rollout.steps.order_by("-pk").first()
        return reason_in_words(last.reason) if last else ""
    if rollout.state == models.State.SHADOW:
        words = _t(
            "%(candidate)s gets a copy of %(percent)s %% of requests. Its answers are recorded and shown to nobody."
        )
    else:
        words = _t("%(candidate)s answers %(percent)s %% of conversations and programs.")
    return words % {"candidate": rollout.candidate.name, "percent": rollout.percent}


def sides(rollout: Rollout, standing: Standing) -> list[tuple[str, str, Side, str, str]]:
    """(what it is, its name, figures, median of the first token, median between tokens)"""
    return [
        (label, deployment.name, side, milliseconds(side.ttft_ms), milliseconds(side.itl_ms))
        for label, deployment, side in (
            (pgettext("of a rollout", "Baseline"), rollout.baseline, standing.baseline),
            (pgettext("of a rollout", "Candidate"), rollout.candidate, standing.candidate),
        )
    ]


def milliseconds(value: float | None) -> str:
    if value is None:
        return "–"
    digits = 0 if value >= 100 else 1
    return f"{number_format(value, digits, force_grouping=True)} ms"


def percent(share: float) -> str:
    return f"{number_format(100 * share, 1)} %"


def told(figures: dict[str, dict[str, float | None]]) -> str:
    """The figures of a step, as `Standing.told` keeps them."""
    both = [
        _t("%(failed)s of %(requests)s failed") % {"failed": side["failed"], "requests": side["requests"]}
        for side in (figures.get("baseline"), figures.get("candidate"))
        if side
    ]
    if len(both) < 2:
        return ""
    return _t("Baseline: %(baseline)s; candidate: %(candidate)s.") % {
        "baseline": both[0],
        "candidate": both[1],
    }
