"""The proof, in words that a lawyer follows: what the log shows, who vouches for it, what is wrong, and a record's place."""

import base64
from typing import Any
from uuid import UUID

from django.conf import settings
from django.db import transaction
from django.http import HttpResponse, JsonResponse
from django.shortcuts import redirect, render
from django.utils.translation import gettext as _
from django.views.decorators.http import require_POST, require_safe

from audit import selectors as records
from audit.tree import anchors, checks, merkle, selectors, signing, stored
from audit.tree.models import Check, Checkpoint
from audit.tree.verification import WitnessState
from console.audit_words import finding_words, refusal_words, witness_words
from console.pages.labels import State
from console.tasks import check_log
from console.tenancy import TenantRequest, tenant_view
from tenants.access import NotVisible
from tenants.roles import AUDIT_EXPORT, AUDIT_LIST

VERIFIER = settings.BASE_DIR / "audit" / "verifier" / "custos_verify.py"
SHOWN_FINDINGS = 50


@require_safe
@tenant_view(AUDIT_LIST)
def page(request: TenantRequest) -> HttpResponse:
    """The state of the log, and what the last check found."""
    alarms = selectors.alarms()
    newest, witnessed = selectors.newest_head(witnessed=False), selectors.newest_head()
    check = checks.newest(request.actor)
    context = {
        "title": _("Proof"),
        "entries": stored.size(),
        "since": Checkpoint.objects.order_by("size").values_list("created", flat=True).first(),
        "newest": newest,
        "witnessed": witnessed if witnessed and witnessed.witnessed else None,
        "alarms": alarms,
        "refusals": [refusal_words(why) for why in alarms.refusals],
        "is_waiting": alarms.unanchored_s > selectors.LATE_AFTER.total_seconds(),
        "witness_is_known": anchors.witness_verifier() is not None,
        "keys": _keys(request),
        "check": check and _told(check),
    }
    return render(request, "audit/proof.html", context)


@require_POST
@tenant_view(AUDIT_LIST)
def check(request: TenantRequest) -> HttpResponse:
    """Have everything checked now; the page tells how far that is."""
    asked, is_new = checks.ask(request.actor)
    if is_new:
        tenant_id, check_id = str(request.actor.tenant_id), str(asked.pk)
        transaction.on_commit(lambda: check_log.delay(tenant_id, check_id))
    return redirect("audit_proof", request.actor.tenant_slug)


@require_safe
@tenant_view(AUDIT_LIST)
def progress(request: TenantRequest) -> HttpResponse:
    """How far the check is, for the page's script."""
    newest = checks.newest(request.actor)
    told = {
        "done": newest.done if newest else 0,
        "total": newest.total if newest else 0,
        "running": newest is not None and checks.is_running(newest),
    }
    return JsonResponse(told)


@require_safe
@tenant_view(AUDIT_LIST)
def record(request: TenantRequest, request_id: UUID) -> HttpResponse:
    """How one record is proven to be in the log, step by step."""
    summary = records.find_record(request.actor, request_id)
    place = selectors.place_of(request_id)
    proof = selectors.proof_of(request_id)
    context = {
        "title": _("Proof of a record"),
        "summary": summary,
        "place": place,
        "proof": proof,
        "leaf": place and place.leaf.hex(),
        "root": proof and proof.checkpoint.root.hex(),
        "steps": _steps(proof) if proof else [],
        "may_export": request.actor.can(AUDIT_EXPORT) and proof is not None,
    }
    return render(request, "audit/proof_record.html", context)


@require_safe
@tenant_view(AUDIT_LIST)
def keys(request: TenantRequest) -> HttpResponse:
    """The public keys as a file."""
    text = "".join(f"{key}\n" for key in _keys(request).values())
    return HttpResponse(text, content_type="text/plain; charset=utf-8", headers=_as_file("custos-keys.txt"))


@require_safe
@tenant_view(AUDIT_LIST)
def head(request: TenantRequest) -> HttpResponse:
    """The newest head, signed: to be kept where Custos cannot change it, and compared later."""
    newest = selectors.newest_head()
    text = newest.note if newest else ""
    return HttpResponse(text, content_type="text/plain; charset=utf-8", headers=_as_file("custos-head.txt"))


@require_safe
@tenant_view(AUDIT_LIST)
def continuation(request: TenantRequest) -> HttpResponse:
    """?old=…&new=…, numbers of entries: that the later log goes on from the earlier one, as a file for the verifier."""
    try:
        old, new = (int(request.GET.get(name, "")[:18]) for name in ("old", "new"))
    except ValueError as error:
        raise NotVisible("log of that size") from error
    path = [base64.b64encode(each).decode() for each in selectors.continuation(old, new)]
    told = {"format": "custos.continuation/1", "old": old, "new": new, "proof": path}
    return JsonResponse(told, headers=_as_file(f"custos-continuation-{old}-{new}.json"))


@require_safe
@tenant_view(AUDIT_LIST)
def verifier(request: TenantRequest) -> HttpResponse:
    """The program that checks bundles without Custos."""
    return HttpResponse(
        VERIFIER.read_bytes(), content_type="text/x-python; charset=utf-8", headers=_as_file(VERIFIER.name)
    )


def _keys(request: TenantRequest) -> dict[str, str]:
    witness = anchors.witness_verifier()
    return {
        "log": str(signing.verifier(request.actor.tenant_id)),
        **({"witness": str(witness)} if witness else {}),
    }


def _as_file(name: str) -> dict[str, str]:
    return {"Content-Disposition": f'attachment; filename="{name}"'}


def _told(check: Check) -> dict[str, Any]:
    """A check as the page tells of it. Findings name entries of the log, not records: those are told to who may list them."""
    report = check.report or {}
    found = report.get("findings", [])[:SHOWN_FINDINGS]
    return {
        "check": check,
        "is_running": checks.is_running(check),
        "is_lost": check.finished is None and not checks.is_running(check),
        "report": report,
        "look": _look(report) if report else None,
        "findings": [finding_words(each["code"], each["seq"], each["detail"]) for each in found],
        "more": report.get("findings_count", 0) - len(found),
        "witness": witness_words(report["witness"]) if report else "",
    }


def _look(report: dict[str, Any]) -> State:
    if report["findings_count"]:
        return State("bad", "s-bad", _("Findings"))
    if report["witness"] == WitnessState.AWAY:
        return State("warn", "s-warn", _("Not fully checked"))
    return State("ok", "s-ok", _("Sound"))


def _steps(proof: selectors.Proof) -> list[dict[str, Any]]:
    """From the record's leaf to the root: at each step the neighbour, on which side it stands, and what comes of both."""
    steps, place, last, found = [], proof.sequence, proof.checkpoint.size - 1, proof.leaf
    for sibling in proof.path:
        is_left = bool(place & 1) or place == last
        found = merkle.node_hash(sibling, found) if is_left else merkle.node_hash(found, sibling)
        if is_left:
            while not place & 1 and place:
                place, last = place >> 1, last >> 1
        place, last = place >> 1, last >> 1
        steps.append({"neighbour": sibling.hex(), "is_left": is_left, "result": found.hex()})
    return steps
