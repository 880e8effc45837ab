from django.urls import path, re_path

from console.api import views

urlpatterns = [
    path("chat/completions", views.chat_completions, name="api_chat_completions"),
    path("completions", views.completions, name="api_completions"),
    path("embeddings", views.embeddings, name="api_embeddings"),
    path("tokenize", views.tokenize, name="api_tokenize"),
    path("detokenize", views.detokenize, name="api_detokenize"),
    path("models", views.models, name="api_models"),
    path("models/<path:name>", views.model, name="api_model"),
    re_path("", views.unknown, name="api_unknown"),
]
