"""Where this installation lives and how its parts are reached: the one reader of environment variables.

Order: the process environment, then `var/run/environment.json`, which the running supervisor writes so that commands
in another shell find its services, then the defaults. Secrets are files of mode 0600 under `var/secrets`, made on first
use. Imports no Django.
"""

import base64
import json
import os
import re
import secrets
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from ipaddress import ip_network
from pathlib import Path
from urllib.parse import unquote, urlsplit

BASE_DIR = Path(__file__).resolve().parent.parent
APPLICATION_ROLE = "custos_app"
KEY_PROVIDERS = ("local", "aws-kms", "vault")
PRECISIONS = ("bfloat16", "int8", "float32")


class InvalidSetting(ValueError):
    """A setting has a value that cannot be used; the message names it and says what to give instead."""


@dataclass(frozen=True, kw_only=True)
class KeySettings:
    """Who keeps the master key of tenants' keys, and how that is reached. AWS finds its credentials by itself."""

    provider: str = "local"
    kms_key: str = ""
    kms_region: str = ""
    kms_endpoint: str = ""
    vault_address: str = ""
    vault_mount: str = "transit"
    vault_key: str = ""
    vault_namespace: str = ""
    vault_ca_file: str = ""
    vault_token_file: str = ""
    vault_token: str = field(default="", repr=False)


@dataclass(frozen=True, kw_only=True)
class Environment:
    """The installation's settings. URLs are "" when the part is not known to run."""

    base_dir: Path
    var_dir: Path
    host: str
    port: int
    allowed_hosts: tuple[str, ...]
    trusted_origins: tuple[str, ...]
    debug: bool
    owner_database_url: str
    app_database_url: str
    redis_url: str
    inference_url: str
    inference_precision: str
    inference_memory_mb: int
    inference_faults: bool
    models_dir: Path | None
    models_four_eyes: bool
    model_upload_gb: int
    knowledge_file_mb: int
    hub_url: str
    email_url: str
    email_from: str
    witness_url: str
    witness_key: str
    prometheus_url: str
    webhook_networks: tuple[str, ...]
    keys: KeySettings

    @property
    def secrets_dir(self) -> Path:
        return self.var_dir / "secrets"

    @property
    def run_dir(self) -> Path:
        return self.var_dir / "run"


def load() -> Environment:
    """Read the settings. Raises InvalidSetting for a value that cannot be used."""
    var_dir = Path(os.environ.get("CUSTOS_VAR_DIR") or BASE_DIR / "var").resolve()
    running = _written_by_supervisor(var_dir)

    def value(name: str, default: str = "") -> str:
        # A variable that is set but empty says that this process is not to have it.
        return os.environ.get(name, running.get(name, "")) or default

    host = value("CUSTOS_HOST", "127.0.0.1")
    return Environment(
        base_dir=BASE_DIR,
        var_dir=var_dir,
        host=host,
        port=_port(value("CUSTOS_PORT", "8000")),
        allowed_hosts=_words(value("CUSTOS_ALLOWED_HOSTS", "localhost,127.0.0.1,[::1]")),
        trusted_origins=_words(value("CUSTOS_TRUSTED_ORIGINS")),
        debug=value("CUSTOS_DEBUG").lower() in {"1", "true", "yes"},
        owner_database_url=value("DATABASE_URL"),
        app_database_url=value("CUSTOS_APP_DATABASE_URL"),
        redis_url=value("REDIS_URL"),
        inference_url=value("CUSTOS_INFERENCE_URL"),
        inference_precision=_precision(value("CUSTOS_INFERENCE_PRECISION", PRECISIONS[0])),
        inference_memory_mb=_megabytes(
            "CUSTOS_INFERENCE_MEMORY_MB", value("CUSTOS_INFERENCE_MEMORY_MB", "0")
        ),
        inference_faults=value("CUSTOS_INFERENCE_FAULTS").lower() in {"1", "true", "yes"},
        models_dir=_folder("CUSTOS_MODELS_DIR", value("CUSTOS_MODELS_DIR")),
        models_four_eyes=value("CUSTOS_MODELS_FOUR_EYES").lower() in {"1", "true", "yes"},
        model_upload_gb=_gigabytes("CUSTOS_MODEL_UPLOAD_GB", value("CUSTOS_MODEL_UPLOAD_GB", "50")),
        knowledge_file_mb=_file_megabytes(value("CUSTOS_KNOWLEDGE_FILE_MB", "50")),
        hub_url=value("CUSTOS_HUB_URL", "https://huggingface.co").rstrip("/"),
        email_url=value("CUSTOS_EMAIL_URL"),
        email_from=value("CUSTOS_EMAIL_FROM", "Custos <custos@localhost>"),
        keys=_keys(value),
        witness_url=value("CUSTOS_WITNESS_URL"),
        witness_key=value("CUSTOS_WITNESS_KEY"),
        prometheus_url=_web_address("PROMETHEUS_URL", value("PROMETHEUS_URL")),
        webhook_networks=_networks("CUSTOS_WEBHOOK_NETWORKS", value("CUSTOS_WEBHOOK_NETWORKS")),
    )


