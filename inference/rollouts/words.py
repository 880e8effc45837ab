"""Why something was done with a rollout, in words. A reason that is none of these codes was written by a person."""

from django.utils.functional import Promise
from django.utils.translation import gettext_lazy as _

REASONS: dict[str, str | Promise] = {
    "begun": _("Begun"),
    "errors": _("Too many of the candidate’s requests failed"),
    "in_a_row": _("Too many of the candidate’s requests failed one after the other"),
    "slow_start": _("Too many of the candidate’s answers began late"),
    "slow_tokens": _("Too many of the candidate’s answers came slowly"),
    "gone": _("No instance of the candidate is ready"),
    "no_worse": _("The candidate is shown not to be worse by more than it may"),
    "time": _("The time was over before the two could be told apart"),
}


def reason_in_words(reason: str) -> str:
    return str(REASONS.get(reason, reason))
