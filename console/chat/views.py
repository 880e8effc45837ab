"""The chat page, renaming and deleting. Asking and answering go over the websocket."""

from __future__ import annotations

import logging
from functools import partial
from uuid import UUID

from asgiref.sync import async_to_sync
from django.db import transaction
from django.db.models import Q
from django.http import HttpResponse, JsonResponse
from django.shortcuts import render
from django.views.decorators.http import require_GET, require_POST

from console.chat import access, exchange, hints, selectors, services
from console.chat.errors import ChatError
from console.tenancy import TenantRequest, tenant_view
from inference.generation.errors import StreamUnavailable
from tenants.roles import CHAT_USE

logger = logging.getLogger(__name__)


@require_GET
@tenant_view(CHAT_USE)
def page(request: TenantRequest, conversation: UUID | None = None) -> HttpResponse:
    """A conversation with its history, or the place to start one."""
    if conversation is not None:
        _settle_orphans(request, conversation)
    return render(request, "chat/page.html", {"chat_data": selectors.page_data(request.actor, conversation)})


@require_POST
@tenant_view(CHAT_USE)
def rename(request: TenantRequest, conversation: UUID) -> JsonResponse:
    """POST title=…; answers {"title"} or {"error"}."""
    try:
        title = services.rename(
            actor=request.actor, conversation_id=conversation, title=request.POST.get("title", "")
        )
    except ChatError as error:
        return JsonResponse({"error": {"code": error.code, "message": str(error.message)}}, status=400)
    # Once it can be read: the other tabs look the title up.
    transaction.on_commit(partial(hints.renamed, request.actor, conversation))
    return JsonResponse({"title": title})


@require_POST
@tenant_view(CHAT_USE)
def delete(request: TenantRequest, conversation: UUID) -> JsonResponse:
    """Delete the conversation and stop what is being written in it. The audit record stays."""
    for generation in services.delete(actor=request.actor, conversation_id=conversation):
        transaction.on_commit(partial(_stop, request.actor.tenant_id, generation))
    return JsonResponse({"deleted": str(conversation)})


def _stop(tenant_id: UUID, generation: UUID) -> None:
    try:
        async_to_sync(exchange.stop_everywhere)(tenant_id, generation)
    except StreamUnavailable:
        logger.warning("the answer of a deleted conversation runs to its end: Valkey does not answer")


def _settle_orphans(request: TenantRequest, conversation: UUID) -> None:
    """Answers whose process died are shown as cut off, with the text that was recorded."""
    access.access_conversation(request.actor, conversation)
    try:
        services.reconcile(actor=request.actor, answers=Q(conversation_id=conversation))
    except StreamUnavailable:
        logger.warning("unfinished answers are shown as they were: Valkey does not answer")
