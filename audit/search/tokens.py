"""Text into the units that are searched for.

Text is normalised (NFKC, case folded, invisible format characters taken out) and cut into units: a run of letters and
digits is one; scripts that are written without spaces give a unit for each character. What is between units does not
count, so an e-mail address is a phrase of its parts. Imports nothing of Custos.
"""

import re
import unicodedata
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import regex

# Lengths at which beginnings of words are indexed: a search for a beginning needs the shortest at least.
PREFIXES = (4, 5, 6)
SHORTEST_PREFIX = min(PREFIXES)
_PREFIX_MARK, _BESIDE_MARK = "\x01", "\x05"

_DENSE = r"\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}ー"
_UNIT = regex.compile(
    rf"(?V1)(?P<dense>[{_DENSE}])|[[\p{{L}}\p{{N}}]--[{_DENSE}]][[\p{{L}}\p{{M}}\p{{N}}]--[{_DENSE}]]*"
)
_WORD = regex.compile(rf"(?V1)[[\p{{L}}\p{{N}}]--[{_DENSE}]][[\p{{L}}\p{{M}}\p{{N}}]--[{_DENSE}]]*")
_ASCII_WORD = re.compile(r"[a-z0-9]+")  # The same in lower-case ASCII, at a third of the time.
_CHARACTER = regex.compile(rf"[{_DENSE}]")
_RUN = regex.compile(rf"[{_DENSE}](?:\s*[{_DENSE}])*")
_NO_RUN = regex.compile(rf"[^{_DENSE}]+")
_ANY_SPACE = regex.compile(r"\s+")
_ANY_DIGIT = regex.compile(r"\d")
_FORMAT = regex.compile(r"\p{Cf}+")
_SPACE = regex.compile(r"\s*")
# A number with its thousands set apart, and codes written in fours, as account and card numbers are.
_NUMBER = regex.compile(r"(?<![\w.,])\d{1,3}(?:([,.'’ ])\d{3})(?:\1\d{3})*(?![\d])")
_CODE = regex.compile(r"(?<!\w)(?:[a-z]{2}\d{2}|\d{4})(?:[ -][a-z0-9]{4}){2,7}(?:[ -][a-z0-9]{1,4})?(?!\w)")
# What every code has: it is looked for first, as codes are rare and looking for them takes long.
_IN_CODE = re.compile(r"\d\d[ -][a-z0-9]{4}[ -][a-z0-9]{4}")
_SHORTEST_CODE = 12
_NO_DIGIT = regex.compile(r"\D+")
_GAP = regex.compile(r"[ -]")


class Unit(NamedTuple):
    """A word, or a character of a script without spaces, at [start, end) of the normalised text.

    joined: a character that follows another with nothing but space between them.
    """

    text: str
    start: int
    end: int
    is_dense: bool
    joined: bool


class Compound(NamedTuple):
    """What several units say when written as one: 1,000,000 as 1000000; an account number without its gaps."""

    text: str
    start: int
    end: int


def normalise(text: str) -> str:
    """The form in which text is compared."""
    if text.isascii():
        return text.lower()
    folded = unicodedata.normalize("NFKC", _FORMAT.sub("", text)).casefold()
    return _FORMAT.sub("", unicodedata.normalize("NFKC", folded))


def units(normalised: str) -> list[Unit]:
    """The units of a normalised text, in order."""
    found = []
    last_end = -1  # Where the last unit ended when it was dense.
    for match in _UNIT.finditer(normalised):
        start, end = match.span()
        is_dense = match.lastgroup == "dense"
        joined = (
            is_dense
            and last_end >= 0
            and (start == last_end or _SPACE.fullmatch(normalised, last_end, start) is not None)
        )
        found.append(Unit(match.group(), start, end, is_dense, joined))
        last_end = end if is_dense else -1
    return found


def unit_pattern(text: str) -> regex.Pattern[str]:
    """Matches where `units` cuts a unit with this text."""
    if _CHARACTER.fullmatch(text):
        return regex.compile(regex.escape(text))
    letters = rf"[\p{{L}}\p{{N}}]--[{_DENSE}]"
    return regex.compile(
        rf"(?V1)(?<![{letters}][[\p{{M}}]--[{_DENSE}]]*){regex.escape(text)}(?![[\p{{L}}\p{{M}}\p{{N}}]--[{_DENSE}]])"
    )


def compounds(normalised: str) -> list[Compound]:
    """The numbers and codes of a normalised text that are written in several units."""
    return [*_numbers(normalised), *_codes(normalised)]


def whole_compound(normalised: str) -> str:
    """What a text that is a number or code in several units says as one; "" for other texts."""
    if _NUMBER.fullmatch(normalised):
        return _NO_DIGIT.sub("", normalised)
    if _CODE.fullmatch(normalised):
        joined = _GAP.sub("", normalised)
        return joined if len(joined) >= _SHORTEST_CODE else ""
    return ""


