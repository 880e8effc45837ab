"""The question before something that cannot be undone, or that many are affected by.

A page of its own, and with scripts a dialog over the page that asked: links and forms with `data-dialog` open it there.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

from django import forms
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render

from console.pages.administration.forms import status_of

CONFIRMED = "confirmed"


@dataclass(frozen=True, kw_only=True)
class Question:
    """title: the question, naming what it is about. text: what happens then. names: whom or what it concerns.

    hidden: (name, value) pairs sent along with the answer, to `action`; the answer has `confirmed` besides. form: what
    must be chosen with it, if anything. back: where "Cancel" leads.
    """

    title: str
    text: str
    button: str
    action: str
    back: str
    names: Sequence[str] = ()
    hidden: Sequence[tuple[str, str]] = field(default_factory=tuple)
    form: forms.Form | None = None
    is_danger: bool = True


def ask(request: HttpRequest, question: Question, *, frame: str = "administration/base.html") -> HttpResponse:
    """The page that asks; 422 when the form in it was filled in wrongly. frame: the template around it."""
    status = status_of(question.form) if question.form else 200
    context = {"title": question.title, "question": question, "confirmed": CONFIRMED, "frame": frame}
    return render(request, "administration/confirm.html", context, status=status)


def is_confirmed(request: HttpRequest) -> bool:
    return request.method == "POST" and CONFIRMED in request.POST
