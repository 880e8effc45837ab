"""The account a server runs as.

PostgreSQL refuses to run as root, so root lends it the existing unprivileged account `nobody`; no account
is ever added and no existing permission is ever widened.
"""

import os
import pwd
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from console.supervisor.errors import ServerError


@dataclass(frozen=True)
class Account:
    name: str
    uid: int
    gid: int

    @property
    def is_current(self) -> bool:
        return self.uid == os.geteuid()

    def popen_arguments(self) -> dict[str, Any]:
        """Arguments for subprocess.Popen that start the child as this account, without other groups."""
        if self.is_current:
            return {}
        return {"user": self.uid, "group": self.gid, "extra_groups": []}

    def can(self, permission: str, path: Path) -> bool:
        """Whether this account holds "r", "w" or "x" on `path`; asked of the kernel, as that account."""
        if self.is_current:
            return os.access(path, {"r": os.R_OK, "w": os.W_OK, "x": os.X_OK}[permission])
        # From the root folder: the account may not be able to enter the folder we are in.
        check = subprocess.run(
            ["test", f"-{permission}", str(path)], check=False, cwd="/", **self.popen_arguments()
        )
        return check.returncode == 0


def for_database() -> Account:
    """This process's own account, or `nobody` when this process is root."""
    if os.geteuid() != 0:
        return Account(name=str(os.geteuid()), uid=os.geteuid(), gid=os.getegid())
    try:
        entry = pwd.getpwnam("nobody")
    except KeyError:
        raise ServerError(
            "PostgreSQL does not run as root, and this system has no account `nobody` to lend it. "
            "Start Custos as a normal user, or set DATABASE_URL to a PostgreSQL server."
        ) from None
    return Account(name="nobody", uid=entry.pw_uid, gid=entry.pw_gid)
