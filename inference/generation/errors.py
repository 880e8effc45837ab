"""What can go wrong with a generation, and the words for the person who asked.

A generation carries an error *code*; `explain` turns it into a sentence in the reader's language. The same
codes are in the audit record's `error_code`, in the chat's frames and in the API's error bodies.
"""

from __future__ import annotations

from django.utils.translation import gettext as _

from tenants.quotas import wording
from tenants.quotas.errors import QuotaExceeded
from tenants.quotas.rules import PERIOD


class GenerationError(Exception):
    """Nothing was asked of the model. `code` is stable; `explained` is for people."""

    code = "internal_error"

    def explained(self) -> str:
        """One or two sentences for the user: what happened and what to do."""
        return explain(self.code)


class NotRecorded(GenerationError):
    """The audit record could not be written, so the request was not sent."""

    code = "audit_unavailable"


class StreamUnavailable(GenerationError):
    """Valkey does not answer, so an answer could be neither delivered nor stopped."""

    code = "stream_unavailable"


class ShuttingDown(GenerationError):
    """This process is about to end and starts nothing new."""

    code = "shutting_down"


class OverQuota(GenerationError):
    """A limit has no room. `code` is OpenAI's: a day's or month's tokens are a quota, all else a rate limit."""

    def __init__(self, refusal: QuotaExceeded) -> None:
        super().__init__(str(refusal))
        self.refusal = refusal
        self.code = "insufficient_quota" if refusal.metric in PERIOD else "rate_limit_exceeded"

    def explained(self) -> str:
        return wording.refusal(self.refusal)


class QuotaNotCounted(GenerationError):
    """What is left of the limits cannot be told, so nothing may be used."""

    code = "quota_unavailable"


def explain(code: str, fallback: str = "") -> str:
    """One or two sentences for the user: what happened and what to do. `fallback` is used for other codes."""
    words = {
        "audit_unavailable": _(
            "This could not be recorded, so it was not sent. Try again; "
            "if it persists, ask your administrator."
        ),
        "audit_lost": _(
            "The rest of this answer could not be recorded, so it was stopped here. Try again; "
            "if it persists, ask your administrator."
        ),
        "audit_not_closed": _(
            "The answer is complete and recorded, but its record could not be closed yet. "
            "It will be closed by itself; tell your administrator if this persists."
        ),
        "stream_unavailable": _(
            "Answers cannot be delivered right now. Try again in a moment; "
            "if it persists, ask your administrator."
        ),
        "quota_unavailable": _(
            "Your limits cannot be checked right now, so this was not sent. Try again in a moment; "
            "if it persists, ask your administrator."
        ),
        "shutting_down": _("The service is restarting. Ask again in a few seconds."),
        "inference_unavailable": _(
            "The model is not available right now. Try again in a minute; "
            "if it persists, ask your administrator."
        ),
        "inference_busy": _("The model is busy with other questions. Try again in a few seconds."),
        "inference_interrupted": _(
            "The model stopped in the middle of this answer. What is shown was recorded; ask again."
        ),
        "interrupted": _("This answer was cut off. What is shown was recorded; ask again."),
        "context_length_exceeded": _(
            "This conversation is too long for the model. Shorten the question or start a new conversation."
        ),
        "time_limit": _("This answer took too long and was stopped. Ask for something shorter."),
        "access_revoked": _("Your access was withdrawn, so the answer was stopped."),
        "internal_error": _("Something went wrong here. Try again; if it persists, ask your administrator."),
    }
    return words.get(code) or fallback or words["internal_error"]
