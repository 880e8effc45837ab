"""Which database name does what."""

from typing import Any


class OwnerMigrates:
    """Migrations run as the owner only; the application's role can change no table."""

    def allow_migrate(self, db: str, app_label: str, **hints: Any) -> bool:
        return db == "owner"
