"""What can be asked, as typed: the language of the search, and whether a record answers.

    money laundering          both words, in any order         "beneficial owner"   one after the other
    sanction OR embargo       either                           -test                not this
    launder*                  words that begin so              (a OR b) c           brackets
    洗钱风险                   as a phrase                      “实益拥有人”           quotes of either script
    user:anna model:qwen status:failed before:2026-11-20 tokens:>1000            用户:安娜 状态:失败 早于:2026-11-20

Words next to each other bind tighter than OR. Imports no models.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from functools import cached_property, lru_cache
from typing import NamedTuple
from uuid import UUID

import regex
from django.utils.translation import gettext as _

from audit.search import tokens
from audit.search.tokens import Compound, Unit

LONGEST = 1000  # Characters.
MOST_TERMS = 40
DEEPEST = 10  # Brackets in brackets.


class BadQuery(Exception):
    """What was typed asks nothing that can be answered; the message says what to type instead."""


# The tree


@dataclass(frozen=True, slots=True)
class Word:
    text: str


@dataclass(frozen=True, slots=True)
class Prefix:
    text: str


@dataclass(frozen=True, slots=True)
class Phrase:
    """Units one after the other. joined: which of them follow the one before with nothing but space between.

    open_end: the last is only the beginning of a word.
    """

    units: tuple[str, ...]
    joined: tuple[bool, ...]
    open_end: bool = False


@dataclass(frozen=True, slots=True)
class Label:
    """A word, beginning or phrase in a plain column of names: "user" or "model"."""

    column: str
    what: Word | Prefix | Phrase


@dataclass(frozen=True, slots=True)
class Equal:
    """A plain column with one of these values. column: status, channel, kind, version, group, rule, risk."""

    column: str
    values: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Between:
    """A plain column from `least` on and before `end`. column: "created" (datetime) or "tokens" (int)."""

    column: str
    least: datetime | int | None
    end: datetime | int | None


@dataclass(frozen=True, slots=True)
class Not:
    what: Node


@dataclass(frozen=True, slots=True)
class And:
    """All of them; none: everything."""

    all: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Or:
    any: tuple[Node, ...]


Node = Word | Prefix | Phrase | Label | Equal | Between | Not | And | Or
EVERYTHING = And(())


@dataclass(frozen=True, slots=True)
class Query:
    """What was asked. Build with `parse`."""

    text: str
    root: Node

    @property
    def conditions(self) -> tuple[Node, ...]:
        """What a record must answer one and all."""
        return self.root.all if isinstance(self.root, And) else (self.root,)

    def reads_content(self) -> bool:
        """Whether an answer takes more than plain columns."""
        return any(isinstance(node, Word | Prefix | Phrase) for node in _walk(self.root))

    def terms(self) -> list[Word | Prefix | Phrase]:
        """What is asked for in content and not excluded, to be shown where it is found."""
        return list(_wanted(self.root))


# What is looked at


@dataclass(frozen=True, slots=True)
class Columns:
    """The plain columns of a record that a query can ask for."""

    created: datetime
    user_label: str
    model: str
    model_version: str
    channel: str
    kind: str
    status: str
    tokens: int
    group_ids: Collection[str]
    rules: Collection[str]
    risk: str


class Text:
    """A piece of a record's content, cut into units once."""

    def __init__(self, field: str, original: str) -> None:
        self.field = field
        self.original = original
        self.normalised = tokens.normalise(original)

    @cached_property
    def units(self) -> list[Unit]:
        return tokens.units(self.normalised)

    @cached_property
    def compounds(self) -> list[Compound]:
        return tokens.compounds(self.normalised)

    @cached_property
    def _places(self) -> list[tuple[str, int, int]]:
        """Each unit and compound with where it stands."""
        found = [(unit.text, unit.start, unit.end) for unit in self.units]
        return found + [(each.text, each.start, each.end) for each in self.compounds]

    @cached_property
    def words(self) -> frozenset[str]:
        return frozenset(tokens.words(self.normalised))

    def places(self, term: Word | Prefix | Phrase) -> Iterator[tuple[int, int]]:
        """Where a term stands: [start, end) in the normalised text."""
        match term:
            case Word(text):
                # Cutting a whole text into units takes long; a word stands where it is, and in compounds.
                yield from (match.span() for match in _alone(text).finditer(self.normalised))
                yield from ((each.start, each.end) for each in self.compounds if each.text == text)
            case Prefix(text):
                yield from ((start, end) for found, start, end in self._places if found.startswith(text))
            case Phrase():
                yield from self._phrases(term)

    def has(self, term: Word | Prefix | Phrase) -> bool:
        match term:
            case Word(text):
                return text in self.words
            case Prefix(text):
                return any(word.startswith(text) for word in self.words)
            case Phrase():
                # Cutting a text into units takes long, and most candidates have the words, but not together.
                return _loosely(term).search(self.normalised) is not None and any(self._phrases(term))

    def _phrases(self, phrase: Phrase) -> Iterator[tuple[int, int]]:
        length, first = len(phrase.units), phrase.units[0]
        for at in range(len(self.units) - length + 1):
            if self.units[at].text != first and not (length == 1 and phrase.open_end):
                continue
            here = self.units[at : at + length]
            if all(
                (unit.joined or not joined)
                and (
                    unit.text == text
                    or (phrase.open_end and place == length - 1 and unit.text.startswith(text))
                )
                for place, (unit, text, joined) in enumerate(
                    zip(here, phrase.units, phrase.joined, strict=True)
                )
            ):
                yield here[0].start, here[-1].end


