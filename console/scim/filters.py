"""SCIM filters as conditions of the database.

scim2-models parses the text and checks it against the resource's schema; here its tree becomes a Q, whose values reach
the database as parameters. What cannot be asked of the database is refused, never guessed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from enum import StrEnum
from functools import reduce
from operator import and_, or_
from typing import Any
from uuid import UUID

from django.db.models import Q
from scim2_models import InvalidFilterException
from scim2_models.path import (
    AttrPath,
    CompareOperator,
    Comparison,
    FilterNode,
    FilterVisitor,
    LogicalExpr,
    LogicalOperator,
    Not,
    Present,
    ValuePath,
)

LONGEST = 2000

# Not Q(), which vanishes in a disjunction and means the same when it is negated.
NEVER = Q(pk__in=[])
ALWAYS = ~NEVER


class Kind(StrEnum):
    TEXT = "text"
    EXACT_TEXT = "exact text"
    ID = "id"
    MOMENT = "moment"


@dataclass(frozen=True)
class Column:
    """Where an attribute is kept: a lookup of the query set. A text that is empty is one that is not there."""

    lookup: str
    kind: Kind = Kind.TEXT


@dataclass(frozen=True)
class Flag:
    """A boolean that is kept as whether a column is empty."""

    column: str


@dataclass(frozen=True)
class Constant:
    """An attribute that is the same for all."""

    value: Any


Place = Column | Flag | Constant


@dataclass(frozen=True)
class Parts:
    """An attribute with sub-attributes. `of`: those that have a value of this condition; itself for a single one."""

    places: Mapping[str, Place]
    of: Callable[[Q], Q] = lambda inner: inner


Places = Mapping[str, Place | Parts]

_ORDER = {
    CompareOperator.eq: "exact",
    CompareOperator.gt: "gt",
    CompareOperator.ge: "gte",
    CompareOperator.lt: "lt",
    CompareOperator.le: "lte",
}
_WITHIN = {
    CompareOperator.co: "contains",
    CompareOperator.sw: "startswith",
    CompareOperator.ew: "endswith",
}


class Conditions(FilterVisitor[Q]):
    """`Conditions(places).visit(tree)`. `places` by the attributes' names in small letters.

    Raises InvalidFilterException.
    """

    def __init__(self, places: Places) -> None:
        self._places = places

    def visit_comparison(self, node: Comparison) -> Q:
        if node.op == CompareOperator.ne:  # Of several values: none is equal.
            return ~self.visit(replace(node, op=CompareOperator.eq))
        place, of = self._find(node.attr_path)
        return of(_compared(place, node))

    def visit_present(self, node: Present) -> Q:
        head = self._places.get(node.attr_path.attr.lower())
        if isinstance(head, Parts) and node.attr_path.sub_attr is None:
            return head.of(reduce(or_, map(_present, head.places.values())))
        place, of = self._find(node.attr_path)
        return of(_present(place))

    def visit_not(self, node: Not) -> Q:
        return ~self.visit(node.expr)

    def visit_logical_expr(self, node: LogicalExpr) -> Q:
        join = and_ if node.op == LogicalOperator.and_ else or_
        return reduce(join, map(self.visit, node.terms))

    def visit_value_path(self, node: ValuePath) -> Q:
        head = self._places.get(node.attr_path.attr.lower())
        if not isinstance(head, Parts):
            raise _unsupported(node.attr_path)
        return head.of(Conditions(head.places).visit(node.val_filter))

    def _find(self, path: AttrPath) -> tuple[Place, Callable[[Q], Q]]:
        head = self._places.get(path.attr.lower())
        if isinstance(head, Parts):
            place = head.places.get((path.sub_attr or "value").lower())
            if place is not None:
                return place, head.of
        elif head is not None and path.sub_attr is None:
            return head, lambda inner: inner
        raise _unsupported(path)


def condition(tree: FilterNode, places: Places) -> Q:
    """The filter as a condition. Raises InvalidFilterException."""
    return Conditions(places).visit(tree)


def _compared(place: Place, node: Comparison) -> Q:
    if node.value is None:
        return ~_present(place) if node.op == CompareOperator.eq else NEVER
    if isinstance(place, Constant):
        return ALWAYS if _same(place.value, node.value) and node.op == CompareOperator.eq else NEVER
    if isinstance(place, Flag):
        if node.op != CompareOperator.eq or not isinstance(node.value, bool):
            raise InvalidFilterException(detail=f"Compare “{node.attr_path}” with eq, and true or false.")
        return Q(**{f"{place.column}__isnull": node.value})
    if place.kind == Kind.ID:
        return _of_id(place, node)
    if place.kind == Kind.MOMENT:
        return Q(**{f"{place.lookup}__{_order(node)}": _moment(node.value)})
    insensitive = (
        "i" if place.kind == Kind.TEXT and node.op not in _ORDER.keys() - {CompareOperator.eq} else ""
    )
    operator = _WITHIN.get(node.op) or _ORDER[node.op]
    return Q(**{f"{place.lookup}__{insensitive}{operator}": _text(node.value)})


def _present(place: Place) -> Q:
    if isinstance(place, Column) and place.kind in (Kind.TEXT, Kind.EXACT_TEXT):
        return ~(Q(**{f"{place.lookup}__exact": ""}) | Q(**{f"{place.lookup}__isnull": True}))
    return ALWAYS


def _of_id(place: Column, node: Comparison) -> Q:
    if node.op != CompareOperator.eq:
        raise InvalidFilterException(detail=f"Compare “{node.attr_path}” with eq or ne.")
    try:
        return Q(**{place.lookup: UUID(_text(node.value))})
    except ValueError:
        return NEVER


def _order(node: Comparison) -> str:
    if node.op not in _ORDER:
        raise InvalidFilterException(
            detail=f"“{node.op}” does not apply to “{node.attr_path}”, which is a time."
        )
    return _ORDER[node.op]


def _moment(value: Any) -> datetime:
    try:
        found = datetime.fromisoformat(value)
        return found if found.tzinfo else found.replace(tzinfo=UTC)
    except (TypeError, ValueError):
        raise InvalidFilterException(detail="Write times as 2026-01-31T12:00:00Z.") from None


def _text(value: Any) -> str:
    """What the database can compare with: no numbers, no NUL, no half of a surrogate pair."""
    if not isinstance(value, str) or "\x00" in value or not value.isprintable():
        raise InvalidFilterException(
            detail="Compare with a text in quotation marks, of printable characters."
        )
    return value


def _same(one: Any, other: Any) -> bool:
    if isinstance(one, str) and isinstance(other, str):
        return one.casefold() == other.casefold()
    return type(one) is type(other) and one == other


def _unsupported(path: AttrPath) -> InvalidFilterException:
    return InvalidFilterException(detail=f"“{path}” is none of the attributes that can be filtered on.")
