"""Routes: what people and programs ask for, and the rules by which deployments answer."""

from typing import Any
from uuid import UUID

from django import forms
from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, pgettext_lazy
from django.views.decorators.http import require_http_methods

from console.pages import labels
from console.pages.administration import route_words
from console.pages.administration.confirm import Question, ask, is_confirmed
from console.pages.administration.forms import FAILED, PageForm, attempt, posted, status_of
from console.tenancy import TenantRequest, tenant_view
from inference.registry.models import Route
from inference.routing import selectors, services
from inference.routing.ask import ask_of
from inference.routing.conditions import CHANNELS
from inference.routing.models import Target
from inference.routing.rules import NoSuchClass, ranked
from tenants.errors import Refused
from tenants.models import Group
from tenants.roles import MODELS_OPERATE

_CONDITIONS = (
    *("groups", "channels", "languages", "tasks", "least_tokens", "most_tokens", "weekdays"),
    *("from_hour", "to_hour", "difficulty_below"),
)


def _deployment_field() -> forms.TypedChoiceField:
    return forms.TypedChoiceField(
        label=gettext_lazy("Deployment"),
        coerce=UUID,
        error_messages={
            "required": gettext_lazy("Choose a deployment."),
            "invalid_choice": gettext_lazy("This deployment is gone. Choose another."),
        },
    )


def _offered(kind: str | None) -> list[tuple[str, str]]:
    found = selectors.deployments(kind)
    return [(str(each.pk), f"{each.name} · {each.version}") for each in found]


