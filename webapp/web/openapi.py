"""The API's description of itself. A test holds it against the routes and against real answers."""

from __future__ import annotations

from typing import Any

_TEXT = {"type": "string"}
_MOMENT = {"type": ["string", "null"], "format": "date-time"}
_PROFILE: dict[str, Any] = {
    "type": "object",
    "additionalProperties": False,
    "properties": {
        "id": {"type": "integer", "minimum": 1},
        "name": _TEXT,
        "file_name": {"type": "string", "pattern": r"^[a-zA-Z0-9_=+.-]{1,15}\.conf$"},
        "ipv4_address": {"type": "string", "format": "ipv4"},
        "ipv6_address": {"type": ["string", "null"], "format": "ipv6"},
        "public_key": {"type": "string", "minLength": 44, "maxLength": 44},
        "enabled": {"type": "boolean"},
        "state": {"enum": ["pending", "ready", "connected", "away", "blocked", "off", "expired"]},
        "pending_reason": {"type": ["string", "null"]},
        "outdated": {"type": "boolean"},
        "created_at": {"type": "string", "format": "date-time"},
        "expires_at": _MOMENT,
        "latest_handshake": _MOMENT,
        "rx_bytes": {"type": "integer", "minimum": 0, "description": "received from the device"},
        "tx_bytes": {"type": "integer", "minimum": 0, "description": "sent to the device"},
        "notes": _TEXT,
    },
}
_PROFILE["required"] = list(_PROFILE["properties"])
_PROBLEM = {
    "type": "object",
    "description": "RFC 9457",
    "required": ["type", "title", "status", "detail"],
    "properties": {
        "type": _TEXT,
        "title": _TEXT,
        "status": {"type": "integer"},
        "detail": _TEXT,
        "errors": {
            "type": "array",
            "items": {"type": "object", "properties": {"field": _TEXT, "detail": _TEXT}},
        },
    },
}
_NAME = {"type": "string", "minLength": 1, "maxLength": 64}


def describe(public_url: str) -> dict[str, Any]:
    """Return the OpenAPI 3.1 document of this server."""
    one = _json({"$ref": "#/components/schemas/Profile"})
    return {
        "openapi": "3.1.0",
        "info": {"title": "Postern", "version": "1", "license": {"name": "MIT", "identifier": "MIT"}},
        "servers": [{"url": public_url}],
        "security": [{"token": []}],
        "paths": {
            "/api/v1/profiles": {
                "get": _operation(
                    "list_profiles",
                    "List your profiles, oldest first",
                    {"200": _json({"$ref": "#/components/schemas/Page"})},
                    ["401", "403", "422"],
                    parameters=[
                        _query("limit", {"type": "integer", "minimum": 1, "maximum": 500, "default": 50}),
                        _query("after", {"type": "integer", "minimum": 0, "default": 0}),
                    ],
                ),
                "post": _operation(
                    "create_profile",
                    "Create a profile; the server makes its keys and gives it an address",
                    {"201": one},
                    ["400", "401", "403", "409", "413", "422"],
                    body={
                        "type": "object",
                        "required": ["name"],
                        "additionalProperties": False,
                        "properties": {"name": _NAME},
                    },
                ),
            },
            "/api/v1/profiles/{profile_id}": {
                "parameters": [
                    {
                        "name": "profile_id",
                        "in": "path",
                        "required": True,
                        "schema": {"type": "integer", "minimum": 1},
                    }
                ],
                "get": _operation("show_profile", "Show a profile", {"200": one}, ["401", "403", "404"]),
                "patch": _operation(
                    "change_profile",
                    "Change what is given of a profile",
                    {"200": one},
                    ["400", "401", "403", "404", "409", "413", "422"],
                    body={
                        "type": "object",
                        "additionalProperties": False,
                        "properties": {
                            "name": _NAME,
                            "enabled": {"type": "boolean"},
                            "expires_at": _MOMENT,
                            "notes": {"type": "string", "maxLength": 1000},
                        },
                    },
                ),
                "delete": _operation(
                    "delete_profile",
                    "Delete a profile; its key leaves the server",
                    {"204": {"description": "deleted"}},
                    ["401", "403", "404"],
                ),
            },
            "/api/v1/openapi.json": {
                "get": _operation("openapi", "This description", {"200": _json({"type": "object"})}, [])
                | {"security": []},
            },
        },
        "components": {
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
            "schemas": {
                "Profile": _PROFILE,
                "Problem": _PROBLEM,
                "Page": {
                    "type": "object",
                    "required": ["items", "next"],
                    "properties": {
                        "items": {"type": "array", "items": {"$ref": "#/components/schemas/Profile"}},
                        "next": {"type": ["string", "null"], "format": "uri"},
                    },
                },
            },
        },
    }


def _operation(
    name: str,
    summary: str,
    answers: dict[str, Any],
    refusals: list[str],
    *,
    parameters: list[dict[str, Any]] | None = None,
    body: dict[str, Any] | None = None,
) -> dict[str, Any]:
    problem = {
        "description": "refused",
        "content": {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}},
    }
    operation: dict[str, Any] = {
        "operationId": name,
        "summary": summary,
        "responses": answers | dict.fromkeys(refusals, problem),
    }
    if parameters:
        operation["parameters"] = parameters
    if body:
        operation["requestBody"] = {"required": True, "content": {"application/json": {"schema": body}}}
    return operation


def _json(schema: dict[str, Any]) -> dict[str, Any]:
    return {"description": "done", "content": {"application/json": {"schema": schema}}}


def _query(name: str, schema: dict[str, Any]) -> dict[str, Any]:
    return {"name": name, "in": "query", "schema": schema}
