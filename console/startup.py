"""What must hold before a process serves anyone."""

from django.db import connection

from tenants import envelope, isolation


class UnsafeStart(SystemExit):
    """The process must not serve; its message says what to mend."""


def refuse_unsafe_start() -> None:
    """Raises UnsafeStart when the database would let one tenant see another's rows, or is not that of our keys."""
    found = isolation.violations(connection)
    if not found and (slug := envelope.tenant_of_another_key()):
        found = [f"var/secrets/master.key does not open the key of {slug}: put the original file back"]
    connection.close()
    if found:
        raise UnsafeStart("Custos refuses to start: " + "; ".join(found))
