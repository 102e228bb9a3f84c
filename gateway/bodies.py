"""Request bodies, JSON or multipart, to the request models of `schemas`; ApiError names the field at fault."""

from typing import Any, TypeVar

import orjson
from pydantic import ValidationError
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException
from starlette.requests import Request

from gateway.errors import ApiError
from gateway.schemas import RequestModel
from gateway.settings import Limits

R = TypeVar("R", bound=RequestModel)

_CODES = {"missing": "missing_field", "extra_forbidden": "unknown_field"}


async def read_request(request: Request, model: type[R], limits: Limits) -> R:
    """The request as its model. The body is in memory already, and no larger than it may be."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind == "application/json":
        return validate(model, _parse_json(await request.body()), strict=True)
    if kind == "multipart/form-data":
        return validate(model, model.from_form(await _read_form(request, limits)), strict=False)
    raise ApiError("unsupported_media_type", "send application/json, or multipart/form-data with files")


def validate(model: type[R], document: Any, *, strict: bool) -> R:
    """Check a document against a model; form fields, which are all strings, are not checked strictly."""
    if not isinstance(document, dict):
        raise ApiError("invalid_json", "the body must be a JSON object")
    try:
        return model.model_validate(document, strict=strict)
    except ValidationError as invalid:
        error = invalid.errors(include_url=False, include_input=False)[0]
        param = _param(error["loc"])
        message = f"{param}: {error['msg']}" if param else error["msg"]
        raise ApiError(_CODES.get(error["type"], "invalid_value"), message, param=param or None) from None


def _parse_json(body: bytes) -> Any:
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise ApiError("invalid_json", f"the body is no valid JSON: {error}") from None


async def _read_form(request: Request, limits: Limits) -> list[tuple[str, str | bytes]]:
    """Fields and files in their order, files as bytes."""
    try:
        form = await request.form(
            max_files=2 * limits.items, max_fields=4 * limits.items, max_part_size=limits.body_bytes
        )
    except (HTTPException, ValueError, LookupError) as error:
        detail = error.detail if isinstance(error, HTTPException) else "it cannot be read"
        raise ApiError("invalid_form", f"the form is not valid: {detail}") from None
    try:
        return [
            (name, await value.read() if isinstance(value, UploadFile) else value) for name, value in form.multi_items()
        ]
    finally:
        await form.close()


def _param(location: tuple[int | str, ...]) -> str:
    """`("parameters", "candidate_labels", 3)` as `parameters.candidate_labels[3]`."""
    param = ""
    for step in location:
        param += f"[{step}]" if isinstance(step, int) else f".{step}" if param else step
    return param
