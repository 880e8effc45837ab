"""The tables of the search."""

from audit.search.entries import SearchEntry, SearchWaiting
from audit.search.saved_search import SavedSearch

__all__ = ["SavedSearch", "SearchEntry", "SearchWaiting"]
