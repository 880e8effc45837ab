"""What people fill in to sign in and to look after their account."""

from typing import Any

from allauth.account.adapter import get_adapter
from allauth.account.forms import ResetPasswordForm
from django import forms
from django.conf import settings
from django.http import HttpRequest
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, pgettext_lazy

from console import throttle
from console.sign_in import passwords
from tenants.models import User

EMAIL_ERRORS = {
    "required": gettext_lazy("Enter your e-mail address."),
    "invalid": gettext_lazy("Enter a whole e-mail address, such as name@company.example."),
}


class SignInForm(forms.Form):
    """An address and a password; `user` is who they belong to once the form is valid."""

    email = forms.EmailField(
        label=gettext_lazy("E-mail address"), max_length=254, error_messages=EMAIL_ERRORS
    )
    password = forms.CharField(
        label=gettext_lazy("Password"),
        max_length=4096,
        strip=False,
        error_messages={"required": gettext_lazy("Enter your password.")},
    )

    def __init__(self, *args: Any, request: HttpRequest, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.request = request
        self.user: User | None = None

    def clean(self) -> dict[str, Any]:
        values = super().clean() or {}
        if self.errors:
            return values
        try:
            self.user = passwords.check(self.request, email=values["email"], password=values["password"])
        except passwords.TooManyAttempts:
            minutes = throttle.WINDOW_S // 60
            message = _("Too many attempts. Wait %(minutes)d minutes, then try again.") % {"minutes": minutes}
            raise forms.ValidationError(message, code="throttled") from None
        except passwords.BrakeUnavailable:
            message = _("Signing in is not possible at the moment. Try again in a minute.")
            raise forms.ValidationError(message, code="unavailable") from None
        if self.user is None:
            raise forms.ValidationError(
                _("Address and password do not belong together. Check both."), code="wrong"
            )
        return values


class ForgottenPasswordForm(ResetPasswordForm):
    """Mails a link to the active person of an address; whoever came by an identity provider gets a first password."""

    def clean_email(self) -> str:
        email = self.cleaned_data["email"].strip().lower()
        self.users = list(User.objects.filter(email=email, is_active=True))
        return email

    def save(self, request: HttpRequest, **kwargs: Any) -> str:
        """A mail goes out either way: the time that the answer takes must not tell whether there is an account."""
        email = super().save(request, **kwargs)
        if not self.users:
            get_adapter().send_mail("account/email/unknown_account", email, {})
        return email


class NewEmailForm(forms.Form):
    email = forms.EmailField(
        label=gettext_lazy("New e-mail address"), max_length=254, error_messages=EMAIL_ERRORS
    )

    def __init__(self, *args: Any, user: User, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.user = user

    def clean_email(self) -> str:
        email = self.cleaned_data["email"].strip().lower()
        if email == self.user.email:
            raise forms.ValidationError(_("This is your address already."))
        return email


class ProfileForm(forms.Form):
    name = forms.CharField(label=pgettext_lazy("of a person", "Name"), max_length=120, required=False)
    language = forms.ChoiceField(
        label=gettext_lazy("Language"),
        choices=lambda: [("", _("As the browser")), *settings.LANGUAGES],
        required=False,
    )


class AvatarForm(forms.Form):
    picture = forms.FileField(label=gettext_lazy("Picture"))
