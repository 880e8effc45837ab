"""Whether a password is right, behind the brake on guessing: the one place where passwords are checked."""

from django.contrib.auth import authenticate
from django.http import HttpRequest
from redis import RedisError

from console import throttle
from console.sign_in import trail
from console.sign_in.changes import client_address
from tenants.models import User


class TooManyAttempts(Exception):
    """The account or the address failed too often; even the right password is not looked at."""


class BrakeUnavailable(Exception):
    """Attempts cannot be counted, so none is allowed."""


def check(request: HttpRequest, *, email: str, password: str) -> User | None:
    """The active person whose password this is, or None. Raises TooManyAttempts and BrakeUnavailable."""
    who = {"email": email, "address": client_address(request)}
    try:
        if not throttle.admits(**who):
            trail.attempt_failed(by="password", why="too many attempts", **who)
            raise TooManyAttempts
        found = authenticate(request, username=email, password=password)
        if not isinstance(found, User):
            trail.attempt_failed(by="password", why="wrong password", **who)
            return None
        throttle.succeeded(**who)
    except RedisError as error:
        raise BrakeUnavailable from error
    return found
