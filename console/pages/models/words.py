"""Looks and words of the registry's codes, and figures as people read them."""

from typing import NamedTuple

from django.http import HttpRequest
from django.template.defaultfilters import filesizeformat
from django.utils.formats import number_format
from django.utils.functional import Promise
from django.utils.translation import gettext_lazy as _
from django.utils.translation import pgettext_lazy

from console.pages.labels import State
from console.pages.navigation import person
from console.tenancy import session_reference
from inference.registry.models import Evaluation, ModelImport, ModelVersion, Stage
from inference.registry.operators import Operator, operator

FRAME = "models/base.html"

STAGES: dict[str, State] = {
    Stage.DRAFT: State("", "s-off", Stage.DRAFT.label),
    Stage.STAGED: State("warn", "s-time", Stage.STAGED.label),
    Stage.PRODUCTION: State("ok", "s-ok", Stage.PRODUCTION.label),
    Stage.ARCHIVED: State("", "s-no", Stage.ARCHIVED.label),
}
IMPORTS: dict[str, State] = {
    "receiving": State("busy", "s-time", ModelImport.State.RECEIVING.label),
    "waiting": State("busy", "s-time", ModelImport.State.WAITING.label),
    "running": State("busy", "s-busy", ModelImport.State.RUNNING.label),
    "done": State("ok", "s-ok", ModelImport.State.DONE.label),
    "failed": State("bad", "s-bad", ModelImport.State.FAILED.label),
    "cancelled": State("", "s-stop", ModelImport.State.CANCELLED.label),
}
STEPS: dict[str, str | Promise] = {
    "fetching": _("Downloading"),
    "hashing": _("Verifying every byte"),
    "reading": _("Reading headers and trying the chat template"),
    "registering": _("Registering"),
}
SETTINGS: dict[str, str | Promise] = {
    "weights": _("Weights on disk"),
    "layers": _("Layers"),
    "width": _("Width"),
    "heads": _("Attention heads"),
    "kv_heads": _("Key and value heads"),
    "vocabulary": _("Vocabulary"),
    "window": _("Attention window"),
    "quantisation": _("Quantisation"),
}


class Metric(NamedTuple):
    label: str | Promise
    unit: str = ""
    digits: int = 3


METRICS: dict[str, Metric] = {
    "perplexity": Metric(_("Perplexity")),
    "agreement": Metric(_("Same likeliest token as its reference")),
    "divergence": Metric(_("KL divergence from its reference"), "nat", 5),
    "weight_bytes": Metric(_("Weights in memory"), "bytes"),
    "tokens_per_second": Metric(pgettext_lazy("a figure of speed", "Tokens a second"), "", 1),
    "ttft_ms": Metric(_("Time to first token"), "ms", 0),
    "itl_ms": Metric(_("Time between tokens"), "ms", 1),
}
PRECISIONS = [("bfloat16", "bfloat16"), ("int8", "int8"), ("float32", "float32")]


def acting(request: HttpRequest) -> Operator:
    """Who asks, as the registry's services want to know it."""
    return operator(
        person(request),
        address=request.META.get("REMOTE_ADDR") or "",
        session_ref=session_reference(request.session.session_key),
    )


def many(count: int | None) -> str:
    """A number of parameters: 134.5 M."""
    if count is None:
        return "–"
    for size, letter in ((10**9, "B"), (10**6, "M"), (10**3, "K")):
        if count >= size:
            return f"{number_format(count / size, 1)} {letter}"
    return str(count)


def metric_label(name: str) -> str:
    return str(METRICS[name].label) if name in METRICS else name


def measured(row: Evaluation) -> str:
    """A figure with its unit."""
    metric = METRICS.get(row.metric, Metric(row.metric))
    if metric.unit == "bytes":
        return filesizeformat(row.value)
    return f"{number_format(row.value, metric.digits)} {metric.unit}".strip()


def facts(version: ModelVersion) -> list[tuple[str, str]]:
    """(what, value) of a version, those that are known."""
    found: list[tuple[str | Promise, str]] = [
        (_("Precision"), version.precision),
        (_("Architecture"), version.architecture),
        (_("Parameters"), many(version.parameters)),
        (_("Context"), number_format(version.context_tokens, force_grouping=True)),
        (_("Makes of a text"), version.get_kind_display()),
        (_("Licence"), version.licence),
        (_("Adapter"), version.adapter),
        (_("Training run"), version.training_run),
        *((label, str(version.settings[key])) for key, label in SETTINGS.items() if key in version.settings),
        (_("Size of the files"), filesizeformat(version.file_bytes) if version.files else ""),
    ]
    return [(str(label), value) for label, value in found if value not in ("", "–")]
