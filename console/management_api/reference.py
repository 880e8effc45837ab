"""The page that shows the API's document: drawn here, without a script."""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from ninja import NinjaAPI
from ninja.openapi.docs import DocsBase


class Reference(DocsBase):
    """Ninja's hook for /api/docs."""

    def render_page(self, request: HttpRequest, api: NinjaAPI, **kwargs: Any) -> HttpResponse:
        document = api.get_openapi_schema(path_params=kwargs)
        context = {
            "info": {**document["info"], "description": _plain(document["info"]["description"])},
            "areas": areas(document),
            "document_url": self.get_openapi_url(api, kwargs),
        }
        return render(request, "management_api/reference.html", context)


def areas(document: dict[str, Any]) -> list[dict[str, Any]]:
    """The operations by area, each with what it takes and gives, ready to be shown."""
    found: dict[str, list[dict[str, Any]]] = {}
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            shown = _operation(document, path, method, operation)
            found.setdefault(operation["tags"][0], []).append(shown)
    return [{"name": name, "operations": operations} for name, operations in found.items()]


def _operation(document: dict[str, Any], path: str, method: str, operation: dict[str, Any]) -> dict[str, Any]:
    body = operation.get("requestBody", {}).get("content", {}).get("application/json", {}).get("schema")
    status, answer = next((code, each) for code, each in operation["responses"].items() if int(code) < 300)
    contents = list(answer.get("content", {}).values())
    gives = contents[0]["schema"] if contents else None
    return {
        "id": operation["operationId"],
        "method": method.upper(),
        "path": path,
        "summary": operation["summary"],
        "description": _plain(operation.get("description", "")),
        "parameters": [_parameter(document, each) for each in operation["parameters"]],
        "body": _fields(document, body) if body else [],
        "status": status,
        "answer": _type(document, gives) if gives else "",
        "fields": _fields(document, gives) if gives else [],
    }


def _parameter(document: dict[str, Any], parameter: dict[str, Any]) -> dict[str, Any]:
    return _field(document, parameter["name"], parameter["schema"], required=parameter["required"])


def _fields(document: dict[str, Any], schema: dict[str, Any]) -> list[dict[str, Any]]:
    """The fields of an object, or of the objects in a list or page."""
    schema = _resolved(document, schema)
    if schema.get("type") == "array":
        return _fields(document, schema["items"])
    properties = schema.get("properties", {})
    if {"items", "total"} <= set(properties):
        return _fields(document, properties["items"])
    required = schema.get("required", [])
    return [_field(document, name, value, required=name in required) for name, value in properties.items()]


def _field(document: dict[str, Any], name: str, schema: dict[str, Any], *, required: bool) -> dict[str, Any]:
    return {
        "name": name,
        "type": _type(document, schema),
        "required": required,
        "description": _plain(schema.get("description", "")),
    }


def _plain(text: str) -> str:
    """Without the marks of Markdown, which the document's own readers draw."""
    return text.replace("`", "")


def _type(document: dict[str, Any], schema: dict[str, Any]) -> str:
    """A schema in a few words."""
    if "anyOf" in schema:
        return " | ".join(_type(document, each) for each in schema["anyOf"])
    if "$ref" in schema:
        schema = _resolved(document, schema)
        if "enum" not in schema:
            return str(schema.get("title", "object"))
    if "enum" in schema:
        return " | ".join(f"“{each}”" for each in schema["enum"])
    if schema.get("type") == "array":
        return f"[{_type(document, schema['items'])}]"
    return str(schema.get("format") or schema.get("type", "any"))


def _resolved(document: dict[str, Any], schema: dict[str, Any]) -> dict[str, Any]:
    if "$ref" not in schema:
        return schema
    name = schema["$ref"].rpartition("/")[2]
    return document["components"]["schemas"][name]
