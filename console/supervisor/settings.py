"""The addresses and secrets that the parts share, and how other commands find them."""

import json
import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote, urlsplit, urlunsplit

from console import environment

DEMO_PASSWORD = "CUSTOS_DEMO_PASSWORD"


@dataclass(frozen=True, kw_only=True)
class Addresses:
    """Where the running parts are; the URLs hold passwords."""

    owner_database_url: str
    app_database_url: str
    redis_url: str
    inference_url: str

    def variables(self, env: environment.Environment) -> dict[str, str]:
        """The environment variables that lead every process to the same parts."""
        return {
            "CUSTOS_VAR_DIR": str(env.var_dir),
            "CUSTOS_HOST": env.host,
            "CUSTOS_PORT": str(env.port),
            "DATABASE_URL": self.owner_database_url,
            "CUSTOS_APP_DATABASE_URL": self.app_database_url,
            "REDIS_URL": self.redis_url,
            "CUSTOS_INFERENCE_URL": self.inference_url,
            "CUSTOS_WITNESS_URL": env.witness_url,
            "CUSTOS_WITNESS_KEY": env.witness_key,
        }


def application_url(owner_url: str, password: str) -> str:
    """The same database, as the application's plain role."""
    parts = urlsplit(owner_url)
    host = parts.netloc.rpartition("@")[2]
    login = f"{environment.APPLICATION_ROLE}:{quote(password, safe='')}"
    return urlunsplit(parts._replace(netloc=f"{login}@{host}"))


def environment_file(env: environment.Environment) -> Path:
    return env.run_dir / "environment.json"


def publish(path: Path, variables: Mapping[str, str]) -> None:
    """Write the variables for commands in other shells: whole or not at all, for this account only."""
    descriptor, temporary = tempfile.mkstemp(dir=path.parent)  # mode 0600
    with os.fdopen(descriptor, "w") as file:
        json.dump(variables, file, indent=1)
    os.replace(temporary, path)
