"""Lists as every administration page shows them: search, filter, sort, pages, and the same rows as CSV.

Everything about a list stands in its query string, so that a link, a bookmark and the browser's history keep it.
"""

import csv
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from django.core.paginator import Page, Paginator
from django.db.models import F, QuerySet
from django.http import HttpRequest, HttpResponse
from django.utils.functional import Promise

PAGE_SIZE = 50


class Column(NamedTuple):
    """A heading. `sort`: the names to order by, ascending, or () for a column that cannot be sorted by."""

    key: str
    label: str | Promise
    sort: tuple[str, ...] = ()
    number: bool = False


@dataclass(frozen=True)
class Heading:
    """A column as the table shows it. `state`: "ascending", "descending" or "none"; `query`: what a click asks for."""

    label: str | Promise
    number: bool
    query: str
    state: str


class Listing:
    """One page of a queryset, or of a list that is in its order already (see `sort`).

    kept: names of the filters in the query string, besides `q`, `sort` and `page`.
    """

    def __init__(
        self,
        request: HttpRequest,
        found: QuerySet[Any] | Sequence[Any],
        columns: Sequence[Column],
        *,
        kept: Iterable[str] = (),
        default_sort: str = "",
    ) -> None:
        self._asked = request.GET
        self._names = ("q", "sort", *kept)
        self._columns = columns
        self.search = request.GET.get("q", "").strip()
        self.sort = self._known_sort(request.GET.get("sort", "")) or default_sort
        self.rows = self._sorted(found) if isinstance(found, QuerySet) else found
        self.page: Page[Any] = Paginator(self.rows, PAGE_SIZE).get_page(request.GET.get("page"))

    @property
    def is_filtered(self) -> bool:
        """Whether anything narrows the list, so that an empty one says so."""
        return any(self._asked.get(name) for name in self._names if name != "sort")

    @property
    def headings(self) -> list[Heading]:
        return [self._heading(column) for column in self._columns]

    def query(self, **changes: str) -> str:
        """The query string of this list with these changes; "" takes a name away."""
        asked = self._asked.copy()
        for name in list(asked):
            if name not in self._names:
                del asked[name]
        for name, value in changes.items():
            asked[name] = value
            if not value:
                del asked[name]
        return f"?{asked.urlencode()}"

    @property
    def here(self) -> str:
        """The query string of this very page."""
        return self.query(page=str(self.page.number))

    @property
    def newer(self) -> str:
        return self.query(page=str(self.page.previous_page_number())) if self.page.has_previous() else ""

    @property
    def older(self) -> str:
        return self.query(page=str(self.page.next_page_number())) if self.page.has_next() else ""

    @property
    def csv_query(self) -> str:
        return self.query(format="csv")

    def _known_sort(self, asked: str) -> str:
        return asked if asked.removeprefix("-") in {c.key for c in self._columns if c.sort} else ""

    def _sorted(self, queryset: QuerySet[Any]) -> QuerySet[Any]:
        for column in self._columns:
            if column.sort and column.key == self.sort.removeprefix("-"):
                # What is empty comes last, whichever way it is looked at.
                way = "desc" if self.sort.startswith("-") else "asc"
                return queryset.order_by(
                    *(getattr(F(name), way)(nulls_last=True) for name in column.sort), "pk"
                )
        return queryset

    def _heading(self, column: Column) -> Heading:
        if not column.sort:
            return Heading(column.label, column.number, "", "none")
        states = {column.key: "ascending", f"-{column.key}": "descending"}
        state = states.get(self.sort, "none")
        flipped = f"-{column.key}" if state == "ascending" else column.key
        return Heading(column.label, column.number, self.query(sort=flipped), state)


def csv_response(name: str, heading: Sequence[Any], rows: Iterable[Sequence[Any]]) -> HttpResponse:
    """The rows as a CSV file for spreadsheets, which would run cells that begin as formulas do: those get a '."""
    response = HttpResponse("\ufeff", content_type="text/csv; charset=utf-8")
    writer = csv.writer(response)
    for row in (heading, *rows):
        writer.writerow([inert(cell) for cell in row])
    response.headers["Content-Disposition"] = f'attachment; filename="{name}.csv"'
    return response


def inert(cell: Any) -> str:
    """A cell that no spreadsheet runs; East Asian ones take the wide signs for formulas, too."""
    text = "" if cell is None else str(cell)
    return (
        f"'{text}"
        if text.startswith(("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠"))
        else text
    )


def selected(request: HttpRequest, convert: Callable[[str], Any]) -> list[Any]:
    """The rows ticked for a bulk action; what is no id is left out, as a row that has gone would be."""
    found = []
    for text in request.POST.getlist("selected"):
        try:
            found.append(convert(text))
        except ValueError:
            continue
    return found
