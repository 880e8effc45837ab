"""Addresses of the registry, under `/platform/models/`."""

from django.urls import path

from console.pages.models import compare, imports, listing, model, prices, upload, version

urlpatterns = [
    path("", listing.page, name="models"),
    path("compare/", compare.page, name="models_compare"),
    path("prices/", prices.page, name="prices"),
    path("import/", imports.begin, name="model_import_new"),
    path("imports/<uuid:import_id>/", imports.page, name="model_import"),
    path("imports/<uuid:import_id>/state", imports.state, name="model_import_state"),
    path("imports/<uuid:import_id>/act/<slug:action>", imports.act, name="model_import_act"),
    path("imports/<uuid:import_id>/files", upload.announce, name="model_upload_files"),
    path("imports/<uuid:import_id>/chunk", upload.chunk, name="model_upload_chunk"),
    path("<uuid:model_id>/", model.page, name="model"),
    path("versions/<uuid:version_id>/", version.page, name="model_version"),
    path("versions/<uuid:version_id>/derive", version.derive, name="model_version_derive"),
    path("versions/<uuid:version_id>/turn/<slug:action>", version.turn, name="model_version_turn"),
]