@lru_cache(maxsize=64)
def _alone(text: str) -> regex.Pattern[str]:
    """Matches a unit with this text."""
    return tokens.unit_pattern(text)


@lru_cache(maxsize=64)
def _loosely(phrase: Phrase) -> regex.Pattern[str]:
    """Matches wherever the phrase stands, and elsewhere at times."""
    return regex.compile(r"[^\p{L}\p{N}]*".join(map(regex.escape, phrase.units)))


def answers(node: Node, columns: Columns, texts: Sequence[Text]) -> bool:
    """Whether a record with these columns and this content is asked for."""
    match node:
        case And(children):
            return all(answers(each, columns, texts) for each in children)
        case Or(children):
            return any(answers(each, columns, texts) for each in children)
        case Not(what):
            return not answers(what, columns, texts)
        case Label(column, what):
            return Text(column, columns.user_label if column == "user" else columns.model).has(what)
        case Equal(column, values):
            return any(value in values for value in _values(columns, column))
        case Between(column, least, end):
            value = columns.created if column == "created" else columns.tokens
            return (least is None or value >= least) and (end is None or value < end)  # type: ignore[operator]
        case _:
            return any(text.has(node) for text in texts)


def _values(columns: Columns, column: str) -> Collection[str]:
    match column:
        case "group":
            return columns.group_ids
        case "rule":
            return columns.rules
        case "version":
            return (columns.model_version,)
        case _:
            return (getattr(columns, column),)


def _walk(node: Node) -> Iterator[Node]:
    yield node
    match node:
        case And(children) | Or(children):
            for each in children:
                yield from _walk(each)
        case Not(what):
            yield from _walk(what)


def _wanted(node: Node) -> Iterator[Word | Prefix | Phrase]:
    match node:
        case And(children) | Or(children):
            for each in children:
                yield from _wanted(each)
        case Word() | Prefix() | Phrase():
            yield node


# Reading what was typed


class _Piece(NamedTuple):
    """kind: "(", ")", "or", "not", "quoted", "bare". field: what stood before a colon, or ""."""

    kind: str
    text: str = ""
    field: str = ""
    open_end: bool = False


