from django.urls import path

from console.chat import views

urlpatterns = [
    path("", views.page, name="chat"),
    path("<uuid:conversation>/", views.page, name="conversation"),
    path("<uuid:conversation>/rename", views.rename, name="conversation_rename"),
    path("<uuid:conversation>/delete", views.delete, name="conversation_delete"),
]
