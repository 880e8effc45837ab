#!/usr/bin/env python
"""Runs a management command of Custos: `manage.py up`, `manage.py doctor`, …"""

import importlib.util
import os
import sys
from pathlib import Path

VIRTUAL_ENVIRONMENT = Path(__file__).resolve().parent / ".venv"


def main() -> None:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "console.settings")
    command = sys.argv[1] if len(sys.argv) > 1 else ""
    if importlib.util.find_spec("django") is None:
        _use_virtual_environment()
    # These two run without Django: one starts what Django needs, the other tells what is wrong with it.
    if command == "doctor":
        from console.supervisor import doctor

        sys.exit(doctor.main(sys.argv[2:]))
    if command == "up" and len(sys.argv) == 2:
        from console.supervisor import up

        sys.exit(up.main())
    from django.core.management import execute_from_command_line

    execute_from_command_line(sys.argv)


def _use_virtual_environment() -> None:
    """Go on with the interpreter that `make run` installed the requirements for."""
    python = VIRTUAL_ENVIRONMENT / "bin" / "python"
    if Path(sys.prefix).resolve() != VIRTUAL_ENVIRONMENT and python.exists():
        os.execv(python, [str(python), *sys.argv])
    if sys.argv[1:2] != ["doctor"]:
        sys.exit("Custos is not installed yet. Run `make run`, which installs and starts everything.")


if __name__ == "__main__":
    main()
