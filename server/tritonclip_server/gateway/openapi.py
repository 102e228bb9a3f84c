"""The OpenAPI document: what FastAPI cannot see, because routes read their bodies themselves.

`described` gives a route the bodies that it takes (JSON and, where files are taken, a form) and the errors it answers;
`complete` adds the schemas that these refer to, and the key.
"""

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic.json_schema import models_json_schema

from tritonclip_server.gateway.access.policy import is_open
from tritonclip_server.gateway.parsing.request_models import (
    ClassifyRequest,
    EmbeddingsRequest,
    RequestModel,
    RerankRequest,
    SimilarityRequest,
    ZeroShotRequest,
)
from tritonclip_server.gateway.parsing.search_request import SearchRequest
from tritonclip_server.gateway.responses.response_models import ErrorResponse

REQUESTS: list[type[RequestModel]] = []
"""The request models of all routes that were described, for the document's schemas."""

_REFERENCE = "#/components/schemas/{model}"
_REASONS = {
    400: "Something in the request is wrong; `param` names it",
    401: "No valid key",
    403: "The key is not for this model; or, without keys, another site's page asks",
    404: "No such model, index or row",
    413: "The body is too large",
    415: "Neither JSON nor a form",
    429: "The key's rate is used up, or there was no room in time; `Retry-After` says when to come back",
    500: "The gateway failed",
    501: "The model cannot do this",
    502: "The model server failed",
    503: "The model server is not available",
    504: "No answer within the time limit",
}
ERRORS: dict[int | str, dict[str, Any]] = {
    status: {"model": ErrorResponse, "description": reason} for status, reason in _REASONS.items()
}

# What a form may hold, by request: files under the names that take images.
_FORMS: dict[type[RequestModel], tuple[tuple[str, ...], tuple[str, ...]]] = {
    EmbeddingsRequest: (("image", "input"), ("text", "model", "encoding_format")),
    SimilarityRequest: (("image",), ("text", "model")),
    ClassifyRequest: (("image",), ("labels", "label_set", "template", "top_k", "threshold", "min_cosine", "model")),
    RerankRequest: (("documents",), ("query", "top_n", "model")),
    ZeroShotRequest: (("image",), ("candidate_labels", "hypothesis_template")),
    SearchRequest: (("image",), ("text", "minus", "index", "top_k", "filter", "include", "model")),
}


def described(*models: type[RequestModel]) -> dict[str, Any]:
    """Keyword arguments for a route that takes this request, or one of these; of the first it may take a form, too."""
    REQUESTS.extend(model for model in models if model not in REQUESTS)
    references = [{"$ref": _REFERENCE.format(model=model.__name__)} for model in models]
    content: dict[str, Any] = {
        "application/json": {"schema": references[0] if len(references) == 1 else {"anyOf": references}}
    }
    if models[0] in _FORMS:
        files, fields = _FORMS[models[0]]
        form = {
            "type": "object",
            "properties": {
                **{name: {"type": "array", "items": {"type": "string", "format": "binary"}} for name in files},
                **{name: {"type": "array", "items": {"type": "string"}} for name in fields},
            },
        }
        content["multipart/form-data"] = {"schema": form}
    return {"responses": ERRORS, "openapi_extra": {"requestBody": {"required": True, "content": content}}}


def complete(app: FastAPI) -> dict[str, Any]:
    """The document of an application, made once."""
    if app.openapi_schema is None:
        document = get_openapi(
            title=app.title, version=app.version, description=app.description, routes=app.routes, tags=app.openapi_tags
        )
        _, schemas = models_json_schema([(model, "validation") for model in REQUESTS], ref_template=_REFERENCE)
        components = document.setdefault("components", {})
        components.setdefault("schemas", {}).update(schemas["$defs"])
        components["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer"}}
        for path, operations in document["paths"].items():
            for method, operation in operations.items():
                if not is_open({"method": method.upper(), "path": path}):
                    operation["security"] = [{"key": []}]
        app.openapi_schema = document
    return app.openapi_schema
