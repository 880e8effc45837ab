"""Models, their versions and deployments (the platform's), and routes (a tenant's).

People and programs reach models through routes, so routes are what is granted.
"""

from __future__ import annotations

from typing import ClassVar

from django.db import models
from django.utils.translation import gettext_lazy as _
from django.utils.translation import pgettext_lazy

from tenants import clock
from tenants.access import GroupGrant, Kind, UserGrant, register
from tenants.ids import uuid7
from tenants.models import TenantModel, TenantSettings
from tenants.roles import API_USE, CHAT_USE, GRANTS_MANAGE, MODELS_OPERATE


class Model(models.Model):
    """A model that this installation knows, with all its versions. The platform's; its name is what programs write."""

    privileges: ClassVar[str] = "SELECT, INSERT, UPDATE"

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    name = models.CharField(_("name"), max_length=100, unique=True)
    title = models.CharField(_("title"), max_length=100)
    licence = models.CharField(_("licence"), max_length=100, blank=True)
    description = models.TextField(_("description"), blank=True, help_text=_("In Markdown."))
    created = models.DateTimeField(default=clock.now)

    class Meta:
        verbose_name = _("model")
        verbose_name_plural = _("models")

    def __str__(self) -> str:
        return self.name


class ModelVersion(models.Model):
    """An immutable description of one set of weights in one precision. A change of either is a new version.

    files: {name: {"sha256": hex, "size": bytes}}, all that decides answers. settings: what its configuration says, by
    the names in `labels.MODEL_SETTINGS`. location: where the files are; see `selectors.weights_of`.
    """

    privileges: ClassVar[str] = "SELECT, INSERT"

    class Kind(models.TextChoices):
        TEXT = "text", _("Text")
        EMBEDDING = "embedding", _("Embedding")

    class Source(models.TextChoices):
        WHEEL = "wheel", _("Package")
        FOLDER = "folder", _("Folder on the server")
        UPLOAD = "upload", _("Upload")
        HUB = "hub", _("Hugging Face hub")
        UPSTREAM = "upstream", _("Upstream")

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    model = models.ForeignKey(Model, on_delete=models.PROTECT, related_name="versions")
    number = models.PositiveIntegerField(_("number"), help_text=_("Counts the versions of the model."))
    kind = models.CharField(
        _("kind"), max_length=10, choices=Kind, default=Kind.TEXT, help_text=_("What it makes of a text.")
    )
    source_kind = models.CharField(_("kind of source"), max_length=10, choices=Source, default=Source.WHEEL)
    source = models.CharField(
        _("source"), max_length=500, help_text=_("The package, folder or repository it comes from.")
    )
    revision = models.CharField(_("revision"), max_length=200)
    digest = models.CharField(_("digest"), max_length=100, help_text=_("Of the weights: sha256:<hex>."))
    precision = models.CharField(_("precision"), max_length=20)
    adapter = models.CharField(_("adapter"), max_length=200, blank=True)
    served_id = models.CharField(
        _("served id"), max_length=200, help_text=_("The model name the inference service knows it by.")
    )
    context_tokens = models.PositiveIntegerField(
        _("context"), help_text=_("Tokens of prompt and answer together.")
    )
    architecture = models.CharField(_("architecture"), max_length=100, blank=True)
    parameters = models.BigIntegerField(_("parameters"), null=True)
    licence = models.CharField(_("licence"), max_length=100, blank=True)
    parent = models.ForeignKey("self", on_delete=models.PROTECT, null=True, related_name="children")
    training_run = models.CharField(_("training run"), max_length=200, blank=True)
    files = models.JSONField(_("files"), default=dict)
    settings = models.JSONField(_("settings"), default=dict)
    card = models.TextField(_("model card"), blank=True)
    location = models.CharField(max_length=500, blank=True)
    created = models.DateTimeField(default=clock.now)
    created_by = models.CharField(max_length=254, default="Custos")

    class Meta:
        verbose_name = _("model version")
        verbose_name_plural = _("model versions")
        constraints = [
            models.UniqueConstraint(
                fields=["model", "revision", "digest", "precision", "adapter"],
                name="registry_one_row_per_version",
            ),
            models.UniqueConstraint(fields=["model", "number"], name="registry_number_per_model"),
        ]

    def __str__(self) -> str:
        return f"{self.model.name}@{self.number}"

    @property
    def name(self) -> str:
        return self.model.name

    @property
    def label(self) -> str:
        """What the audit record keeps: enough to find the very same weights again."""
        return f"{self.source}@{self.revision} {self.precision} {self.digest}".strip()

    @property
    def file_bytes(self) -> int:
        return sum(file["size"] for file in self.files.values())


