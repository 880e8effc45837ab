"""`python -m tests.deployments.reconciling`: what `manage.py deployments run` does, without compiling what it starts.

Compiling takes a minute of a core for each precision; what it changes is tested by itself.
"""

import django
from django.core.management import call_command

if __name__ == "__main__":
    django.setup()
    from console.deployments import process

    arguments = process.arguments
    process.arguments = lambda *args, **kwargs: [*arguments(*args, **kwargs), "--no-compile"]
    call_command("deployments", "run")
