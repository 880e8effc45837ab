"""Writing what is wanted of deployments. Whoever looks after them makes it so; see `console.deployments`."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from asgiref.sync import async_to_sync
from django.db import IntegrityError, transaction
from django.utils.translation import gettext as _

from inference.client import InferenceClient, Software, close_pool
from inference.deployments import capacity, looks, secrets, upstreams
from inference.deployments.looks import Look
from inference.deployments.models import Condition
from inference.deployments.selectors import deployment_by_id
from inference.deployments.words import trouble
from inference.registry import stages, versions
from inference.registry.models import Deployment, ModelVersion, Stage
from inference.registry.operators import Operator, change, record
from inference.registry.selectors import stage_of, version_by_id
from tenants import clock
from tenants.changes import difference
from tenants.errors import Refused
from tenants.words import clean_slug, clean_text

Kind = Deployment.Kind
Wanted = Deployment.Wanted
MOST_REPLICAS = 16
BOUNDS = {
    "replicas": (1, MOST_REPLICAS),
    "max_context": (128, 10_000_000),
    "kv_memory_mb": (16, 1_000_000),
    "max_running": (1, 4096),
}
MOST_KEY = 500


@change
def create(
    *,
    by: Operator,
    name: str,
    version_id: UUID,
    replicas: int = 1,
    max_context: int | None = None,
    kv_memory_mb: int = 512,
    max_running: int = 64,
    speculation: bool = True,
    keep_warm: bool = True,
) -> Deployment:
    """A version on this server, started at once. Raises Refused."""
    version = version_by_id(version_id)
    _may_be_deployed(version)
    deployment = Deployment(
        name=clean_slug(name, field="name"),
        version=version,
        kind=Kind.MANAGED,
        replicas=replicas,
        max_context=max_context,
        kv_memory_mb=kv_memory_mb,
        max_running=max_running,
        speculation=speculation,
        keep_warm=keep_warm,
        changed_by=by.label,
    )
    _check(deployment)
    return _created(by, deployment)


@change
def create_upstream(
    *,
    by: Operator,
    name: str,
    base_url: str,
    upstream_model: str,
    key: str = "",
    version_id: UUID | None = None,
    context_tokens: int = 8192,
    max_running: int = 64,
) -> Deployment:
    """An OpenAI-compatible address that serves a version, by default one that is registered as whatever it serves.

    Raises Refused. Nothing is asked there: `try_upstream` does that.
    """
    base_url = upstreams.cleaned(base_url)
    upstreams.check(base_url)
    model = _one_line(upstream_model, "upstream_model", 200)
    name = clean_slug(name, field="name")
    if version_id is None:
        version = _registered(by, name, base_url, model, context_tokens)
    else:
        version = version_by_id(version_id)
        _is_in_use(version)
    deployment = Deployment(
        name=name,
        version=version,
        kind=Kind.UPSTREAM,
        base_url=base_url,
        upstream_model=model,
        max_running=max_running,
        changed_by=by.label,
    )
    deployment.sealed_key = secrets.seal(_clean_key(key), deployment.pk)
    _check(deployment)
    return _created(by, deployment)


def try_upstream(*, base_url: str, key: str = "") -> Look:
    """What an upstream says of itself now. Raises Refused for an address that may not be asked."""
    base_url = upstreams.cleaned(base_url)
    upstreams.check(base_url)
    client = InferenceClient(base_url, _clean_key(key), Software.OTHER)

    async def ask() -> Look:
        try:
            return await looks.look_at(client)
        finally:
            await close_pool()

    return async_to_sync(ask)()


@change
def try_deployed(*, by: Operator, deployment_id: UUID) -> Look:
    """As `try_upstream`, of one that is deployed, with its key. Nothing is changed. Raises Refused."""
    deployment = deployment_by_id(deployment_id)
    if deployment.kind != Kind.UPSTREAM:
        raise Refused("not_upstream", _("Only upstreams are asked."))
    try:
        key = secrets.opened(deployment.sealed_key, deployment.pk)
    except secrets.KeyLost:
        raise Refused("key_lost", trouble("key", "")) from None
    return try_upstream(base_url=deployment.base_url, key=key)


@change
def start(*, by: Operator, deployment_id: UUID) -> Deployment:
    """Serve again what was stopped or drained. Raises Refused."""
    deployment = _to_change(deployment_id)
    if deployment.wanted == Wanted.RUNNING:
        raise Refused("wrong_state", _("It is to run already."))
    _is_in_use(deployment.version)
    return _wanted(by, deployment, Wanted.RUNNING)


@change
def stop(*, by: Operator, deployment_id: UUID) -> Deployment:
    """No new requests; running answers get a short while, then the instances end. Raises Refused."""
    deployment = _to_change(deployment_id)
    if deployment.wanted == Wanted.STOPPED:
        raise Refused("wrong_state", _("It is stopped already."))
    return _wanted(by, deployment, Wanted.STOPPED)


@change
def drain(*, by: Operator, deployment_id: UUID) -> Deployment:
    """No new requests; the instances end when the last running answer has. Raises Refused."""
    deployment = _to_change(deployment_id)
    if deployment.wanted != Wanted.RUNNING:
        raise Refused("wrong_state", _("It does not run."))
    return _wanted(by, deployment, Wanted.DRAINED)


@change
def restart(*, by: Operator, deployment_id: UUID) -> Deployment:
    """New instances take the place of those there are, one after the other, without a request failing. Raises Refused."""
    deployment = _to_change(deployment_id)
    if deployment.kind != Kind.MANAGED:
        raise Refused("upstream", _("An upstream is started by whoever operates it."))
    if deployment.wanted != Wanted.RUNNING:
        raise Refused("wrong_state", _("It does not run."))
    deployment.edition += 1
    return _changed(by, deployment, "deployment.restarted", {"edition": deployment.edition - 1})


@change
def scale(*, by: Operator, deployment_id: UUID, replicas: int) -> Deployment:
    """More or fewer instances. Raises Refused."""
    deployment = _to_change(deployment_id)
    if deployment.kind != Kind.MANAGED:
        raise Refused("upstream", _("An upstream is scaled by whoever operates it."))
    before, deployment.replicas = deployment.replicas, replicas
    if before == replicas:
        return deployment
    _check(deployment)
    return _changed(by, deployment, "deployment.scaled", {"replicas": before})


@change
def configure(*, by: Operator, deployment_id: UUID, **wanted: Any) -> Deployment:
    """Other settings, by the names of `create`; instances are replaced by such as have them. Raises Refused."""
    deployment = _to_change(deployment_id)
    before = described(deployment)
    for field in ("max_context", "kv_memory_mb", "max_running", "speculation", "keep_warm"):
        if field in wanted:
            setattr(deployment, field, wanted[field])
    _check(deployment)
    old, new = difference(before, described(deployment))
    if not new:
        return deployment
    if set(new) - {"keep_warm"} and deployment.kind == Kind.MANAGED:
        deployment.edition += 1
    return _changed(by, deployment, "deployment.configured", old)


@change
def set_key(*, by: Operator, deployment_id: UUID, key: str) -> Deployment:
    """Another key for an upstream; "" for none. Raises Refused."""
    deployment = _to_change(deployment_id)
    if deployment.kind != Kind.UPSTREAM:
        raise Refused("not_upstream", _("Only upstreams have a key."))
    had_key = bool(deployment.sealed_key)
    deployment.sealed_key = secrets.seal(_clean_key(key), deployment.pk)
    return _changed(by, deployment, "deployment.key_changed", {"has_key": had_key})


def described(deployment: Deployment) -> dict[str, Any]:
    """What the audit keeps of a deployment; of a key only whether there is one."""
    found: dict[str, Any] = {
        "deployment": deployment.name,
        "version": str(deployment.version),
        "kind": deployment.kind,
        "wanted": deployment.wanted,
        "max_running": deployment.max_running,
    }
    if deployment.kind == Kind.UPSTREAM:
        return found | {
            "address": deployment.base_url,
            "model": deployment.upstream_model,
            "has_key": bool(deployment.sealed_key),
        }
    return found | {
        "replicas": deployment.replicas,
        "max_context": deployment.max_context,
        "kv_memory_mb": deployment.kv_memory_mb,
        "speculation": deployment.speculation,
        "keep_warm": deployment.keep_warm,
        "edition": deployment.edition,
    }


def _to_change(deployment_id: UUID) -> Deployment:
    """The row, locked until the change is made. Raises NotVisible, and Refused for what is built in."""
    Deployment.objects.select_for_update().filter(pk=deployment_id).first()
    deployment = deployment_by_id(deployment_id)
    if deployment.kind == Kind.EMBEDDED:
        message = _(
            "This one is built in: Custos starts it with itself, so it can be neither stopped nor scaled."
        )
        raise Refused("built_in", message)
    return deployment


def _is_in_use(version: ModelVersion) -> None:
    if stage_of(version) not in (Stage.STAGED, Stage.PRODUCTION):
        message = _(
            "Only versions that are staged or in production are deployed. Bring it to one of those first."
        )
        raise Refused("wrong_stage", message, "version_id")


def _may_be_deployed(version: ModelVersion) -> None:
    _is_in_use(version)
    if version.kind != ModelVersion.Kind.TEXT:
        message = _(
            "Only models that answer with text are deployed here; embeddings come from the built-in one."
        )
        raise Refused("wrong_kind", message, "version_id")
    if version.source_kind == ModelVersion.Source.UPSTREAM:
        message = _("This version is only known as what an upstream serves; its files are not here.")
        raise Refused("no_files", message, "version_id")


def _check(deployment: Deployment) -> None:
    """Raises Refused for what cannot be."""
    for field, (least, most) in BOUNDS.items():
        value = getattr(deployment, field)
        if value is None and field == "max_context":
            continue
        if not isinstance(value, int) or not least <= value <= most:
            message = _("Give a whole number from %(least)d to %(most)d.")
            raise Refused("out_of_bounds", message % {"least": least, "most": most}, field)
    if deployment.kind != Kind.MANAGED:
        return
    if deployment.max_context and deployment.max_context > deployment.version.context_tokens:
        message = _("The model has a context of %(most)d tokens.")
        raise Refused("context", message % {"most": deployment.version.context_tokens}, "max_context")
    needed, budget = capacity.needed_mb(deployment), capacity.budget_mb()
    if needed > budget:
        message = _(
            "One instance needs about %(needed)d MB, and models may take %(budget)d MB of this machine altogether. Choose a "
            "smaller precision or less memory for context, or raise CUSTOS_INFERENCE_MEMORY_MB."
        )
        raise Refused("too_large", message % {"needed": needed, "budget": budget}, "kv_memory_mb")


def _registered(by: Operator, name: str, base_url: str, model: str, context_tokens: int) -> ModelVersion:
    """What an upstream serves, as a version of its own: of its weights nothing is known but what they are called."""
    version = versions.register(
        by=by,
        name=name,
        source_kind=ModelVersion.Source.UPSTREAM,
        source=base_url,
        revision=model,
        digest="",
        precision="",
        served_id=model,
        context_tokens=context_tokens,
    )
    stages.move(by=by, version_id=version.pk, stage=Stage.STAGED, reason=_("Served by an upstream"))
    return version


def _created(by: Operator, deployment: Deployment) -> Deployment:
    try:
        with transaction.atomic():
            deployment.save(force_insert=True)
    except IntegrityError:
        raise Refused("name_taken", _("There is a deployment of that name already."), "name") from None
    record(by, "deployment.created", subject_id=deployment.pk, after=described(deployment))
    return deployment


def _wanted(by: Operator, deployment: Deployment, wanted: Wanted) -> Deployment:
    before, deployment.wanted = deployment.wanted, wanted
    kinds = {
        Wanted.RUNNING: "deployment.started",
        Wanted.STOPPED: "deployment.stopped",
        Wanted.DRAINED: "deployment.drained",
    }
    return _changed(by, deployment, kinds[wanted], {"wanted": before})


def _changed(by: Operator, deployment: Deployment, kind: str, before: dict[str, Any]) -> Deployment:
    deployment.changed, deployment.changed_by = clock.now(), by.label
    deployment.save()
    # What went wrong before is tried anew.
    Condition.objects.filter(deployment=deployment).update(trouble="", trouble_detail="")
    now = described(deployment)
    after = {"deployment": deployment.name} | {name: now[name] for name in before if name in now}
    record(by, kind, subject_id=deployment.pk, before=before, after=after)
    return deployment


def _one_line(text: str, field: str, most: int) -> str:
    line = clean_text(text, field=field, most=most)
    if not line:
        raise Refused("missing", _("Say which model it is to answer with."), field)
    return line


def _clean_key(key: str) -> str:
    key = key.strip()
    if len(key) > MOST_KEY or not key.isascii() or (key and not key.isprintable()) or " " in key:
        raise Refused("key", _("This is no key: a key is one word of letters, digits and signs."), "key")
    return key
