"""What several endpoints do: find the model, choose between a field and its plural, and report usage and errors."""

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from fastapi import Request

from tritonclip import Manifest
from tritonclip_server.gateway.errors import ApiError
from tritonclip_server.gateway.http.request_context import RequestContext, context_of
from tritonclip_server.gateway.inference.models import Models
from tritonclip_server.gateway.inference.service import Service
from tritonclip_server.gateway.search.indexes import Indexes, ServedIndex
from tritonclip_server.gateway.settings import Limits
from tritonclip_server.gateway.threads import in_thread_if

T = TypeVar("T")

MADE_IN_THREAD = 64  # items: looking at one takes some 30 us


def limits_of(request: Request) -> Limits:
    """The limits of this gateway."""
    limits: Limits = request.app.state.settings.limits
    return limits


def models_of(request: Request) -> Models:
    """The models of this gateway."""
    models: Models = request.app.state.models
    return models


async def chosen(request: Request, name: str | None) -> tuple[Service, Manifest]:
    """The service of the model that a request names, or of its default one; ApiError where there is none for it."""
    return await models_of(request).choose(context_for(request), name)


def indexes_of(request: Request) -> Indexes:
    """The indexes of this gateway."""
    indexes: Indexes = request.app.state.indexes
    return indexes


def index_of(request: Request, name: str | None) -> ServedIndex:
    """The index that a request names, or the only one; ApiError where its key may not use the model of it."""
    return indexes_of(request).find(name, functools.partial(may_search, request))


def may_search(request: Request, served: ServedIndex) -> bool:
    """Whether a request's key may use an index: one that is limited to models has the indexes of these alone."""
    return models_of(request).may_use_fingerprint(context_for(request).key, served.opened.fingerprint)


def context_for(request: Request) -> RequestContext:
    """The context that the request is part of."""
    return context_of(request.scope)


def one_of(given: Mapping[str, Any]) -> tuple[str, Any]:
    """The one field that is given, with its value; ApiError where none is, or several."""
    present = [(name, value) for name, value in given.items() if value is not None]
    names = " or ".join(given)
    if not present:
        raise ApiError("missing_field", f"give {names}", param=next(iter(given)))
    if len(present) > 1:
        raise ApiError("invalid_value", f"give {names}, not both", param=present[1][0])
    return present[0]


def check_dimensions(manifest: Manifest, **asked: int | None) -> None:
    """Raise where a field, by its name, asks for another number of dimensions than the model's vectors have.

    0, which infinity's client sends, asks for none.
    """
    width = manifest.embedding_width
    for field, count in asked.items():
        if count and count != width:
            message = (
                f"the model's vectors have {width or 'an unknown number of'} dimensions, and it was not trained for "
                f"others (as Matryoshka models are): leave this out{f', or say {width}' if width else ''}"
            )
            raise ApiError("unsupported_dimensions", message, param=field)


async def made_of(value: Any, make: Callable[[], T]) -> T:
    """What is made of a field's value: in a thread where it is a list of many, or of token ids."""
    many = isinstance(value, list) and (len(value) > MADE_IN_THREAD or (value and isinstance(value[0], list | int)))
    return await in_thread_if(bool(many), make)


def say_truncated(request: Request, truncated: Sequence[int]) -> None:
    """List the texts that were cut in the header `x-truncated`, where an answer's shape has no place for them."""
    if truncated:
        context_for(request).headers["x-truncated"] = ",".join(map(str, truncated))


def usage(tokens: int, images: int) -> dict[str, int]:
    """OpenAI's usage, with NV-CLIP's count of images; tokens are those that the model read."""
    return {"prompt_tokens": tokens, "total_tokens": tokens, "num_images": images}


def errors_field(errors: Mapping[int, ApiError]) -> dict[str, Any]:
    """The `errors` of an answer that is partial; nothing where all went well."""
    if not errors:
        return {}
    return {"errors": [{"index": position, **error.body()} for position, error in errors.items()]}
