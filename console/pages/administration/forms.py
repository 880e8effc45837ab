"""Forms over services: what a service refuses is shown at the field at fault, and nothing typed is lost."""

from collections.abc import Callable
from typing import TypeVar

from django import forms

from tenants.errors import Refused

T = TypeVar("T")


class Failed:
    """What `attempt` returns when a service refused, so that None can be a result."""


FAILED = Failed()


def attempt(form: forms.Form, call: Callable[[], T]) -> T | Failed:
    """The result of the service, or FAILED with its message in the form: at its field, else above all fields."""
    try:
        return call()
    except Refused as error:
        form.add_error(error.field if error.field in form.fields else None, error.message)
        return FAILED
