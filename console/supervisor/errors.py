"""What the supervisor cannot mend by itself; every message says what a person can do about it."""


class SupervisorError(Exception):
    """Starting or running the product failed. `str(error)` is the whole message for the operator."""


class ServerError(SupervisorError):
    """A database or Valkey server could not be started."""
