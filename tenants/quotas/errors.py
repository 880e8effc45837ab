"""What reserving raises."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tenants.quotas.counters import Standing


class QuotaError(Exception):
    """Nothing was reserved."""


class QuotaUnavailable(QuotaError):
    """The counters cannot be asked, so nothing may be used: a limit that cannot be counted is not lifted."""


class QuotaExceeded(QuotaError):
    """A limit has no room for the request.

    standing: the limit that takes longest to have room again; standings: all that bind, as they were.
    """

    def __init__(self, standing: Standing, standings: list[Standing]) -> None:
        super().__init__(f"{standing.rule.metric} of {standing.rule.kind}: {standing.rule.value}")
        self.standing = standing
        self.standings = standings

    @property
    def metric(self) -> str:
        return self.standing.rule.metric

    @property
    def retry_after(self) -> int | None:
        """Whole seconds; None when the request alone is more than the limit."""
        return self.standing.retry_after