_QUOTES = {'"': '"', "“": "”", "”": "”", "„": "“", "«": "»", "「": "」", "『": "』", "＂": "＂"}
_CLOSING = {'"': '"”“', "“": '”"', "”": '”"', "„": '“”"', "«": "»", "「": "」", "『": "』", "＂": '＂"'}
_OPEN, _CLOSE = "(（", ")）"
_NOT = "-－−"
_STARS = "*＊"
_COLONS = ":："
_OR = {"OR", "|", "||", "或", "或者"}
_AND = {"AND", "&", "&&", "且", "并且"}
_NOT_WORDS = {"NOT", "非"}
_UNSEEN = regex.compile(r"[\p{Cc}\p{Cs}\p{Zl}\p{Zp}\uFFFE\uFFFF]")

FIELDS = {
    "user": ("user", "用户"),
    "group": ("group", "用户组", "组"),
    "model": ("model", "模型"),
    "version": ("version", "版本", "模型版本"),
    "channel": ("channel", "渠道"),
    "status": ("status", "状态"),
    "kind": ("kind", "类型"),
    "rule": ("rule", "规则"),
    "risk": ("risk", "风险"),
    "tokens": ("tokens", "词元", "词元数"),
    "before": ("before", "until", "早于", "之前"),
    "after": ("after", "since", "晚于", "之后", "自"),
    "on": ("on", "day", "date", "日期"),
}
_FIELD_OF = {name: field for field, names in FIELDS.items() for name in names}
_STATUSES = {
    "completed": ("completed", "已完成", "完成"),
    "stopped": ("stopped", "已停止", "停止"),
    "disconnected": ("disconnected", "已断开", "断开"),
    "interrupted": ("interrupted", "已中断", "中断"),
    "failed": ("failed", "失败"),
    "timed_out": ("timed_out", "timeout", "timedout", "超时"),
    "refused": ("refused", "已拒绝", "拒绝"),
    "running": ("running", "运行中", "进行中"),
}
_STATUS_OF = {name: status for status, names in _STATUSES.items() for name in names}
_CHANNELS = {"聊天": "chat", "对话": "chat", "接口": "api", "控制台": "console"}
_TOKENS = regex.compile(
    r"(?:(?P<sign>>=|<=|>|<|=)?(?P<one>\d{1,9}))|(?:(?P<least>\d{1,9})\.\.(?P<most>\d{1,9}))"
)


def parse(text: str, *, groups: Callable[[str], Iterable[UUID]] = lambda name: ()) -> Query:
    """What was typed, read. Text without anything in it asks for every record. Raises BadQuery.

    groups: the ids of the groups of a name.
    """
    if len(text) > LONGEST:
        message = _(
            "A search can be %(most)d characters long; this one has %(length)d. Ask for less at once."
        )
        raise BadQuery(message % {"most": LONGEST, "length": len(text)})
    pieces = list(_pieces(_UNSEEN.sub(" ", text)))
    if sum(piece.kind in ("bare", "quoted") for piece in pieces) > MOST_TERMS:
        raise BadQuery(_("A search can have %(most)d terms. Ask for less at once.") % {"most": MOST_TERMS})
    return Query(text, _Reader(pieces, groups).read())


def _pieces(text: str) -> Iterator[_Piece]:
    at, end = 0, len(text)
    while at < end:
        here = text[at]
        if here.isspace():
            at += 1
        elif here in _OPEN:
            yield _Piece("(")
            at += 1
        elif here in _CLOSE:
            yield _Piece(")")
            at += 1
        elif here in _NOT and at + 1 < end and not text[at + 1].isspace():
            yield _Piece("not")
            at += 1
        else:
            piece, at = _term(text, at)
            if piece:
                yield piece


