"""What follows from changes that django-allauth makes: they are recorded, in the transaction that makes them."""

from typing import Any

from allauth.account.signals import authentication_step_completed, password_reset
from allauth.mfa.models import Authenticator
from allauth.mfa.signals import authentication_failed
from django.db.models.signals import post_delete, post_save
from django.http import HttpRequest

from console import throttle
from console.sign_in import proof, trail
from console.sign_in.changes import client_address, record_account_change
from tenants.models import User


def connect() -> None:
    post_save.connect(_factor_added, sender=Authenticator, dispatch_uid="sign_in factor added")
    post_delete.connect(_factor_removed, sender=Authenticator, dispatch_uid="sign_in factor removed")
    authentication_failed.connect(_factor_failed, dispatch_uid="sign_in factor failed")
    authentication_step_completed.connect(_step_completed, dispatch_uid="sign_in step completed")
    password_reset.connect(_password_reset, dispatch_uid="sign_in password reset")


def _factor_added(instance: Authenticator, created: bool, **_: Any) -> None:
    if created:
        _record(instance, "account.second_factor_added")


def _factor_removed(instance: Authenticator, origin: Any = None, **_: Any) -> None:
    # With the person themselves goes everything; there is nobody left whose account would change.
    if not isinstance(origin, User):
        _record(instance, "account.second_factor_removed")


def _record(instance: Authenticator, kind: str) -> None:
    user = instance.user
    assert isinstance(user, User)
    record_account_change(user, kind, detail={"type": str(instance.type)})


def _factor_failed(request: HttpRequest, user: User, authenticator: Authenticator, **_: Any) -> None:
    trail.attempt_failed(
        email=user.email, by=str(authenticator.type), why="wrong code", address=client_address(request)
    )


def _step_completed(user: User, method: str, reauthenticated: bool = False, **more: Any) -> None:
    """A step of signing in is told by `trail.signed_in`, once all of them are done."""
    if reauthenticated:
        trail.confirmed(user, method, str(more.get("type") or ""))


def _password_reset(request: HttpRequest, user: User, **_: Any) -> None:
    """Who could read the mail and chose a new password need not wait for the brake, and proved the address."""
    proof.proven_by_new_password(request, user)
    throttle.forgive(email=user.email)
