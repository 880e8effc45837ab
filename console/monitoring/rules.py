"""Rules, silences, acknowledgements and channels: what platform administrators change.

Monitoring belongs to no tenant and concerns all of them, so a change is recorded in every active tenant, like a new
master key, or it does not happen.
"""

import math
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from django.core.exceptions import ValidationError
from django.core.validators import validate_email
from django.db import IntegrityError, transaction
from django.db.models import Q
from django.utils.translation import gettext as _

from console.monitoring import notices, webhooks
from console.monitoring.catalogue import SERIES_BY_NAME
from console.monitoring.models import Alert, Channel, Notice, Rule, SamplerState, Severity, Silence
from tenants import clock
from tenants.actors import NotVisible, platform_actor
from tenants.changes import changing, difference, record_change
from tenants.errors import Refused
from tenants.models import Tenant, User

WINDOWS_S = (60, 300, 900, 3600)
LONGEST_FOR_S = 24 * 3600
LONGEST_SILENCE = timedelta(days=30)
MOST_RULES, MOST_CHANNELS, MOST_ADDRESSES = 200, 50, 20
LONGEST_REASON = 500


@dataclass(frozen=True, kw_only=True)
class By:
    """Who changes something, and from where."""

    user: User
    address: str = ""
    session_ref: str = ""


@dataclass(frozen=True, kw_only=True)
class Terms:
    """What a rule says."""

    name: str
    series: str
    aggregation: str
    window_s: int
    comparison: str
    threshold: float
    for_s: int
    severity: str
    enabled: bool = True


DEFAULTS = (
    Terms(
        name="Many requests fail",
        series="error_rate",
        aggregation="whole",
        window_s=300,
        comparison="above",
        threshold=0.05,
        for_s=120,
        severity="critical",
    ),
    Terms(
        name="First tokens are slow",
        series="ttft_p95",
        aggregation="whole",
        window_s=300,
        comparison="above",
        threshold=10,
        for_s=300,
        severity="warning",
    ),
    Terms(
        name="The queue grows",
        series="queue",
        aggregation="growth",
        window_s=300,
        comparison="above",
        threshold=5,
        for_s=60,
        severity="warning",
    ),
    Terms(
        name="Inference is down",
        series="up_inference",
        aggregation="highest",
        window_s=60,
        comparison="below",
        threshold=1,
        for_s=30,
        severity="critical",
    ),
    Terms(
        name="Web is down",
        series="up_web",
        aggregation="highest",
        window_s=60,
        comparison="below",
        threshold=1,
        for_s=30,
        severity="critical",
    ),
    Terms(
        name="The worker gives no sign of life",
        series="worker_age",
        aggregation="lowest",
        window_s=60,
        comparison="above",
        threshold=30,
        for_s=60,
        severity="critical",
    ),
    Terms(
        name="The disk is nearly full",
        series="disk_free",
        aggregation="whole",
        window_s=300,
        comparison="below",
        threshold=0.1,
        for_s=60,
        severity="critical",
    ),
    Terms(
        name="The audit cannot be written",
        series="audit_failures",
        aggregation="whole",
        window_s=300,
        comparison="above",
        threshold=0,
        for_s=0,
        severity="critical",
    ),
    Terms(
        name="A rollout was rolled back",
        series="rolled_back",
        aggregation="highest",
        window_s=60,
        comparison="above",
        threshold=0,
        for_s=0,
        severity="warning",
    ),
)


def ensure_defaults() -> None:
    """The rules of a fresh installation, before its first sample. Those that somebody removed do not come back."""
    if not SamplerState.objects.exists() and not Rule.objects.exists():
        Rule.objects.bulk_create(Rule(**asdict(terms)) for terms in DEFAULTS)


@transaction.atomic
def create_rule(*, by: By, terms: Terms) -> Rule:
    """Raises NotVisible and Refused."""
    _require(by)
    _check(terms)
    if Rule.objects.filter(removed=None).count() >= MOST_RULES:
        raise Refused("too_many_rules", _("There are %(most)d rules already.") % {"most": MOST_RULES})
    rule = Rule(**asdict(terms))
    _save(rule)
    _record(by, "alert.rule_created", rule.pk, after=asdict(terms))
    return rule


@transaction.atomic
def change_rule(*, by: By, rule_id: UUID, terms: Terms) -> Rule:
    """Raises NotVisible and Refused."""
    _require(by)
    _check(terms)
    rule = _rule(rule_id)
    before, after = difference(_terms(rule), asdict(terms))
    if after:
        for name, value in after.items():
            setattr(rule, name, value)
        _save(rule)
        _record(by, "alert.rule_changed", rule.pk, before=before, after=after, detail={"rule": rule.name})
    return rule