@dataclass(frozen=True, kw_only=True)
class MailServer:
    """Where mail is handed over. starttls: encrypt after connecting; tls: from the first byte."""

    host: str
    port: int
    user: str
    password: str
    starttls: bool
    tls: bool


MAIL_PORTS = {"smtp": 25, "smtp+starttls": 587, "smtps": 465}


def mail_server(url: str) -> MailServer | None:
    """The server of CUSTOS_EMAIL_URL, such as smtp+starttls://user:password@mail.example:587; None for "".

    User and password are percent-encoded. Raises InvalidSetting.
    """
    if not url:
        return None
    wrong = InvalidSetting(
        f"CUSTOS_EMAIL_URL is no address of a mail server; give one such as smtp+starttls://user:password@host:587 "
        f"({', '.join(MAIL_PORTS)})"
    )
    try:
        parts = urlsplit(url)
        port = parts.port or MAIL_PORTS.get(parts.scheme, 0)
    except ValueError:
        raise wrong from None
    if parts.scheme not in MAIL_PORTS or not parts.hostname:
        raise wrong
    return MailServer(
        host=parts.hostname,
        port=port,
        user=unquote(parts.username or ""),
        password=unquote(parts.password or ""),
        starttls=parts.scheme == "smtp+starttls",
        tls=parts.scheme == "smtps",
    )


def secret(var_dir: Path, name: str, make: Callable[[], str] = lambda: secrets.token_urlsafe(32)) -> str:
    """The secret kept in `var/secrets/<name>`, made with `make` on first use.

    Safe when several processes ask for it first at once: the file appears whole or not at all, and the first one wins.
    """
    return _kept(var_dir / "secrets" / name, make)


def inference_token(var_dir: Path) -> str:
    """What the inference server asks for: CUSTOS_INFERENCE_TOKEN, as for one elsewhere, else a secret of our own."""
    return os.environ.get("CUSTOS_INFERENCE_TOKEN") or secret(var_dir, "inference_token")


def log_name(var_dir: Path) -> str:
    """What this installation's audit logs are called: CUSTOS_NAME at the first start, from then on as it was then.

    Raises InvalidSetting. A log that changed its name would be another log.
    """
    wanted = os.environ.get("CUSTOS_NAME", "")
    if not re.fullmatch(r"[\w.-]{0,100}", wanted, re.ASCII):
        raise InvalidSetting(f"CUSTOS_NAME is {wanted!r}; give a name like custos.bank.example")
    return _kept(var_dir / "log-name", lambda: wanted or f"custos-{secrets.token_hex(4)}")


def log_public_key(var_dir: Path) -> str:
    """The public half of the audit log's key, in base64, as the witness is told it."""
    # Imported here: the doctor must speak where packages are missing.
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    key = base64.b64decode(secret(var_dir, "audit_log.key", master_key))
    return base64.b64encode(
        Ed25519PrivateKey.from_private_bytes(key).public_key().public_bytes_raw()
    ).decode()


def shell_language() -> str:
    """The language of the shell that a command runs in, as `zh-cn`; "" when it names none."""
    # The order in which C programs look.
    for name in ("LC_ALL", "LC_MESSAGES", "LANG"):
        if tongue := os.environ.get(name):
            return tongue.partition(".")[0].partition("@")[0].replace("_", "-").lower()
    return ""


def demo_password() -> str | None:
    """The password that the demonstration people are to have, where automation chose one."""
    return os.environ.get("CUSTOS_DEMO_PASSWORD")


def master_key() -> str:
    """A new master key: 32 random bytes in base64."""
    return base64.b64encode(os.urandom(32)).decode()


def _written_by_supervisor(var_dir: Path) -> dict[str, str]:
    try:
        return json.loads((var_dir / "run" / "environment.json").read_text())
    except (FileNotFoundError, PermissionError, NotADirectoryError):
        return {}


