"""HTTP for the witness: over a socket in its folder, which is closed to others, or over a port."""

import os
import socket
import socketserver
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from audit.witness.witness import Answer, Witness

SOCKET = "socket"
MOST_BYTES = 64 * 1024


class _Handler(BaseHTTPRequestHandler):
    """One connection."""

    witness: Witness
    timeout = 10
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        length = self.headers.get("Content-Length", "")
        if self.path != "/add-checkpoint":
            self._answer(Answer(404, "there is nothing here\n"))
        elif not length.isdecimal() or int(length) > MOST_BYTES:
            self.close_connection = True
            self._answer(Answer(413, "the request is too long, or does not say how long it is\n"))
        else:
            self._answer(self.witness.add_checkpoint(self.rfile.read(int(length))))

    def do_GET(self) -> None:
        log, _, rest = self.path.removeprefix("/").partition("/")
        known = rest == "checkpoint" and len(log) == 64 and set(log) <= set("0123456789abcdef")
        self._answer(self.witness.checkpoint(log) if known else Answer(404, "there is nothing here\n"))

    def log_message(self, format: str, *args: Any) -> None:
        """Only what was refused is worth a line."""

    def _answer(self, answer: Answer) -> None:
        if answer.status not in (200, 404) and self.command == "POST":
            print(f"refused a head: {answer.status} {answer.text.strip()}", flush=True)
        body = answer.text.encode()
        self.send_response(answer.status)
        self.send_header("Content-Type", answer.content_type)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


class _SocketServer(ThreadingHTTPServer):
    """At a socket in the working directory: the kernel takes no long paths."""

    address_family = socket.AF_UNIX

    def server_bind(self) -> None:
        Path(SOCKET).unlink(missing_ok=True)
        old = os.umask(0o177)
        try:
            socketserver.TCPServer.server_bind(self)
        finally:
            os.umask(old)
        self.server_name, self.server_port = "witness", 0

    def get_request(self) -> tuple[socket.socket, Any]:
        request, _ = self.socket.accept()
        return request, ("local", 0)


def serve(witness: Witness, *, folder: Path, port: int | None) -> None:
    """Answer until the process ends. port: on this machine, instead of the socket in the folder."""
    handler = type("Handler", (_Handler,), {"witness": witness})
    if port is not None:
        ThreadingHTTPServer(("127.0.0.1", port), handler).serve_forever()
    os.chdir(folder)
    _SocketServer(SOCKET, handler).serve_forever()  # type: ignore[arg-type]  # typeshed knows pairs only
