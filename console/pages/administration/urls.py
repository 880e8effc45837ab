"""Addresses under `/t/<slug>/administration/`."""

from django.urls import path

from console.pages.administration import (
    groups,
    home,
    imports,
    invitations,
    keys,
    people,
    roles,
    service_accounts,
)

urlpatterns = [
    path("", home.first, name="administration"),
    path("people/", people.page, name="people"),
    path("people/act", people.act, name="people_act"),
    path("people/import/", imports.page, name="import_people"),
    path("people/<uuid:membership_id>/", people.member, name="member"),
    path("people/<uuid:membership_id>/groups", people.member_groups, name="member_groups"),
    path("invitations/", invitations.page, name="invitations"),
    path("invitations/new/", invitations.invite, name="invite"),
    path("invitations/act", invitations.act, name="invitations_act"),
    path("groups/", groups.page, name="groups"),
    path("groups/new/", groups.create, name="group_new"),
    path("groups/<uuid:group_id>/", groups.group, name="group"),
    path("groups/<uuid:group_id>/members", groups.members, name="group_members"),
    path("groups/<uuid:group_id>/delete/", groups.delete, name="group_delete"),
    path("roles/", roles.page, name="roles"),
    path("roles/new/", roles.create, name="role_new"),
    path("roles/<uuid:role_id>/", roles.edit, name="role"),
    path("roles/<uuid:role_id>/delete/", roles.delete, name="role_delete"),
    path("keys/", keys.page, name="keys"),
    path("keys/new/", keys.create, name="key_new"),
    path("keys/revoke", keys.revoke_selected, name="keys_revoke"),
    path("keys/<uuid:key_id>/", keys.one, name="key"),
    path("keys/<uuid:key_id>/rotate", keys.rotate, name="key_rotate"),
    path("keys/<uuid:key_id>/revoke", keys.revoke, name="key_revoke"),
    path("keys/accounts/", service_accounts.page, name="service_accounts"),
    path("keys/accounts/new/", service_accounts.create, name="service_account_new"),
    path("keys/accounts/<uuid:account_id>/", service_accounts.one, name="service_account"),
    path("keys/accounts/<uuid:account_id>/disable", service_accounts.disable, name="service_account_disable"),
    path("keys/accounts/<uuid:account_id>/enable", service_accounts.enable, name="service_account_enable"),
]
