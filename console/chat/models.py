"""Conversations and messages. Titles and texts are sealed; everything else is a plain column."""

from __future__ import annotations

from django.conf import settings
from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.utils.translation import gettext_lazy as _

from tenants import clock
from tenants.access import GroupGrant, Kind, UserGrant, register
from tenants.models import TenantModel
from tenants.roles import CHAT_USE


class Conversation(TenantModel):
    """A thread of questions and answers. Its owner's rights are grants, given when it is made and shared later."""

    owner = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="+")
    sealed_title = models.BinaryField(_("title"))
    updated = models.DateTimeField(default=clock.now)

    class Meta:
        verbose_name = _("conversation")
        verbose_name_plural = _("conversations")
        indexes = [models.Index(fields=["tenant", "-updated"], name="chat_conversation_recent")]

    def __str__(self) -> str:
        return str(self.pk)


class ConversationUserGrant(UserGrant):
    """What a person may do with a conversation: view, change, delete."""

    content_object = models.ForeignKey(Conversation, on_delete=models.CASCADE)


class ConversationGroupGrant(GroupGrant):
    """What a group's people may do with a conversation."""

    content_object = models.ForeignKey(Conversation, on_delete=models.CASCADE)


def _describe(conversation: Conversation) -> str:
    """Whose and of when: the title is content."""
    return f"{conversation.owner.email} · {conversation.pk.hex[-6:]} · {conversation.updated:%Y-%m-%d %H:%M}"


CONVERSATIONS = register(
    Kind(
        model=Conversation,
        user_grants=ConversationUserGrant,
        group_grants=ConversationGroupGrant,
        requires=frozenset({CHAT_USE}),
        describe=_describe,
        related=("owner",),
        search=("owner__email", "owner__name"),
        ordering=("-updated", "-pk"),
        owner_field="owner",
    )
)


class Message(TenantModel):
    """A question, or one answer to it. Regenerating adds an answer and keeps the earlier ones."""

    class Role(models.TextChoices):
        USER = "user", _("Question")
        ASSISTANT = "assistant", _("Answer")

    class Status(models.TextChoices):
        GENERATING = "generating", _("Being written")
        COMPLETED = "completed", _("Completed")
        STOPPED = "stopped", _("Stopped")
        INTERRUPTED = "interrupted", _("Cut off")
        FAILED = "failed", _("Failed")
        TIMED_OUT = "timed_out", _("Took too long")
        REFUSED = "refused", _("Refused")

    conversation = models.ForeignKey(Conversation, on_delete=models.CASCADE, related_name="messages")
    author = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="+", help_text=_("Who asked.")
    )
    role = models.CharField(max_length=10, choices=Role)
    question = models.ForeignKey(
        "self", null=True, on_delete=models.CASCADE, related_name="answers", help_text=_("Of an answer.")
    )
    sealed_content = models.BinaryField()
    bases = ArrayField(
        models.UUIDField(), default=list, blank=True, help_text=_("Of a question: what it was asked of.")
    )
    status = models.CharField(max_length=12, choices=Status, default=Status.COMPLETED)
    created = models.DateTimeField(default=clock.now)

    # Of answers only.
    sealed_sources = models.BinaryField(
        default=b"", help_text=_("Passages that were found, and what rests on them.")
    )
    client_id = models.UUIDField(
        null=True, help_text=_("Chosen by the browser; makes a repeated ask harmless.")
    )
    generation = models.UUIDField(null=True, default=None, help_text=_("The audit record's request id."))
    route = models.CharField(max_length=100, blank=True)
    model = models.CharField(max_length=200, blank=True)
    deployment = models.CharField(max_length=200, blank=True, default="", help_text=_("Who answered."))
    reason = models.CharField(
        max_length=300, blank=True, default="", help_text=_("Why they; as the record has it.")
    )
    finish_reason = models.CharField(max_length=20, blank=True)
    error_code = models.CharField(max_length=100, blank=True)
    ttft_ms = models.PositiveIntegerField(null=True)
    tokens_per_s = models.FloatField(null=True)
    prompt_tokens = models.PositiveIntegerField(null=True)
    completion_tokens = models.PositiveIntegerField(null=True)

    # Columns that tell how an answer ended; the audit's completion names them alike.
    OUTCOME = (
        "status",
        "finish_reason",
        "error_code",
        "ttft_ms",
        "tokens_per_s",
        "prompt_tokens",
        "completion_tokens",
    )

    class Meta:
        verbose_name = _("message")
        verbose_name_plural = _("messages")
        indexes = [models.Index(fields=["conversation", "id"], name="chat_message_in_order")]
        constraints = [
            models.UniqueConstraint(
                fields=["tenant", "author", "client_id"],
                condition=models.Q(client_id__isnull=False),
                name="chat_asked_once",
            ),
            models.UniqueConstraint(
                fields=["tenant", "generation"],
                condition=models.Q(generation__isnull=False),
                name="chat_answer_of_generation",
            ),
            models.UniqueConstraint(
                fields=["conversation"],
                condition=models.Q(status="generating"),
                name="chat_one_answer_at_a_time",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.role} {self.pk}"

    @property
    def is_generating(self) -> bool:
        return self.status == self.Status.GENERATING
