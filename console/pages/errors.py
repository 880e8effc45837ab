"""What people see when something cannot be shown. None of these needs the database."""

from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import render
from django.template.loader import render_to_string
from django.utils.translation import gettext as _


def bad_request(request: HttpRequest, exception: Exception) -> HttpResponse:
    return render(request, "400.html", status=400)


def forbidden(request: HttpRequest, exception: Exception) -> HttpResponse:
    return render(request, "403.html", status=403)


def not_found(request: HttpRequest, exception: Exception) -> HttpResponse:
    """Missing and forbidden look the same."""
    return render(request, "404.html", status=404)


def too_many(request: HttpRequest) -> HttpResponse:
    """Somebody, or their address, asked too often for something that is counted."""
    return render(request, "429.html", status=429)


def keys_unavailable(request: HttpRequest) -> HttpResponse:
    """What is stored can neither be sealed nor opened at this moment."""
    return HttpResponse(render_to_string("503.html"), status=503)


def not_recorded(request: HttpRequest) -> HttpResponse:
    """What was begun is undone, because the audit could not be written; a script is told so in its own form."""
    if request.get_preferred_type(["text/html", "application/json"]) == "application/json":
        message = _("This could not be recorded, so it was not done. Try again in a minute.")
        return JsonResponse({"error": {"code": "audit_unavailable", "message": message}}, status=503)
    # Without the request, as above; what was typed is still there on the page before.
    return HttpResponse(render_to_string("503_audit.html"), status=503)


def server_error(request: HttpRequest) -> HttpResponse:
    # Without the request: whatever failed may be what its context processors need.
    return HttpResponse(render_to_string("500.html"), status=500)