class NewRouteForm(PageForm):
    """A route of a name that stays."""

    name = forms.CharField(
        label=gettext_lazy("Name"),
        max_length=50,
        help_text=gettext_lazy(
            "What programs write as the model, such as assistant. It cannot be changed later."
        ),
        error_messages={"required": gettext_lazy("Enter a name.")},
    )
    label = forms.CharField(
        label=gettext_lazy("Label"),
        max_length=100,
        help_text=gettext_lazy("What people see in the chat."),
        error_messages={"required": gettext_lazy("Enter a name.")},
    )
    deployment_id = _deployment_field()

    def __init__(self, *args: Any, kind: str | None = None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["deployment_id"].choices = _offered(kind)  # type: ignore[attr-defined]


class RouteForm(NewRouteForm):
    """What can be changed of a route."""

    is_default = forms.BooleanField(
        label=gettext_lazy("Default route"),
        required=False,
        help_text=gettext_lazy("Answers where nobody names a route."),
    )

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        del self.fields["name"]
        self.fields["deployment_id"].help_text = _(
            "Answers what no rule sends elsewhere, and what those cannot."
        )


class RuleForm(PageForm):
    """A rule: where to, and when."""

    deployment_id = _deployment_field()
    position = forms.IntegerField(
        label=gettext_lazy("Position"),
        min_value=1,
        max_value=services.POSITION_MOST,
        help_text=gettext_lazy("Lower ones are asked first. Rules at one position share by weight."),
    )
    weight = forms.IntegerField(
        label=gettext_lazy("Weight"), min_value=1, max_value=services.WEIGHT_MOST, initial=100
    )
    route_class = forms.ChoiceField(
        label=pgettext_lazy("of a rule", "Class"),
        required=False,
        help_text=gettext_lazy("What people and programs may ask for by name, as in assistant:fast."),
    )
    enabled = forms.BooleanField(label=gettext_lazy("Switched on"), required=False, initial=True)
    groups = forms.MultipleChoiceField(
        label=gettext_lazy("Groups"), required=False, widget=forms.CheckboxSelectMultiple
    )
    channels = forms.MultipleChoiceField(
        label=gettext_lazy("Asked in"), required=False, widget=forms.CheckboxSelectMultiple
    )
    languages = forms.MultipleChoiceField(
        label=gettext_lazy("Language"), required=False, widget=forms.CheckboxSelectMultiple
    )
    tasks = forms.MultipleChoiceField(
        label=gettext_lazy("Task"), required=False, widget=forms.CheckboxSelectMultiple
    )
    least_tokens = forms.IntegerField(
        label=gettext_lazy("Tokens of the prompt, from"), required=False, min_value=0
    )
    most_tokens = forms.IntegerField(
        label=gettext_lazy("Tokens of the prompt, up to"), required=False, min_value=0
    )
    weekdays = forms.TypedMultipleChoiceField(
        label=gettext_lazy("Days"), required=False, coerce=int, widget=forms.CheckboxSelectMultiple
    )
    from_hour = forms.IntegerField(
        label=gettext_lazy("From the hour"), required=False, min_value=0, max_value=23
    )
    to_hour = forms.IntegerField(label=gettext_lazy("To the hour"), required=False, min_value=1, max_value=24)
    difficulty_below = forms.FloatField(
        label=gettext_lazy("Difficulty below"),
        required=False,
        min_value=0,
        max_value=1,
        help_text=gettext_lazy(
            "From 0 to 1, guessed from the words of the question. For the fast class: what is harder goes to a later rule."
        ),
    )

    def __init__(self, *args: Any, kind: str, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        groups = Group.objects.order_by("-is_everyone", "name").values_list("pk", "name")
        offered: dict[str, list[tuple[Any, Any]]] = {
            "deployment_id": list(_offered(kind)),
            "route_class": list(route_words.CLASSES.items()),
            "groups": [(str(pk), name) for pk, name in groups],
            "channels": [(code, labels.CHANNELS[code]) for code in CHANNELS],
            "languages": list(route_words.LANGUAGES.items()),
            "tasks": list(route_words.TASKS.items()),
            "weekdays": list(enumerate(route_words.WEEKDAYS)),
        }
        for name, choices in offered.items():
            self.fields[name].choices = choices  # type: ignore[attr-defined]

    def asked(self) -> dict[str, Any]:
        """What `services.save_rule` is asked for."""
        values = dict(self.cleaned_data)
        conditions = {name: values.pop(name) for name in _CONDITIONS}
        return {**values, "conditions": conditions}


class BenchForm(PageForm):
    """A question, to see where it would go. Nothing is asked of a model and nothing is kept."""

    question = forms.CharField(
        label=gettext_lazy("Question"), max_length=4000, widget=forms.Textarea(attrs={"rows": 3})
    )
    channel = forms.ChoiceField(label=gettext_lazy("Asked in"))
    wanted = forms.ChoiceField(label=pgettext_lazy("of a rule", "Class"), required=False)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["channel"].choices = [(code, labels.CHANNELS[code]) for code in CHANNELS]  # type: ignore[attr-defined]
        classes = {**route_words.CLASSES, "": _("Automatic")}
        self.fields["wanted"].choices = list(classes.items())  # type: ignore[attr-defined]


@require_http_methods(["GET", "HEAD", "POST"])
@tenant_view(MODELS_OPERATE)
def create(request: TenantRequest) -> HttpResponse:
    form = NewRouteForm(*posted(request))
    if form.is_bound and form.is_valid():
        made = attempt(form, lambda: services.create_route(actor=request.actor, **form.cleaned_data))
        if isinstance(made, Route):
            messages.success(
                request, _("The route was made. Everyone may use it until Access says otherwise.")
            )
            return redirect("route", request.actor.tenant_slug, made.pk)
    return _form(
        request, _("New route"), form, _("Make the route"), reverse("models_here", args=[_slug(request)])
    )


@require_http_methods(["GET", "HEAD", "POST"])
@tenant_view(MODELS_OPERATE)
def one(request: TenantRequest, route_id: UUID) -> HttpResponse:
    """A route with its rules and its test bench; POST changes its details, or asks where a question would go."""
    route = selectors.route_by_id(route_id)
    is_bench = "question" in request.POST
    initial = {
        "label": route.label,
        "deployment_id": str(route.deployment_id),
        "is_default": route.is_default,
    }
    kind = route.deployment.version.kind
    form = RouteForm(*(() if is_bench else posted(request)), kind=kind, initial=initial)
    bench = BenchForm(request.POST if is_bench else None)
    if form.is_bound and form.is_valid():
        changes = {"route_id": route.pk, **form.cleaned_data}
        if attempt(form, lambda: services.update_route(actor=request.actor, **changes)) is not FAILED:
            messages.success(request, _("The route was changed."))
            return redirect("route", _slug(request), route.pk)
        route = selectors.route_by_id(route_id)
    context = {
        "title": route.label,
        "route": route,
        "form": form,
        "bench": bench,
        "found": _tried(request, route, bench) if bench.is_bound and bench.is_valid() else None,
        "rules": [
            (rule, route_words.CLASSES[rule.route_class], route_words.condition_lines(rule.conditions))
            for rule in selectors.rules_of(route)
        ],
    }
    return render(
        request, "administration/route.html", context, status=max(status_of(form), status_of(bench))
    )


@require_http_methods(["GET", "HEAD", "POST"])
@tenant_view(MODELS_OPERATE)
def delete(request: TenantRequest, route_id: UUID) -> HttpResponse:
    route = selectors.route_by_id(route_id)
    back = reverse("route", args=[_slug(request), route.pk])
    if not is_confirmed(request):
        question = Question(
            title=_("Delete the route “%(name)s”?") % {"name": route.name},
            text=_(
                "Nobody can ask for it any more. Its rules and who may use it are gone; what was asked stays recorded."
            ),
            button=_("Delete the route"),
            action=request.path,
            back=back,
        )
        return ask(request, question)
    try:
        services.delete_route(actor=request.actor, route_id=route.pk)
    except Refused as refused:
        messages.error(request, refused.message)
        return redirect(back)
    messages.success(request, _("The route was deleted."))
    return redirect("models_here", _slug(request))


@require_http_methods(["GET", "HEAD", "POST"])
@tenant_view(MODELS_OPERATE)
def new_rule(request: TenantRequest, route_id: UUID) -> HttpResponse:
    return _rule(request, selectors.route_by_id(route_id), None)


@require_http_methods(["GET", "HEAD", "POST"])
@tenant_view(MODELS_OPERATE)
def rule(request: TenantRequest, route_id: UUID, target_id: UUID) -> HttpResponse:
    route = selectors.route_by_id(route_id)
    return _rule(request, route, selectors.rule_by_id(route, target_id))


@require_http_methods(["GET", "HEAD", "POST"])
@tenant_view(MODELS_OPERATE)
def remove_rule(request: TenantRequest, route_id: UUID, target_id: UUID) -> HttpResponse:
    route = selectors.route_by_id(route_id)
    target = selectors.rule_by_id(route, target_id)
    back = reverse("route", args=[_slug(request), route.pk])
    if not is_confirmed(request):
        names = {"deployment": target.deployment.name, "route": route.name}
        question = Question(
            title=_("Remove the rule to “%(deployment)s” from “%(route)s”?") % names,
            text=_("What it was for goes by the rules after it from now on."),
            button=_("Remove the rule"),
            action=request.path,
            back=back,
        )
        return ask(request, question)
    services.remove_rule(actor=request.actor, route_id=route.pk, target_id=target.pk)
    messages.success(request, _("The rule was removed."))
    return redirect(back)


def _rule(request: TenantRequest, route: Route, target: Target | None) -> HttpResponse:
    kind = route.deployment.version.kind
    form = RuleForm(*posted(request), kind=kind, initial=_initial(route, target))
    back = reverse("route", args=[_slug(request), route.pk])
    if form.is_bound and form.is_valid():
        asked = {"route_id": route.pk, "target_id": target.pk if target else None, **form.asked()}
        if attempt(form, lambda: services.save_rule(actor=request.actor, **asked)) is not FAILED:
            messages.success(request, _("The rule counts from now on."))
            return redirect(back)
    title = _("Rule of %(route)s") if target else _("New rule of %(route)s")
    return _form(request, title % {"route": route.label}, form, _("Save"), back)


def _initial(route: Route, target: Target | None) -> dict[str, Any]:
    if target is None:
        last = max((rule.position for rule in selectors.rules_of(route)), default=0)
        return {"position": min(last + 1, services.POSITION_MOST), "deployment_id": str(route.deployment_id)}
    return {
        "deployment_id": str(target.deployment_id),
        "position": target.position,
        "weight": target.weight,
        "route_class": target.route_class,
        "enabled": target.enabled,
        **target.conditions,
    }


def _tried(request: TenantRequest, route: Route, bench: BenchForm) -> dict[str, Any]:
    """Where the bench's question would go for whoever asks, and what was read from it."""
    said = bench.cleaned_data
    request_body = {"messages": [{"role": "user", "content": said["question"]}]}
    asked = ask_of(said["channel"], request_body, wanted=said["wanted"])
    try:
        choices = ranked(request.actor, route, asked)
    except NoSuchClass:
        choices = []
    return {
        "language": route_words.LANGUAGES[asked.language],
        "tasks": [route_words.TASKS[task] for task in sorted(asked.tasks)],
        "tokens": asked.tokens,
        "difficulty": asked.difficulty,
        "choices": [(each.deployment, labels.route_reason(each.reason)) for each in choices],
    }


def _form(request: TenantRequest, title: str, form: PageForm, button: str, back: str) -> HttpResponse:
    context = {"title": title, "form": form, "button": button, "back": back}
    return render(request, "administration/route_form.html", context, status=status_of(form))


def _slug(request: TenantRequest) -> str:
    return request.actor.tenant_slug
