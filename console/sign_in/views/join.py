"""The door of a tenant that takes in people by the domain of their address: `/join/<slug>/`.

Whoever asks learns only that a mail may be on its way: whether the address belongs, and whether it is a member's, is
looked up by a worker (console.tasks.answer_request), so neither the answer nor its time tells.
"""

from django import forms
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods
from kombu.exceptions import OperationalError
from redis import RedisError

from console import throttle
from console.sign_in.changes import client_address
from console.sign_in.forms import EMAIL_ERRORS
from console.tasks import answer_request
from tenants import people
from tenants.actors import NotVisible


class JoinForm(forms.Form):
    email = forms.EmailField(
        label=gettext_lazy("E-mail address"), max_length=254, error_messages=EMAIL_ERRORS
    )


@never_cache
@require_http_methods(["GET", "HEAD", "POST"])
def page(request: HttpRequest, slug: str) -> HttpResponse:
    """Ask for a link to join by mail."""
    address = client_address(request)
    try:
        people.require_open_door(tenant_slug=slug, address=address)
    except NotVisible as error:
        raise Http404 from error
    form = JoinForm(request.POST if request.method == "POST" else None)
    status = 422 if form.is_bound else 200
    if form.is_bound and form.is_valid():
        email = form.cleaned_data["email"]
        try:
            if throttle.admits_request(email=email, address=address):
                origin = request.build_absolute_uri("/").rstrip("/")
                answer_request.delay(slug, email, address, origin)
                return render(request, "sign_in/join.html", {"is_asked": True})
            status = 429
            form.add_error(None, _("Too many attempts. Wait a few minutes, then try again."))
        except (RedisError, OperationalError):
            status = 503
            form.add_error(None, _("This is not possible at the moment. Try again in a minute."))
    return render(request, "sign_in/join.html", {"form": form}, status=status)
