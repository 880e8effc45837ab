"""Who is told of alerts: addresses of people and of programs."""

from typing import Any
from uuid import UUID

from django import forms
from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from console.mail import is_delivering
from console.monitoring import rules, webhooks
from console.monitoring.models import Channel, Notice, Severity
from console.pages.administration.confirm import Question, ask, is_confirmed
from console.pages.administration.forms import Failed, PageForm, attempt, posted, status_of
from console.pages.monitoring.alerts import FRAME, by_of
from console.sign_in.accounts import require_recent_sign_in
from console.tenancy import platform_view
from tenants.actors import NotVisible

LATEST = 20
LEAST = (
    (Severity.WARNING.value, gettext_lazy("Warnings and what is critical")),
    (Severity.CRITICAL.value, gettext_lazy("Only what is critical")),
)


class ChannelForm(PageForm):
    name = forms.CharField(label=gettext_lazy("Name"), max_length=100)
    target = forms.CharField(max_length=webhooks.LONGEST)
    least = forms.ChoiceField(label=gettext_lazy("Told of"), choices=LEAST)

    def __init__(self, *args: Any, kind: str, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        target = self.fields["target"]
        if kind == Channel.Kind.EMAIL:
            target.label = _("E-mail addresses")
            target.help_text = _("Several with commas between them.")
        else:
            target.label = _("Address")
            target.help_text = _(
                "An address that begins with https://. Each notice is posted there as JSON, signed."
            )
            target.widget.attrs.update({"spellcheck": "false", "autocapitalize": "none", "inputmode": "url"})


class ChangeForm(ChannelForm):
    enabled = forms.BooleanField(label=gettext_lazy("Switched on"), required=False)


@require_safe
@platform_view
def page(request: HttpRequest) -> HttpResponse:
    context = {
        "title": _("Who is told"),
        "channels": Channel.objects.filter(removed=None).order_by("name"),
        "is_delivering": is_delivering(),
    }
    return render(request, "monitoring/channels.html", context)


@require_http_methods(["GET", "HEAD", "POST"])
@platform_view
def create(request: HttpRequest, kind: str) -> HttpResponse:
    if kind not in Channel.Kind.values:
        raise NotVisible(kind)
    form = ChannelForm(*posted(request), kind=kind)
    if form.is_bound and form.is_valid():
        asked = {**form.cleaned_data, "kind": kind, "by": by_of(request)}
        made = attempt(form, lambda: rules.create_channel(**asked))
        if not isinstance(made, Failed):
            messages.success(request, _("The channel is kept. Send a test to it."))
            return redirect("alert_channel", made.pk)
    title = _("New e-mail channel") if kind == Channel.Kind.EMAIL else _("New webhook")
    return render(
        request, "monitoring/channel_new.html", {"title": title, "form": form}, status=status_of(form)
    )


@require_http_methods(["GET", "HEAD", "POST"])
@platform_view
def one(request: HttpRequest, channel_id: UUID) -> HttpResponse:
    channel = _channel(channel_id)
    initial = {name: getattr(channel, name) for name in ("name", "target", "least", "enabled")}
    form = ChangeForm(*posted(request), kind=channel.kind, initial=initial)
    if form.is_bound and form.is_valid():
        asked = {**form.cleaned_data, "channel_id": channel_id, "by": by_of(request)}
        if not isinstance(attempt(form, lambda: rules.change_channel(**asked)), Failed):
            messages.success(request, _("The channel is kept."))
            return redirect("alert_channel", channel_id)
    return _page_of(request, channel, form)


@require_POST
@platform_view
def try_out(request: HttpRequest, channel_id: UUID) -> HttpResponse:
    rules.try_channel(by=by_of(request), channel_id=channel_id)
    messages.success(request, _("A test is on its way. What became of it is below within seconds."))
    return redirect("alert_channel", channel_id)


@require_safe
@platform_view
def secret(request: HttpRequest, channel_id: UUID) -> HttpResponse:
    """The secret of a webhook's signatures, after a fresh proof of who asks."""
    require_recent_sign_in(request)
    channel = _channel(channel_id)
    if channel.kind != Channel.Kind.WEBHOOK:
        raise NotVisible(str(channel_id))
    context = {"title": channel.name, "channel": channel, "secret": webhooks.secret_of(channel_id)}
    return render(request, "monitoring/channel_secret.html", context)


@require_http_methods(["GET", "HEAD", "POST"])
@platform_view
def remove(request: HttpRequest, channel_id: UUID) -> HttpResponse:
    channel = _channel(channel_id)
    if is_confirmed(request):
        rules.remove_channel(by=by_of(request), channel_id=channel_id)
        messages.success(request, _("The channel is gone."))
        return redirect("alert_channels")
    question = Question(
        title=_("Remove the channel “%(name)s”?") % {"name": channel.name},
        text=_("It is told of nothing any more, not even of what waits for it now."),
        button=_("Remove the channel"),
        action=reverse("alert_channel_remove", args=[channel_id]),
        back=reverse("alert_channel", args=[channel_id]),
    )
    return ask(request, question, frame=FRAME)


def _channel(channel_id: UUID) -> Channel:
    channel = Channel.objects.filter(pk=channel_id, removed=None).first()
    if channel is None:
        raise NotVisible(str(channel_id))
    return channel


def _page_of(request: HttpRequest, channel: Channel, form: ChangeForm) -> HttpResponse:
    latest = Notice.objects.filter(channel=channel).select_related("alert__rule").order_by("-pk")
    context = {
        "title": channel.name,
        "channel": channel,
        "form": form,
        "notices": latest[:LATEST],
        "is_delivering": is_delivering(),
    }
    return render(request, "monitoring/channel.html", context, status=status_of(form))