class Stage(models.TextChoices):
    DRAFT = "draft", pgettext_lazy("stage of a model version", "Draft")
    STAGED = "staged", pgettext_lazy("stage of a model version", "Staged")
    PRODUCTION = "production", pgettext_lazy("stage of a model version", "Production")
    ARCHIVED = "archived", pgettext_lazy("stage of a model version", "Archived")


class StageChange(models.Model):
    """That a version came to a stage. Insert-only: the stage of a version is that of its last change; without one, draft.

    is_proposal: it is only asked for, and takes effect when another person approves with the next change. A trigger
    refuses an approval by whoever asked.
    """

    privileges: ClassVar[str] = "SELECT, INSERT"

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    version = models.ForeignKey(ModelVersion, on_delete=models.PROTECT, related_name="stage_changes")
    number = models.PositiveIntegerField()
    stage = models.CharField(max_length=10, choices=Stage)
    is_proposal = models.BooleanField(default=False)
    by_id = models.UUIDField(null=True)
    by_label = models.CharField(max_length=254)
    reason = models.CharField(max_length=500, blank=True)
    when = models.DateTimeField(default=clock.now)

    class Meta:
        constraints = [
            # Of two changes at once the second is refused.
            models.UniqueConstraint(fields=["version", "number"], name="registry_number_per_stage_change"),
        ]

    def __str__(self) -> str:
        return f"{self.version_id} {self.stage}"


class Evaluation(models.Model):
    """A figure that was measured of a version: its speed, or how well it answers. Insert-only; the last one counts."""

    privileges: ClassVar[str] = "SELECT, INSERT"

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    version = models.ForeignKey(ModelVersion, on_delete=models.PROTECT, related_name="evaluations")
    metric = models.CharField(max_length=60)
    value = models.FloatField()
    suite = models.CharField(max_length=200, blank=True, help_text=_("What it was measured on."))
    measured = models.DateTimeField(default=clock.now)
    by_label = models.CharField(max_length=254)

    def __str__(self) -> str:
        return f"{self.metric} {self.value}"


class ModelImport(models.Model):
    """A version on its way into the registry. The row is all that is known of it, so any worker can go on with it.

    files: of an upload, {name: bytes} as announced. failure: a code of `failures`, with `failure_detail` for its place.
    """

    privileges: ClassVar[str] = "SELECT, INSERT, UPDATE"

    class State(models.TextChoices):
        RECEIVING = "receiving", _("Waits for files")
        WAITING = "waiting", _("In line")
        RUNNING = "running", _("Running")
        DONE = "done", pgettext_lazy("state of an import", "Done")
        FAILED = "failed", _("Failed")
        CANCELLED = "cancelled", _("Cancelled")

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    name = models.CharField(max_length=100)
    title = models.CharField(max_length=100, blank=True)
    source_kind = models.CharField(max_length=10, choices=ModelVersion.Source)
    source = models.CharField(max_length=500)
    revision = models.CharField(max_length=200, blank=True)
    precision = models.CharField(max_length=20)
    licence = models.CharField(max_length=100, blank=True)
    files = models.JSONField(default=dict)
    state = models.CharField(max_length=10, choices=State, default=State.WAITING)
    step = models.CharField(max_length=20, blank=True)
    bytes_done = models.BigIntegerField(default=0)
    bytes_total = models.BigIntegerField(default=0)
    failure = models.CharField(max_length=40, blank=True)
    failure_detail = models.CharField(max_length=500, blank=True)
    version = models.ForeignKey(ModelVersion, on_delete=models.PROTECT, null=True, related_name="+")
    by_id = models.UUIDField(null=True)
    by_label = models.CharField(max_length=254)
    created = models.DateTimeField(default=clock.now)
    touched = models.DateTimeField(default=clock.now)

    def __str__(self) -> str:
        return f"{self.name} from {self.source}"


