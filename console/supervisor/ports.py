"""Free ports."""

import errno
import random
import socket

# Below the range that the kernel takes outgoing ports from, so that a port is still free when its server
# is started again.
_RANGE = range(20000, 32000)


def free_port(host: str = "127.0.0.1") -> int:
    """A TCP port nothing listens on at this moment; the caller must cope with losing a race for it."""
    for port in random.sample(_RANGE, 50):
        if port_is_free(host, port):
            return port
    with socket.socket() as probe:
        probe.bind((host, 0))
        port = probe.getsockname()[1]
        return port


def port_is_free(host: str, port: int) -> bool:
    """Whether a server could listen there now. Raises OSError when `host` is no address of this machine."""
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            if error.errno in (errno.EADDRINUSE, errno.EACCES):
                return False
            raise
        return True
