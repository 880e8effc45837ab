"""The tables of the search."""

from audit.search.saved_search import SavedSearch

__all__ = ["SavedSearch"]