class Deployment(models.Model):
    """A model version being served: what is wanted of it. What there is, `inference.deployments` tells.

    What it serves and where never changes (a trigger sees to that), what is wanted does. edition: a restart and every
    other setting raise it; instances of an earlier one are replaced. base_url, upstream_model, sealed_key: of an upstream.
    """

    privileges: ClassVar[str] = "SELECT, INSERT, UPDATE"

    EMBEDDED = "embedded"  # The service that the supervisor starts; its address is in the settings.

    class Kind(models.TextChoices):
        EMBEDDED = "embedded", pgettext_lazy("kind of deployment", "Built in")
        MANAGED = "managed", pgettext_lazy("kind of deployment", "On this server")
        UPSTREAM = "upstream", pgettext_lazy("kind of deployment", "Upstream")

    class Wanted(models.TextChoices):
        RUNNING = "running", pgettext_lazy("wanted of a deployment", "Running")
        DRAINED = "drained", pgettext_lazy("wanted of a deployment", "Drained")
        STOPPED = "stopped", pgettext_lazy("wanted of a deployment", "Stopped")

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    name = models.SlugField(_("name"), max_length=100, unique=True)
    version = models.ForeignKey(ModelVersion, on_delete=models.PROTECT, related_name="deployments")
    kind = models.CharField(_("kind"), max_length=10, choices=Kind, default=Kind.UPSTREAM)
    base_url = models.CharField(_("address"), max_length=500, blank=True)
    upstream_model = models.CharField(max_length=200, blank=True, default="")
    sealed_key = models.TextField(blank=True, default="")
    enabled = models.BooleanField(_("enabled"), default=True)
    wanted = models.CharField(max_length=10, choices=Wanted, default=Wanted.RUNNING)
    edition = models.PositiveIntegerField(default=1)
    replicas = models.PositiveSmallIntegerField(default=1)
    max_context = models.PositiveIntegerField(null=True)
    kv_memory_mb = models.PositiveIntegerField(default=512)
    max_running = models.PositiveSmallIntegerField(default=64)
    speculation = models.BooleanField(default=True)
    keep_warm = models.BooleanField(default=True)
    changed = models.DateTimeField(default=clock.now)
    changed_by = models.CharField(max_length=254, default="Custos")

    class Meta:
        verbose_name = _("deployment")
        verbose_name_plural = _("deployments")

    def __str__(self) -> str:
        return self.name

    @property
    def served_id(self) -> str:
        """What the service that answers calls the model."""
        return self.upstream_model or self.version.served_id


class Route(TenantModel):
    """A name that people and programs ask for, and the deployment that answers."""

    name = models.SlugField(_("name"), max_length=100)
    label = models.CharField(_("label"), max_length=100)
    deployment = models.ForeignKey(Deployment, on_delete=models.PROTECT, related_name="routes")
    is_default = models.BooleanField(_("default"), default=False)

    class Meta:
        verbose_name = _("route")
        verbose_name_plural = _("routes")
        constraints = [
            models.UniqueConstraint(fields=["tenant", "name"], name="registry_route_name_per_tenant"),
            models.UniqueConstraint(
                fields=["tenant"], condition=models.Q(is_default=True), name="registry_one_default_route"
            ),
        ]

    def __str__(self) -> str:
        return self.name


class RouteUserGrant(UserGrant):
    """What a person may do with a route: use it, change it, delete it."""

    content_object = models.ForeignKey(Route, on_delete=models.CASCADE)


class RouteGroupGrant(GroupGrant):
    """What a group's people may do with a route."""

    content_object = models.ForeignKey(Route, on_delete=models.CASCADE)


def _is_allowed() -> models.Q:
    """Named in the tenant's list of allowed models, or there is no such list."""
    lists = TenantSettings.objects.exclude(allowed_models__len=0)
    return ~models.Q(models.Exists(lists.exclude(allowed_models__contains=[models.OuterRef("name")])))


ROUTES = register(
    Kind(
        model=Route,
        user_grants=RouteUserGrant,
        group_grants=RouteGroupGrant,
        requires=frozenset({CHAT_USE, API_USE}),
        describe=lambda route: route.name,
        holds_content=False,
        managed_by=frozenset({GRANTS_MANAGE, MODELS_OPERATE}),
        search=("name", "label"),
        ordering=("-is_default", "name"),
        limit=_is_allowed,
        limit_words=_("The workspace’s settings allow this model"),
        named_in_keys="name",
    )
)