@transaction.atomic
def remove_rule(*, by: By, rule_id: UUID) -> None:
    """Its alerts stay in the history; one that fires ends. Raises NotVisible."""
    _require(by)
    rule = _rule(rule_id)
    rule.removed = clock.now()
    rule.save()
    _record(by, "alert.rule_removed", rule.pk, before=_terms(rule))


@transaction.atomic
def silence(*, by: By, rule_id: UUID | None, until: datetime, reason: str) -> Silence:
    """Tell nobody of the rule's alerts, or of any, until then. Raises NotVisible and Refused."""
    _require(by)
    rule = None if rule_id is None else _rule(rule_id)
    reason, now = _reason(reason), clock.now()
    if not now < until <= now + LONGEST_SILENCE:
        message = _("Choose a time from now on, at most %(days)d days away.")
        raise Refused("until_invalid", message % {"days": LONGEST_SILENCE.days}, "until")
    made = Silence.objects.create(rule=rule, until=until, reason=reason, by=by.user.email)
    detail = {"rule": rule.name if rule else "", "reason": reason}
    _record(by, "alert.silenced", made.pk, after={"until": until.isoformat()}, detail=detail)
    return made


@transaction.atomic
def lift_silence(*, by: By, silence_id: UUID) -> None:
    """End a silence before its time. Raises NotVisible."""
    _require(by)
    found = Silence.objects.select_for_update(of=("self",)).filter(pk=silence_id, lifted=None).first()
    if found is None:
        raise NotVisible(str(silence_id))
    found.lifted = clock.now()
    found.save()
    before = {"until": found.until.isoformat()}
    _record(by, "alert.silence_lifted", found.pk, before=before, detail={"rule": _name_of(found.rule)})


@transaction.atomic
def acknowledge(*, by: By, alert_id: UUID, reason: str) -> Alert:
    """Say that somebody looks after it, once. Raises NotVisible and Refused."""
    _require(by)
    alert = Alert.objects.select_for_update(of=("self",)).filter(pk=alert_id).first()
    if alert is None or alert.state == Alert.State.PENDING:
        raise NotVisible(str(alert_id))
    reason = _reason(reason)
    if alert.acknowledged is not None:
        message = _("%(person)s has acknowledged it already.") % {"person": alert.acknowledged_by}
        raise Refused("acknowledged_already", message)
    alert.acknowledged, alert.acknowledged_by = clock.now(), by.user.email
    alert.acknowledged_reason = reason
    alert.save()
    _record(by, "alert.acknowledged", alert.pk, detail={"rule": alert.rule.name, "reason": reason})
    return alert


@transaction.atomic
def create_channel(*, by: By, kind: str, name: str, target: str, least: str) -> Channel:
    """Raises NotVisible and Refused."""
    _require(by)
    if Channel.objects.filter(removed=None).count() >= MOST_CHANNELS:
        message = _("There are %(most)d channels already.") % {"most": MOST_CHANNELS}
        raise Refused("too_many_channels", message)
    target = _target(kind, target)
    channel = Channel.objects.create(kind=kind, name=_named(name), target=target, least=Severity(least))
    _record(by, "alert.channel_created", channel.pk, after=_shown(channel))
    return channel


@transaction.atomic
def change_channel(*, by: By, channel_id: UUID, name: str, target: str, least: str, enabled: bool) -> Channel:
    """Raises NotVisible and Refused."""
    _require(by)
    channel = _channel(channel_id)
    was = _shown(channel)
    channel.name, channel.target = _named(name), _target(channel.kind, target)
    channel.least, channel.enabled = Severity(least), enabled
    before, after = difference(was, _shown(channel))
    if after:
        channel.save()
        _record(
            by,
            "alert.channel_changed",
            channel.pk,
            before=before,
            after=after,
            detail={"channel": channel.name},
        )
    return channel


@transaction.atomic
def remove_channel(*, by: By, channel_id: UUID) -> None:
    """Raises NotVisible."""
    _require(by)
    channel = _channel(channel_id)
    channel.removed = clock.now()
    channel.save()
    _record(by, "alert.channel_removed", channel.pk, before=_shown(channel))


@transaction.atomic
def try_channel(*, by: By, channel_id: UUID) -> Notice:
    """Send a test to it within seconds. Raises NotVisible."""
    _require(by)
    channel = _channel(channel_id)
    notice = notices.try_out(channel)
    _record(by, "alert.channel_tested", channel.pk, detail={"channel": channel.name})
    return notice