def _kept(path: Path, make: Callable[[], str]) -> str:
    """What a file of ours says, whoever made it first."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    if not path.exists():
        handle, temporary = tempfile.mkstemp(dir=path.parent)  # mode 0600
        try:
            with os.fdopen(handle, "w") as file:
                file.write(make())
                file.flush()
                os.fsync(file.fileno())
            os.link(temporary, path)
        except FileExistsError:
            pass
        finally:
            os.unlink(temporary)
    return path.read_text().strip()


def _words(text: str) -> tuple[str, ...]:
    return tuple(word.strip() for word in text.split(",") if word.strip())


def _keys(value: Callable[[str, str], str]) -> KeySettings:
    found = KeySettings(
        provider=value("CUSTOS_KEY_PROVIDER", "local"),
        kms_key=value("CUSTOS_KMS_KEY", ""),
        kms_region=value("CUSTOS_KMS_REGION", ""),
        kms_endpoint=value("CUSTOS_KMS_ENDPOINT", ""),
        vault_address=value("CUSTOS_VAULT_ADDRESS", "").rstrip("/"),
        vault_mount=value("CUSTOS_VAULT_MOUNT", "transit"),
        vault_key=value("CUSTOS_VAULT_KEY", ""),
        vault_namespace=value("CUSTOS_VAULT_NAMESPACE", ""),
        vault_ca_file=value("CUSTOS_VAULT_CA_FILE", ""),
        vault_token_file=value("CUSTOS_VAULT_TOKEN_FILE", ""),
        vault_token=value("CUSTOS_VAULT_TOKEN", ""),
    )
    if found.provider not in KEY_PROVIDERS:
        raise InvalidSetting(
            f"CUSTOS_KEY_PROVIDER is {found.provider!r}; give one of {', '.join(KEY_PROVIDERS)}"
        )
    needed = {
        "local": {},
        "aws-kms": {"CUSTOS_KMS_KEY": found.kms_key, "CUSTOS_KMS_REGION": found.kms_region},
        "vault": {
            "CUSTOS_VAULT_ADDRESS": found.vault_address,
            "CUSTOS_VAULT_KEY": found.vault_key,
            "CUSTOS_VAULT_TOKEN_FILE": found.vault_token_file or found.vault_token,
        },
    }
    if missing := [name for name, given in needed[found.provider].items() if not given]:
        raise InvalidSetting(f"CUSTOS_KEY_PROVIDER={found.provider} also needs {', '.join(missing)}")
    return found


def _web_address(name: str, text: str) -> str:
    try:
        parts = urlsplit(text)
        is_sound = not text or (parts.scheme in ("http", "https") and bool(parts.hostname))
    except ValueError:
        is_sound = False
    if not is_sound:
        raise InvalidSetting(f"{name} is no address; give one such as http://prometheus:9090")
    return text.rstrip("/")


def _networks(name: str, text: str) -> tuple[str, ...]:
    try:
        return tuple(str(ip_network(word)) for word in _words(text))
    except ValueError as error:
        raise InvalidSetting(f"{name}: {error}; give networks such as 10.1.0.0/16, comma-separated") from None


def _port(text: str) -> int:
    if not text.isdecimal() or not 0 < int(text) < 65536:
        raise InvalidSetting(f"CUSTOS_PORT is {text!r}; give a port number from 1 to 65535")
    return int(text)


def _folder(name: str, text: str) -> Path | None:
    if text and not Path(text).is_absolute():
        raise InvalidSetting(f"{name} is {text!r}; give the folder's whole path, from /")
    return Path(text) if text else None


def _gigabytes(name: str, text: str) -> int:
    if not text.isdecimal() or not 0 < int(text) <= 100_000:
        raise InvalidSetting(f"{name} is {text!r}; give a whole number of gigabytes")
    return int(text)


def _megabytes(name: str, text: str) -> int:
    if not text.isdecimal() or int(text) > 100_000_000:
        raise InvalidSetting(f"{name} is {text!r}; give a whole number of megabytes")
    return int(text)


def _file_megabytes(text: str) -> int:
    # A file is read and hashed in memory.
    if not text.isdecimal() or not 0 < int(text) <= 1000:
        raise InvalidSetting(f"CUSTOS_KNOWLEDGE_FILE_MB is {text!r}; give a whole number from 1 to 1000")
    return int(text)


def _precision(text: str) -> str:
    if text not in PRECISIONS:
        raise InvalidSetting(f"CUSTOS_INFERENCE_PRECISION is {text!r}; give one of {', '.join(PRECISIONS)}")
    return text
