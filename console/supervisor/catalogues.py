"""Message catalogues: .po files compiled to .mo when they are newer."""

import os
import tempfile
from pathlib import Path

from console.supervisor.errors import SupervisorError


def compile_all(base_dir: Path) -> int:
    """Compile what changed under locale/. Returns how many. Raises SupervisorError naming a broken file."""
    changed = [source for source in base_dir.glob("locale/*/LC_MESSAGES/*.po") if _is_newer(source)]
    for source in changed:
        _compile(source)
    return len(changed)


def _is_newer(source: Path) -> bool:
    compiled = source.with_suffix(".mo")
    return not compiled.exists() or compiled.stat().st_mtime_ns < source.stat().st_mtime_ns


def _compile(source: Path) -> None:
    # Imported here: only this step needs Babel, and it runs only after a change.
    from babel.messages.mofile import write_mo
    from babel.messages.pofile import PoFileError, read_po

    try:
        with source.open("rb") as file:
            catalogue = read_po(file, abort_invalid=True)
    except (PoFileError, ValueError) as error:
        raise SupervisorError(f"The message catalogue {source} is broken: {error}") from error
    descriptor, temporary = tempfile.mkstemp(dir=source.parent)
    with os.fdopen(descriptor, "wb") as file:
        write_mo(file, catalogue)
    os.chmod(temporary, 0o644)
    os.replace(temporary, source.with_suffix(".mo"))
