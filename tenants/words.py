"""Names that people give to things: cleaned, and refused when they pretend to be another."""

import re
import unicodedata

from django.core.exceptions import ValidationError
from django.core.validators import EmailValidator
from django.utils.translation import gettext as _

from tenants.errors import Refused

_SLUG = re.compile(r"(?=.{2,50}\Z)[a-z0-9](?:-?[a-z0-9])+")
_RESERVED = frozenset({"admin", "api", "custos", "new", "platform", "static", "system", "www"})
_MOST_RAW = 10_000  # Characters that are looked at; whoever sends more is told that it is too long.

# Scripts whose letters pass for one another's: two of them in one word are no spelling but a disguise.
_LOOK_ALIKE_SCRIPTS = ("LATIN", "CYRILLIC", "GREEK", "ARMENIAN", "CHEROKEE")

# Letters and marks that show nothing: Hangul fillers, the empty braille cell, the grapheme joiner, Khmer's inherent vowels.
_BLANKS = frozenset("\u3164\uffa0\u115f\u1160\u2800\u034f\u17b4\u17b5")
_JOINERS = frozenset("\u200c\u200d")  # Of Persian words, and of emoji.


def clean_name(text: str, *, field: str = "name", most: int = 120) -> str:
    """The name in one normal form, without spaces around it. Raises Refused."""
    name = _one_line(text, field, most)
    if not name:
        raise Refused("name_missing", _("Enter a name."), field)
    if any(unicodedata.category(letter)[0] == "C" or letter in _BLANKS for letter in name):
        raise Refused("name_invisible", _("Take out the invisible characters."), field)
    for word in name.split():
        if (
            any(map(_is_disguised, word))
            or len({script for letter in word if (script := _script(letter))}) > 1
        ):
            message = _("“%(word)s” mixes letters of several alphabets that look alike. Use one alphabet.")
            raise Refused("name_look_alike", message % {"word": word}, field)
    return name


def clean_text(text: str, *, field: str = "description", most: int = 500) -> str:
    """A description: one line, possibly empty. Raises Refused."""
    line = _one_line(text, field, most)
    # Control characters, halves of surrogate pairs, and marks that turn the direction of what follows.
    if any(unicodedata.category(each) in ("Cc", "Cf", "Cs") and each not in _JOINERS for each in line):
        raise Refused("name_invisible", _("Take out the invisible characters."), field)
    return line


def clean_slug(text: str, *, field: str = "slug") -> str:
    """A name for addresses: 2 to 50 of a-z, 0-9 and single hyphens. Raises Refused, also for letters that only look so."""
    if not text.isascii():
        message = _("Use the letters a to z only: some of these look like them and are others.")
        raise Refused("slug_look_alike", message, field)
    if not _SLUG.fullmatch(text):
        message = _(
            "Use 2 to 50 small letters and digits, with single hyphens between them, such as acme-bank."
        )
        raise Refused("slug_invalid", message, field)
    if text in _RESERVED:
        raise Refused("slug_reserved", _("“%(slug)s” is reserved. Choose another.") % {"slug": text}, field)
    return text


def clean_email(text: str, *, field: str = "email") -> str:
    """An address in small letters. Raises Refused."""
    text = text.strip()
    if len(text) > 254:
        raise Refused("email_invalid", _("Use at most %(most)d characters.") % {"most": 254}, field)
    if not text.isascii():
        message = _("Write the address in plain letters: some of these look like them and are others.")
        raise Refused("email_look_alike", message, field)
    try:
        # Quoted names and bare numbers of machines are addresses too, but of nobody's colleague.
        if '"' in text or "[" in text:
            raise ValidationError(text)
        EmailValidator(allowlist=[])(text)
    except ValidationError:
        message = _("Enter a whole e-mail address, such as name@company.example.")
        raise Refused("email_invalid", message, field) from None
    return text.lower()


def search_words(text: str) -> list[str]:
    """What to look for, of what somebody typed into a search field: at most ten words that a database can compare."""
    line = "".join(
        each for each in text[:200] if unicodedata.category(each) not in ("Cc", "Cs") or each.isspace()
    )
    return line.split()[:10]


def _one_line(text: str, field: str, most: int) -> str:
    line = " ".join(unicodedata.normalize("NFC", text[: _MOST_RAW + 1]).split())
    if len(line) > most or len(text) > _MOST_RAW:
        raise Refused("too_long", _("Use at most %(most)d characters.") % {"most": most}, field)
    return line


def _is_disguised(letter: str) -> bool:
    """Whether it is a Latin letter in other clothes, as full-width and mathematical ones are."""
    plain = unicodedata.normalize("NFKC", letter)
    return unicodedata.category(letter) in ("Lu", "Ll") and not letter.isascii() and plain.isascii()


def _script(letter: str) -> str:
    """The look-alike script of a letter; "" for all else, as digits and Chinese characters."""
    first = unicodedata.name(letter, "").partition(" ")[0] if letter.isalpha() else ""
    return first if first in _LOOK_ALIKE_SCRIPTS else ""
