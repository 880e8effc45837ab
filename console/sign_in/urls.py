"""Addresses of signing in. Of django-allauth's views only those named here are there."""

from allauth.account import views as account_views
from allauth.mfa.base import views as mfa_views
from django.db import transaction
from django.urls import path, re_path
from django.views.decorators.cache import never_cache

from console.sign_in.views import account, administration, door, factors, invitation, join

# Their flows name these addresses themselves; each is one of ours.
ALLAUTH_NAMES = [
    path("signin/", door.sign_in, name="account_login"),
    path("account/changed/", factors.changed, name="mfa_index"),
    path("account/changed/", factors.changed, name="mfa_list_webauthn"),
]

urlpatterns = [
    path("signin/", door.sign_in, name="signin"),
    path("signout/", door.sign_out, name="signout"),
    path("signin/second-factor/", never_cache(mfa_views.authenticate), name="mfa_authenticate"),
    path("signin/start-again/", door.start_again, name="signin_start_again"),
    path("signin/passkey/", door.PasskeyView.as_view(), name="mfa_login_webauthn"),
    path("signin/sso/", door.company, name="sso"),
    path("signin/sso/<slug:slug>/", door.company_providers, name="sso_tenant"),
    path("signin/sso/<slug:slug>/<slug:provider_slug>/", door.company_start, name="sso_start"),
    path("signin/sso/<slug:slug>/<slug:provider_slug>/callback/", door.company_callback, name="sso_callback"),
    path("signin/forgotten/", account_views.password_reset, name="account_reset_password"),
    path("signin/forgotten/sent/", account_views.password_reset_done, name="account_reset_password_done"),
    re_path(
        r"^signin/forgotten/(?P<uidb36>[0-9A-Za-z]+)-(?P<key>.+)/$",
        never_cache(transaction.atomic(account_views.password_reset_from_key)),
        name="account_reset_password_from_key",
    ),
    path(
        "signin/forgotten/done/",
        account_views.password_reset_from_key_done,
        name="account_reset_password_from_key_done",
    ),
    path("invitation/<slug:slug>/<str:token>/", invitation.page, name="invitation"),
    path("join/<slug:slug>/", join.page, name="join"),
    path("account/", account.overview, name="account"),
    path("account/profile", account.profile, name="account_profile"),
    path("account/avatar", account.avatar, name="account_avatar"),
    path("account/avatar/<uuid:user_id>", account.avatar_of, name="avatar"),
    path("account/password/", account.ChangePassword.as_view(), name="account_change_password"),
    path("account/email/", account.change_email, name="account_email"),
    path("account/email/proof", account.prove_email, name="account_prove_email"),
    path("account/email/<str:token>/", account.confirm_email, name="account_confirm_email"),
    path("account/sessions/<int:session_id>/end", account.end_session, name="end_session"),
    path("account/sessions/end-others", account.end_other_sessions, name="end_other_sessions"),
    path("account/confirm/", never_cache(account_views.reauthenticate), name="account_reauthenticate"),
    path("account/confirm/code/", never_cache(mfa_views.reauthenticate), name="mfa_reauthenticate"),
    path("account/confirm/passkey/", factors.ConfirmByPasskey.as_view(), name="mfa_reauthenticate_webauthn"),
    path("account/second-factor/", factors.required, name="second_factor_required"),
    path("account/authenticator/", factors.AddAuthenticatorApp.as_view(), name="mfa_activate_totp"),
    path(
        "account/authenticator/remove/", factors.RemoveAuthenticatorApp.as_view(), name="mfa_deactivate_totp"
    ),
    path("account/recovery-codes/", factors.ShowRecoveryCodes.as_view(), name="mfa_view_recovery_codes"),
    path(
        "account/recovery-codes/new/",
        factors.NewRecoveryCodes.as_view(),
        name="mfa_generate_recovery_codes",
    ),
    path("account/passkeys/add/", factors.AddPasskey.as_view(), name="mfa_add_webauthn"),
    path("account/passkeys/<int:pk>/rename/", factors.RenamePasskey.as_view(), name="mfa_edit_webauthn"),
    path("account/passkeys/<int:pk>/remove/", factors.RemovePasskey.as_view(), name="mfa_remove_webauthn"),
    path("t/<slug:slug>/administration/sign-in/", administration.page, name="sign_in_administration"),
    path(
        "t/<slug:slug>/administration/sign-in/second-factor",
        administration.second_factor,
        name="require_second_factor",
    ),
    path("t/<slug:slug>/administration/sign-in/add/", administration.add, name="identity_provider_add"),
    path(
        "t/<slug:slug>/administration/sign-in/<uuid:provider_id>/",
        administration.edit,
        name="identity_provider",
    ),
    path(
        "t/<slug:slug>/administration/sign-in/<uuid:provider_id>/delete/",
        administration.delete,
        name="identity_provider_delete",
    ),
    path(
        "t/<slug:slug>/administration/sign-in/<uuid:provider_id>/test",
        administration.test,
        name="identity_provider_test",
    ),
    *ALLAUTH_NAMES,
]