def _term(text: str, at: int) -> tuple[_Piece | None, int]:
    """The term that begins at a position, and where the next may begin."""
    field, at = _field(text, at)
    if at < len(text) and text[at] in _QUOTES:
        quoted, at = _quoted(text, at)
        open_end = at < len(text) and text[at] in _STARS
        return _Piece("quoted", quoted, field, open_end), at + open_end
    if not field and (end := _code(text, at)) > at:
        return _Piece("bare", text[at:end]), end
    start = at
    while at < len(text) and not text[at].isspace() and text[at] not in _OPEN + _CLOSE:
        if text[at] in _QUOTES and at > start and text[at] != "”":
            break
        at += 1
    word = text[start:at]
    if not field:
        if word in _OR:
            return _Piece("or"), at
        if word in _AND:
            return None, at
        if word in _NOT_WORDS:
            return _Piece("not"), at
    bare = word.rstrip(_STARS)
    return _Piece("bare", bare, field, bare != word), at


def _field(text: str, at: int) -> tuple[str, int]:
    match = regex.compile(rf"(\w+)[{_COLONS}]\s?(?=\S)").match(text, at)
    if match and (field := _FIELD_OF.get(tokens.normalise(match.group(1)))):
        return field, match.end()
    return "", at


def _quoted(text: str, at: int) -> tuple[str, int]:
    closing = _CLOSING[text[at]]
    end = next((place for place in range(at + 1, len(text)) if text[place] in closing), -1)
    if end < 0:
        message = _("A quote %(quote)s is not closed. Put another one behind the last word of the phrase.")
        raise BadQuery(message % {"quote": text[at]})
    return text[at + 1 : end], end + 1


def _code(text: str, at: int) -> int:
    """Where an account or card number in groups ends, when one begins here."""
    line = text[at:].lower()
    return at + tokens.code_at(line, 0) if len(line) == len(text) - at else at


class _Reader:
    """Reads pieces by descent: alternatives of sequences of terms."""

    def __init__(self, pieces: Sequence[_Piece], groups: Callable[[str], Iterable[UUID]]) -> None:
        self._pieces = pieces
        self._groups = groups
        self._at = 0

    def read(self) -> Node:
        if not self._pieces:
            return EVERYTHING
        node = self._alternatives(0)
        if self._at < len(self._pieces):
            raise BadQuery(_("A bracket is closed that was not opened. Take it away, or open one before."))
        return node

    def _next(self) -> str:
        return self._pieces[self._at].kind if self._at < len(self._pieces) else ""

    def _alternatives(self, depth: int) -> Node:
        found = [self._sequence(depth)]
        while self._next() == "or":
            self._at += 1
            found.append(self._sequence(depth))
        return found[0] if len(found) == 1 else Or(tuple(found))

    def _sequence(self, depth: int) -> Node:
        found = []
        while self._next() not in ("", "or", ")"):
            found.append(self._one(depth))
        if not found:
            raise BadQuery(
                _("A word is missing beside OR or in brackets. Write a word there, or take them away.")
            )
        return found[0] if len(found) == 1 else And(tuple(found))

    def _one(self, depth: int) -> Node:
        piece = self._pieces[self._at]
        self._at += 1
        if piece.kind == "not":
            count = 1
            while self._next() == "not":
                self._at, count = self._at + 1, count + 1
            if self._next() in ("", "or", ")"):
                raise BadQuery(
                    _("A minus excludes what follows it. Write a word behind it, or take it away.")
                )
            what = self._one(depth)
            return Not(what) if count % 2 else what
        if piece.kind == "(":
            if depth == DEEPEST:
                raise BadQuery(_("Too many brackets stand in one another. Take some away."))
            node = self._alternatives(depth + 1)
            if self._next() != ")":
                raise BadQuery(_("A bracket is not closed. Put another one behind the last word in it."))
            self._at += 1
            return node
        return self._fielded(piece) if piece.field else _content(piece)

    def _fielded(self, piece: _Piece) -> Node:
        value = piece.text.strip()
        if not value:
            message = _("“%(field)s:” has no value. Write one behind it, without a space.")
            raise BadQuery(message % {"field": piece.field})
        match piece.field:
            case "user" | "model" as column:
                return Label(column, _content(piece))
            case "status":
                return Equal("status", (_status(value),))
            case "group":
                return Equal("group", self._group_ids(value))
            case "channel":
                return Equal("channel", (_CHANNELS.get(value, value.lower()),))
            case "kind" | "version" | "rule" | "risk" as column:
                return Equal(column, (value,))
            case "tokens":
                return _tokens(value)
            case when:
                return _when(when, value)

    def _group_ids(self, name: str) -> tuple[str, ...]:
        found = tuple(str(group_id) for group_id in self._groups(name))
        if not found:
            message = _(
                "There is no group “%(name)s”. Write its whole name, in quotes when it has several words."
            )
            raise BadQuery(message % {"name": name})
        return found


