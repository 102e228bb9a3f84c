"""Errors as other APIs' clients read them: the same message, where each of them looks for it.

    OpenAI's envelope   {"error": {"message", "type", "param", "code"}, "detail": message}   all that is not below
    Cohere's            {"message", "error": {…}}
    a plain one         {"error": message, "error_type", "param", "code"}                    Hugging Face's, Weaviate's

`detail` is where Voyage's and Jina's clients look, which ask the same paths as OpenAI's.
"""

from collections.abc import Callable, Mapping
from typing import Any

from tritonclip_server.gateway.errors import ApiError

ErrorFormat = Callable[[ApiError], dict[str, Any]]


def openai(error: ApiError) -> dict[str, Any]:
    """OpenAI's error."""
    return {"error": error.body(), "detail": error.body()["message"]}


def cohere(error: ApiError) -> dict[str, Any]:
    """Cohere's error, with what OpenAI's says besides."""
    return {"message": error.body()["message"], "error": error.body()}


def plain(error: ApiError) -> dict[str, Any]:
    """The error of Hugging Face's text-embeddings-inference; Weaviate's module reads `error` alone."""
    body = error.body()
    return {"error": body["message"], "error_type": _error_type(error), "param": body["param"], "code": body["code"]}


def _error_type(error: ApiError) -> str:
    """Text-embeddings-inference's name for the kind of error."""
    if error.status in (429, 503):
        return "Overloaded" if error.status == 429 else "Unhealthy"
    return "Validation" if error.status < 500 else "Backend"


def error_format_of(method: str, endpoint: str) -> ErrorFormat:
    """The shape of what an endpoint refuses, by the route's template."""
    if endpoint == "/" and method != "POST":  # the page
        return openai
    return _BY_ENDPOINT.get(endpoint, openai)


_BY_ENDPOINT: Mapping[str, ErrorFormat] = {
    **dict.fromkeys(("/v1/embed", "/v2/embed", "/v2/rerank"), cohere),
    **dict.fromkeys(("/", "/embed", "/info", "/vectorize", "/meta"), plain),
    **dict.fromkeys(("/pipeline/feature-extraction/{model}", "/models/{model}/pipeline/feature-extraction"), plain),
}
