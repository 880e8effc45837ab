"""Names that people give to things: cleaned, and refused when they pretend to be another."""

import re
import unicodedata

from django.core.exceptions import ValidationError
from django.core.validators import EmailValidator
from django.utils.translation import gettext as _

from tenants.errors import Refused

_SLUG = re.compile(r"[a-z0-9](?:-?[a-z0-9]){1,49}")
_RESERVED = frozenset({"admin", "api", "custos", "new", "platform", "static", "system", "www"})

# Scripts whose letters pass for one another's: two of them in one word are no spelling but a disguise.
_LOOK_ALIKE_SCRIPTS = ("LATIN", "CYRILLIC", "GREEK", "ARMENIAN", "CHEROKEE", "FULLWIDTH", "MATHEMATICAL")


def clean_name(text: str, *, field: str = "name", most: int = 120) -> str:
    """The name in one normal form, without spaces around it. Raises Refused."""
    name = " ".join(unicodedata.normalize("NFC", text).split())
    if not name:
        raise Refused("name_missing", _("Enter a name."), field)
    if len(name) > most:
        raise Refused("name_too_long", _("Use at most %(most)d characters.") % {"most": most}, field)
    if any(unicodedata.category(letter)[0] == "C" for letter in name):
        raise Refused("name_invisible", _("Take out the invisible characters."), field)
    for word in name.split():
        if len({script for letter in word if (script := _script(letter))}) > 1:
            message = _("“%(word)s” mixes letters of several alphabets that look alike. Use one alphabet.")
            raise Refused("name_look_alike", message % {"word": word}, field)
    return name


def clean_text(text: str, *, field: str = "description", most: int = 500) -> str:
    """A description: one line, possibly empty. Raises Refused."""
    words = " ".join(unicodedata.normalize("NFC", text).split())
    if len(words) > most:
        raise Refused("text_too_long", _("Use at most %(most)d characters.") % {"most": most}, field)
    if "\x00" in words:
        raise Refused("name_invisible", _("Take out the invisible characters."), field)
    return words


def clean_slug(text: str, *, field: str = "slug") -> str:
    """A name for addresses: 2 to 50 of a-z, 0-9 and single hyphens. Raises Refused, also for letters that only look so."""
    if not text.isascii():
        message = _("Use the letters a to z only: some of these look like them and are others.")
        raise Refused("slug_look_alike", message, field)
    if not _SLUG.fullmatch(text) or len(text) > 50:
        message = _(
            "Use 2 to 50 small letters and digits, with single hyphens between them, such as acme-bank."
        )
        raise Refused("slug_invalid", message, field)
    if text in _RESERVED:
        raise Refused("slug_reserved", _("“%(slug)s” is reserved. Choose another.") % {"slug": text}, field)
    return text


def clean_email(text: str, *, field: str = "email") -> str:
    """An address in small letters. Raises Refused."""
    email = text.strip().lower()
    if not email.isascii():
        message = _("Write the address in plain letters: some of these look like them and are others.")
        raise Refused("email_look_alike", message, field)
    try:
        EmailValidator()(email)
    except ValidationError:
        message = _("Enter a whole e-mail address, such as name@company.example.")
        raise Refused("email_invalid", message, field) from None
    if len(email) > 254:
        raise Refused("email_invalid", _("Use at most %(most)d characters.") % {"most": 254}, field)
    return email


def _script(letter: str) -> str:
    """The look-alike script of a letter; "" for all else, as digits and Chinese characters."""
    first = unicodedata.name(letter, "").partition(" ")[0] if letter.isalpha() else ""
    return first if first in _LOOK_ALIKE_SCRIPTS else ""