def _content(piece: _Piece) -> Word | Prefix | Phrase:
    """A term as it is looked for."""
    normalised = tokens.normalise(piece.text)
    if piece.kind == "bare" and not piece.open_end and (compound := tokens.whole_compound(normalised)):
        return Word(compound)
    units = tokens.units(normalised)
    if not units:
        message = _("“%(text)s” has neither letters nor digits. Search for words or numbers.")
        raise BadQuery(message % {"text": piece.text[:40] + ("*" if piece.open_end else "")})
    open_end = piece.open_end and not units[-1].is_dense
    if len(units) > 1:
        return Phrase(
            tuple(unit.text for unit in units), (False, *(unit.joined for unit in units[1:])), open_end
        )
    if not open_end:
        return Word(units[0].text)
    if len(units[0].text) < tokens.SHORTEST_PREFIX:
        message = _("“%(text)s*” is too short. Write at least %(least)d letters before the star.")
        raise BadQuery(message % {"text": piece.text, "least": tokens.SHORTEST_PREFIX})
    return Prefix(units[0].text)


def _status(value: str) -> str:
    if status := _STATUS_OF.get(tokens.normalise(value)):
        return status
    message = _("“%(value)s” is no status. Use one of: %(statuses)s.")
    raise BadQuery(message % {"value": value[:40], "statuses": ", ".join(_STATUSES)})


def _tokens(value: str) -> Between:
    match = _TOKENS.fullmatch(tokens.normalise(value))
    if match is None:
        raise BadQuery(_("A number of tokens is written so: tokens:>1000, tokens:<=50 or tokens:100..200."))
    if match["one"] is None:
        return Between("tokens", int(match["least"]), int(match["most"]) + 1)
    number = int(match["one"])
    least, end = {
        ">": (number + 1, None),
        ">=": (number, None),
        "<": (None, number),
        "<=": (None, number + 1),
    }.get(match["sign"] or "=", (number, number + 1))
    return Between("tokens", least, end)


def _when(field: str, value: str) -> Between:
    """Days and times are UTC, as the days of records are."""
    try:
        written = _ascii_digits(value).replace("/", "-")
        if len(written) > 10:
            start = end = datetime.fromisoformat(written)
            start = end = start.replace(tzinfo=start.tzinfo or UTC)
        else:
            day = date(*(int(part) for part in written.split("-")))
            start = datetime.combine(day, time(), UTC)
            end = start + timedelta(1)
    except (ValueError, TypeError, OverflowError):
        raise BadQuery(
            _("“%(value)s” is no day. Write it as 2026-11-20, or with a time as 2026-11-20T16:30.")
            % {"value": value[:40]}
        ) from None
    match field:
        case "before":
            return Between("created", None, start)
        case "after":
            return Between("created", start, None)
        case _:
            return Between("created", start, end)


def _ascii_digits(text: str) -> str:
    """Full-width digits and dashes as ASCII ones."""
    return tokens.normalise(text).upper().replace("－", "-")
