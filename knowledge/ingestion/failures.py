"""Why a file could not be read, in words that say what to do next. By the codes of `knowledge.parsing`, and its own."""

from __future__ import annotations

from django.utils.functional import Promise
from django.utils.translation import gettext_lazy as _

SENTENCES: dict[str, str | Promise] = {
    "unsupported": _(
        "Files of this kind cannot be read. Save it as PDF, Word, Excel, PowerPoint, HTML, Markdown or text, then upload that."
    ),
    "encrypted": _("The file has a password. Save it without one, then upload that."),
    "corrupt": _("The file is damaged or not what it seems to be. Open it, save it anew, then upload that."),
    "macros": _("The file has macros. Save it without them, as .docx, .xlsx or .pptx, then upload that."),
    "too_large": _("The file has more pages, cells or text than is read of one. Split it into several."),
    "expands_too_much": _("The file is far larger unpacked than it may be. Split it into several."),
    "took_too_long": _("Reading the file took too long. Split it into several."),
    "too_much_memory": _("Reading the file took too much memory. Split it into several."),
    "no_text": _("There is no text in it."),
    "too_many_passages": _("The file has more passages than one document can have. Split it into several."),
    "lost": _("The file is not what was uploaded: it was altered, or its key is gone. Upload it again."),
    "unexpected": _("Something went wrong that should not. The worker’s log says more; then try again."),
    "died": _(
        "Reading this file ended the worker again and again, so it was given up. Save it anew, then try again."
    ),
    "embedding_unavailable": _(
        "The embedding model does not answer now. Words find this document; it is tried again by itself."
    ),
}


def sentence(code: str) -> str:
    """The failure in the language of now; "" for none."""
    return str(SENTENCES.get(code, SENTENCES["unexpected"])) if code else ""
