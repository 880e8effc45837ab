"""What the chat refuses, in words for the person who asked."""

from __future__ import annotations

from django.utils.functional import Promise
from django.utils.translation import gettext_lazy as _


class ChatError(Exception):
    """Something that cannot be done. `code` is stable; `message` is translated where it is shown."""

    def __init__(self, code: str, message: str | Promise) -> None:
        super().__init__(code)
        self.code = code
        self.message = message


def conversation_busy() -> ChatError:
    return ChatError(
        "conversation_busy", _("An answer is still being written here. Wait for it, or stop it first.")
    )


def too_many_answers() -> ChatError:
    return ChatError(
        "too_many_answers", _("Too many answers are being written for you. Wait for one, or stop one first.")
    )


def not_found() -> ChatError:
    return ChatError("not_found", _("This conversation is not there any more. Start a new one."))


def route_not_found() -> ChatError:
    return ChatError("route_not_found", _("This model cannot be used. Choose another one."))


def knowledge_not_found() -> ChatError:
    return ChatError(
        "knowledge_not_found",
        _(
            "A knowledge base of this question cannot be asked any more. Choose others, or ask without documents."
        ),
    )


def title_empty() -> ChatError:
    return ChatError("title_empty", _("Write a title first."))


def too_many_followed() -> ChatError:
    return ChatError("too_many_followed", _("Too many answers are open in this tab. Close some first."))
