"""Addresses of knowledge bases, under `/t/<slug>/knowledge/`."""

from django.urls import path

from console.pages.knowledge import base, bench, document, listing, sharing, source, upload

_SHARED = "sharing/<slug:code>/<uuid:object_id>/"
_GRANT = f"{_SHARED}<slug:sort>/<uuid:principal_id>"

urlpatterns = [
    path("", listing.page, name="knowledge"),
    path("new/", listing.create, name="knowledge_new"),
    path("<uuid:base_id>/", base.page, name="knowledge_base"),
    path("<uuid:base_id>/state", base.state, name="knowledge_state"),
    path("<uuid:base_id>/bulk", base.bulk, name="knowledge_bulk"),
    path("<uuid:base_id>/settings/", base.settings, name="knowledge_settings"),
    path("<uuid:base_id>/bench/", bench.page, name="knowledge_bench"),
    path("<uuid:base_id>/reindex", base.reindex, name="knowledge_reindex"),
    path("<uuid:base_id>/delete/", base.delete, name="knowledge_delete"),
    path("<uuid:base_id>/folders/", base.make_folder, name="knowledge_folder_new"),
    path("<uuid:base_id>/folders/<uuid:folder_id>/", base.folder, name="knowledge_folder"),
    path(
        "<uuid:base_id>/folders/<uuid:folder_id>/delete/", base.delete_folder, name="knowledge_folder_delete"
    ),
    path("<uuid:base_id>/uploads/", upload.begin, name="knowledge_upload"),
    path("uploads/<uuid:upload_id>/piece", upload.piece, name="knowledge_upload_piece"),
    path("uploads/<uuid:upload_id>/finish", upload.finish, name="knowledge_upload_finish"),
    path("uploads/<uuid:upload_id>/drop", upload.drop, name="knowledge_upload_drop"),
    path("documents/<uuid:document_id>/", document.page, name="knowledge_document"),
    path("documents/<uuid:document_id>/state", document.state, name="knowledge_document_state"),
    path("documents/<uuid:document_id>/source/", source.page, name="knowledge_source"),
    path("documents/<uuid:document_id>/turn/<slug:action>", document.turn, name="knowledge_document_turn"),
    path("documents/<uuid:document_id>/delete/", document.delete, name="knowledge_document_delete"),
    path("versions/<uuid:version_id>/act/<slug:action>", document.act, name="knowledge_version_act"),
    path("versions/<uuid:version_id>/validity/", document.validity, name="knowledge_version_validity"),
    path("versions/<uuid:version_id>/delete/", document.delete_version, name="knowledge_version_delete"),
    path("versions/<uuid:version_id>/file", document.download, name="knowledge_file"),
    path(_SHARED, sharing.page, name="knowledge_sharing"),
    path(f"{_GRANT}/level", sharing.change, name="knowledge_sharing_change"),
    path(f"{_GRANT}/remove/", sharing.remove, name="knowledge_sharing_remove"),
]
