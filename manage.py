#!/usr/bin/env python
"""Runs a management command of Custos: `manage.py up`, `manage.py doctor`, …"""

import importlib.util
import os
import sys
from pathlib import Path

VIRTUAL_ENVIRONMENT = Path(__file__).resolve().parent / ".venv"


def main() -> None:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "console.settings")
    if sys.argv[1:2] == ["doctor"]:
        # The doctor runs without Django: it has to be able to say that Django is missing.
        from console.supervisor import doctor

        sys.exit(doctor.main(sys.argv[2:]))
    if importlib.util.find_spec("django") is None:
        _use_virtual_environment()
    from django.core.management import execute_from_command_line

    execute_from_command_line(sys.argv)


def _use_virtual_environment() -> None:
    """Go on with the interpreter that `make run` installed the requirements for."""
    python = VIRTUAL_ENVIRONMENT / "bin" / "python"
    inside = Path(sys.prefix).resolve() == VIRTUAL_ENVIRONMENT
    if inside or not python.exists():
        sys.exit("The Python packages of Custos are not installed. Run `make run`, which installs and starts everything.")
    os.execv(python, [str(python), *sys.argv])


if __name__ == "__main__":
    main()
