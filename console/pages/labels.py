"""Words, shapes and colours for states that the records name by code."""

from typing import NamedTuple

from django.utils.functional import Promise
from django.utils.translation import gettext, pgettext_lazy
from django.utils.translation import gettext_lazy as _

from tenants.roles import Role


class State(NamedTuple):
    tone: str  # A class of .chip: "ok", "warn", "bad", "busy" or "" for neutral.
    icon: str  # A symbol of the icon sprite.
    label: str | Promise


STATES: dict[str, State] = {
    "running": State("busy", "s-busy", _("Running")),
    "completed": State("ok", "s-ok", _("Completed")),
    "stopped": State("", "s-stop", _("Stopped")),
    "disconnected": State("warn", "s-off", _("Disconnected")),
    "interrupted": State("warn", "s-warn", _("Interrupted")),
    "timed_out": State("warn", "s-time", _("Timed out")),
    "failed": State("bad", "s-bad", _("Failed")),
    "refused": State("bad", "s-no", _("Refused")),
}

MEMBER_STATES: dict[str, State] = {
    "active": State("ok", "s-ok", _("Active")),
    "disabled": State("", "s-no", _("Disabled")),
}

# What an event was, by its kind; requests have a channel instead.
EVENTS: dict[str, str | Promise] = {
    "audit.read": _("Record opened"),
    "audit.search": _("Records searched"),
    "audit.export": _("Records exported"),
    "proof.checked": _("Check of the log asked for"),
    "saved_search.created": _("Search saved"),
    "saved_search.changed": _("Saved search changed"),
    "saved_search.deleted": _("Saved search deleted"),
    "saved_search.restored": _("Saved search brought back"),
    "review.flagged": _("Record flagged"),
    "review.moved": _("Review moved to another queue"),
    "review.assigned": _("Review assigned"),
    "review.unassigned": _("Review given back"),
    "review.claimed": _("Review begun"),
    "review.commented": _("Review commented"),
    "review.decided": _("Review decided"),
    "review.withdrawn": _("Decision of a review taken back"),
    "review.approved": _("Review signed by a second person"),
    "review.returned": _("Review returned"),
    "review.took_effect": _("Decision of a review took effect"),
    "review.reopened": _("Review reopened"),
    "review.queue_created": _("Review queue made"),
    "review.queue_changed": _("Review queue changed"),
    "review.queue_retired": _("Review queue closed"),
    "review.plan_created": _("Sampling plan made"),
    "review.plan_changed": _("Sampling plan changed"),
    "review.plan_paused": _("Sampling plan paused"),
    "review.plan_resumed": _("Sampling plan resumed"),
    "review.plan_retired": _("Sampling plan deleted"),
    "review.sample_drawn": _("Sample drawn"),
    "retention.policy_changed": _("Retention changed"),
    "erasure.requested": _("Erasure asked for"),
    "erasure.approved": _("Erasure approved"),
    "erasure.refused": _("Erasure refused"),
    "erasure.withdrawn": _("Erasure called off"),
    "erasure.done": _("Content erased on request"),
    "hold.placed": _("Records held for a case"),
    "hold.release_requested": _("Release of holds asked for"),
    "hold.release_approved": _("Release of holds approved"),
    "hold.release_refused": _("Release of holds refused"),
    "hold.release_withdrawn": _("Release of holds called off"),
    "case.opened": _("Case opened"),
    "case.changed": _("Case changed"),
    "case.records_linked": _("Records joined a case"),
    "case.record_unlinked": _("Record taken out of a case"),
    "case.noted": _("Note written in a case"),
    "case.file_added": _("File attached to a case"),
    "case.member_set": _("Member put into a case"),
    "case.member_removed": _("Member taken out of a case"),
    "case.deadline_set": _("Deadline of a case set"),
    "case.deadline_closed": _("Deadline of a case met or dropped"),
    "case.reminded": _("Reminded of a case’s deadline"),
    "case.review_started": _("Review of a case started"),
    "case.decided": _("Case decided"),
    "case.withdrawn": _("Decision of a case withdrawn"),
    "case.sent_back": _("Decision of a case sent back"),
    "case.signed": _("Decision of a case signed"),
    "case.reopened": _("Case reopened"),
    "tenant.created": _("Workspace founded"),
    "tenant.suspended": _("Workspace suspended"),
    "tenant.resumed": _("Workspace resumed"),
    "tenant.archived": _("Workspace archived"),
    "tenant.deletion_requested": _("Deletion of the workspace asked for"),
    "tenant.deletion_cancelled": _("Deletion of the workspace called off"),
    "tenant.destroyed": _("Workspace destroyed"),
    "tenant.settings_changed": _("Settings changed"),
    "tenant.logo_changed": _("Logo changed"),
    "keys.rotated": _("New key of the workspace"),
    "keys.rewrapped": _("Keys wrapped anew"),
    "member.added": _("Member added"),
    "member.joined": _("Member joined"),
    "member.left": _("Member left"),
    "member.removed": _("Member removed"),
    "member.disabled": _("Member disabled"),
    "member.enabled": _("Member enabled"),
    "member.role_changed": _("Member’s role changed"),
    "member.provisioned": _("Member provisioned by the directory"),
    "member.directory_changed": _("Member changed by the directory"),
    "members.imported": _("Members imported"),
    "invitation.made": _("Invitation made"),
    "invitation.renewed": _("Invitation sent again"),
    "invitation.requested": _("Invitation asked for"),
    "invitation.revoked": _("Invitation taken back"),
    "role.created": _("Role made"),
    "role.changed": _("Role changed"),
    "role.deleted": _("Role deleted"),
    "group.created": _("Group made"),
    "group.changed": _("Group changed"),
    "group.deleted": _("Group deleted"),
    "group.members_added": _("People put into a group"),
    "group.members_removed": _("People taken out of a group"),
    "grant.set": _("Access granted"),
    "grant.removed": _("Access taken back"),
    "key.created": _("API key made"),
    "key.rotated": _("API key rotated"),
    "key.revoked": _("API key revoked"),
    "service_account.created": _("Service account made"),
    "service_account.changed": _("Service account changed"),
    "service_account.disabled": _("Service account disabled"),
    "service_account.enabled": _("Service account enabled"),
    "route.created": _("Route made"),
    "route.changed": _("Route changed"),
    "route.deleted": _("Route deleted"),
    "route.rule_added": _("Rule of a route added"),
    "route.rule_changed": _("Rule of a route changed"),
    "route.rule_removed": _("Rule of a route removed"),
    "quota.limit_set": _("Limit set"),
    "quota.limit_removed": _("Limit removed"),
    "identity_provider.created": _("Identity provider added"),
    "identity_provider.changed": _("Identity provider changed"),
    "identity_provider.deleted": _("Identity provider deleted"),
    "readers.alert": _("Unusual reading noticed"),
    "readers.acknowledged": _("Alert on reading acknowledged"),
    "readers.rule_changed": _("Threshold of an alert changed"),
    "alert.rule_created": _("Rule of alerts made"),
    "alert.rule_changed": _("Rule of alerts changed"),
    "alert.rule_removed": _("Rule of alerts removed"),
    "alert.silenced": _("Alerts silenced"),
    "alert.silence_lifted": _("Silence of alerts ended"),
    "alert.acknowledged": _("Alert acknowledged"),
    "alert.channel_created": _("Channel for alerts made"),
    "alert.channel_changed": _("Channel for alerts changed"),
    "alert.channel_removed": _("Channel for alerts removed"),
    "alert.channel_tested": _("Channel for alerts tried"),
    "model.registered": _("Model version registered"),
    "model.described": _("Description of a model changed"),
    "model.evaluated": _("Figures of a model version noted"),
    "model.priced": _("Price of a model set"),
    "model.stage_changed": _("Stage of a model version changed"),
    "model.production_asked": _("Production asked for a model version"),
    "model.import_begun": _("Import of a model begun"),
    "model.import_cancelled": _("Import of a model cancelled"),
    "model.import_resumed": _("Import of a model resumed"),
    "model.import_discarded": _("Files of an import removed"),
    "model.upload_announced": _("Files of an upload announced"),
    "model.uploaded": _("Upload of a model completed"),
    "deployment.created": _("Deployment made"),
    "deployment.started": _("Deployment started"),
    "deployment.stopped": _("Deployment stopped"),
    "deployment.drained": _("Deployment drained"),
    "deployment.restarted": _("Deployment restarted"),
    "deployment.scaled": _("Deployment scaled"),
    "deployment.configured": _("Settings of a deployment changed"),
    "deployment.key_changed": _("Key of an upstream changed"),
    "generation.rerouted": _("Request asked of another deployment"),
    "rollout.begun": _("Rollout begun"),
    "rollout.share_set": _("Share of a rollout set"),
    "rollout.promoted": _("Rollout promoted"),
    "rollout.rolled_back": _("Rollout rolled back"),
    "rollout.undecided": _("Rollout ended undecided"),
    "knowledge.base_created": _("Knowledge base made"),
    "knowledge.base_changed": _("Knowledge base changed"),
    "knowledge.base_deleted": _("Knowledge base deleted"),
    "knowledge.base_reindexed": _("Knowledge base read anew"),
    "knowledge.folder_created": _("Folder of a knowledge base made"),
    "knowledge.folder_changed": _("Folder of a knowledge base changed"),
    "knowledge.folder_deleted": _("Folder of a knowledge base deleted"),
    "knowledge.document_added": _("Document added"),
    "knowledge.document_changed": _("Document changed"),
    "knowledge.document_restricted": _("Document restricted"),
    "knowledge.document_opened": _("Restriction of a document lifted"),
    "knowledge.document_deleted": _("Document deleted"),
    "knowledge.document_taken": _("Document downloaded"),
    "knowledge.version_added": _("Version of a document added"),
    "knowledge.version_validity_set": _("Validity of a version set"),
    "knowledge.version_reindexed": _("Version of a document read anew"),
    "knowledge.version_cancelled": _("Reading of a version cancelled"),
    "knowledge.version_deleted": _("Version of a document deleted"),
    "sign_in.signed_in": _("Signed in"),
    "sign_in.confirmed": _("Confirmed who they are"),
    "sign_in.failed": _("Sign-in failed"),
    "sign_in.signed_out": _("Signed out"),
    "sign_in.session_ended": _("Session ended"),
    "key.first_used": _("API key used for the first time"),
    "key.refused": _("API key refused"),
    "quota.refused": _("Request refused by a limit"),
    "account.profile_changed": _("Profile changed"),
    "account.picture_changed": _("Picture changed"),
    "account.email_changed": _("E-mail address changed"),
    "account.email_confirmed": _("E-mail address confirmed"),
    "account.password_changed": _("Password changed"),
    "account.second_factor_added": _("Second factor added"),
    "account.second_factor_removed": _("Second factor removed"),
    "account.provider_linked": _("Identity provider linked to an account"),
    "account.sessions_ended": _("Sessions ended"),
    "account.switched": _("Account turned on or off"),
}

