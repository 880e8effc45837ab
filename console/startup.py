"""What must hold before a process serves anyone."""

from django.db import connection

from tenants import isolation


class UnsafeStart(SystemExit):
    """The process must not serve; its message says what to mend."""


def refuse_unsafe_start() -> None:
    """Raises UnsafeStart when the database would let one tenant see another's rows."""
    found = isolation.violations(connection)
    connection.close()
    if found:
        raise UnsafeStart("Custos refuses to start: " + "; ".join(found))