def open_silences(now: datetime) -> list[Silence]:
    """Those that hold now, the first to end first."""
    return list(Silence.objects.filter(lifted=None, until__gt=now).select_related("rule").order_by("until"))


def firing() -> int:
    """How many alerts fire that nobody has acknowledged and no silence covers."""
    return Alert.objects.filter(state=Alert.State.FIRING, acknowledged=None, silenced=False).count()


def _require(by: By) -> None:
    person = User.objects.filter(pk=by.user.pk, is_active=True, is_platform_administrator=True)
    if not person.exists():
        raise NotVisible("monitoring")


def _record(
    by: By,
    kind: str,
    subject_id: UUID,
    *,
    before: dict[str, Any] | None = None,
    after: dict[str, Any] | None = None,
    detail: dict[str, Any] | None = None,
) -> None:
    """In every active tenant or none, always in the same order: two changes never wait for each other."""
    for tenant in Tenant.objects.filter(status=Tenant.Status.ACTIVE).order_by("slug"):
        actor = platform_actor(user=by.user, tenant=tenant, address=by.address, session_ref=by.session_ref)
        with changing(tenant.pk):
            record_change(actor, kind, subject_id=subject_id, before=before, after=after, detail=detail)


def _check(terms: Terms) -> None:
    _named(terms.name)
    if terms.series not in SERIES_BY_NAME:
        raise Refused("series_unknown", _("Choose one of the series."), "series")
    if terms.window_s not in WINDOWS_S:
        raise Refused("window_invalid", _("Choose one of the windows."), "window_s")
    if not 0 <= terms.for_s <= LONGEST_FOR_S:
        raise Refused("for_invalid", _("At most a day."), "for_s")
    if not math.isfinite(terms.threshold):
        raise Refused("threshold_invalid", _("Write a number."), "threshold")
    Rule.Aggregation(terms.aggregation)
    Rule.Comparison(terms.comparison)
    Severity(terms.severity)


def _named(name: str) -> str:
    name = name.strip()
    if not 0 < len(name) <= 100:
        raise Refused("name_invalid", _("A name has 1 to 100 characters."), "name")
    return name


def _reason(text: str) -> str:
    text = text.strip()
    if not 0 < len(text) <= LONGEST_REASON:
        message = _("Give a reason of at most %(most)d characters.") % {"most": LONGEST_REASON}
        raise Refused("reason_invalid", message, "reason")
    return text


def _target(kind: str, target: str) -> str:
    if Channel.Kind(kind) == Channel.Kind.WEBHOOK:
        target = target.strip()
        try:
            webhooks.taken_apart(target)
        except webhooks.Unsafe:
            message = _(
                "Give a public address that begins with https://. Others need CUSTOS_WEBHOOK_NETWORKS."
            )
            raise Refused("target_invalid", message, "target") from None
        if len(target) > webhooks.LONGEST:
            raise Refused("target_invalid", _("This address is too long."), "target")
        return target
    found = notices.addresses(target)
    if not 0 < len(found) <= MOST_ADDRESSES:
        message = _("Name 1 to %(most)d e-mail addresses.") % {"most": MOST_ADDRESSES}
        raise Refused("target_invalid", message, "target")
    for address in found:
        try:
            validate_email(address)
        except ValidationError:
            message = _("“%(text)s” is no e-mail address.") % {"text": address[:60]}
            raise Refused("target_invalid", message, "target") from None
    return ", ".join(found)


def _rule(rule_id: UUID) -> Rule:
    rule = Rule.objects.select_for_update().filter(pk=rule_id, removed=None).first()
    if rule is None:
        raise NotVisible(str(rule_id))
    return rule


def _channel(channel_id: UUID) -> Channel:
    channel = Channel.objects.select_for_update().filter(pk=channel_id, removed=None).first()
    if channel is None:
        raise NotVisible(str(channel_id))
    return channel


def _save(rule: Rule) -> None:
    taken = Rule.objects.filter(~Q(pk=rule.pk), name=rule.name, removed=None).exists()
    refusal = Refused("name_taken", _("Another rule has this name."), "name")
    if taken:
        raise refusal
    try:
        with transaction.atomic():
            rule.save()
    except IntegrityError:  # at the same moment
        raise refusal from None


def _terms(rule: Rule) -> dict[str, Any]:
    return {name: getattr(rule, name) for name in Terms.__dataclass_fields__}


def _shown(channel: Channel) -> dict[str, Any]:
    names = ("kind", "name", "target", "least", "enabled")
    return {name: getattr(channel, name) for name in names}


def _name_of(rule: Rule | None) -> str:
    return rule.name if rule else ""