# Where in a record a search found its words.
SNIPPET_FIELDS: dict[str, str | Promise] = {
    "input": _("Asked"),
    "output": _("Answered"),
    "reasoning": _("Reasoning"),
    "tool_call": _("Call of a tool"),
    "passage": _("Passage"),
    "attachment": _("Attachment"),
    "detail": _("Event"),
}

CHANNELS: dict[str, str | Promise] = {"chat": _("Chat"), "api": _("API")}

ROUTE_REASONS: dict[str, str | Promise] = {
    "default": pgettext_lazy("why a route was taken", "default"),
    "named": pgettext_lazy("why a route was taken", "asked for by name"),
    "repeated": pgettext_lazy("why a route was taken", "that of the earlier answer"),
    "rule": pgettext_lazy("why a route was taken", "rule %(value)s"),
    "no_rule": pgettext_lazy("why a route was taken", "no rule is for it"),
    "precise": pgettext_lazy("why a route was taken", "precise"),
    "fast": pgettext_lazy("why a route was taken", "fast"),
    "precise:asked": pgettext_lazy("why a route was taken", "precise, as asked for"),
    "fast:asked": pgettext_lazy("why a route was taken", "fast, as asked for"),
    "difficulty": pgettext_lazy("why a route was taken", "difficulty %(value)s"),
    "instead_of": pgettext_lazy("why a route was taken", "as %(value)s cannot answer"),
    "rollout": pgettext_lazy("why a route was taken", "in the share of a rollout"),
    "rollout_failed": pgettext_lazy("why a route was taken", "as the candidate of a rollout failed"),
    "shadow": pgettext_lazy("why a route was taken", "a copy, shown to nobody, of %(value)s"),
}


def state(name: str) -> State:
    """The look of a status; one that has no look yet is shown by its code."""
    return STATES.get(name) or State("", "s-off", name or "–")


def route_reason(code: str) -> str:
    """Why somebody answers, in words: how the route was found, then what its rules said. See `inference.routing.rules`."""
    return ", ".join(map(_reason_word, code.split()))


def _reason_word(word: str) -> str:
    name, _colon, value = word.partition(":")
    if name == "difficulty" and "<" in value:
        score, _sign, below = value.partition("<")
        return gettext("difficulty %(score)s, below %(below)s") % {"score": score, "below": below}
    words = ROUTE_REASONS.get(f"{name}:asked" if value == "asked" else name)
    return word if words is None else str(words) % {"value": value}


def event(kind: str) -> str:
    """What an event was; one that has no words yet is named by its code."""
    return str(EVENTS.get(kind, kind))


def role(name: str) -> str:
    return str(dict(Role.choices).get(name, name))
