"""Django's own admin, for emergencies: at /emergency/, for platform administrators who used a second factor.

For everybody else there is nothing at its addresses. It shows people and tenants, nobody's content, and changes one
thing: whether a person's account is switched on.
"""

from typing import Any

from django.contrib.admin import ModelAdmin
from django.contrib.admin.sites import AdminSite
from django.http import Http404, HttpRequest, HttpResponse
from django.urls import URLPattern, URLResolver, path
from django.utils.translation import gettext_lazy as _

from console.sign_in.changes import record_account_change
from console.sign_in.entry import has_second_factor, is_own, used_second_factor
from tenants.models import Tenant, User


def may_enter(request: HttpRequest) -> bool:
    user = request.user
    return (
        isinstance(user, User)
        and user.is_active
        and user.is_platform_administrator
        and is_own(request.session, user)
        and has_second_factor(user)
        and used_second_factor(request.session, user)
    )


class EmergencySite(AdminSite):
    site_header = site_title = _("Custos: emergency access")
    index_title = _("People and tenants")
    site_url = None
    enable_nav_sidebar = False

    def has_permission(self, request: HttpRequest) -> bool:
        return may_enter(request)

    def admin_view(self, view: Any, cacheable: bool = False) -> Any:
        inner = super().admin_view(view, cacheable)

        def guarded(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
            if not may_enter(request):
                raise Http404
            return inner(request, *args, **kwargs)

        return guarded

    def get_urls(self) -> list[URLPattern | URLResolver]:
        """The start pages and, of each model, its list and its rows: no more of the admin is used."""
        found: list[URLPattern | URLResolver] = [
            path("", self.admin_view(self.index), name="index"),
            path("jsi18n/", self.admin_view(self.i18n_javascript), name="jsi18n"),
            path("<str:app_label>/", self.admin_view(self.app_index), name="app_list"),
        ]
        for model, options in self._registry.items():
            name = f"{model._meta.app_label}_{model._meta.model_name}"
            place = f"{model._meta.app_label}/{model._meta.model_name}/"
            found += [
                path(place, self.admin_view(options.changelist_view), name=f"{name}_changelist"),
                path(
                    f"{place}<path:object_id>/change/",
                    self.admin_view(options.change_view),
                    name=f"{name}_change",
                ),
            ]
        return found


class _ReadOnly(ModelAdmin):
    actions = None
    list_per_page = 50

    def has_module_permission(self, request: HttpRequest) -> bool:
        return may_enter(request)

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return may_enter(request)

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


class PersonAdmin(_ReadOnly):
    list_display = ("email", "name", "is_active", "is_platform_administrator", "last_login")
    search_fields = ("email", "name")
    ordering = ("email",)
    fields = ("email", "name", "is_active", "is_platform_administrator", "created", "last_login")
    readonly_fields = ("email", "name", "is_platform_administrator", "created", "last_login")

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return may_enter(request)

    def save_model(self, request: HttpRequest, obj: User, form: Any, change: bool) -> None:
        if "is_active" in form.changed_data:
            obj.save(update_fields=["is_active"])
            record_account_change(
                obj,
                "account.switched",
                before={"active": not obj.is_active},
                after={"active": obj.is_active},
                detail={"by": request.user.get_username()},
            )


class TenantAdmin(_ReadOnly):
    list_display = ("slug", "name", "status", "created")
    search_fields = ("slug", "name")
    ordering = ("slug",)
    fields = ("slug", "name", "status", "created", "status_changed", "delete_after")


site = EmergencySite(name="emergency")
site.register(User, PersonAdmin)
site.register(Tenant, TenantAdmin)
