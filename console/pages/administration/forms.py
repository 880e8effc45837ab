"""Forms over services: what a service refuses is shown at the field at fault, and nothing typed is lost."""

from collections.abc import Callable
from typing import Any, TypeVar

from django import forms
from django.http import HttpRequest

from tenants.errors import Refused

T = TypeVar("T")


class PageForm(forms.Form):
    """A form whose fields look as those of every page. Draw them with `parts/field.html`.

    is_either_or: of some fields one is needed, so none is said to be optional.
    """

    is_either_or = False

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        kwargs.setdefault("auto_id", "id_%s")
        super().__init__(*args, **kwargs)
        for field in self.fields.values():
            if not isinstance(
                field.widget, forms.CheckboxInput | forms.CheckboxSelectMultiple | forms.RadioSelect
            ):
                field.widget.attrs.setdefault("class", "input")


def posted(request: HttpRequest) -> tuple[Any, Any]:
    """The first two arguments of a form: what was sent, an empty form too; (None, None) when nothing was."""
    return (request.POST, request.FILES) if request.method == "POST" else (None, None)


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


def status_of(form: forms.Form) -> int:
    """The status of a page that shows this form: 422 when something in it was refused."""
    return 422 if form.is_bound and form.errors else 200
