"""Addresses of SCIM."""

from django.urls import path, re_path

from console.scim import views

urlpatterns = [
    path("ServiceProviderConfig", views.config),
    path("ResourceTypes", views.resource_types),
    path("ResourceTypes/<str:name>", views.resource_type),
    path("Schemas", views.schemas),
    path("Schemas/<str:name>", views.schema),
    path("Users", views.collection(views.USERS)),
    path("Users/.search", views.search(views.USERS)),
    path("Users/<uuid:resource_id>", views.single(views.USERS), name="scim_user"),
    path("Groups", views.collection(views.GROUPS)),
    path("Groups/.search", views.search(views.GROUPS)),
    path("Groups/<uuid:resource_id>", views.single(views.GROUPS), name="scim_group"),
    re_path("", views.unknown),
]
