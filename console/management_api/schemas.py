"""The words that bodies are made of."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Annotated, Any, Generic, TypeVar

from django.db.models import Model, QuerySet
from ninja import Query
from pydantic import BaseModel, ConfigDict, Field, StringConstraints

Out = TypeVar("Out", bound=BaseModel)
Row = TypeVar("Row", bound=Model)

# The database takes no NUL. Services have narrower rules of their own; these bounds keep nonsense from reaching them.
_NO_NUL = r"^[^\x00]*$"
Word = Annotated[str, StringConstraints(max_length=200, pattern=_NO_NUL)]
Text = Annotated[str, StringConstraints(max_length=1000, pattern=_NO_NUL)]
Code = Annotated[str, StringConstraints(max_length=50, pattern=r"^[a-z0-9_.-]+$")]
Moment = datetime | None


class Input(BaseModel):
    """A body. Unknown fields are refused, so that a typing error does not pass for a change."""

    model_config = ConfigDict(extra="forbid")


def left_out() -> Any:
    """The default of a field that may be left out of a change: what is not sent stays as it is."""
    return Field(default_factory=lambda: None)


class Paging(Input):
    """Which part of a list: pages are counted from 1."""

    page: int = Field(1, ge=1, le=100_000)
    size: int = Field(50, ge=1, le=200, description="Entries a page.")


class Page(BaseModel, Generic[Out]):
    """A part of a list, and how many entries the whole list has."""

    items: list[Out]
    total: int
    page: int
    size: int


Paged = Annotated[Paging, Query()]


def page_of(rows: QuerySet[Row], paging: Paging, shape: Callable[[Row], Out]) -> Page[Out]:
    """The page asked for; an empty one after the end."""
    start = (paging.page - 1) * paging.size
    found = rows[start : start + paging.size]
    return Page(items=[shape(row) for row in found], total=rows.count(), page=paging.page, size=paging.size)
