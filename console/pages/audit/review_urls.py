"""Addresses of the review, below `/t/<slug>/audit/review/`."""

from django.urls import path

from console.pages.audit import review, review_item, review_queues, review_samples, review_statistics

urlpatterns = [
    path("", review.page, name="review"),
    path("start", review.start, name="review_start"),
    path("take", review.take, name="review_take"),
    path("act", review.act, name="review_act"),
    path("flag", review.flag, name="review_flag"),
    path("queues/", review_queues.page, name="review_queues"),
    path("queues/new/", review_queues.create, name="review_queue_new"),
    path("queues/<uuid:queue_id>/", review_queues.edit, name="review_queue"),
    path("queues/<uuid:queue_id>/close/", review_queues.retire, name="review_queue_retire"),
    path("samples/", review_samples.page, name="review_samples"),
    path("samples/new/", review_samples.create, name="review_sample_new"),
    path("samples/<uuid:plan_id>/", review_samples.edit, name="review_sample"),
    path("samples/<uuid:plan_id>/act", review_samples.act, name="review_sample_act"),
    path("figures/", review_statistics.page, name="review_statistics"),
    path("<uuid:item_id>/", review_item.page, name="review_item"),
]