def code_at(normalised: str, start: int) -> int:
    """Where a code that is written in several units and begins at `start` ends; `start` when there is none."""
    match = _CODE.match(normalised, start)
    return match.end() if match and whole_compound(match.group()) else start


def joined(*characters: str) -> str:
    """The token of two or three joined characters."""
    return "".join(characters)


def beside(first: str, second: str) -> str:
    """The token of a word that follows another."""
    return f"{_BESIDE_MARK}{first} {second}"


def is_dense(unit: str) -> bool:
    """Whether a unit is a character of a script without spaces."""
    return _CHARACTER.fullmatch(unit) is not None


def prefix(beginning: str) -> tuple[str, bool]:
    """(The token of words that begin so, whether it stands for no other words)."""
    length = max(each for each in PREFIXES if each <= len(beginning))
    return _prefix_token(beginning[:length]), length == len(beginning)


def words(normalised: str) -> set[str]:
    """The texts of all units and compounds; as `units` and `compounds` cut them, at a third of their time."""
    is_ascii = normalised.isascii()
    found = set((_ASCII_WORD if is_ascii else _WORD).findall(normalised))
    if _ANY_DIGIT.search(normalised):
        found.update(compound.text for compound in compounds(normalised))
    if not is_ascii:
        found.update(_CHARACTER.findall(normalised))
    return found


def neighbours(normalised: str) -> set[str]:
    """The tokens of all words that follow each other, and of all two and three joined characters."""
    if normalised.isascii():
        return _words_beside(_ASCII_WORD.findall(normalised))
    found: set[str] = set()
    for run in _RUN.findall(normalised):
        characters = _ANY_SPACE.sub("", run)
        found.update(map(joined, characters, characters[1:]))
        found.update(map(joined, characters, characters[1:], characters[2:]))
    for others in _NO_RUN.findall(normalised):
        found |= _words_beside(_WORD.findall(others))
    return found


def _words_beside(found: list[str]) -> set[str]:
    return set(map(beside, found, found[1:]))


def beginnings(word: str) -> list[str]:
    """The tokens of how a word begins."""
    return [_prefix_token(word[:length]) for length in PREFIXES if len(word) >= length]


def tokens(normalised: str) -> set[str]:
    """All that a text is found by."""
    found = words(normalised)
    found.update([token for word in found for token in beginnings(word)])
    return found | neighbours(normalised)


def pieces(value: object) -> Iterator[str]:
    """The texts and numbers in a value of JSON, without what names the kind of a part, and without encoded files."""
    match value:
        case str():
            if value and not (value.startswith("data:") and ";base64," in value[:200]):
                yield value
        case bool() | None:
            pass
        case int() | float():
            yield str(value)
        case dict():
            for name, each in value.items():
                if name not in ("role", "type"):
                    yield from pieces(each)
        case list() | tuple():
            for each in value:
                yield from pieces(each)


def places(text: str) -> tuple[str, list[int]]:
    """(The text to show, for each position in its normalised form the position in it).

    The text itself, or its normalised form in the rare case that no position in one tells that in the other.
    """
    normalised = normalise(text)
    if text.isascii():
        return text, list(range(len(text) + 1))
    starts: list[int] = []
    whole = []
    for start, cluster in _clusters(text):
        form = normalise(cluster)
        starts += [start] * len(form)
        whole.append(form)
    if "".join(whole) == normalised:
        return text, [*starts, len(text)]
    return normalised, list(range(len(normalised) + 1))


def _clusters(text: str) -> Iterator[tuple[int, str]]:
    """A character with the marks that join it when normalised, and where it begins."""
    start = 0
    for end in range(1, len(text) + 1):
        if end == len(text) or not (unicodedata.combining(text[end]) or text[end] in "\uff9e\uff9f"):
            yield start, text[start:end]
            start = end


def _numbers(normalised: str) -> Iterable[Compound]:
    for match in _NUMBER.finditer(normalised):
        yield Compound(_NO_DIGIT.sub("", match.group()), *match.span())


def _codes(normalised: str) -> Iterable[Compound]:
    """Where a code ends is not known, as a word of four letters may follow it: each length is one."""
    if not _IN_CODE.search(normalised):
        return
    for match in _CODE.finditer(normalised):
        end = match.start()
        joined = ""
        for group in _GAP.split(match.group()):
            joined += group
            end += len(group) + 1
            if len(joined) >= _SHORTEST_CODE:
                yield Compound(joined, match.start(), end - 1)


def _prefix_token(beginning: str) -> str:
    return f"{_PREFIX_MARK}{beginning}"
