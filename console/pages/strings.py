"""The translated words that scripts show. `{name}` is filled in by the browser."""

from django.utils.functional import Promise
from django.utils.translation import gettext_lazy as _
from django.utils.translation import pgettext_lazy

SHARED: dict[str, str | Promise] = {
    "pages": _("Pages"),
    "conversations": _("Conversations"),
    "people": _("People"),
    "groups": _("Groups"),
    "palette_none": _("Nothing found for “{text}”"),
    "palette_found": _("{count} results"),
}

CHAT: dict[str, str | Promise] = {
    "you": _("You"),
    "assistant": _("Answer"),
    "waiting": _("Waiting for the first word"),
    "reasoning": _("Reasoning"),
    "reasoning_now": _("Reasoning…"),
    "copy": _("Copy answer"),
    "copy_code": _("Copy code"),
    "copied": _("Copied"),
    "copy_failed": _("Your browser did not allow copying. Select the text and copy it instead."),
    "regenerate": _("Answer again"),
    "try_again": _("Try again"),
    "earlier": _("Earlier answer"),
    "later": _("Later answer"),
    "version": _("Answer {number} of {count}"),
    "ttft": _("First token {value}"),
    "speed": _("{value} tokens/s"),
    "tokens": _("{count} tokens"),
    "code": _("Code"),
    "image": _("Image (not loaded): {name}"),
    "options": _("Options for “{title}”"),
    "rename": _("Rename"),
    "delete": _("Delete…"),
    "title_label": _("Title of the conversation"),
    "none_yet": _("Your conversations will be listed here."),
    "none_found": _("No conversation has this in its title."),
    "rename_failed": _("The title could not be saved. Check your connection and try again."),
    "delete_failed": _("The conversation could not be deleted. Check your connection and try again."),
    "online": _("Connected"),
    "connecting": _("Connecting…"),
    "offline": _("No connection. Trying again in {seconds} s"),
    "sign_in": _("Sign in"),
    "signed_out": _("You were signed out. Sign in again; what you wrote is kept."),
    "gone": _("You can no longer use this chat. Ask an administrator of your workspace."),
    "bytes_left": _("{count} bytes left"),
    "too_long": _("This is {over} bytes over the limit of {limit}. Shorten it, or send it in parts."),
    "not_sent": _("Not sent yet. It is sent as soon as the connection is back."),
    "announce_started": _("An answer is being written."),
    "announce_done": _("The answer is complete: {text}"),
    "announce_stopped": _("The answer was stopped."),
    "announce_failed": _("The answer did not complete."),
    "chosen": _("Why this one: {reason}"),
    "ask_precise": _("Ask the precise model"),
    "sources": _("From the documents"),
    "sources_nearest": _("The nearest passages"),
    "sources_none": _("Nothing in these documents comes near to this question."),
    "sources_as_of": _("As of {day}"),
    "page": _("p. {page}"),
    "superseded": _("No longer in force"),
    "open_source": _("Open in the document"),
    "passage": _("Passage {number}"),
    "unsupported": _("No passage was found that says this."),
    "without_documents": _("Ask without the documents"),
    "knowledge_none": _("No documents"),
    "knowledge_some": _("{count} knowledge bases"),
    "stopped": _("You stopped this answer. What was written until then is kept."),
    "interrupted": _(
        "The connection to the model was lost, so this answer is incomplete. Try again in a moment."
    ),
    "failed": _("The model could not answer. Nothing you wrote is lost. Try again."),
    "timed_out": _(
        "The answer took longer than allowed and was ended. Ask for something shorter, or try again."
    ),
    "refused": _("The model did not take this question. Change it, or try again later."),
    "length": _("The answer reached the longest length allowed here."),
}

OVERVIEW: dict[str, str | Promise] = {
    "live": _("Live"),
    "paused": _("Paused"),
    "stale": _("Not updating since {time}"),
    "requests": _("Requests"),
    "errors": _("Errors"),
    "p50": _("Median"),
    "p95": _("p95"),
    "tokens_per_s": _("Tokens/s"),
    "refused_note": _("{count} refused"),
    "ttft_p95_note": _("p95 {value}"),
    "tokens_note": _("{count} tokens written"),
    "none": _("None"),
}

PLATFORM: dict[str, str | Promise] = {
    "live": _("Live"),
    "paused": _("Paused"),
    "stale": _("Not updating since {time}"),
    "ok": _("Working"),
    "bad": _("Not working"),
}

PASSKEYS: dict[str, str | Promise] = {
    "unsupported": _("This browser is too old for passkeys. Update it, or sign in another way."),
    "insecure": _(
        "Passkeys need a real host name: open Custos as https://… or http://localhost, not by a number."
    ),
    "known": _("This device has a passkey for your account already."),
    "cancelled": _("No passkey was used. Try again, or sign in another way."),
    "failed": _("That did not work. Try again, or sign in another way."),
}

ADMINISTRATION: dict[str, str | Promise] = {
    "selected": _("{count} selected"),
    "copied": _("Copied"),
    "copy_failed": _("Your browser did not allow copying. Select the text and copy it instead."),
}

AUDIT: dict[str, str | Promise] = {
    "selected": _("{count} selected"),
    "copied": _("Copied"),
    "copy_failed": _("Your browser did not allow copying. Select the text and copy it instead."),
    "searching": _("Searching…"),
    "slow": _("Still searching. Fewer days, a person or a rarer word make it quicker."),
    "export_started": _(
        "The export is being recorded; the download begins by itself. Large ones take a while."
    ),
}

MODELS: dict[str, str | Promise] = {
    **{key: CHAT[key] for key in ("image", "code", "copy_code", "copied", "copy_failed")},
    "live": _("Live"),
    "paused": _("Paused"),
    "stale": _("Not updating since {time}"),
    "uploading": _("Sending {name}"),
    "upload_waiting": _("No connection. The upload goes on by itself once it is back."),
    "upload_failed": _("The upload broke off. Choose the same files again; it goes on where it was."),
    "upload_insecure": _("Browsers allow this only over https or on localhost. Open Custos there."),
}

KNOWLEDGE: dict[str, str | Promise] = {
    "live": _("Live"),
    "paused": _("Paused"),
    "stale": _("Not updating since {time}"),
    "sending": _("Sending: {percent} %"),
    "waits": pgettext_lazy("of a file to upload", "Waits"),
    "sent": _("Sent. It is read now."),
    "no_connection": _("No connection. The upload goes on by itself once it is back."),
    "broke_off": _("The upload broke off. Choose the file again."),
    "too_large": _("This file is larger than {most} MB. Split it."),
    "cancelled": pgettext_lazy("of a file to upload", "Cancelled"),
    "cancel": _("Cancel"),
    "cancel_file": _("Cancel {name}"),
    "keep_twice": _("Keep it twice"),
    "leave_out": _("Leave it out"),
    "all_sent": _("{sent} of {count} files sent"),
}

USAGE: dict[str, str | Promise] = {
    "tokens": _("Tokens"),
    "written": _("of them written"),
}

PAGES = {
    "audit": AUDIT,
    "usage": USAGE,
    "administration": ADMINISTRATION,
    "chat": CHAT,
    "deployments": PLATFORM,
    "monitoring": PLATFORM,
    "overview": OVERVIEW,
    "knowledge": KNOWLEDGE,
    "models": MODELS,
    "passkeys": PASSKEYS,
    "platform": PLATFORM,
    "shared": SHARED,
}


def for_page(page: str) -> dict[str, str]:
    return {key: str(text) for key, text in PAGES[page].items()}
