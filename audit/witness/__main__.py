"""`python -m audit.witness`: run a witness for the logs of one installation."""

import argparse
import base64
import fcntl
import os
import secrets
import signal
import sys
from pathlib import Path

from audit.tree.notes import COSIGNATURE, Signer
from audit.witness.heads import Heads
from audit.witness.server import serve
from audit.witness.witness import Logs, Witness


def main() -> int:
    """Serve until told to stop. Returns 2 for what cannot be."""
    parser = argparse.ArgumentParser(prog="python -m audit.witness", description=__doc__)
    parser.add_argument("--state", type=Path, required=True, help="the witness's own folder")
    parser.add_argument("--log-name", required=True, help="the installation whose logs it signs")
    parser.add_argument("--log-key", required=True, help="that installation's public key, in base64")
    parser.add_argument("--port", type=int, help="listen at 127.0.0.1 instead of a socket in the folder")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    state: Path = options.state.absolute()
    state.mkdir(mode=0o700, parents=True, exist_ok=True)
    with (state / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print(f"another witness runs in {state}: stop that one first", file=sys.stderr)
            return 2
        key = base64.b64decode(options.log_key)
        first = _kept(state / "log", f"{options.log_name} {base64.b64encode(key).decode()}\n")
        if len(key) != 32 or first != f"{options.log_name} {base64.b64encode(key).decode()}\n":
            # Else whoever replaces the log's key could begin its history anew.
            print(
                f"the log's name or key is another than at first ({first.strip()}): put the old one back, "
                f"or, if it was changed on purpose, write the new one into {state / 'log'}",
                file=sys.stderr,
            )
            return 2
        seed = base64.b64decode(
            _kept(state / "witness.key", base64.b64encode(secrets.token_bytes(32)).decode() + "\n")
        )
        signer = Signer(f"{options.log_name}/witness", COSIGNATURE, seed)
        (state / "witness.pub").write_text(f"{signer.verifier}\n")
        serve(
            Witness(signer, Logs(options.log_name, key), Heads(state / "heads")),
            folder=state,
            port=options.port,
        )
    return 0


def _kept(path: Path, value: str) -> str:
    """What a file holds, which is written on first use, whole, for us alone."""
    if not path.exists():
        temporary = path.with_suffix(".new")
        with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
            file.write(value)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    return path.read_text()


if __name__ == "__main__":
    sys.exit(main())
