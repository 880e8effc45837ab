"""A folder of ours under another path, for one program alone.

The account lent to the database may be unable to reach our folder: a clone in root's closed home, or in a temporary
folder. Rather than open any folder to others, root starts the program in a mount namespace of its own, in which the
folder is also mounted at an existing path that everybody can reach. Nobody else sees that mount, and it ends with the
program.
"""

import signal
import subprocess
from pathlib import Path

from console.supervisor.accounts import Account

# Standard directories (FHS), any of which will do: the mount hides its content from this one program only.
CANDIDATES = (Path("/mnt"), Path("/media"), Path("/srv"))

# In the new namespace: mount, go there, become the account, start the program.
SCRIPT = 'mount --bind "$1" "$2" && cd "$2" && shift 2 && exec setpriv "$@"'


class PrivateView:
    """`folder`, seen as `seen_as` by the programs started through `command`."""

    def __init__(self, folder: Path, seen_as: Path) -> None:
        self._folder = folder
        self._seen_as = seen_as

    def path(self, path: Path) -> Path:
        """What the program calls a path of ours."""
        return self._seen_as / path.relative_to(self._folder) if path.is_relative_to(self._folder) else path

    def command(self, argv: list[str], *, account: Account, death_signal: signal.Signals) -> list[str]:
        """The command that starts `argv` with this view as `account`. The process keeps its id throughout.

        The change of account clears the parent-death signal, so it is set after it.
        """
        become = [f"--reuid={account.uid}", f"--regid={account.gid}", "--clear-groups"]
        become += [f"--pdeathsig={death_signal.name.removeprefix('SIG')}", "--"]
        return [*_in_namespace(self._folder, self._seen_as), *become, *argv]


def possible(folder: Path, account: Account) -> PrivateView | None:
    """A view of `folder`, which `account` may enter, or None when this system does not let us make one."""
    for candidate in CANDIDATES:
        if not account.can("x", candidate):
            continue
        view = PrivateView(folder, candidate)
        test = view.command(["test", "-x", str(candidate)], account=account, death_signal=signal.SIGKILL)
        try:
            done = subprocess.run(test, cwd="/", capture_output=True, check=False)
        except FileNotFoundError:
            return None
        if done.returncode == 0:
            return view
    return None


def _in_namespace(folder: Path, seen_as: Path) -> list[str]:
    return [
        "unshare",
        "--mount",
        "--propagation",
        "private",
        "sh",
        "-c",
        SCRIPT,
        "sh",
        str(folder),
        str(seen_as),
    ]
